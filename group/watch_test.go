package group

import (
	"log/slog"
	"testing"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/exchange"
	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/vld0"
)

// quiet is an exchange that nobody needs here but to be told of routes.
type quiet struct{ Exchange }

func (quiet) PeerMoved(exchange.GroupID, string, []byte) {}

// watched is a group with one other member whose record was read in version 3.
func watched(t *testing.T) (*Group, *Repo) {
	t.Helper()
	secret := vld0.System{}.RandomSharedSecret()
	g := newGroup(Deps{Log: slog.New(slog.DiscardHandler), Emit: func(Event) {}, Exchange: quiet{}}, Keys{testRecord(1), secret, vld0.System{}.GenerateKeyPair()})
	r := g.newRepo(testRecord(2), veilid.KeyPair{})
	g.repos[r.id] = r
	g.rec.watched, r.rec.watched = true, true
	r.rec.store(routeSubkey, &veilid.ValueData{Seq: 3, Data: []byte("route")})
	return g, r
}

func TestValueChanges(t *testing.T) {
	one := veilid.Subkey(routeSubkey)
	value := func(seq uint32, data string) *veilid.ValueData {
		return &veilid.ValueData{Seq: seq, Data: []byte(data)}
	}
	for name, c := range map[string]struct {
		change  veilid.ValueChange
		ours    bool // the record is one of the group's
		dirty   bool // it is to be read again
		watched bool
		route   string
	}{
		"another record":          {veilid.ValueChange{Key: testRecord(9), Subkeys: one, Count: 5}, false, false, true, "route"},
		"a newer value":           {veilid.ValueChange{Key: testRecord(2), Subkeys: one, Count: 5, Value: value(4, "new")}, true, false, true, "new"},
		"an older value":          {veilid.ValueChange{Key: testRecord(2), Subkeys: one, Count: 5, Value: value(2, "old")}, true, false, true, "route"},
		"several subkeys":         {veilid.ValueChange{Key: testRecord(2), Subkeys: veilid.SubkeyRanges{{First: 1, Last: 3}}, Count: 5}, true, true, true, "route"},
		"no value":                {veilid.ValueChange{Key: testRecord(2), Subkeys: one, Count: 5}, true, true, true, "route"},
		"the last change":         {veilid.ValueChange{Key: testRecord(2), Subkeys: one, Count: 0, Value: value(5, "last")}, true, true, false, "last"},
		"the watch has ended":     {veilid.ValueChange{Key: testRecord(2)}, true, true, false, "route"},
		"an oversize value":       {veilid.ValueChange{Key: testRecord(2), Subkeys: one, Count: 5, Value: value(9, string(make([]byte, veilid.MaxValueSize+1)))}, true, false, true, "route"},
		"without encryption part": {veilid.ValueChange{Key: veilid.NewRecordKey(testRecord(2).Opaque(), veilid.SharedSecret{}), Subkeys: one, Count: 1, Value: value(4, "new")}, true, false, true, "new"},
	} {
		g, r := watched(t)
		if got := g.OnValueChange(&c.change); got != c.ours {
			t.Errorf("%s: ours %v, want %v", name, got, c.ours)
		}
		if got := g.takeDirty(r.id); got != c.dirty {
			t.Errorf("%s: to be read %v, want %v", name, got, c.dirty)
		}
		if r.rec.watched != c.watched {
			t.Errorf("%s: watched %v, want %v", name, r.rec.watched, c.watched)
		}
		if got := string(r.rec.value(routeSubkey)); got != c.route {
			t.Errorf("%s: route %q, want %q", name, got, c.route)
		}
	}
}

func TestSlotChanges(t *testing.T) {
	g, r := watched(t)
	slot := &veilid.ValueChange{
		Key: g.keys.Record, Subkeys: veilid.Subkey(5), Count: 5,
		Value: &veilid.ValueData{Seq: 0, Data: encodeSlot(testRecord(3))},
	}
	if !g.OnValueChange(slot) || len(g.Repos()) != 2 {
		t.Fatalf("%d repos after a slot was filled", len(g.Repos()))
	}
	if !r.member().Gone || g.Repos()[1].member().Gone == g.Repos()[0].member().Gone {
		t.Error("the repo that no slot names, and only that, must be gone")
	}
	// Garbage in a slot is skipped, and harms no other.
	slot.Subkeys, slot.Value = veilid.Subkey(6), &veilid.ValueData{Data: []byte{0xff, 0xfe, 0xfd}}
	if !g.OnValueChange(slot) || len(g.Repos()) != 2 {
		t.Fatalf("%d repos after garbage", len(g.Repos()))
	}
}

func TestNewsMarkRecords(t *testing.T) {
	g, r := watched(t)
	g.onNews("peer", exchange.News{Repo: r.id, Root: blobs.Hash{1}})
	if !g.takeDirty(r.id) {
		t.Error("news of a root that is not here must have the record read")
	}
	g.onNews("peer", exchange.News{Repo: r.id, Root: r.Root()})
	if g.takeDirty(r.id) {
		t.Error("news of the root that is here tell nothing")
	}
	g.onNews("peer", exchange.News{Repo: testRecord(8).Opaque()})
	if !g.takeDirty(g.id) {
		t.Error("news of an unknown repo must have the slots read")
	}
}

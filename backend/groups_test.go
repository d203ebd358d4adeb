package backend

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/group"
	"github.com/OpenArchive/save-dweb-go/group/invite"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// TestJoinTogether: members who join at the same time all find a slot.
func TestJoinTogether(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.device("a")
		defer a.stop()
		ga := a.create("Group")
		const n = 6
		gs := make([]*group.Group, n)
		ds := make([]*device, n)
		for i := range n {
			ds[i] = w.device(fmt.Sprint("d", i))
			defer ds[i].stop()
		}
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { gs[i] = ds[i].join(ga) })
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		for i, g := range append(gs, ga) {
			w.eventually(fmt.Sprintf("device %d sees all", i), func() bool { return len(g.Members()) == n+1 })
		}
		for _, m := range ga.Members() {
			if m.Gone {
				t.Errorf("member %s has no slot", m.Name)
			}
		}
	})
}

func TestFirstStart(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.device("a")
		defer a.stop()
		g, err := a.EnsureGroup(w.ctx(), "Home", "")
		if err != nil || len(a.Groups()) != 1 {
			t.Fatalf("%d groups, %v", len(a.Groups()), err)
		}
		if again, err := a.EnsureGroup(w.ctx(), "Home", ""); err != nil || again != g {
			t.Errorf("a second group was made: %v", err)
		}
	})
}

// TestRecords: the group's and the repos' records, read past all caches.
func TestRecords(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, ga, gb := w.pair()
		defer a.stop()
		defer b.stop()
		ra := b.peerRepo(gb, ga)
		if v, sealed, err := gb.DHTGet(w.ctx(), 0); err != nil || !sealed || string(v) != "Group" {
			t.Errorf("name %q, sealed %v, %v", v, sealed, err)
		}
		if err := gb.DHTPut(w.ctx(), 0, []byte("Other")); err != nil {
			t.Error(err)
		}
		if err := ga.DHTPut(w.ctx(), 0, []byte("Third")); !errors.Is(err, group.ErrConflict) {
			t.Errorf("a write over one that was not seen: %v", err)
		}
		if v, _, err := ga.DHTGet(w.ctx(), 0); err != nil || string(v) != "Other" {
			t.Errorf("after a conflict %q, %v", v, err)
		}
		if err := gb.DHTPut(w.ctx(), 5, nil); !errors.Is(err, veilid.ErrInvalidArgument) {
			t.Errorf("write into a slot: %v", err)
		}
		if v, _, err := gb.DHTGet(w.ctx(), 40); err != nil || len(v) > 0 && v[0] == 0 {
			t.Errorf("an empty slot %q, %v", v, err)
		}
		if v, sealed, err := ra.DHTGet(w.ctx(), 0); err != nil || !sealed || string(v) != "repo of a" {
			t.Errorf("repo's name %q, sealed %v, %v", v, sealed, err)
		}
		for _, r := range gb.Repos() {
			if has, err := ga.HasRepo(w.ctx(), r.ID()); err != nil || !has {
				t.Errorf("repo %s: %v, %v", r.Name(), has, err)
			}
		}
		if has, err := ga.HasRepo(w.ctx(), ga.ID()); err != nil || has {
			t.Errorf("no repo: %v, %v", has, err)
		}
		w.eventually("routes are known", func() bool { return len(gb.Routes()) == 2 && len(ra.Routes()) == 1 })
		if n := gb.Subkeys(); n != 3 { // name and two slots
			t.Errorf("%d subkeys were written, want 3", n)
		}
	})
}

func TestJoinAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, ga, gb := w.pair()
		defer a.stop()
		defer b.stop()
		link, err := ga.Link(false)
		if err != nil {
			t.Fatal(err)
		}
		own := gb.Own().ID()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				g, err := b.Join(w.ctx(), link.Reveal(), "other name")
				if err != nil || g != gb || g.Own().ID() != own {
					t.Errorf("joining again: %v", err)
				}
			})
		}
		wg.Wait()
		if len(b.Groups()) != 1 || len(gb.Repos()) != 2 {
			t.Errorf("%d groups, %d repos", len(b.Groups()), len(gb.Repos()))
		}
	})
}

func TestReadOnlyLink(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.device("a"), w.device("b")
		defer a.stop()
		defer b.stop()
		ga := a.create("Group")
		a.put(ga, "f", []byte("data"))
		w.eventually("published", ga.Published)
		w.eventually("ready", func() bool { return b.State().Ready })
		ro, err := ga.Link(true)
		if err != nil {
			t.Fatal(err)
		}
		gb, err := b.Join(w.ctx(), ro.Reveal(), "")
		if err != nil {
			t.Fatal(err)
		}
		b.get(b.peerRepo(gb, ga), "f", []byte("data"))
		if gb.Own() != nil {
			t.Error("a reader has no repo")
		}
		if _, err := gb.Link(false); !errors.Is(err, group.ErrReadOnly) {
			t.Errorf("a reader's full link: %v", err)
		}
		if err := gb.SetName("x"); !errors.Is(err, group.ErrReadOnly) {
			t.Errorf("a reader renames: %v", err)
		}
		full, err := ga.Link(false)
		if err != nil {
			t.Fatal(err)
		}
		gb, err = b.Join(w.ctx(), full.Reveal(), "")
		if err != nil || gb.Own() == nil {
			t.Fatalf("upgrade: %v", err)
		}
		b.put(gb, "mine", []byte("m"))
		a.get(a.peerRepo(ga, gb), "mine", []byte("m"))
	})
}

func TestWrongLinks(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.device("a"), w.device("b")
		defer a.stop()
		defer b.stop()
		ga, other := a.create("Group"), a.create("Other")
		w.eventually("ready", func() bool { return b.State().Ready })
		good, _ := ga.Link(false)
		foreign, _ := other.Link(false)
		swap := func(change func(l *invite.Link)) string {
			l := good
			change(&l)
			return l.Reveal()
		}
		for name, c := range map[string]struct {
			link string
			want error
		}{
			"enc": {swap(func(l *invite.Link) { l.Secret = foreign.Secret }), group.ErrWrongSecret},
			"pk":  {swap(func(l *invite.Link) { l.Owner, l.OwnerSecret = foreign.Owner, foreign.OwnerSecret }), group.ErrWrongOwner},
			"dht": {swap(func(l *invite.Link) { l.Group = foreign.Group }), group.ErrWrongOwner},
		} {
			if _, err := b.Join(w.ctx(), c.link, ""); !errors.Is(err, c.want) {
				t.Errorf("wrong %s: %v, want %v", name, err, c.want)
			}
		}
		var perr *invite.Error
		if _, err := b.Join(w.ctx(), "save+dweb::?dht=x", ""); !errors.As(err, &perr) || perr.Param != "dht" {
			t.Errorf("malformed link: %v", err)
		}
		if len(b.Groups()) != 0 {
			t.Errorf("%d groups after failed joins", len(b.Groups()))
		}
		if n := len(b.table.m); n > 1 {
			t.Errorf("%d values are left of failed joins", n)
		}
	})
}

func TestLeave(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, ga, gb := w.pair()
		defer a.stop()
		a.put(ga, "f", bytesOf(50_000))
		rb := a.peerRepo(ga, gb)
		b.get(b.peerRepo(gb, ga), "f", bytesOf(50_000))
		if err := b.Leave(w.ctx(), gb.ID()); err != nil {
			t.Fatal(err)
		}
		if len(b.Groups()) != 0 {
			t.Error("the group is still there")
		}
		for k := range b.table.m {
			if k != knownKey && !strings.HasPrefix(k, jobPrefix) {
				t.Errorf("%s is left in the table", k)
			}
		}
		infos, err := b.store.List(w.ctx())
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range infos {
			if i.Hash != blobs.EmptyHash {
				t.Errorf("blob %s of %d bytes is left", i.Hash.Short(), i.Size)
			}
		}
		w.eventually("a sees that b is gone", func() bool {
			for _, m := range ga.Members() {
				if m.Repo == rb.ID() {
					return m.Gone && m.Away
				}
			}
			return false
		})
		b.stop()
		b.start()
		if len(b.Groups()) != 0 {
			t.Error("the group came back after a restart")
		}
		b.stop()
	})
}

// TestBrokenGroup: a group that cannot be loaded harms no other and stays in the list.
func TestBrokenGroup(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.device("a")
		good, bad := a.create("Good"), a.create("Bad")
		a.stop()
		key := group.KeyName(bad.ID())
		saved := a.table.m[key]
		a.table.m[key] = []byte("garbage")
		a.start()
		if gs := a.Groups(); len(gs) != 1 || gs[0].ID() != good.ID() {
			t.Errorf("groups beside a broken one: %v", gs)
		}
		a.create("Third")
		a.stop()
		a.table.m[key] = saved
		a.start()
		if n := len(a.Groups()); n != 3 {
			t.Errorf("%d groups after the keys are back, want 3", n)
		}
		a.stop()
	})
}

func TestCloseGroup(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.device("a")
		defer a.stop()
		g := a.create("Group")
		if err := a.CloseGroup(g.ID()); err != nil {
			t.Fatal(err)
		}
		if n := len(a.Groups()); n != 0 {
			t.Errorf("%d groups after close", n)
		}
		if err := a.CloseGroup(g.ID()); !errors.Is(err, ErrGroupNotFound) || !strings.Contains(err.Error(), "Group not found") {
			t.Errorf("second close: %v", err)
		}
		g, err := a.OpenGroup(w.ctx(), g.ID())
		if err != nil || g.Name() != "Group" || len(a.Groups()) != 1 {
			t.Errorf("open again: %v", err)
		}
	})
}

package veilidtest

import (
	"bytes"
	"context"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/vld0"
	"github.com/google/go-cmp/cmp"
)

// The cases about DHT records and one writer.

var recordCases = []testCase{
	{"RecordCreate", "", testRecordCreate},
	{"RecordSchemaLimits", "", testSchemaLimits},
	{"RecordGetSet", "", testGetSet},
	{"RecordSequence", "", testSequence},
	{"RecordNotOpen", "", testNotOpen},
	{"RecordUnknown", "", testUnknownRecord},
	{"RecordWriters", "", testWriters},
	{"RecordSMPL", "", testSMPL},
	{"RecordValueLimits", "", testValueLimits},
	{"RecordEncryption", "", testEncryption},
	{"RecordDeleteAndReopen", "", testDelete},
	{"RecordFlush", "", testFlush},
}

func testRecordCreate(e *env) {
	owner := sys.GenerateKeyPair()
	member := sys.GenerateKeyPair()
	smpl := veilid.Schema{Kind: veilid.SMPL, OwnerCount: 1, Members: []veilid.SchemaMember{{ID: vld0.MemberID(member.Public).Value, Count: 2}}}
	for _, schema := range []veilid.Schema{veilid.DFLTSchema(1), veilid.DFLTSchema(1024), smpl} {
		d, err := rc(e.a).CreateDHTRecord(e.within(), schema, owner)
		e.ok("CreateDHTRecord", err)
		if d.Key.Opaque() != vld0.RecordKey(owner.Public, schema) {
			e.Errorf("record key is %s, computed %s", d.Key, vld0.RecordKey(owner.Public, schema))
		}
		if d.Key.Encryption().IsZero() {
			e.Error("the record has no encryption key")
		}
		if d.Owner != owner.Public || !d.OwnerSecret.Equal(owner.Secret) {
			e.Error("the record has another owner than asked for")
		}
		if diff := cmp.Diff(schema, d.Schema); diff != "" {
			e.Errorf("schema (-want +got)\n%s", diff)
		}
		key, err := e.a.DHTRecordKey(e.within(), schema, owner.Public, d.Key.Encryption())
		if err != nil || !key.Equal(d.Key) {
			e.Errorf("DHTRecordKey = %s, %v, want %s", key, err, d.Key)
		}
		bare, err := e.a.DHTRecordKey(e.within(), schema, owner.Public, veilid.SharedSecret{})
		if err != nil || bare.Opaque() != d.Key.Opaque() || !bare.Encryption().IsZero() {
			e.Errorf("DHTRecordKey without encryption = %s, %v", bare, err)
		}
		e.ok("DeleteDHTRecord", rc(e.a).DeleteDHTRecord(e.within(), d.Key))
	}
	d1, err := rc(e.a).CreateDHTRecord(e.within(), veilid.DFLTSchema(1), veilid.KeyPair{})
	e.ok("CreateDHTRecord", err)
	d2, err := rc(e.a).CreateDHTRecord(e.within(), veilid.DFLTSchema(1), veilid.KeyPair{})
	e.ok("CreateDHTRecord", err)
	if d1.Owner == d2.Owner || d1.Key.Equal(d2.Key) {
		e.Error("two records without an owner given have the same")
	}
	e.ok("ValidateKeyPair of a fresh owner", sys.ValidateKeyPair(d1.OwnerKeyPair()))
}

func testSchemaLimits(e *env) {
	for _, schema := range []veilid.Schema{
		{},
		veilid.DFLTSchema(0),
		veilid.DFLTSchema(1025),
		{Kind: veilid.SMPL},
		{Kind: veilid.SMPL, OwnerCount: 1, Members: []veilid.SchemaMember{{Count: 1024}}},
		{Kind: veilid.SMPL, OwnerCount: 1, Members: make([]veilid.SchemaMember, 257)},
	} {
		_, err := rc(e.a).CreateDHTRecord(e.within(), schema, veilid.KeyPair{})
		e.is("CreateDHTRecord with a bad schema", err, veilid.ErrInvalidArgument)
		_, err = e.a.DHTRecordKey(e.within(), schema, sys.GenerateKeyPair().Public, veilid.SharedSecret{})
		e.is("DHTRecordKey with a bad schema", err, veilid.ErrInvalidArgument)
	}
}

func testGetSet(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(4), "zero", "one")
	if got := e.open(e.b, d.Key, veilid.KeyPair{}); got.Owner != d.Owner || !got.OwnerSecret.IsZero() || !got.Key.Equal(d.Key) {
		e.Error("opening elsewhere tells another record")
	} else if diff := cmp.Diff(d.Schema, got.Schema); diff != "" {
		e.Errorf("schema (-want +got)\n%s", diff)
	}
	e.sees(e.b, d.Key, 0, 0, "zero")
	e.sees(e.b, d.Key, 1, 0, "one")
	if v := e.get(e.b, d.Key, 0, false); v == nil || v.Writer != d.Owner || v.Seq != 0 || string(v.Data) != "zero" {
		e.Errorf("the value from the local copy is %+v", v)
	}
	for _, force := range []bool{false, true} {
		if v := e.get(e.b, d.Key, 3, force); v != nil {
			e.Errorf("a subkey that was never written is %+v", v)
		}
	}
	e.set(e.a, d.Key, 0, "later")
	if v := e.get(e.b, d.Key, 0, false); v == nil || string(v.Data) != "zero" {
		e.Errorf("without force, the local copy: got %+v, want zero", v)
	}
	e.sees(e.b, d.Key, 0, 1, "later")
	e.set(e.a, d.Key, 2, "")
	e.sees(e.b, d.Key, 2, 0, "")
	if v := e.get(e.b, d.Key, 2, false); v == nil || v.Data == nil {
		e.Errorf("an empty value is %+v, want one of no bytes", v)
	}
}

func testSequence(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(2), "x")
	seq := func(want uint32) {
		e.Helper()
		if v := e.get(e.a, d.Key, 0, false); v == nil || v.Seq != want {
			e.Errorf("got %+v, want seq %d", v, want)
		}
	}
	seq(0)
	e.set(e.a, d.Key, 0, "x") // nothing changes: the same value is sent again
	seq(0)
	e.set(e.a, d.Key, 0, "y")
	seq(1)
	for _, tt := range []struct {
		value          string
		least, becomes uint32
	}{{"z", 1, 2}, {"z", 9, 9}, {"z", 5, 9}, {"w", 5, 10}} {
		e.try("SetDHTValue", func(ctx context.Context) error {
			theirs, err := rc(e.a).SetDHTValue(ctx, d.Key, 0, []byte(tt.value), veilid.SetOptions{MinSeq: &tt.least, NoOffline: true})
			if theirs != nil {
				e.Errorf("the network had %+v", theirs)
			}
			return err
		})
		seq(tt.becomes)
	}
	e.open(e.b, d.Key, veilid.KeyPair{})
	e.sees(e.b, d.Key, 0, 10, "w")
}

func testNotOpen(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(2), "x")
	notOpen := func(when string) {
		e.Helper()
		key, ctx, r := d.Key, e.within(), rc(e.a)
		_, err := r.GetDHTValue(ctx, key, 0, false)
		e.is("GetDHTValue "+when, err, veilid.ErrNotOpen)
		e.is("GetDHTValue "+when, err, veilid.ErrInvalidArgument)
		_, err = r.SetDHTValue(ctx, key, 0, nil, veilid.SetOptions{})
		e.is("SetDHTValue "+when, err, veilid.ErrNotOpen)
		_, err = r.InspectDHTRecord(ctx, key, nil, veilid.ScopeLocal)
		e.is("InspectDHTRecord "+when, err, veilid.ErrNotOpen)
		if _, skip := e.Without[Watches]; !skip {
			_, err = r.WatchDHTValues(ctx, key, veilid.WatchOptions{})
			e.is("WatchDHTValues "+when, err, veilid.ErrNotOpen)
			_, err = r.CancelDHTWatch(ctx, key, nil)
			e.is("CancelDHTWatch "+when, err, veilid.ErrNotOpen)
		}
		e.ok("CloseDHTRecord "+when, r.CloseDHTRecord(ctx, key))
	}
	e.ok("CloseDHTRecord", rc(e.a).CloseDHTRecord(e.within(), d.Key))
	notOpen("after close")
	e.open(e.a, d.Key, d.OwnerKeyPair())
	if v := e.get(e.a, d.Key, 0, false); v == nil || string(v.Data) != "x" {
		e.Errorf("after opening again: %+v", v)
	}
	e.ok("DeleteDHTRecord of an open record", rc(e.a).DeleteDHTRecord(e.within(), d.Key))
	notOpen("after delete")
}

func testUnknownRecord(e *env) {
	owner := sys.GenerateKeyPair()
	key := veilid.NewRecordKey(vld0.RecordKey(owner.Public, veilid.DFLTSchema(1)), sys.RandomSharedSecret())
	e.is("DeleteDHTRecord of an unknown record", rc(e.a).DeleteDHTRecord(e.within(), key), veilid.ErrKeyNotFound)
	var err error
	e.until("OpenDHTRecord of an unknown record is answered", func(ctx context.Context) bool {
		_, err = rc(e.a).OpenDHTRecord(ctx, key, veilid.OpenOptions{})
		return !veilid.IsRetryable(err)
	})
	e.is("OpenDHTRecord of an unknown record", err, veilid.ErrKeyNotFound)
}

func testWriters(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(2), "x")
	ctx, r := e.within(), rc(e.a)
	set := func(subkey uint32, w veilid.KeyPair) error {
		_, err := r.SetDHTValue(ctx, d.Key, subkey, []byte("no"), veilid.SetOptions{Writer: w})
		return err
	}
	stranger := sys.GenerateKeyPair()
	e.is("SetDHTValue by a stranger", set(0, stranger), veilid.ErrGeneric)
	e.is("SetDHTValue with a wrong secret", set(0, veilid.KeyPair{Public: d.Owner, Secret: stranger.Secret}), veilid.ErrParse, veilid.ErrGeneric)
	e.is("SetDHTValue out of range", set(2, veilid.KeyPair{}), veilid.ErrInvalidArgument)
	_, err := r.GetDHTValue(ctx, d.Key, 2, false)
	e.is("GetDHTValue out of range", err, veilid.ErrInvalidArgument)

	if got := e.open(e.a, d.Key, veilid.KeyPair{}); !got.OwnerSecret.IsZero() {
		e.Error("opened without a writer, the owner's secret is told")
	}
	e.is("SetDHTValue after opening without a writer", set(0, veilid.KeyPair{}), veilid.ErrGeneric)
	e.open(e.a, d.Key, stranger)
	e.is("SetDHTValue after opening as a stranger", set(0, veilid.KeyPair{}), veilid.ErrGeneric)
	if got := e.open(e.a, d.Key, d.OwnerKeyPair()); !got.OwnerSecret.Equal(d.OwnerSecret) {
		e.Error("opened as the owner, its secret is not told")
	}
	e.set(e.a, d.Key, 0, "y")

	// Without a writer at opening, but with one at writing.
	e.open(e.b, d.Key, veilid.KeyPair{})
	e.sees(e.b, d.Key, 0, 1, "y")
	e.try("SetDHTValue", func(ctx context.Context) error {
		theirs, err := rc(e.b).SetDHTValue(ctx, d.Key, 0, []byte("z"), veilid.SetOptions{Writer: d.OwnerKeyPair(), NoOffline: true})
		if theirs != nil {
			e.Errorf("the network had %+v", theirs)
		}
		return err
	})
	e.sees(e.a, d.Key, 0, 2, "z")
}

func testSMPL(e *env) {
	member := sys.GenerateKeyPair()
	other := sys.GenerateKeyPair()
	schema := veilid.Schema{Kind: veilid.SMPL, OwnerCount: 1, Members: []veilid.SchemaMember{
		{ID: vld0.MemberID(member.Public).Value, Count: 2},
		{ID: vld0.MemberID(other.Public).Value, Count: 1},
	}}
	d := e.create(e.a, schema, "owner's")
	if got := e.open(e.b, d.Key, member); !got.OwnerSecret.IsZero() {
		e.Error("opened as a member, the owner's secret is told")
	}
	e.sees(e.b, d.Key, 0, 0, "owner's")
	e.set(e.b, d.Key, 1, "first")
	e.set(e.b, d.Key, 2, "second")
	e.sees(e.a, d.Key, 2, 0, "second")
	if v := e.get(e.a, d.Key, 1, true); v == nil || v.Writer != member.Public {
		e.Errorf("the member's value is %+v", v)
	}
	for _, tt := range []struct {
		name   string
		subkey uint32
		w      veilid.KeyPair
	}{
		{"owner, the member's", 1, d.OwnerKeyPair()},
		{"member, the owner's", 0, member},
		{"member, another's", 3, member},
		{"other, the member's", 2, other},
	} {
		_, err := rc(e.a).SetDHTValue(e.within(), d.Key, tt.subkey, []byte("no"), veilid.SetOptions{Writer: tt.w})
		e.is("SetDHTValue by "+tt.name, err, veilid.ErrGeneric)
	}
}

func testValueLimits(e *env) {
	for _, tt := range []struct{ subkeys, most int }{{1, 32768}, {64, 16384}} {
		d := e.create(e.a, veilid.DFLTSchema(uint16(tt.subkeys)))
		if got := d.Schema.MaxValueSize(); got != tt.most {
			e.Errorf("MaxValueSize with %d subkeys = %d, want %d", tt.subkeys, got, tt.most)
		}
		value := pattern(tt.most)
		e.set(e.a, d.Key, 0, string(value))
		e.open(e.b, d.Key, veilid.KeyPair{})
		e.sees(e.b, d.Key, 0, 0, string(value))
		_, err := rc(e.a).SetDHTValue(e.within(), d.Key, 0, append(value, 0), veilid.SetOptions{})
		e.is("SetDHTValue of a byte too much", err, veilid.ErrGeneric)
	}
}

// testEncryption checks that a record's name alone, or with another key, does not give its values.
func testEncryption(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(1), "plain text")
	wrong := veilid.NewRecordKey(d.Key.Opaque(), sys.RandomSharedSecret())
	e.open(e.b, wrong, veilid.KeyPair{})
	if v := e.get(e.b, wrong, 0, true); v != nil && bytes.Contains(v.Data, []byte("plain")) {
		e.Error("a wrong key reads the value")
	}
	e.ok("CloseDHTRecord", rc(e.b).CloseDHTRecord(e.within(), wrong))
	none := veilid.NewRecordKey(d.Key.Opaque(), veilid.SharedSecret{})
	e.open(e.b, none, veilid.KeyPair{})
	_, err := rc(e.b).GetDHTValue(e.within(), none, 0, false)
	e.is("GetDHTValue without the key", err, veilid.ErrGeneric)
	e.ok("CloseDHTRecord", rc(e.b).CloseDHTRecord(e.within(), none))
	e.open(e.b, d.Key, veilid.KeyPair{})
	e.sees(e.b, d.Key, 0, 0, "plain text")
}

func testDelete(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(1), "x")
	e.open(e.b, d.Key, veilid.KeyPair{})
	e.ok("DeleteDHTRecord", rc(e.a).DeleteDHTRecord(e.within(), d.Key))
	e.is("DeleteDHTRecord again", rc(e.a).DeleteDHTRecord(e.within(), d.Key), veilid.ErrKeyNotFound)
	e.open(e.a, d.Key, d.OwnerKeyPair()) // from the network
	e.sees(e.a, d.Key, 0, 0, "x")
	e.set(e.a, d.Key, 0, "y")
	e.sees(e.b, d.Key, 0, 1, "y")
}

func testFlush(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(1), "x")
	unknown := veilid.NewRecordKey(vld0.RecordKey(d.Owner, veilid.DFLTSchema(7)), veilid.SharedSecret{})
	for _, key := range []veilid.RecordKey{d.Key, unknown} {
		clean, err := rc(e.a).FlushDHTRecord(e.within(), key, 30*time.Second)
		if err != nil || !clean {
			e.Errorf("FlushDHTRecord with nothing to do = %v, %v", clean, err)
		}
	}
}

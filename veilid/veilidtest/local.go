package veilidtest

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/google/go-cmp/cmp"
)

// The cases about what a node does alone: its attachment, tables and secrets.

var attachmentCases = []testCase{
	{"AttachmentReady", "", testAttachmentReady},
	{"Version", "", testVersion},
	{"DetachAndAttach", Detaching, testDetach},
}

var tableCases = []testCase{
	{"Tables", "", testTables},
	{"TableColumns", "", testTableColumns},
	{"TableTransaction", "", testTableTransaction},
	{"TableNames", "", testTableNames},
}

var secretCases = []testCase{{"UserSecrets", ProtectedStore, testSecrets}}

func testAttachmentReady(e *env) {
	for i, n := range e.Nodes {
		e.ok("WaitReady", n.WaitReady(e.within()))
		a, err := n.AttachmentState(e.within())
		e.ok("AttachmentState", err)
		if !a.Ready() {
			e.Errorf("node %d: lent as ready, but %+v", i, a)
		}
	}
}

func testVersion(e *env) {
	v, err := e.a.Version(e.within())
	e.ok("Version", err)
	if v == ([3]uint32{}) {
		e.Error("the version is 0.0.0")
	}
}

// testDetach takes a node off the network, works on, and comes back.
func testDetach(e *env) {
	none := e.create(e.b, veilid.DFLTSchema(1), "b's") // unknown at a
	d := e.create(e.a, veilid.DFLTSchema(3), "zero")
	e.open(e.b, d.Key, veilid.KeyPair{})
	target, _ := e.link(e.a, e.b)
	sub := e.listen(e.a, veilid.Attachments)

	e.ok("Detach", e.a.Detach(e.within()))
	await(e, sub, "Detached", func(u *veilid.Attachment) bool { return u.State == veilid.Detached })
	a, err := e.a.AttachmentState(e.within())
	e.ok("AttachmentState", err)
	if a.Ready() || a.State.IsAttached() {
		e.Errorf("detached, but %+v", a)
	}
	e.is("Detach again", e.a.Detach(e.within()), veilid.ErrGeneric)

	_, err = e.a.NewPrivateRoute(e.within(), veilid.PrivateSpec{})
	e.is("NewPrivateRoute while detached", err, veilid.ErrTryAgain)
	_, err = rc(e.a).OpenDHTRecord(e.within(), none.Key, veilid.OpenOptions{})
	e.is("OpenDHTRecord of an unknown record while detached", err, veilid.ErrTryAgain)
	_, err = rc(e.a).GetDHTValue(e.within(), d.Key, 0, true)
	e.is("forced GetDHTValue while detached", err, veilid.ErrTryAgain)
	_, err = rc(e.a).GetDHTValue(e.within(), d.Key, 1, false)
	e.is("GetDHTValue of what is not here while detached", err, veilid.ErrTryAgain)
	_, err = rc(e.a).InspectDHTRecord(e.within(), d.Key, nil, veilid.ScopeSyncGet)
	e.is("InspectDHTRecord while detached", err, veilid.ErrTryAgain)
	_, err = rc(e.a).SetDHTValue(e.within(), d.Key, 1, []byte("no"), veilid.SetOptions{NoOffline: true})
	e.is("SetDHTValue without queue while detached", err, veilid.ErrTryAgain)
	_, err = rc(e.a).AppCall(e.within(), target, nil)
	e.is("AppCall while detached", err, veilid.ErrTryAgain, veilid.ErrNoConnection, veilid.ErrInvalidTarget)
	if v := e.get(e.a, d.Key, 0, false); v == nil || string(v.Data) != "zero" {
		e.Errorf("the local copy while detached is %v, want zero", v)
	}
	active, err := rc(e.a).WatchDHTValues(e.within(), d.Key, veilid.WatchOptions{})
	e.ok("WatchDHTValues while detached", err)
	if !active {
		e.Error("a watch while detached is refused: it should be set up later")
	}

	for i, value := range []string{"first", "second"} { // the same subkey twice: the last one counts
		theirs, err := rc(e.a).SetDHTValue(e.within(), d.Key, 1, []byte(value), veilid.SetOptions{})
		e.ok("SetDHTValue while detached", err)
		if theirs != nil {
			e.Errorf("write %d while detached gave %v", i, theirs)
		}
	}
	rep, err := rc(e.a).InspectDHTRecord(e.within(), d.Key, nil, veilid.ScopeLocal)
	e.ok("InspectDHTRecord", err)
	if d := cmp.Diff(veilid.Subkey(1), rep.OfflineSubkeys); d != "" {
		e.Errorf("offline subkeys (-want +got)\n%s", d)
	}
	clean, err := rc(e.a).FlushDHTRecord(e.within(), d.Key, 10*time.Millisecond)
	e.ok("FlushDHTRecord", err)
	if clean {
		e.Error("flushed while detached")
	}
	ctx, cancel := context.WithCancel(e.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err = rc(e.a).FlushDHTRecord(ctx, d.Key, e.Timeout)
	e.is("FlushDHTRecord, cancelled", err, context.Canceled)
	ctx, cancel = context.WithCancel(e.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	e.is("WaitReady, cancelled", e.a.WaitReady(ctx), context.Canceled)

	e.ok("Attach", e.a.Attach(e.within()))
	await(e, sub, "Attaching", func(u *veilid.Attachment) bool { return u.State != veilid.Detached })
	ctx, cancel = context.WithTimeout(e.Context(), 3*e.Timeout)
	defer cancel()
	e.ok("WaitReady", e.a.WaitReady(ctx))
	clean, err = rc(e.a).FlushDHTRecord(e.within(), d.Key, e.Timeout)
	e.ok("FlushDHTRecord", err)
	if !clean {
		e.Error("not flushed after being ready again")
	}
	e.sees(e.b, d.Key, 1, 1, "second")
	rep, err = rc(e.a).InspectDHTRecord(e.within(), d.Key, nil, veilid.ScopeLocal)
	e.ok("InspectDHTRecord", err)
	if len(rep.OfflineSubkeys) != 0 {
		e.Errorf("offline subkeys after the flush: %v", rep.OfflineSubkeys)
	}
}

// table opens a table of a fresh name; it is gone after the test.
func (e *env) table(columns uint32) (veilid.TableDB, string) {
	e.Helper()
	name := e.name("suite")
	db, err := e.a.OpenTable(e.within(), name, columns)
	e.ok("OpenTable", err)
	e.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(e.Context()), e.Timeout)
		defer cancel()
		_ = db.Close() // again, where the test closed it
		_, _ = e.a.DeleteTable(ctx, name)
	})
	return db, name
}

func (e *env) load(db veilid.TableDB, col uint32, key, want string, exists bool) {
	e.Helper()
	got, err := db.Load(e.within(), col, []byte(key))
	e.ok("Load", err)
	if (got != nil) != exists || string(got) != want {
		e.Errorf("column %d, key %q: %q (nil: %v), want %q (exists: %v)", col, key, got, got == nil, want, exists)
	}
}

func testTables(e *env) {
	db, _ := e.table(2)
	e.load(db, 0, "k", "", false)
	e.ok("Store", db.Store(e.within(), 0, []byte("k"), []byte("v")))
	e.ok("Store", db.Store(e.within(), 0, []byte("\x00\xff"), []byte{0, 1, 255}))
	e.ok("Store of an empty value", db.Store(e.within(), 0, []byte("empty"), nil))
	e.load(db, 0, "k", "v", true)
	e.load(db, 0, "\x00\xff", "\x00\x01\xff", true)
	e.load(db, 0, "empty", "", true)
	e.load(db, 1, "k", "", false)
	e.ok("Store again", db.Store(e.within(), 0, []byte("k"), []byte("w")))
	e.load(db, 0, "k", "w", true)

	keys, err := db.Keys(e.within(), 0)
	e.ok("Keys", err)
	slices.SortFunc(keys, bytes.Compare)
	if d := cmp.Diff([][]byte{[]byte("\x00\xff"), []byte("empty"), []byte("k")}, keys); d != "" {
		e.Errorf("keys (-want +got)\n%s", d)
	}
	if keys, err = db.Keys(e.within(), 1); err != nil || len(keys) != 0 {
		e.Errorf("keys of the empty column: %q, %v", keys, err)
	}
	for _, want := range []string{"w", ""} {
		old, err := db.Delete(e.within(), 0, []byte("k"))
		e.ok("Delete", err)
		if string(old) != want || (old == nil) != (want == "") {
			e.Errorf("Delete gave %q, want %q", old, want)
		}
	}
	e.load(db, 0, "k", "", false)

	big := pattern(1 << 20)
	e.ok("Store of 1 MiB", db.Store(e.within(), 1, []byte("big"), big))
	got, err := db.Load(e.within(), 1, []byte("big"))
	if err != nil || !bytes.Equal(got, big) {
		e.Errorf("1 MiB came back as %d bytes, %v", len(got), err)
	}
	e.ok("Close", db.Close())
	_, err = db.Load(e.within(), 0, nil)
	if err == nil {
		e.Error("a closed table still answers")
	}
}

func testTableColumns(e *env) {
	db, name := e.table(2)
	n, err := db.Columns(e.within())
	if err != nil || n != 2 {
		e.Errorf("Columns = %d, %v, want 2", n, err)
	}
	e.is("Store in column 2 of 2", db.Store(e.within(), 2, []byte("k"), nil), veilid.ErrGeneric)
	_, err = db.Load(e.within(), 2, []byte("k"))
	e.is("Load from column 2 of 2", err, veilid.ErrGeneric)
	_, err = e.a.OpenTable(e.within(), name, 3)
	e.is("OpenTable with more columns while it is open", err, veilid.ErrGeneric)
	_, err = e.a.OpenTable(e.within(), e.name("none"), 0)
	e.is("OpenTable without columns", err, veilid.ErrInvalidArgument)

	e.ok("Store", db.Store(e.within(), 1, []byte("k"), []byte("v")))
	narrow, err := e.a.OpenTable(e.within(), name, 1)
	e.ok("OpenTable with fewer columns", err)
	e.is("Store beyond the opened columns", narrow.Store(e.within(), 1, []byte("k"), nil), veilid.ErrGeneric)
	e.ok("Close", narrow.Close())
	e.ok("Close", db.Close())
	wide, err := e.a.OpenTable(e.within(), name, 3)
	e.ok("OpenTable with more columns", err)
	e.load(wide, 1, "k", "v", true)
	e.ok("Store in the new column", wide.Store(e.within(), 2, []byte("k"), []byte("w")))
	e.ok("Close", wide.Close())
}

func testTableTransaction(e *env) {
	db, _ := e.table(2)
	e.ok("Store", db.Store(e.within(), 0, []byte("gone"), []byte("x")))
	tx, err := db.Transact(e.within())
	e.ok("Transact", err)
	e.ok("tx.Store", tx.Store(e.within(), 0, []byte("a"), []byte("1")))
	e.ok("tx.Store", tx.Store(e.within(), 1, []byte("b"), []byte("2")))
	e.ok("tx.Delete", tx.Delete(e.within(), 0, []byte("gone")))
	e.load(db, 0, "a", "", false)
	e.load(db, 0, "gone", "x", true)
	e.ok("tx.Commit", tx.Commit(e.within()))
	e.load(db, 0, "a", "1", true)
	e.load(db, 1, "b", "2", true)
	e.load(db, 0, "gone", "", false)
	if err := tx.Commit(e.within()); err == nil {
		e.Error("a transaction was committed twice")
	}

	tx, err = db.Transact(e.within())
	e.ok("Transact", err)
	e.ok("tx.Store", tx.Store(e.within(), 0, []byte("a"), []byte("9")))
	e.ok("tx.Rollback", tx.Rollback(e.within()))
	e.load(db, 0, "a", "1", true)

	tx, err = db.Transact(e.within())
	e.ok("Transact", err)
	e.is("tx.Store beyond the columns", tx.Store(e.within(), 7, []byte("a"), nil), veilid.ErrGeneric)
	e.ok("tx.Rollback", tx.Rollback(e.within()))
}

func testTableNames(e *env) {
	db, name := e.table(1)
	e.ok("Store", db.Store(e.within(), 0, []byte("k"), []byte("v")))
	_, err := e.a.DeleteTable(e.within(), name)
	e.is("DeleteTable while it is open", err, veilid.ErrGeneric)
	e.ok("Close", db.Close())

	other, otherName := e.table(1)
	e.ok("Close", other.Close())
	e.is("RenameTable to a name in use", e.a.RenameTable(e.within(), name, otherName), veilid.ErrGeneric)
	e.is("RenameTable of no table", e.a.RenameTable(e.within(), e.name("none"), e.name("none")), veilid.ErrGeneric)
	to := e.name("renamed")
	e.ok("RenameTable", e.a.RenameTable(e.within(), name, to))
	existed, err := e.a.DeleteTable(e.within(), name)
	if err != nil || existed {
		e.Errorf("DeleteTable of the old name = %v, %v", existed, err)
	}
	db, err = e.a.OpenTable(e.within(), to, 1)
	e.ok("OpenTable", err)
	e.load(db, 0, "k", "v", true)
	e.ok("Close", db.Close())
	existed, err = e.a.DeleteTable(e.within(), to)
	if err != nil || !existed {
		e.Errorf("DeleteTable = %v, %v, want true", existed, err)
	}
	db, err = e.a.OpenTable(e.within(), to, 1)
	e.ok("OpenTable", err)
	e.load(db, 0, "k", "", false)
	e.ok("Close", db.Close())
	_, err = e.a.DeleteTable(e.within(), to)
	e.ok("DeleteTable", err)
	for _, bad := range []string{"a/b", "a b"} {
		_, err := e.a.OpenTable(e.within(), bad, 1)
		e.is("OpenTable "+bad, err, veilid.ErrInvalidArgument)
	}
}

func testSecrets(e *env) {
	key := e.name("secret")
	e.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(e.Context()), e.Timeout)
		defer cancel()
		_, _ = e.a.RemoveUserSecret(ctx, key)
	})
	got, err := e.a.LoadUserSecret(e.within(), key)
	if err != nil || got != nil {
		e.Errorf("LoadUserSecret of none = %q, %v, want nil", got, err)
	}
	for i, value := range [][]byte{{1, 2, 3}, {0, 255}} {
		existed, err := e.a.SaveUserSecret(e.within(), key, value)
		if err != nil || existed != (i > 0) {
			e.Errorf("SaveUserSecret %d = %v, %v", i, existed, err)
		}
		if got, err := e.a.LoadUserSecret(e.within(), key); err != nil || !bytes.Equal(got, value) {
			e.Errorf("LoadUserSecret = %v, %v, want %v", got, err, value)
		}
	}
	names, err := e.a.ListUserSecrets(e.within())
	if err != nil || !slices.Contains(names, key) {
		e.Errorf("ListUserSecrets = %q, %v: does not have %q", names, err, key)
	}
	for _, want := range []bool{true, false} {
		if existed, err := e.a.RemoveUserSecret(e.within(), key); err != nil || existed != want {
			e.Errorf("RemoveUserSecret = %v, %v, want %v", existed, err, want)
		}
	}
	if names, err = e.a.ListUserSecrets(e.within()); err != nil || slices.Contains(names, key) {
		e.Errorf("ListUserSecrets after the removal = %q, %v", names, err)
	}
	_, err = e.a.SaveUserSecret(e.within(), "device_encryption_key", []byte{1})
	e.is("SaveUserSecret with a reserved name", err, veilid.ErrInvalidArgument)
}

package veilidtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/google/go-cmp/cmp"
)

// The cases about several writers, and about who hears of a change.

var conflictCases = []testCase{
	{"ConflictTwoWriters", "", testConflict},
	{"ConflictSequence", "", testConflictSequence},
	{"Inspect", "", testInspect},
}

var watchCases = []testCase{
	{"Watch", Watches, testWatch},
	{"WatchCount", Watches, testWatchCount},
	{"WatchCancel", Watches, testWatchCancel},
	{"WatchNotSetter", Watches, testWatchNotSetter},
}

var transactionCases = []testCase{
	{"TransactionCommit", Transactions, testCommit},
	{"TransactionRollback", Transactions, testRollback},
	{"TransactionConflict", Transactions, testTransactionConflict},
	{"TransactionArguments", Transactions, testTransactionArguments},
}

// write sets a subkey and gives what the network had instead.
func (e *env) write(n veilid.Node, key veilid.RecordKey, subkey uint32, value string, opts veilid.SetOptions) (theirs *veilid.ValueData) {
	e.Helper()
	opts.NoOffline = true
	e.try("SetDHTValue", func(ctx context.Context) (err error) {
		theirs, err = rc(n).SetDHTValue(ctx, key, subkey, []byte(value), opts)
		return err
	})
	return theirs
}

// testConflict lets two devices write under the same key without reading first.
func testConflict(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(2), "a0")
	e.open(e.b, d.Key, d.OwnerKeyPair())
	e.sees(e.b, d.Key, 0, 0, "a0")
	e.set(e.a, d.Key, 0, "a1")
	for i, tt := range []struct {
		who    veilid.Node
		value  string
		theirs string // with which sequence number, "" if the write takes
	}{
		{e.b, "b1", "1 a1"}, // b has a0: its version 1 meets another version 1
		{e.b, "b2", ""},     // now it knows a1
		{e.a, "a2", "2 b2"}, // a has a1
		{e.a, "a3", ""},
		{e.b, "b3", "3 a3"},
	} {
		got := ""
		if v := e.write(tt.who, d.Key, 0, tt.value, veilid.SetOptions{}); v != nil {
			got = fmt.Sprintf("%d %s", v.Seq, v.Data)
		}
		if got != tt.theirs {
			e.Fatalf("write %d, %s: the network has %q, want %q", i, tt.value, got, tt.theirs)
		}
		if tt.theirs != "" { // what the network had is here now
			if v := e.get(tt.who, d.Key, 0, false); fmt.Sprintf("%d %s", v.Seq, v.Data) != tt.theirs {
				e.Errorf("after the lost write %d, the local copy is %+v", i, v)
			}
		}
	}
	// The same value is no conflict. veilid-core gives it back now and then.
	if v := e.write(e.b, d.Key, 0, "a3", veilid.SetOptions{}); v != nil && (v.Seq != 3 || string(v.Data) != "a3") {
		e.Errorf("writing what is there: the network had %+v", v)
	}
}

func testConflictSequence(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(2), "a0")
	for i := range 4 {
		e.set(e.a, d.Key, 0, fmt.Sprint("more", i))
	}
	e.open(e.b, d.Key, d.OwnerKeyPair())
	// b has read nothing: its version 0 is older than the network's.
	if v := e.write(e.b, d.Key, 0, "b", veilid.SetOptions{}); v == nil || v.Seq != 4 || string(v.Data) != "more3" {
		e.Errorf("an old write gave %+v, want version 4", v)
	}
	least := uint32(20)
	if v := e.write(e.b, d.Key, 0, "b", veilid.SetOptions{MinSeq: &least}); v != nil {
		e.Errorf("a write from version 20 gave %+v", v)
	}
	e.sees(e.a, d.Key, 0, 20, "b")
}

// seqs is sequence numbers as text, "-" where there is none.
func seqs(list []*uint32) (s []string) {
	for _, n := range list {
		if n == nil {
			s = append(s, "-")
		} else {
			s = append(s, fmt.Sprint(*n))
		}
	}
	return s
}

func testInspect(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(4))
	e.set(e.a, d.Key, 0, "x")
	e.set(e.a, d.Key, 2, "y")
	e.open(e.b, d.Key, veilid.KeyPair{})
	report := func(n veilid.Node, subkeys veilid.SubkeyRanges, scope veilid.ReportScope) (r veilid.Report) {
		e.Helper()
		e.try("InspectDHTRecord", func(ctx context.Context) (err error) {
			r, err = rc(n).InspectDHTRecord(ctx, d.Key, subkeys, scope)
			return err
		})
		return r
	}
	all := veilid.SubkeyRanges{{First: 0, Last: 3}}
	expect := func(name string, r veilid.Report, subkeys veilid.SubkeyRanges, local, network []string) {
		e.Helper()
		got := []any{r.Subkeys, len(r.OfflineSubkeys), seqs(r.LocalSeqs), seqs(r.NetworkSeqs)}
		if diff := cmp.Diff([]any{subkeys, 0, local, network}, got); diff != "" {
			e.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
	none := []string{"-", "-", "-", "-"}
	expect("local, writer", report(e.a, nil, veilid.ScopeLocal), all, []string{"0", "-", "0", "-"}, none)
	e.until("the network reports both writes", func(context.Context) bool {
		return slices.Equal(seqs(report(e.b, nil, veilid.ScopeSyncGet).NetworkSeqs), []string{"0", "-", "0", "-"})
	})
	expect("sync set, writer", report(e.a, nil, veilid.ScopeSyncSet), all, []string{"0", "-", "0", "-"}, []string{"0", "-", "0", "-"})
	expect("part", report(e.a, veilid.SubkeyRanges{{First: 2, Last: 9}}, veilid.ScopeSyncGet), veilid.SubkeyRanges{{First: 2, Last: 3}}, []string{"0", "-"}, []string{"0", "-"})

	e.sees(e.b, d.Key, 0, 0, "x")
	e.set(e.a, d.Key, 0, "z")
	for _, scope := range []veilid.ReportScope{veilid.ScopeSyncGet, veilid.ScopeUpdateGet, veilid.ScopeUpdateSet} {
		e.until(fmt.Sprintf("%s reports the new version", scope), func(context.Context) bool {
			r := report(e.b, veilid.Subkey(0), scope)
			// veilid-core reports the seq of the next write as the local one here.
			local := slices.Equal(seqs(r.LocalSeqs), []string{"0"}) || scope == veilid.ScopeUpdateSet
			return local && slices.Equal(seqs(r.NetworkSeqs), []string{"1"})
		})
	}
	_, err := rc(e.a).InspectDHTRecord(e.within(), d.Key, veilid.SubkeyRanges{{First: 7, Last: 9}}, veilid.ScopeLocal)
	e.is("InspectDHTRecord out of range", err, veilid.ErrInvalidArgument)
}

// watch sets a watch up.
func (e *env) watch(n veilid.Node, key veilid.RecordKey, opts veilid.WatchOptions) {
	e.Helper()
	e.try("WatchDHTValues", func(ctx context.Context) error {
		active, err := rc(n).WatchDHTValues(ctx, key, opts)
		if err == nil && !active {
			e.Fatal("WatchDHTValues says that there is no watch")
		}
		return err
	})
}

// provoke writes a subkey at one node until another one is told of a change to this record, because what is written
// while a watch is still being set up may be reported late. It gives the report and the last value written.
func (e *env) provoke(n veilid.Node, d veilid.RecordDescriptor, subkey uint32, sub veilid.Subscription) (*veilid.ValueChange, string) {
	e.Helper()
	ctx := e.within()
	for i := 0; ; i++ {
		value := fmt.Sprintf("%s %d", e.name("value"), i)
		e.set(n, d.Key, subkey, value)
		patience, cancel := context.WithTimeout(ctx, 15*time.Second)
		for {
			u, err := sub.Next(patience)
			if ctx.Err() != nil || err != nil && !errors.Is(err, context.DeadlineExceeded) {
				e.Fatalf("no report of %d writes to subkey %d: %v", i+1, subkey, err)
			}
			if err != nil {
				break
			}
			if c, ok := u.(*veilid.ValueChange); ok && c.Key.Opaque() == d.Key.Opaque() {
				cancel()
				return c, value
			}
		}
		cancel()
	}
}

func testWatch(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(4), "x")
	e.open(e.b, d.Key, veilid.KeyPair{})
	sub := e.listen(e.b, veilid.ValueChanges)
	e.watch(e.b, d.Key, veilid.WatchOptions{})
	for range 2 {
		u, value := e.provoke(e.a, d, 1, sub)
		if !u.Subkeys.Contains(1) || u.Count == 0 {
			e.Errorf("the report is %+v, want one of subkey 1", u)
		}
		v := e.get(e.a, d.Key, 1, false)
		// After a second attempt the report may be that of the first one.
		if u.Value != nil && (u.Value.Seq > v.Seq || u.Value.Seq == v.Seq && string(u.Value.Data) != value || u.Value.Writer != d.Owner) {
			e.Errorf("the report carries %+v, want %q", u.Value, value)
		}
		e.sees(e.b, d.Key, 1, v.Seq, value)
	}
}

func testWatchCount(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(4), "x")
	e.open(e.b, d.Key, veilid.KeyPair{})
	sub := e.listen(e.b, veilid.ValueChanges)
	count := uint32(2)
	e.watch(e.b, d.Key, veilid.WatchOptions{Subkeys: veilid.SubkeyRanges{{First: 1, Last: 2}}, Count: &count})
	for left := range 2 {
		e.set(e.a, d.Key, 3, fmt.Sprint("not watched", left))
		u, _ := e.provoke(e.a, d, 1, sub)
		if !u.Subkeys.Contains(1) || u.Subkeys.Contains(3) || u.Count != uint32(1-left) {
			e.Errorf("report %d of two: %+v", left, u)
		}
	}
}

func testWatchCancel(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(4), "x")
	ctx, r := e.within(), rc(e.a)
	cancel := func(want bool, subkeys veilid.SubkeyRanges) {
		e.Helper()
		if left, err := r.CancelDHTWatch(ctx, d.Key, subkeys); err != nil || left != want {
			e.Errorf("CancelDHTWatch(%v) = %v, %v, want %v", subkeys, left, err, want)
		}
	}
	cancel(false, nil)
	e.watch(e.a, d.Key, veilid.WatchOptions{})
	cancel(true, veilid.Subkey(0))
	cancel(false, nil)
	cancel(false, nil)
	e.watch(e.a, d.Key, veilid.WatchOptions{Subkeys: veilid.Subkey(2)})
	e.watch(e.a, d.Key, veilid.WatchOptions{Subkeys: veilid.SubkeyRanges{{First: 0, Last: 1}}}) // replaces
	cancel(true, veilid.Subkey(1))
	cancel(false, veilid.Subkey(0))
	var zero uint32
	if active, err := r.WatchDHTValues(ctx, d.Key, veilid.WatchOptions{Count: &zero}); err != nil || active {
		e.Errorf("a watch of no reports = %v, %v, want false", active, err)
	}
	_, err := r.WatchDHTValues(ctx, d.Key, veilid.WatchOptions{Expiration: time.Now().Add(time.Second)})
	e.is("WatchDHTValues for a second", err, veilid.ErrInvalidArgument)
	e.watch(e.a, d.Key, veilid.WatchOptions{Expiration: time.Now().Add(time.Minute)})
	cancel(false, nil)
}

// testWatchNotSetter checks that a node is not told what it wrote itself.
func testWatchNotSetter(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(4), "x")
	e.open(e.b, d.Key, d.OwnerKeyPair())
	sub := e.listen(e.a, veilid.ValueChanges)
	e.watch(e.a, d.Key, veilid.WatchOptions{})
	e.set(e.a, d.Key, 1, "mine")
	u, _ := e.provoke(e.b, d, 2, sub)
	if u.Subkeys.Contains(1) || !u.Subkeys.Contains(2) {
		e.Errorf("the first report is %+v, want one of the other's write only", u)
	}
}

func (e *env) begin(n veilid.Node, keys ...veilid.RecordKey) (tx veilid.DHTTransaction) {
	e.Helper()
	e.try("TransactDHTRecords", func(ctx context.Context) (err error) {
		tx, err = n.TransactDHTRecords(ctx, keys, veilid.TransactOptions{})
		return err
	})
	return tx
}

func (e *env) txSet(tx veilid.DHTTransaction, key veilid.RecordKey, subkey uint32, value string) {
	e.Helper()
	theirs, err := tx.Set(e.within(), key, subkey, []byte(value), veilid.SetOptions{})
	e.ok("tx.Set", err)
	if theirs != nil {
		e.Errorf("tx.Set: the network had %+v", theirs)
	}
}

func testCommit(e *env) {
	d1, d2 := e.create(e.a, veilid.DFLTSchema(2), "one"), e.create(e.a, veilid.DFLTSchema(2), "two")
	tx := e.begin(e.a, d1.Key, d2.Key)
	e.txSet(tx, d1.Key, 0, "ONE")
	e.txSet(tx, d2.Key, 1, "TWO")
	v, err := tx.Get(e.within(), d2.Key, 0)
	if err != nil || v == nil || string(v.Data) != "two" {
		e.Errorf("tx.Get = %+v, %v, want two", v, err)
	}
	rep, err := tx.Inspect(e.within(), d1.Key, nil, veilid.ScopeSyncGet)
	if err != nil || len(rep.NetworkSeqs) != 2 {
		e.Errorf("tx.Inspect = %+v, %v", rep, err)
	}
	e.open(e.b, d1.Key, veilid.KeyPair{})
	if v := e.get(e.b, d1.Key, 0, true); v == nil || string(v.Data) != "one" {
		e.Errorf("before the commit: %+v, want one", v)
	}
	e.ok("tx.Commit", tx.Commit(e.within()))
	e.open(e.b, d2.Key, veilid.KeyPair{})
	e.sees(e.b, d1.Key, 0, 1, "ONE")
	e.sees(e.b, d2.Key, 1, 0, "TWO")
	if v := e.get(e.a, d1.Key, 0, false); v == nil || string(v.Data) != "ONE" {
		e.Errorf("the writer's copy after the commit: %+v", v)
	}
	if _, err := tx.Get(e.within(), d1.Key, 0); err == nil {
		e.Error("a transaction works after its commit")
	}
	if err := tx.Commit(e.within()); err == nil {
		e.Error("a transaction was committed twice")
	}
	e.set(e.a, d1.Key, 0, "after")
	e.sees(e.b, d1.Key, 0, 2, "after")
}

func testRollback(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(2), "one")
	tx := e.begin(e.a, d.Key)
	e.txSet(tx, d.Key, 0, "no")
	e.ok("tx.Rollback", tx.Rollback(e.within()))
	if _, err := tx.Set(e.within(), d.Key, 0, nil, veilid.SetOptions{}); err == nil {
		e.Error("a transaction works after its rollback")
	}
	if v := e.get(e.a, d.Key, 0, true); v == nil || string(v.Data) != "one" {
		e.Errorf("after the rollback: %+v, want one", v)
	}
	e.set(e.a, d.Key, 0, "two")
}

// testTransactionConflict checks that a transaction does not overwrite what was written since it began.
func testTransactionConflict(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(2), "one")
	e.open(e.b, d.Key, d.OwnerKeyPair())
	e.sees(e.b, d.Key, 0, 0, "one")
	tx := e.begin(e.a, d.Key)
	e.set(e.b, d.Key, 0, "b's")
	_, err := tx.Set(e.within(), d.Key, 0, []byte("a's"), veilid.SetOptions{})
	if err == nil {
		err = tx.Commit(e.within())
	}
	if err == nil {
		e.Error("the commit was not refused")
	}
	e.sees(e.a, d.Key, 0, 1, "b's")
}

func testTransactionArguments(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(2), "one")
	ctx := e.within()
	_, err := e.a.TransactDHTRecords(ctx, nil, veilid.TransactOptions{})
	e.is("TransactDHTRecords of no records", err, veilid.ErrMissingArgument)
	many := slices.Repeat([]veilid.RecordKey{d.Key}, 33)
	_, err = e.a.TransactDHTRecords(ctx, many, veilid.TransactOptions{})
	e.is("TransactDHTRecords of 33 records", err, veilid.ErrInvalidArgument)
	tx := e.begin(e.a, d.Key)
	_, err = tx.Set(ctx, d.Key, 0, []byte("no"), veilid.SetOptions{Writer: sys.GenerateKeyPair()})
	e.is("tx.Set by a stranger", err, veilid.ErrGeneric)
	_, err = tx.Set(ctx, d.Key, 2, []byte("no"), veilid.SetOptions{})
	e.is("tx.Set out of range", err, veilid.ErrInvalidArgument)
	if _, err = tx.Get(ctx, veilid.NewRecordKey(veilid.OpaqueRecordKey{}, veilid.SharedSecret{}), 0); err == nil {
		e.Error("tx.Get of no record worked")
	}
	e.ok("tx.Rollback", tx.Rollback(ctx))
	e.ok("CloseDHTRecord", rc(e.a).CloseDHTRecord(ctx, d.Key))
	_, err = e.a.TransactDHTRecords(ctx, []veilid.RecordKey{d.Key}, veilid.TransactOptions{})
	e.is("TransactDHTRecords of a closed record", err, veilid.ErrInvalidArgument)
}

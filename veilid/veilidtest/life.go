package veilidtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// The cases about subscriptions, cancelling and closing.

var lifeCases = []testCase{
	{"SubscriptionOrder", "", testSubscriptionOrder},
	{"SubscriptionClose", "", testSubscriptionClose},
	{"Cancelled", "", testCancelled},
	{"Close", "", testClose},
	{"CloseEndsWaiting", "", testCloseEndsWaiting},
}

// testSubscriptionOrder checks that updates keep their order for every reader, and that one who does not read harms
// nobody.
func testSubscriptionOrder(e *env) {
	target, blob := e.link(e.b, e.a)
	e.listen(e.a, veilid.AllUpdates) // never reads
	first, second := e.listen(e.a, veilid.AppCalls), e.listen(e.a, veilid.AppCalls)
	other := e.listen(e.a, veilid.AppMessages)
	e.serve(e.a, blob.ID, echo)
	for i := range 20 {
		e.call(e.b, target, fmt.Append(nil, i))
	}
	for name, sub := range map[string]veilid.Subscription{"first": first, "second": second} {
		next := 0
		await(e, sub, "call 19", func(c *veilid.AppCall) bool {
			if c.Route != blob.ID {
				return false
			}
			var i int
			if _, err := fmt.Sscan(string(c.Message), &i); err != nil || i != next && i != next-1 { // a lost answer repeats the question
				e.Errorf("%s reader: %q when %d was due", name, c.Message, next)
			}
			next = i + 1
			return i == 19
		})
	}
	ctx, cancel := context.WithTimeout(e.Context(), 20*time.Millisecond)
	defer cancel()
	for {
		u, err := other.Next(ctx)
		if err != nil {
			e.is("reader of messages", err, context.DeadlineExceeded)
			return
		}
		if c, ok := u.(*veilid.AppCall); ok {
			e.Fatalf("a reader of messages got the call %q", c.Message)
		}
	}
}

func testSubscriptionClose(e *env) {
	sub, other := e.listen(e.a, veilid.AppCalls), e.listen(e.a, veilid.AppCalls)
	ctx, cancel := context.WithCancel(e.Context())
	done := make(chan error, 1)
	go func() {
		_, err := sub.Next(ctx)
		done <- err
	}()
	cancel()
	e.is("Next, cancelled", <-done, context.Canceled)
	go func() {
		_, err := sub.Next(e.Context())
		done <- err
	}()
	sub.Close()
	e.is("Next, closed", <-done, veilid.ErrShutdown)
	sub.Close()
	_, err := sub.Next(e.Context())
	e.is("Next after Close", err, veilid.ErrShutdown)

	target, blob := e.link(e.b, e.a)
	e.serve(e.a, blob.ID, echo)
	e.call(e.b, target, []byte("still there"))
	await(e, other, "a call", func(c *veilid.AppCall) bool { return string(c.Message) == "still there" })
}

// everyCall is every method that takes a context, with harmless arguments.
func (e *env) everyCall(n veilid.Node, d veilid.RecordDescriptor, target veilid.Target) map[string]func(context.Context) error {
	r := rc(n)
	calls := map[string]func(context.Context) error{
		"Attach":              n.Attach,
		"Detach":              n.Detach,
		"AttachmentState":     func(ctx context.Context) error { _, err := n.AttachmentState(ctx); return err },
		"WaitReady":           n.WaitReady,
		"NewPrivateRoute":     func(ctx context.Context) error { _, err := n.NewPrivateRoute(ctx, veilid.PrivateSpec{}); return err },
		"ImportPrivateRoute":  func(ctx context.Context) error { _, err := n.ImportRemotePrivateRoute(ctx, []byte{1}); return err },
		"ReleasePrivateRoute": func(ctx context.Context) error { return n.ReleasePrivateRoute(ctx, target.Route) },
		"AppCallReply":        func(ctx context.Context) error { return n.AppCallReply(ctx, 1, nil) },
		"AppCall":             func(ctx context.Context) error { _, err := r.AppCall(ctx, target, nil); return err },
		"AppMessage":          func(ctx context.Context) error { return r.AppMessage(ctx, target, nil) },
		"Create": func(ctx context.Context) error {
			_, err := r.CreateDHTRecord(ctx, veilid.DFLTSchema(1), veilid.KeyPair{})
			return err
		},
		"Open": func(ctx context.Context) error {
			_, err := r.OpenDHTRecord(ctx, d.Key, veilid.OpenOptions{})
			return err
		},
		"Get": func(ctx context.Context) error { _, err := r.GetDHTValue(ctx, d.Key, 0, true); return err },
		"Set": func(ctx context.Context) error {
			_, err := r.SetDHTValue(ctx, d.Key, 0, nil, veilid.SetOptions{})
			return err
		},
		"Inspect": func(ctx context.Context) error {
			_, err := r.InspectDHTRecord(ctx, d.Key, nil, veilid.ScopeSyncGet)
			return err
		},
		"Flush":  func(ctx context.Context) error { _, err := r.FlushDHTRecord(ctx, d.Key, time.Second); return err },
		"Close":  func(ctx context.Context) error { return r.CloseDHTRecord(ctx, d.Key) },
		"Delete": func(ctx context.Context) error { return r.DeleteDHTRecord(ctx, d.Key) },
		"DHTRecordKey": func(ctx context.Context) error {
			_, err := n.DHTRecordKey(ctx, veilid.DFLTSchema(1), d.Owner, veilid.SharedSecret{})
			return err
		},
		"OpenTable":   func(ctx context.Context) error { _, err := n.OpenTable(ctx, "suite-never", 1); return err },
		"DeleteTable": func(ctx context.Context) error { _, err := n.DeleteTable(ctx, "suite-never"); return err },
		"RenameTable": func(ctx context.Context) error { return n.RenameTable(ctx, "suite-never", "suite-never2") },
		"Version":     func(ctx context.Context) error { _, err := n.Version(ctx); return err },
		"Debug":       func(ctx context.Context) error { _, err := n.Debug(ctx, "nodeid"); return err },
	}
	if _, skip := e.Without[Watches]; !skip {
		calls["Watch"] = func(ctx context.Context) error {
			_, err := r.WatchDHTValues(ctx, d.Key, veilid.WatchOptions{})
			return err
		}
		calls["CancelWatch"] = func(ctx context.Context) error { _, err := r.CancelDHTWatch(ctx, d.Key, nil); return err }
	}
	if _, skip := e.Without[Transactions]; !skip {
		calls["Transact"] = func(ctx context.Context) error {
			_, err := n.TransactDHTRecords(ctx, []veilid.RecordKey{d.Key}, veilid.TransactOptions{})
			return err
		}
	}
	if _, skip := e.Without[ProtectedStore]; !skip {
		calls["SaveUserSecret"] = func(ctx context.Context) error { _, err := n.SaveUserSecret(ctx, "suite", nil); return err }
		calls["LoadUserSecret"] = func(ctx context.Context) error { _, err := n.LoadUserSecret(ctx, "suite"); return err }
		calls["RemoveUserSecret"] = func(ctx context.Context) error { _, err := n.RemoveUserSecret(ctx, "suite"); return err }
		calls["ListUserSecrets"] = func(ctx context.Context) error { _, err := n.ListUserSecrets(ctx); return err }
	}
	return calls
}

// testCancelled calls everything with a context that has ended: nothing happens.
func testCancelled(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(1), "x")
	target, _ := e.link(e.a, e.b)
	db, _ := e.table(1)
	calls := e.everyCall(e.a, d, target)
	calls["table Columns"] = func(ctx context.Context) error { _, err := db.Columns(ctx); return err }
	calls["table Keys"] = func(ctx context.Context) error { _, err := db.Keys(ctx, 0); return err }
	calls["table Load"] = func(ctx context.Context) error { _, err := db.Load(ctx, 0, nil); return err }
	calls["table Store"] = func(ctx context.Context) error { return db.Store(ctx, 0, []byte("k"), nil) }
	calls["table Delete"] = func(ctx context.Context) error { _, err := db.Delete(ctx, 0, nil); return err }
	calls["table Transact"] = func(ctx context.Context) error { _, err := db.Transact(ctx); return err }
	ctx, cancel := context.WithCancel(e.Context())
	cancel()
	for name, call := range calls {
		e.is(name, call(ctx), context.Canceled)
	}
	if v := e.get(e.a, d.Key, 0, false); v == nil || string(v.Data) != "x" {
		e.Errorf("after cancelled calls the value is %+v", v)
	}
	e.load(db, 0, "k", "", false)
}

func testClose(e *env) {
	d := e.create(e.a, veilid.DFLTSchema(1), "x")
	target, _ := e.link(e.a, e.b)
	db, err := e.a.OpenTable(e.within(), e.name("suite"), 1)
	e.ok("OpenTable", err)
	sub := e.listen(e.a, veilid.AllUpdates)
	e.ok("Close", e.a.Close())
	e.ok("Close again", e.a.Close())
	calls := e.everyCall(e.a, d, target)
	calls["table Load"] = func(ctx context.Context) error { _, err := db.Load(ctx, 0, nil); return err }
	calls["table Store"] = func(ctx context.Context) error { return db.Store(ctx, 0, nil, nil) }
	calls["new subscription"] = func(ctx context.Context) error {
		_, err := e.a.Subscribe(veilid.AllUpdates).Next(ctx)
		return err
	}
	for name, call := range calls {
		e.is(name+" after Close", call(e.within()), veilid.ErrShutdown)
	}
	ctx := e.within()
	for err == nil {
		_, err = sub.Next(ctx) // what was queued may still come
	}
	e.is("Next after Close", err, veilid.ErrShutdown)
	e.ok("Close of a table after Close", db.Close())
}

// testCloseEndsWaiting closes a node that waits for an answer and for updates.
func testCloseEndsWaiting(e *env) {
	target, blob := e.link(e.a, e.b)
	arrived := make(chan struct{}, 100)
	e.serve(e.b, blob.ID, func(*veilid.AppCall) []byte {
		arrived <- struct{}{}
		return nil
	})
	done := make(chan error, 2)
	go func() {
		_, err := rc(e.a).AppCall(e.Context(), target, nil)
		done <- err
	}()
	sub := e.listen(e.a, veilid.AppCalls)
	go func() {
		for {
			_, err := sub.Next(e.Context())
			if err != nil {
				done <- err
				return
			}
		}
	}()
	select {
	case <-arrived:
	case err := <-done:
		e.Fatalf("ended before the call arrived: %v", err)
	case <-e.within().Done():
		e.Fatal("the call did not arrive")
	}
	e.ok("Close", e.a.Close())
	for range 2 {
		if err := <-done; !errors.Is(err, veilid.ErrShutdown) {
			e.Errorf("what waited ended with %v, want Shutdown", err)
		}
	}
}

package remote

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/jsonapi"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// lose ends the connection from the server's side and waits until the client noticed. The server is down afterwards.
func (f *fake) lose() {
	f.set(func() { f.down = true })
	_ = f.last().raw.Close()
	synctest.Wait()
}

// TestReconnect loses the connection in the middle of a call, and works on.
func TestReconnect(t *testing.T) {
	silent := false
	serve := func(c *fakeConn, id uint32, r jsonapi.Request) {
		if !silent {
			echo(c, id, r)
		}
	}
	bubble(t, serve, Options{}, func(t *testing.T, n *Node, f *fake) {
		sub := n.Subscribe(veilid.RouteChanges)
		rc := n.Context(veilid.SafetySelection{})
		if _, err := rc.AppCall(t.Context(), target(t), nil); err != nil {
			t.Fatal(err)
		}
		silent = true
		errs := make(chan error)
		for range 3 {
			go func() {
				_, err := rc.AppCall(t.Context(), target(t), nil)
				errs <- err
			}()
		}
		synctest.Wait()
		f.lose()
		for range 3 {
			if err := <-errs; !errors.Is(err, veilid.ErrNoConnection) || !veilid.IsRetryable(err) {
				t.Errorf("a call on its way: %v, want NoConnection", err)
			}
		}
		silent = false
		if _, err := rc.AppCall(t.Context(), target(t), nil); !errors.Is(err, veilid.ErrNoConnection) {
			t.Errorf("a call without a connection: %v, want NoConnection", err)
		}
		began := time.Now()
		time.Sleep(time.Minute)
		f.mu.Lock()
		attempts := f.attempts
		f.down = false
		f.mu.Unlock()
		if attempts < 8 || attempts > 20 {
			t.Errorf("%d attempts to connect in a minute: want 8 to 20, ever rarer", attempts)
		}
		if d := cmp.Diff(veilid.Update(&veilid.Reconnected{}), next(t, sub)); d != "" {
			t.Errorf("update (-want +got)\n%s", d)
		}
		if d := time.Since(began); d > time.Minute+maxPause {
			t.Errorf("connected after %v", d)
		}
		if _, err := rc.AppCall(t.Context(), target(t), nil); err != nil {
			t.Errorf("after the reconnection: %v", err)
		}
		if k := f.count("NewRoutingContext"); k != 2 {
			t.Errorf("%d routing contexts were made, want one for each connection", k)
		}
	})
}

// TestRestart has a node that began again behind our back: its routes are dead, and records are opened again.
func TestRestart(t *testing.T) {
	open := map[string]string{} // the writer, by key
	serve := func(c *fakeConn, id uint32, r jsonapi.Request) {
		writer := func(p *jsonapi.KeyPair) string {
			if p == nil {
				return "none"
			}
			return p.Reveal()
		}
		switch r := r.(type) {
		case jsonapi.OpenDHTRecord:
			open[r.Key.Reveal()] = writer(r.Writer)
			c.value(id, `{"key":"%s","owner":"%s","owner_secret":null,"schema":{"kind":"DFLT","o_cnt":1}}`, r.Key.Reveal(), nodeID)
		case jsonapi.CloseDHTRecord:
			delete(open, r.Key.Reveal())
			c.value(id, "null")
		case jsonapi.SetDHTValue:
			if _, ok := open[r.Key.Reveal()]; !ok {
				c.fail(id, veilid.ErrInvalidArgument, "record not open")
				return
			}
			c.value(id, "null")
		default:
			echo(c, id, r)
		}
	}
	bubble(t, serve, Options{}, func(t *testing.T, n *Node, f *fake) {
		ctx := t.Context()
		rc := n.Context(veilid.SafetySelection{})
		key, closed := must[veilid.RecordKey](t, otherID+":"+secret), must[veilid.RecordKey](t, routeID)
		pair := must[veilid.KeyPair](t, nodeID+":"+secret)
		for _, k := range []veilid.RecordKey{key, closed} {
			if _, err := rc.OpenDHTRecord(ctx, k, veilid.OpenOptions{Writer: pair}); err != nil {
				t.Fatal(err)
			}
		}
		if err := rc.CloseDHTRecord(ctx, closed); err != nil {
			t.Fatal(err)
		}
		if _, err := n.NewPrivateRoute(ctx, veilid.PrivateSpec{}); err != nil {
			t.Fatal(err)
		}
		if _, err := n.ImportRemotePrivateRoute(ctx, []byte{1}); err != nil {
			t.Fatal(err)
		}
		sub := n.Subscribe(veilid.RouteChanges)
		f.lose()
		f.set(func() { f.down, f.boot = false, time.Now() })
		clear(open)
		want := []veilid.Update{&veilid.Reconnected{Restarted: true}, &veilid.RouteChange{
			DeadRoutes:       []veilid.RouteID{must[veilid.RouteID](t, routeID)},
			DeadRemoteRoutes: []veilid.RouteID{must[veilid.RouteID](t, otherID)},
		}}
		if d := cmp.Diff(want, []veilid.Update{next(t, sub), next(t, sub)}); d != "" {
			t.Errorf("updates (-want +got)\n%s", d)
		}
		if _, err := rc.SetDHTValue(ctx, key, 0, nil, veilid.SetOptions{}); err != nil {
			t.Errorf("a record that was open: %v", err)
		}
		if open[key.Reveal()] != pair.Reveal() {
			t.Error("the record is open again, but without its writer")
		}
		if _, err := rc.SetDHTValue(ctx, closed, 0, nil, veilid.SetOptions{}); !errors.Is(err, veilid.ErrNotOpen) {
			t.Errorf("a record that was closed: %v, want %v", err, veilid.ErrNotOpen)
		}
		if k := f.count("OpenDHTRecord"); k != 3 {
			t.Errorf("%d times opened, want 3", k)
		}
	})
}

func TestBootTime(t *testing.T) {
	base := time.Now()
	at := func(up, later time.Duration) bootTime { return bootTime{up, base.Add(later)} }
	for _, tt := range []struct {
		name          string
		first, second bootTime
		want          bool
	}{
		{"the same", at(time.Hour, 0), at(time.Hour+time.Minute, time.Minute), false},
		{"inexact", at(time.Hour, 0), at(time.Hour+59*time.Second, time.Minute), false},
		{"uptime went back", at(time.Hour, 0), at(time.Second, time.Minute), true},
		{"began while we were away, and is older now", at(time.Second, 0), at(30*time.Second, time.Minute), true},
		{
			"our clock was set forward", at(time.Hour, 0),
			bootTime{time.Hour + time.Minute, base.Add(time.Hour).Round(0)}, true, // without the other clock nothing tells it from a new beginning
		},
	} {
		if got := tt.first.before(tt.second); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
	a, b := veilid.NodeID{Key32: must[veilid.Key32](t, nodeID)}, veilid.NodeID{Key32: must[veilid.Key32](t, otherID)}
	s := func(ids ...veilid.NodeID) *session { return &session{nodeIDs: ids, start: at(time.Hour, 0)} }
	if !s(b).restartedSince(s(a)) || s(a).restartedSince(s(a)) || s().restartedSince(s(a)) {
		t.Error("another node id is another node, no id tells nothing")
	}
	again := s(a)
	again.spawned = 2
	if !again.restartedSince(s(a)) {
		t.Error("a process that was started again is another node")
	}
}

// tables serves tables and transactions, and checks that handles are used only while they are there.
type tables struct {
	mu   sync.Mutex
	dbs  map[*fakeConn]map[uint32]bool
	txs  map[*fakeConn]map[uint32]bool
	log  []string
	fail map[string]veilid.Kind
}

func take(m map[*fakeConn]map[uint32]bool, c *fakeConn) uint32 {
	if m[c] == nil {
		m[c] = map[uint32]bool{}
	}
	for id := uint32(1); ; id++ {
		if !m[c][id] {
			m[c][id] = true
			return id
		}
	}
}

func (s *tables) serve(c *fakeConn, id uint32, r jsonapi.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := typeName(r)
	s.log = append(s.log, name)
	if k, ok := s.fail[name]; ok {
		c.fail(id, k, "")
		return
	}
	invalid := func(family string) {
		c.send(`{"type":"Response","id":%d,"op":"X","%s_op":"InvalidId"}`, id, family)
	}
	ends := func(m map[*fakeConn]map[uint32]bool, h uint32, family string) {
		if !m[c][h] {
			invalid(family)
			return
		}
		delete(m[c], h)
		c.value(id, "null")
	}
	within := func(m map[*fakeConn]map[uint32]bool, h uint32, family, value string) {
		if !m[c][h] {
			invalid(family)
			return
		}
		c.value(id, "%s", value)
	}
	switch r := r.(type) {
	case jsonapi.OpenTableDB:
		c.value(id, "%d", take(s.dbs, c))
	case jsonapi.Transact:
		c.value(id, "%d", take(s.txs, c))
	case jsonapi.TransactDHTRecords:
		c.value(id, "%d", take(s.txs, c))
	case jsonapi.ReleaseDB:
		ends(s.dbs, r.ID, "db")
	case jsonapi.Load:
		within(s.dbs, r.ID, "db", `"AAEC"`)
	case jsonapi.GetKeys:
		within(s.dbs, r.ID, "db", `["AA","AQ"]`)
	case jsonapi.StoreInTx:
		within(s.txs, r.ID, "tx", "null")
	case jsonapi.CommitTx:
		ends(s.txs, r.ID, "tx")
	case jsonapi.RollbackTx:
		ends(s.txs, r.ID, "tx")
	case jsonapi.GetInDHTTx:
		within(s.txs, r.ID, "dhttx", "null")
	case jsonapi.CommitDHTTx:
		ends(s.txs, r.ID, "dhttx")
	case jsonapi.RollbackDHTTx:
		ends(s.txs, r.ID, "dhttx")
	case jsonapi.ReleaseDHTTx:
		ends(s.txs, r.ID, "dhttx")
	default:
		c.f.t.Errorf("unexpected %T", r)
	}
}

func newTables() *tables {
	return &tables{dbs: map[*fakeConn]map[uint32]bool{}, txs: map[*fakeConn]map[uint32]bool{}, fail: map[string]veilid.Kind{}}
}

// TestTableOverReconnect checks that a table outlives its connection, and a transaction does not.
func TestTableOverReconnect(t *testing.T) {
	srv := newTables()
	bubble(t, srv.serve, Options{}, func(t *testing.T, n *Node, f *fake) {
		ctx := t.Context()
		db, err := n.OpenTable(ctx, "t", 1)
		if err != nil {
			t.Fatal(err)
		}
		tx, err := db.Transact(ctx)
		if err != nil {
			t.Fatal(err)
		}
		sub := n.Subscribe(0)
		f.lose()
		if _, err := db.Load(ctx, 0, nil); !errors.Is(err, veilid.ErrNoConnection) {
			t.Errorf("without a connection: %v, want NoConnection", err)
		}
		f.set(func() { f.down = false })
		next(t, sub)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if v, err := db.Load(ctx, 0, nil); err != nil || string(v) != "\x00\x01\x02" {
					t.Errorf("the table on a new connection: %v, %v", v, err)
				}
			})
		}
		wg.Wait()
		if k := f.count("OpenTableDB"); k != 2 {
			t.Errorf("%d times opened, want once for each connection", k)
		}
		for name, err := range map[string]error{
			"Store": tx.Store(ctx, 0, nil, nil), "Commit": tx.Commit(ctx), "Rollback": tx.Rollback(ctx),
		} {
			if !errors.Is(err, veilid.ErrTransactionNotFound) || veilid.IsRetryable(err) {
				t.Errorf("%s in a lost transaction: %v, want TransactionNotFound", name, err)
			}
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		if _, err := db.Load(ctx, 0, nil); !errors.Is(err, veilid.ErrInvalidArgument) {
			t.Errorf("a closed table: %v, want InvalidArgument", err)
		}
		if left := srv.dbs[f.last()]; len(left) != 0 {
			t.Errorf("tables %v are left at the server", left)
		}
	})
}

func TestTransactions(t *testing.T) {
	srv := newTables()
	bubble(t, srv.serve, Options{}, func(t *testing.T, n *Node, f *fake) {
		ctx := t.Context()
		db, err := n.OpenTable(ctx, "t", 1)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := db.Keys(ctx, 0)
		if d := cmp.Diff([][]byte{{0}, {1}}, keys); d != "" || err != nil {
			t.Errorf("keys: %v\n%s", err, d)
		}
		key := must[veilid.RecordKey](t, otherID+":"+secret)
		type tx interface {
			Commit(context.Context) error
			Rollback(context.Context) error
		}
		for name, begin := range map[string]func() (tx, error){
			"Tx": func() (tx, error) { return db.Transact(ctx) },
			"DHTTx": func() (tx, error) {
				return n.TransactDHTRecords(ctx, []veilid.RecordKey{key}, veilid.TransactOptions{})
			},
		} {
			// Refused for now, then done.
			x, err := begin()
			if err != nil {
				t.Fatal(err)
			}
			srv.fail["Commit"+name] = veilid.ErrTryAgain
			if err := x.Commit(ctx); !errors.Is(err, veilid.ErrTryAgain) {
				t.Errorf("%s: commit = %v, want TryAgain", name, err)
			}
			delete(srv.fail, "Commit"+name)
			if err := x.Commit(ctx); err != nil {
				t.Errorf("%s: commit = %v", name, err)
			}
			if err := x.Commit(ctx); !errors.Is(err, veilid.ErrTransactionNotFound) {
				t.Errorf("%s: second commit = %v, want TransactionNotFound", name, err)
			}
			if err := x.Rollback(ctx); !errors.Is(err, veilid.ErrTransactionNotFound) {
				t.Errorf("%s: rollback after the commit = %v, want TransactionNotFound", name, err)
			}
			// Begun and given up.
			if x, err = begin(); err != nil {
				t.Fatal(err)
			}
			if err := x.Rollback(ctx); err != nil {
				t.Errorf("%s: rollback = %v", name, err)
			}
			if err := x.Commit(ctx); !errors.Is(err, veilid.ErrTransactionNotFound) {
				t.Errorf("%s: commit after the rollback = %v, want TransactionNotFound", name, err)
			}
		}
		// What fails to roll back is released.
		x, err := n.TransactDHTRecords(ctx, []veilid.RecordKey{key}, veilid.TransactOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if v, err := x.Get(ctx, key, 0); v != nil || err != nil {
			t.Errorf("get = %v, %v", v, err)
		}
		srv.fail["RollbackDHTTx"] = veilid.ErrTimeout
		if err := x.Rollback(ctx); !errors.Is(err, veilid.ErrTimeout) {
			t.Errorf("rollback = %v, want Timeout", err)
		}
		synctest.Wait()
		if left := srv.txs[f.last()]; len(left) != 0 {
			t.Errorf("transactions %v are left at the server", left)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestHandleEndsIdle checks that a handle is given back only when nothing that uses it is on its way.
func TestHandleEndsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandle(nil, 1)
		if !h.enter() || !h.enter() {
			t.Fatal("a new handle is of no use")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if mine, err := h.end(ctx); mine || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("end with users = %t, %v", mine, err)
		}
		if !h.enter() {
			t.Error("of no use after an end that did not come about")
		}
		ended := make(chan bool)
		go func() {
			mine, _ := h.end(t.Context())
			ended <- mine
		}()
		synctest.Wait()
		if h.enter() {
			t.Error("entered while it ends")
		}
		if mine, err := h.end(t.Context()); mine || err != nil {
			t.Errorf("a second end = %t, %v", mine, err)
		}
		for range 3 {
			select {
			case <-ended:
				t.Fatal("ended with users")
			default:
			}
			h.leave()
			synctest.Wait()
		}
		if !<-ended {
			t.Error("nobody ended it")
		}
	})
}

func TestClose(t *testing.T) {
	bubble(t, func(*fakeConn, uint32, jsonapi.Request) {}, Options{}, func(t *testing.T, n *Node, f *fake) {
		rc := n.Context(veilid.SafetySelection{})
		sub := n.Subscribe(0)
		errs := make(chan error)
		go func() {
			_, err := rc.AppCall(t.Context(), target(t), nil)
			errs <- err
		}()
		go func() { errs <- n.WaitReady(t.Context()) }()
		synctest.Wait()
		for range 2 {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
		for range 2 {
			if err := <-errs; !errors.Is(err, veilid.ErrShutdown) {
				t.Errorf("a call on its way: %v, want Shutdown", err)
			}
		}
		_, errVersion := n.Version(t.Context())
		_, errTable := n.OpenTable(t.Context(), "t", 1)
		for _, err := range []error{n.Attach(t.Context()), n.WaitReady(t.Context()), n.AppCallReply(t.Context(), 1, nil), errVersion, errTable} {
			if !errors.Is(err, veilid.ErrShutdown) {
				t.Errorf("after Close: %v, want Shutdown", err)
			}
		}
		if d := cmp.Diff(veilid.Update(&veilid.Shutdown{}), next(t, sub)); d != "" {
			t.Error(d)
		}
		if _, err := sub.Next(t.Context()); !errors.Is(err, veilid.ErrShutdown) {
			t.Errorf("the end of the updates: %v", err)
		}
	})
	bubble(t, echo, Options{}, func(t *testing.T, n *Node, f *fake) { // while the connection is lost
		f.lose()
		ready := make(chan error)
		go func() { ready <- n.WaitReady(t.Context()) }()
		synctest.Wait()
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ready; !errors.Is(err, veilid.ErrShutdown) {
			t.Errorf("WaitReady: %v, want Shutdown", err)
		}
	})
}

// TestWaitReady is ready in the end, over a server that answers Timeout and a lost connection.
func TestWaitReady(t *testing.T) {
	asked := 0
	var late sync.WaitGroup
	serve := func(c *fakeConn, id uint32, r jsonapi.Request) {
		w, ok := r.(jsonapi.WaitForAttachmentCondition)
		if !ok || w.Condition != nil || w.TimeoutMS == nil {
			c.f.t.Errorf("unexpected %T", r)
			return
		}
		asked++
		if asked > 3 {
			c.value(id, `{"state":"AttachedGood","public_internet_ready":true,"uptime":"0"}`)
			return
		}
		late.Go(func() {
			time.Sleep(time.Duration(*w.TimeoutMS) * time.Millisecond)
			c.fail(id, veilid.ErrTimeout, "")
		})
	}
	bubble(t, serve, Options{}, func(t *testing.T, n *Node, f *fake) {
		defer late.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := n.WaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want DeadlineExceeded", err)
		}
		done := make(chan error)
		go func() { done <- n.WaitReady(t.Context()) }()
		time.Sleep(readyAsk + time.Second)
		f.lose()
		f.set(func() { f.down = false })
		if err := <-done; err != nil || asked != 4 {
			t.Errorf("%v after %d questions, want ready after 4", err, asked)
		}
	})
}

// TestGreeting has servers that are none.
func TestGreeting(t *testing.T) {
	for name, tt := range map[string]struct {
		say  func(*fakeConn)
		want error
	}{
		"garbage": {func(c *fakeConn) {
			for range maxGarbage {
				c.send("HTTP/1.1 400 Bad Request")
			}
		}, veilid.ErrNoConnection},
		"silence": {func(*fakeConn) {}, veilid.ErrNoConnection},
		"gone":    {func(c *fakeConn) { c.raw.Close() }, veilid.ErrNoConnection},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{t: t, greet: tt.say}
				n, err := connect(t.Context(), f, Options{})
				if !errors.Is(err, tt.want) {
					t.Errorf("%v, want %v", err, tt.want)
				}
				if err == nil {
					n.Close()
				}
			})
		})
	}
}

// TestEarlyUpdates checks that updates that come with the greeting are not lost.
func TestEarlyUpdates(t *testing.T) {
	bubble(t, echo, Options{}, func(t *testing.T, n *Node, f *fake) {
		sub := n.Subscribe(veilid.Attachments)
		f.lose()
		f.set(func() {
			f.down = false
			f.greet = func(c *fakeConn) {
				c.send(`{"type":"Update","kind":"Attachment","state":"Detaching","uptime":"1"}`)
				c.f.set(func() { c.f.greet = nil })
				c.request(1, jsonapi.VeilidVersion{})
			}
		})
		got := []veilid.Update{next(t, sub), next(t, sub)}
		want := []veilid.Update{&veilid.Reconnected{}, &veilid.Attachment{State: veilid.Detaching}}
		if d := cmp.Diff(want, got, cmpopts.IgnoreFields(veilid.Attachment{}, "Uptime")); d != "" {
			t.Errorf("updates (-want +got)\n%s", d)
		}
	})
}

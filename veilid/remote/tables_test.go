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
)

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
		for range 2 {
			if !h.enter() {
				t.Fatal("a new handle is of no use")
			}
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

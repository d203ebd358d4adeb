package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/jsonapi"
)

// closeTimeout bounds what Close methods, which have no context, wait for.
const closeTimeout = 10 * time.Second

// table is an open table. After a lost connection it is opened anew when it is next used.
type table struct {
	node    *Node
	name    string
	columns uint32
	turn    chan struct{} // holds a token while somebody opens it anew

	mu     sync.Mutex
	h      *handle
	closed bool
}

var (
	errTableClosed = veilid.InvalidArgument("table is closed", "db_id", "")
	errTxEnded     = veilid.Errorf(veilid.ErrTransactionNotFound, "the transaction has ended")
	errTxLost      = veilid.Errorf(veilid.ErrTransactionNotFound, "the transaction was lost with the connection: begin anew")
)

// OpenTable opens a table and makes it where there is none.
func (n *Node) OpenTable(ctx context.Context, name string, columns uint32) (veilid.TableDB, error) {
	if err := jsonapi.CheckText("table", name); err != nil {
		return nil, err
	}
	t := &table{node: n, name: name, columns: columns, turn: make(chan struct{}, 1)}
	h, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	t.h = h
	return t, nil
}

// DeleteTable removes a table that is not open.
func (n *Node) DeleteTable(ctx context.Context, name string) (existed bool, err error) {
	if err := jsonapi.CheckText("table", name); err != nil {
		return false, err
	}
	err = n.do(ctx, jsonapi.DeleteTableDB{Name: name}, &existed)
	return existed, err
}

// RenameTable gives a table that is not open another name.
func (n *Node) RenameTable(ctx context.Context, from, to string) error {
	if err := errors.Join(jsonapi.CheckText("from", from), jsonapi.CheckText("to", to)); err != nil {
		return err
	}
	return n.do(ctx, jsonapi.RenameTableDB{OldName: from, NewName: to}, nil)
}

func (t *table) open(ctx context.Context) (*handle, error) {
	s, err := t.node.session()
	if err != nil {
		return nil, fmt.Errorf("veilid OpenTableDb: %w", err)
	}
	var id uint32
	err = s.request(ctx, jsonapi.OpenTableDB{Name: t.name, Columns: t.columns}, &id, func(r jsonapi.Response) jsonapi.Request {
		if r.Decode(&id) != nil {
			return nil
		}
		return jsonapi.ReleaseDB{DB: jsonapi.DB{ID: id}}
	})
	if err != nil {
		return nil, err
	}
	return newHandle(s, id), nil
}

// use is the handle of the table on the connection of the moment; the caller leaves it.
func (t *table) use(ctx context.Context) (*handle, error) {
	if h, err := t.usable(); h != nil || err != nil {
		return h, err
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if h, err := t.usable(); h != nil || err != nil {
		return h, err
	}
	h, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		h.s.tell(jsonapi.ReleaseDB{DB: jsonapi.DB{ID: h.id}})
		return nil, errTableClosed
	}
	t.h = h
	h.enter()
	return h, nil
}

func (t *table) usable() (*handle, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, errTableClosed
	}
	if !t.h.s.isDead() && t.h.enter() {
		return t.h, nil
	}
	return nil, nil
}

// do does one operation on the table.
func (t *table) do(ctx context.Context, out any, build func(jsonapi.DB) jsonapi.Request) error {
	h, err := t.use(ctx)
	if err != nil {
		return err
	}
	defer h.leave()
	return h.s.request(ctx, build(jsonapi.DB{ID: h.id}), out, nil)
}

// Close ends the use of the table.
func (t *table) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	h := t.h
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if _, err := h.end(ctx); err != nil {
		return fmt.Errorf("close table %s: operations on it do not end: %w", t.name, err)
	}
	err := h.s.request(ctx, jsonapi.ReleaseDB{DB: jsonapi.DB{ID: h.id}}, nil, nil)
	if h.s.isDead() {
		return nil // the server released it with the connection
	}
	return err
}

// Columns is the number of columns.
func (t *table) Columns(ctx context.Context) (n uint32, err error) {
	err = t.do(ctx, &n, func(db jsonapi.DB) jsonapi.Request { return jsonapi.GetColumnCount{DB: db} })
	return n, err
}

// Keys are the keys of a column, in no order.
func (t *table) Keys(ctx context.Context, col uint32) ([][]byte, error) {
	var list []jsonapi.Bytes
	err := t.do(ctx, &list, func(db jsonapi.DB) jsonapi.Request { return jsonapi.GetKeys{DB: db, Column: col} })
	if err != nil {
		return nil, err
	}
	keys := make([][]byte, len(list))
	for i, k := range list {
		keys[i] = k
	}
	return keys, nil
}

// Load is a value, or nil.
func (t *table) Load(ctx context.Context, col uint32, key []byte) ([]byte, error) {
	return t.value(ctx, func(db jsonapi.DB) jsonapi.Request { return jsonapi.Load{DB: db, Column: col, Key: key} })
}

// Delete removes a value and returns it, or nil.
func (t *table) Delete(ctx context.Context, col uint32, key []byte) ([]byte, error) {
	return t.value(ctx, func(db jsonapi.DB) jsonapi.Request { return jsonapi.Delete{DB: db, Column: col, Key: key} })
}

func (t *table) value(ctx context.Context, build func(jsonapi.DB) jsonapi.Request) ([]byte, error) {
	h, err := t.use(ctx)
	if err != nil {
		return nil, err
	}
	defer h.leave()
	return h.s.requestBytes(ctx, build(jsonapi.DB{ID: h.id}))
}

// Store sets a value.
func (t *table) Store(ctx context.Context, col uint32, key, value []byte) error {
	if err := t.node.checkSize(value); err != nil {
		return err
	}
	return t.do(ctx, nil, func(db jsonapi.DB) jsonapi.Request { return jsonapi.Store{DB: db, Column: col, Key: key, Value: value} })
}

// checkSize refuses a value that could not be read back.
func (n *Node) checkSize(value []byte) error {
	const frame = 1024 // of the rest of the message
	if most := (n.maxLine - frame) / 4 * 3; len(value) > most {
		return veilid.Errorf(veilid.ErrGeneric, "value of %d bytes is too long for this connection: at most %d, raise MaxLine", len(value), most)
	}
	return nil
}

// Transact begins a transaction on the table.
func (t *table) Transact(ctx context.Context) (veilid.TableTx, error) {
	h, err := t.use(ctx)
	if err != nil {
		return nil, err
	}
	defer h.leave()
	var id uint32
	err = h.s.request(ctx, jsonapi.Transact{DB: jsonapi.DB{ID: h.id}}, &id, func(r jsonapi.Response) jsonapi.Request {
		if r.Decode(&id) != nil {
			return nil
		}
		return jsonapi.RollbackTx{Tx: jsonapi.Tx{ID: id}}
	})
	if err != nil {
		return nil, err
	}
	return &tableTx{node: t.node, transaction: transaction{newHandle(h.s, id)}}, nil
}

// tableTx is a transaction on a table.
type tableTx struct {
	node *Node
	transaction
}

// Store sets a value when the transaction is committed.
func (x *tableTx) Store(ctx context.Context, col uint32, key, value []byte) error {
	if err := x.node.checkSize(value); err != nil {
		return err
	}
	return x.do(ctx, nil, jsonapi.StoreInTx{Tx: x.tx(), Column: col, Key: key, Value: value})
}

// Delete removes a value when the transaction is committed.
func (x *tableTx) Delete(ctx context.Context, col uint32, key []byte) error {
	return x.do(ctx, nil, jsonapi.DeleteInTx{Tx: x.tx(), Column: col, Key: key})
}

// Commit makes all changes.
func (x *tableTx) Commit(ctx context.Context) error {
	return x.commit(ctx, jsonapi.CommitTx{Tx: x.tx()}, jsonapi.RollbackTx{Tx: x.tx()})
}

// Rollback ends the transaction without changes.
func (x *tableTx) Rollback(ctx context.Context) error {
	return x.finish(ctx, jsonapi.RollbackTx{Tx: x.tx()}, nil)
}

func (x *tableTx) tx() jsonapi.Tx { return jsonapi.Tx{ID: x.h.id} }

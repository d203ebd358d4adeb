package memory

import (
	"bytes"
	"context"
	"regexp"
	"slices"
	"sync"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// maxTableValue is the most bytes that a table takes as one value.
const maxTableValue = 64 << 20

var tableName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// tables is a node's table store.
type tables struct {
	mu     sync.Mutex
	byName map[string]*table
}

type table struct {
	columns []map[string][]byte
	open    map[*tableDB]struct{}
}

// tableDB is a use of a table; it sees as many columns as it was opened with.
type tableDB struct {
	node    *Node
	table   *table
	columns uint32
}

func (t *tables) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tab := range t.byName {
		clear(tab.open)
	}
}

// OpenTable opens a table and makes it where there is none.
func (n *Node) OpenTable(ctx context.Context, name string, columns uint32) (veilid.TableDB, error) {
	if err := n.check(ctx); err != nil {
		return nil, err
	}
	switch {
	case columns == 0:
		return nil, veilid.InvalidArgument("column count must be greater than zero", "column_count", "0")
	case columns > 1<<16:
		return nil, veilid.InvalidArgument("column count is too large", "column_count", itoa(columns))
	case !tableName.MatchString(name):
		return nil, veilid.InvalidArgument("table name is invalid", "table", name)
	}
	t := &n.disk.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	tab := t.byName[name]
	if tab == nil {
		tab = &table{open: map[*tableDB]struct{}{}}
		t.byName[name] = tab
	}
	if len(tab.open) > 0 && int(columns) > len(tab.columns) {
		return nil, veilid.Errorf(veilid.ErrGeneric, "database must be closed before increasing column count %d -> %d", len(tab.columns), columns)
	}
	for len(tab.columns) < int(columns) {
		tab.columns = append(tab.columns, map[string][]byte{})
	}
	db := &tableDB{node: n, table: tab, columns: columns}
	tab.open[db] = struct{}{}
	return db, nil
}

// DeleteTable removes a table that is not open.
func (n *Node) DeleteTable(ctx context.Context, name string) (bool, error) {
	if err := n.check(ctx); err != nil {
		return false, err
	}
	t := &n.disk.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	tab := t.byName[name]
	switch {
	case tab == nil:
		return false, nil
	case len(tab.open) > 0:
		return false, veilid.Errorf(veilid.ErrGeneric, "Not deleting table that is still opened")
	}
	delete(t.byName, name)
	return true, nil
}

// RenameTable gives a table another name, which must be free. It may be open.
func (n *Node) RenameTable(ctx context.Context, from, to string) error {
	if err := n.check(ctx); err != nil {
		return err
	}
	t := &n.disk.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !tableName.MatchString(to):
		return veilid.InvalidArgument("table name is invalid", "table", to)
	case t.byName[from] == nil:
		return veilid.Errorf(veilid.ErrGeneric, "table does not exist")
	case t.byName[to] != nil:
		return veilid.Errorf(veilid.ErrGeneric, "new table already exists")
	}
	t.byName[to] = t.byName[from]
	delete(t.byName, from)
	return nil
}

// begin checks and locks; the caller unlocks unless it fails.
func (db *tableDB) begin(ctx context.Context, col uint32) error {
	if err := db.node.check(ctx); err != nil {
		return err
	}
	t := &db.node.disk.tables
	t.mu.Lock()
	var err error
	if _, open := db.table.open[db]; !open {
		err = veilid.Errorf(veilid.ErrGeneric, "the table is closed")
	} else if col >= db.columns {
		err = veilid.Errorf(veilid.ErrGeneric, "Column exceeds opened column count %d >= %d", col, db.columns)
	}
	if err != nil {
		t.mu.Unlock()
	}
	return err
}

func (db *tableDB) end() { db.node.disk.tables.mu.Unlock() }

// Columns is the number of the table's columns.
func (db *tableDB) Columns(ctx context.Context) (uint32, error) {
	if err := db.begin(ctx, 0); err != nil {
		return 0, err
	}
	defer db.end()
	return uint32(len(db.table.columns)), nil
}

// Keys is a column's keys, in no order.
func (db *tableDB) Keys(ctx context.Context, col uint32) ([][]byte, error) {
	if err := db.begin(ctx, col); err != nil {
		return nil, err
	}
	defer db.end()
	var keys [][]byte
	for k := range db.table.columns[col] {
		keys = append(keys, []byte(k))
	}
	return keys, nil
}

// Load reads a value; nil where there is none.
func (db *tableDB) Load(ctx context.Context, col uint32, key []byte) ([]byte, error) {
	if err := db.begin(ctx, col); err != nil {
		return nil, err
	}
	defer db.end()
	return bytes.Clone(db.table.columns[col][string(key)]), nil
}

// Store writes a value.
func (db *tableDB) Store(ctx context.Context, col uint32, key, value []byte) error {
	if err := checkValue(value); err != nil {
		return err
	}
	if err := db.begin(ctx, col); err != nil {
		return err
	}
	defer db.end()
	db.table.columns[col][string(key)] = copyOf(value)
	return nil
}

// Delete removes a value and gives it back.
func (db *tableDB) Delete(ctx context.Context, col uint32, key []byte) ([]byte, error) {
	if err := db.begin(ctx, col); err != nil {
		return nil, err
	}
	defer db.end()
	old := db.table.columns[col][string(key)]
	delete(db.table.columns[col], string(key))
	return old, nil
}

// Close ends this use of the table.
func (db *tableDB) Close() error {
	t := &db.node.disk.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(db.table.open, db)
	return nil
}

func checkValue(value []byte) error {
	if len(value) > maxTableValue {
		return veilid.Errorf(veilid.ErrGeneric, "value of %d bytes is too large: at most %d", len(value), maxTableValue)
	}
	return nil
}

// copyOf never gives nil, which would be a missing value.
func copyOf(b []byte) []byte { return append(make([]byte, 0, len(b)), b...) }

// tableTx is a list of writes.
type tableTx struct {
	db     *tableDB
	mu     sync.Mutex
	writes []tableWrite
	ended  bool
}

type tableWrite struct {
	col   uint32
	key   string
	value []byte // nil: delete
}

// Transact begins a transaction.
func (db *tableDB) Transact(ctx context.Context) (veilid.TableTx, error) {
	if err := db.begin(ctx, 0); err != nil {
		return nil, err
	}
	db.end()
	return &tableTx{db: db}, nil
}

func (tx *tableTx) add(ctx context.Context, w tableWrite) error {
	if err := tx.db.begin(ctx, w.col); err != nil {
		return err
	}
	tx.db.end()
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.ended {
		return errTxEnded
	}
	tx.writes = append(tx.writes, w)
	return nil
}

var errTxEnded = veilid.Errorf(veilid.ErrGeneric, "the transaction has ended")

// Store writes a value with the commit.
func (tx *tableTx) Store(ctx context.Context, col uint32, key, value []byte) error {
	if err := checkValue(value); err != nil {
		return err
	}
	return tx.add(ctx, tableWrite{col, string(key), copyOf(value)})
}

// Delete removes a value with the commit.
func (tx *tableTx) Delete(ctx context.Context, col uint32, key []byte) error {
	return tx.add(ctx, tableWrite{col, string(key), nil})
}

// Commit makes all changes at once.
func (tx *tableTx) Commit(ctx context.Context) error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.ended {
		return errTxEnded
	}
	if err := tx.db.begin(ctx, 0); err != nil {
		return err
	}
	defer tx.db.end()
	tx.ended = true
	for _, w := range tx.writes {
		if col := tx.db.table.columns[w.col]; w.value == nil {
			delete(col, w.key)
		} else {
			col[w.key] = w.value
		}
	}
	tx.writes = nil
	return nil
}

// Rollback forgets the changes.
func (tx *tableTx) Rollback(ctx context.Context) error {
	if err := tx.db.node.check(ctx); err != nil {
		return err
	}
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.ended, tx.writes = true, nil
	return nil
}

// secrets is the protected store.
type secrets struct {
	mu     sync.Mutex
	values map[string][]byte
}

// reservedSecrets are the names that veilid-core keeps for itself.
var reservedSecrets = []string{"device_encryption_key", "_test_key"}

func (n *Node) lockSecrets(ctx context.Context, key string) (*secrets, error) {
	if err := n.check(ctx); err != nil {
		return nil, err
	}
	if slices.Contains(reservedSecrets, key) {
		return nil, veilid.InvalidArgument("protected store key is reserved by veilid", "key", key)
	}
	n.disk.secrets.mu.Lock()
	return &n.disk.secrets, nil
}

// SaveUserSecret keeps a secret.
func (n *Node) SaveUserSecret(ctx context.Context, key string, value []byte) (bool, error) {
	s, err := n.lockSecrets(ctx, key)
	if err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	_, existed := s.values[key]
	s.values[key] = copyOf(value)
	return existed, nil
}

// LoadUserSecret reads a secret; nil where there is none.
func (n *Node) LoadUserSecret(ctx context.Context, key string) ([]byte, error) {
	s, err := n.lockSecrets(ctx, key)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return bytes.Clone(s.values[key]), nil
}

// RemoveUserSecret forgets a secret.
func (n *Node) RemoveUserSecret(ctx context.Context, key string) (bool, error) {
	s, err := n.lockSecrets(ctx, key)
	if err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	_, existed := s.values[key]
	delete(s.values, key)
	return existed, nil
}

// ListUserSecrets is the names of all secrets.
func (n *Node) ListUserSecrets(ctx context.Context) ([]string, error) {
	s, err := n.lockSecrets(ctx, "")
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.values))
	for name := range s.values {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

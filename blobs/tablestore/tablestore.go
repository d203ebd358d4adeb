// Package tablestore keeps the metadata of a blob store in a Veilid node's table store, encrypted by the node: give
// what [Open] returns to disk.Open. The bytes of blobs above 16 KiB stay in files.
package tablestore

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/OpenArchive/save-dweb-go/blobs/disk"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// window is how many values Each asks for at once: a node behind a connection answers one as fast as several.
const window = 32

// Tables are the columns of one Veilid table, one for each table of the blob store, in the order of disk.TableNames.
// It implements [disk.Tables].
type Tables struct {
	db      veilid.TableDB
	columns map[string]uint32
}

var _ disk.Tables = (*Tables)(nil)

// Open opens the Veilid table of this name, of letters, digits, '_' and '-', and makes it where there is none. Only one
// store at a time may use it. Close it after the store.
func Open(ctx context.Context, ts veilid.TableStore, name string) (*Tables, error) {
	t := &Tables{columns: map[string]uint32{}}
	for i, table := range disk.TableNames() {
		t.columns[table] = uint32(i)
	}
	var err error
	if t.db, err = ts.OpenTable(ctx, name, uint32(len(t.columns))); err != nil {
		return nil, fmt.Errorf("open Veilid table %q for blobs: %w", name, err)
	}
	return t, nil
}

// Close ends the use of the table.
func (t *Tables) Close() error { return t.db.Close() }

func (t *Tables) column(table string) (uint32, error) {
	col, ok := t.columns[table]
	if !ok {
		return 0, fmt.Errorf("blob stores have no table %q", table)
	}
	return col, nil
}

// Get is the value of a key, nil where there is none.
func (t *Tables) Get(ctx context.Context, table string, key []byte) ([]byte, error) {
	col, err := t.column(table)
	if err != nil {
		return nil, err
	}
	return t.db.Load(ctx, col, key)
}

// Each calls fn for the keys that begin with prefix, in order. What is written or deleted meanwhile may be seen or not.
func (t *Tables) Each(ctx context.Context, table string, prefix []byte, fn func(key, value []byte) error) error {
	col, err := t.column(table)
	if err != nil {
		return err
	}
	keys, err := t.db.Keys(ctx, col)
	if err != nil {
		return err
	}
	keys = slices.DeleteFunc(keys, func(key []byte) bool { return !bytes.HasPrefix(key, prefix) })
	slices.SortFunc(keys, bytes.Compare)
	for part := range slices.Chunk(keys, window) {
		values, err := t.load(ctx, col, part)
		if err != nil {
			return err
		}
		for i, key := range part {
			if values[i] == nil {
				continue // deleted meanwhile
			}
			if err := fn(key, values[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Tables) load(ctx context.Context, col uint32, keys [][]byte) ([][]byte, error) {
	values, errs := make([][]byte, len(keys)), make([]error, len(keys))
	var wg sync.WaitGroup
	for i, key := range keys {
		wg.Go(func() { values[i], errs[i] = t.db.Load(ctx, col, key) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return values, nil
}

// Apply makes all changes in one transaction of the table, or none.
func (t *Tables) Apply(ctx context.Context, changes []disk.Change) (err error) {
	tx, err := t.db.Transact(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback(context.WithoutCancel(ctx)) // the first error says more
		}
	}()
	for _, c := range changes {
		col, err := t.column(c.Table)
		if err != nil {
			return err
		}
		if c.Delete {
			err = tx.Delete(ctx, col, c.Key)
		} else {
			err = tx.Store(ctx, col, c.Key, c.Value)
		}
		if err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

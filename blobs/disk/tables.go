package disk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/internal/kv"
)

// Tables is where a store keeps its metadata: a few named tables of ordered keys. Keys are never empty. Its methods may
// be called from any goroutine.
type Tables interface {
	// Get is the value of a key, nil where there is none.
	Get(ctx context.Context, table string, key []byte) ([]byte, error)
	// Each calls fn for the keys that begin with prefix, in the order of their bytes, until fn fails. fn may keep key
	// and value, and must not call the Tables.
	Each(ctx context.Context, table string, prefix []byte, fn func(key, value []byte) error) error
	// Apply makes all of these changes, in order, or none, and returns when they are on stable storage.
	Apply(ctx context.Context, changes []Change) error
}

// Change sets or deletes a key of a table.
type Change struct {
	Table  string
	Key    []byte
	Value  []byte // ignored where Delete is set
	Delete bool
}

// The tables of a store.
const (
	tableBlobs     = "blobs"     // hash: what is here of the blob, see entry
	tableTags      = "tags"      // 't' and the tag's name: format and hash
	tableData      = "data"      // hash: bytes of a small blob
	tableOutboards = "outboards" // hash: outboard of a blob that is not big
)

// TableNames are the tables that a store uses, for implementations that must know them before.
func TableNames() []string { return []string{tableBlobs, tableTags, tableData, tableOutboards} }

func set(table string, key, value []byte) Change { return Change{Table: table, Key: key, Value: value} }
func unset(table string, key []byte) Change      { return Change{Table: table, Key: key, Delete: true} }

// kvTables keeps the tables in one database file.
type kvTables struct{ db *kv.DB }

func (t kvTables) Get(ctx context.Context, table string, key []byte) (value []byte, err error) {
	err = t.db.View(func(tx *kv.Tx) error {
		value, err = tx.Get(table, key)
		return err
	})
	return value, err
}

func (t kvTables) Each(ctx context.Context, table string, prefix []byte, fn func(key, value []byte) error) error {
	return t.db.View(func(tx *kv.Tx) error {
		return tx.Each(table, prefix, func(key, value []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return fn(key, value)
		})
	})
}

func (t kvTables) Apply(ctx context.Context, changes []Change) error {
	return t.db.Update(func(tx *kv.Tx) error {
		for _, c := range changes {
			var err error
			if c.Delete {
				err = tx.Delete(c.Table, c.Key)
			} else {
				err = tx.Put(c.Table, c.Key, c.Value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Bounds of one commit.
const (
	maxCommit     = 256         // callers whose changes are made together
	commitTimeout = time.Minute // for tables that are elsewhere
)

// committer makes the changes of callers that come at the same time in one commit: a commit costs two waits for the
// disk, however much is in it.
type committer struct {
	tables Tables

	mu      sync.Mutex
	closed  bool
	busy    bool
	waiting []*pending
}

// close refuses changes from now on.
func (c *committer) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

// pending is one caller's changes. Its owner is woken when they are made, or to make a commit itself.
type pending struct {
	changes []Change
	err     error
	done    bool
	wake    chan struct{}
}

// apply makes the changes. A context that ends meanwhile does not undo them: others may be in the same commit.
func (c *committer) apply(ctx context.Context, changes ...Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p := &pending{changes: changes, wake: make(chan struct{}, 1)}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return blobs.ErrClosed
	}
	c.waiting = append(c.waiting, p)
	lead := !c.busy
	c.busy = true
	c.mu.Unlock()
	if !lead {
		<-p.wake
	}
	if !p.done {
		c.commit(ctx)
	}
	if p.err != nil {
		return tablesError(noSpace(p.err))
	}
	return nil
}

// commit makes a commit of what waits, the caller's changes first, and hands over to the next.
func (c *committer) commit(ctx context.Context) {
	c.mu.Lock()
	batch := c.waiting
	if len(batch) > maxCommit {
		batch = batch[:maxCommit:maxCommit]
	}
	c.waiting = c.waiting[len(batch):]
	c.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	var changes []Change
	for _, p := range batch {
		changes = append(changes, p.changes...)
	}
	err := c.tables.Apply(ctx, changes)
	for _, p := range batch {
		p.err = err
		if err != nil && len(batch) > 1 { // let nobody fail for another's changes
			p.err = c.tables.Apply(ctx, p.changes)
		}
		p.done = true
	}

	c.mu.Lock()
	if c.busy = len(c.waiting) > 0; c.busy {
		c.waiting[0].wake <- struct{}{}
	}
	c.mu.Unlock()
	for _, p := range batch[1:] {
		p.wake <- struct{}{}
	}
}

// noSpace lets callers tell a full disk from other failures.
func noSpace(err error) error {
	if errors.Is(err, blobs.ErrNoSpace) {
		return err
	}
	const windowsDiskFull = syscall.Errno(112)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || onWindows && errors.Is(err, windowsDiskFull) {
		return fmt.Errorf("%w: %w", blobs.ErrNoSpace, err)
	}
	return err
}

// Package kv is the one door to the embedded database: named tables of ordered keys in one file, changed by
// transactions that survive a crash once Update has returned.
//
// One process at a time uses a file. A file that was torn or overwritten is reported as [ErrCorrupt]; it never crashes
// the program, although the database maps it into memory.
package kv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Errors of databases.
var (
	// ErrLocked: another process, or another part of this one, has the file open.
	ErrLocked = errors.New("in use by another process")
	// ErrCorrupt: the file is not a database, or not whole.
	ErrCorrupt = errors.New("database is corrupt")
	// ErrClosed: the database is closed, or the transaction has ended.
	ErrClosed = errors.New("database is closed")
)

// DefaultWait is how long [Open] waits for another process to let go of the file.
const DefaultWait = 3 * time.Second

// MaxKeySize and MaxValueSize bound what a table holds, in bytes.
const (
	MaxKeySize   = bolt.MaxKeySize
	MaxValueSize = bolt.MaxValueSize
)

// Options are the choices of [Open]; the zero value is good for most.
type Options struct {
	Wait time.Duration // for another process to let go; 0: DefaultWait, negative: one attempt
}

// DB is an open database. Its methods may be called from any goroutine, but no transaction may be begun by a goroutine
// that is inside another one.
type DB struct {
	path string
	file *os.File // bolt's, to release the lock where bolt cannot
	b    *bolt.DB

	write sync.Mutex // one writer; in front of bolt's own lock, which a panic inside bolt leaves taken
	state sync.Mutex
	// broken is set once the file proved corrupt: a writer would make it worse.
	broken error
	closed bool
	stuck  bool // bolt's lock is lost
}

// Open opens the database at path, or makes it with mode 0600 and its folder with 0700. A file more than half of which
// is unused is compacted first. ErrLocked where the file is in use, ErrCorrupt where it is no whole database.
func Open(path string, o Options) (*DB, error) {
	if o.Wait == 0 {
		o.Wait = DefaultWait
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("database folder: %w", err)
	}
	deadline := time.Now().Add(o.Wait)
	db, err := openCurrent(path, deadline)
	if err != nil {
		return nil, err
	}
	removeLeftovers(path)
	if !db.wasteful() {
		return db, nil
	}
	// Compaction is a favour: where it fails the file is as good as before.
	tmp, err := db.compact()
	if err != nil {
		return db, nil
	}
	if err := db.replaceBy(tmp); err != nil {
		return nil, err
	}
	return openCurrent(path, deadline)
}

// openCurrent opens the file that path names when it is locked: another process may have put a compacted one in place
// while we waited for the lock of the former.
func openCurrent(path string, deadline time.Time) (*DB, error) {
	for {
		db, err := openOnce(path, time.Until(deadline))
		if err != nil {
			return nil, err
		}
		here, err1 := db.file.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(here, there) {
			return db, nil
		}
		if err := db.Close(); err != nil {
			return nil, err
		}
		if time.Now().After(deadline) {
			return nil, lockedError(path)
		}
	}
}

func openOnce(path string, wait time.Duration) (*DB, error) {
	if err := create(path); err != nil {
		return nil, fmt.Errorf("make database %s: %w", path, err)
	}
	if err := preflight(path); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db := &DB{path: path}
	opts := &bolt.Options{
		Timeout:      max(wait, time.Nanosecond), // bolt takes 0 for "for ever"
		FreelistType: bolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
			f, err = os.OpenFile(name, flag, mode)
			db.file = f
			return f, err
		},
	}
	err := guarded(func() (err error) {
		db.b, err = bolt.Open(path, 0o600, opts)
		return err
	})
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, berrors.ErrTimeout):
		return nil, lockedError(path)
	case errors.Is(err, ErrCorrupt):
		db.file.Close()
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil, fmt.Errorf("open database %s: %w", path, err)
}

func lockedError(path string) error {
	return fmt.Errorf("%s is %w: stop that one or choose another folder", path, ErrLocked)
}

// Path is the file's path.
func (db *DB) Path() string { return db.path }

// View reads a consistent state. It runs beside other Views and beside an Update.
func (db *DB) View(fn func(*Tx) error) error {
	btx, err := db.begin(false)
	if err != nil {
		return err
	}
	tx := &Tx{db: db, b: btx}
	defer tx.end()
	return fn(tx)
}

// Update changes the database: all that fn wrote, on stable storage, where it returns nil, and nothing where it does
// not. Updates run one after another.
func (db *DB) Update(fn func(*Tx) error) error {
	db.write.Lock()
	defer db.write.Unlock()
	btx, err := db.begin(true)
	if err != nil {
		return err
	}
	tx := &Tx{db: db, b: btx, writable: true}
	defer tx.end()
	if err := fn(tx); err != nil {
		return err
	}
	if err := db.check(guarded(btx.Commit)); err != nil {
		return fmt.Errorf("commit to %s: %w", db.path, err)
	}
	tx.b = nil
	return nil
}

func (db *DB) begin(writable bool) (btx *bolt.Tx, err error) {
	db.state.Lock()
	closed, broken := db.closed, db.broken
	db.state.Unlock()
	if closed {
		return nil, fmt.Errorf("%s: %w", db.path, ErrClosed)
	}
	if broken != nil && writable {
		return nil, fmt.Errorf("%s: %w", db.path, broken)
	}
	err = db.check(guarded(func() (err error) {
		btx, err = db.b.Begin(writable)
		return err
	}))
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		err = fmt.Errorf("%s: %w", db.path, ErrClosed)
	}
	return btx, err
}

// check remembers that the file is corrupt.
func (db *DB) check(err error) error {
	if errors.Is(err, ErrCorrupt) {
		db.state.Lock()
		db.broken = err
		db.state.Unlock()
	}
	return err
}

// Close waits for the transactions that are under way and releases the file. A second Close does nothing.
func (db *DB) Close() error {
	db.write.Lock()
	defer db.write.Unlock()
	db.state.Lock()
	closed, stuck := db.closed, db.stuck
	db.closed = true
	db.state.Unlock()
	switch {
	case closed:
		return nil
	case stuck:
		return db.file.Close()
	}
	if err := guarded(db.b.Close); err != nil {
		return fmt.Errorf("close database %s: %w", db.path, err)
	}
	return nil
}

// Tx is a transaction. It is for the goroutine that its View or Update runs on, and ends with it.
type Tx struct {
	db       *DB
	b        *bolt.Tx
	writable bool
}

// end undoes what was not committed.
func (tx *Tx) end() {
	if tx.b == nil {
		return
	}
	err := tx.db.check(guarded(tx.b.Rollback))
	tx.b = nil
	if err != nil && tx.writable && errors.Is(err, ErrCorrupt) {
		tx.db.state.Lock()
		tx.db.stuck = true
		tx.db.state.Unlock()
	}
}

// with calls fn with the table's bucket, nil where there is none.
func (tx *Tx) with(table string, fn func(*bolt.Bucket) error) error {
	if tx.b == nil {
		return fmt.Errorf("transaction has ended: %w", ErrClosed)
	}
	err := tx.db.check(guarded(func() error { return fn(tx.b.Bucket([]byte(table))) }))
	if err != nil {
		return fmt.Errorf("table %q of %s: %w", table, tx.db.path, err)
	}
	return nil
}

// Get is a copy of the key's value, nil where there is none.
func (tx *Tx) Get(table string, key []byte) (value []byte, err error) {
	err = tx.with(table, func(b *bolt.Bucket) error {
		if b == nil {
			return nil
		}
		if v := b.Get(key); v != nil {
			value = append([]byte{}, v...)
		}
		return nil
	})
	return value, err
}

// Put sets the key's value. The key has 1 to MaxKeySize bytes. A table comes into being with its first value.
func (tx *Tx) Put(table string, key, value []byte) error {
	return tx.with(table, func(b *bolt.Bucket) (err error) {
		if b == nil {
			if b, err = tx.b.CreateBucket([]byte(table)); err != nil {
				return err
			}
		}
		return b.Put(key, value)
	})
}

// Delete removes the key; it is no error if there is none.
func (tx *Tx) Delete(table string, key []byte) error {
	return tx.with(table, func(b *bolt.Bucket) error {
		if b == nil {
			return nil
		}
		return b.Delete(key)
	})
}

// Each calls fn for the keys that begin with prefix, in the order of their bytes, until fn fails. Key and value are
// copies. fn must not change the table.
func (tx *Tx) Each(table string, prefix []byte, fn func(key, value []byte) error) error {
	var (
		c          *bolt.Cursor
		key, value []byte
	)
	// Copies are made where a page that lies about its lengths does no harm.
	keep := func(k, v []byte) {
		if key = nil; k != nil && bytes.HasPrefix(k, prefix) {
			key, value = bytes.Clone(k), append([]byte{}, v...)
		}
	}
	err := tx.with(table, func(b *bolt.Bucket) error {
		if b != nil {
			c = b.Cursor()
			keep(c.Seek(prefix))
		}
		return nil
	})
	for err == nil && key != nil {
		if err := fn(key, value); err != nil {
			return err
		}
		err = tx.with(table, func(*bolt.Bucket) error {
			keep(c.Next())
			return nil
		})
	}
	return err
}

// Tables are the names of the tables that hold, or held, something, in order.
func (tx *Tx) Tables() (names []string, err error) {
	if tx.b == nil {
		return nil, fmt.Errorf("transaction has ended: %w", ErrClosed)
	}
	err = tx.db.check(guarded(func() error {
		return tx.b.ForEach(func(name []byte, _ *bolt.Bucket) error {
			names = append(names, string(name))
			return nil
		})
	}))
	return names, err
}

// DeleteTable removes a table with all it holds; it is no error if there is none.
func (tx *Tx) DeleteTable(table string) error {
	return tx.with(table, func(b *bolt.Bucket) error {
		if b == nil {
			return nil
		}
		return tx.b.DeleteBucket([]byte(table))
	})
}

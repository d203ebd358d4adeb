// Package disk keeps blobs in files.
//
//	data/ab/abcd....data    bytes of a complete blob
//	data/ab/abcd....obao4   its outboard, in pre-order, as iroh keeps it
//	data/ab/abcd....part    bytes of a partial blob, in place
//	temp/                   what is being added
//	blobs.db                metadata, tags, blobs of at most 16 KiB and outboards of at most 64 KiB
//
// The metadata is in [Tables]: one database file, or what the caller gives. It is the truth; a file without metadata
// is waste, and [Store.Collect] removes it. What the metadata says is on stable storage before it says so: files first,
// then their names, then the metadata. So what the store has acknowledged survives a crash, and what it had not is not
// believed.
package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
	"github.com/OpenArchive/save-dweb-go/internal/kv"
)

// ErrLocked: another process uses the folder.
var ErrLocked = kv.ErrLocked

// Options are the choices of [Open]; the zero value is good for most.
type Options struct {
	Tables   Tables        // where to keep the metadata; nil: a database file in the folder. The caller closes it
	LockWait time.Duration // for another process to let go of the folder; 0: 3 s
	Log      *slog.Logger  // nil: slog.Default
}

// Store keeps blobs in a folder. It implements [blobs.Store].
type Store struct {
	dir     string
	tables  Tables
	db      *kv.DB // the metadata, or only the folder's lock
	log     *slog.Logger
	commits committer
	keys    keyLocks
	flushes sync.WaitGroup // of partial blobs, by time

	collecting sync.Mutex // one Collect at a time

	mu       sync.Mutex
	closed   bool
	partials map[blobs.Hash]*partial
	temps    map[blobs.HashAndFormat]int
	suspects map[blobs.Hash]bool // found corrupt since the store was opened
	recent   map[blobs.Hash]bool // used since the Collect that runs began; nil while none runs

	newTemp func() (tempFile, error)
}

var _ blobs.Store = (*Store)(nil)

// Open opens the store in dir, and makes it where there is none. ErrLocked where another process uses it.
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, d := range []string{dir, filepath.Join(dir, dataDir), filepath.Join(dir, tempDir)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("blob store: %w", noSpace(err))
		}
	}
	s := &Store{
		dir:      dir,
		tables:   o.Tables,
		log:      o.Log,
		partials: map[blobs.Hash]*partial{},
		temps:    map[blobs.HashAndFormat]int{},
		suspects: map[blobs.Hash]bool{},
	}
	s.newTemp = s.createTemp
	if s.log == nil {
		s.log = slog.Default()
	}
	name := tablesFile
	if s.tables != nil {
		name = lockFile // an empty database: it knows how to lock on every system
	}
	var err error
	if s.db, err = kv.Open(filepath.Join(dir, name), kv.Options{Wait: o.LockWait}); err != nil {
		if errors.Is(err, kv.ErrCorrupt) {
			err = fmt.Errorf("%w: %w", blobs.ErrCorrupt, err)
		}
		return nil, fmt.Errorf("blob store: %w", noSpace(err))
	}
	if s.tables == nil {
		s.tables = kvTables{s.db}
	}
	s.commits.tables = s.tables
	if err := errors.Join(s.clearTemp(), syncDir(dir)); err != nil {
		return nil, fmt.Errorf("blob store: %w", errors.Join(err, s.db.Close()))
	}
	return s, nil
}

// Close writes what partial blobs have pending and releases the folder. Blobs that are open stay readable until they
// are closed; everything else returns ErrClosed from now on.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	var open []*partial
	for _, p := range s.partials {
		open = append(open, p)
	}
	s.mu.Unlock()

	var errs []error
	for _, p := range open {
		errs = append(errs, p.shut())
	}
	s.flushes.Wait()
	// Who is in the middle of a change finishes it, files included, while the folder is still ours.
	s.commits.close()
	s.keys.drain()
	errs = append(errs, s.db.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close blob store: %w", err)
	}
	return nil
}

func (s *Store) alive(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return blobs.ErrClosed
	}
	return ctx.Err()
}

// load is the metadata of a blob; ErrNotFound where there is none.
func (s *Store) load(ctx context.Context, h blobs.Hash) (entry, error) {
	b, err := s.get(ctx, tableBlobs, h[:])
	if err != nil {
		return entry{}, err
	}
	if b == nil {
		return entry{}, fmt.Errorf("%s: %w", h.Short(), blobs.ErrNotFound)
	}
	return decodeEntry(h, b)
}

func (s *Store) get(ctx context.Context, table string, key []byte) ([]byte, error) {
	if err := s.alive(ctx); err != nil {
		return nil, err
	}
	b, err := s.tables.Get(ctx, table, key)
	if err != nil {
		return nil, tablesError(err)
	}
	return b, nil
}

// tablesError is what a failure to read the metadata means to users of the store.
func tablesError(err error) error {
	switch {
	case errors.Is(err, kv.ErrClosed):
		return blobs.ErrClosed
	case errors.Is(err, kv.ErrCorrupt):
		err = fmt.Errorf("%w: %w", blobs.ErrCorrupt, err)
	}
	return fmt.Errorf("blob metadata: %w", err)
}

func completeInfo(h blobs.Hash, size uint64) blobs.Info {
	return blobs.Info{Hash: h, Size: size, Proven: true, Complete: true, Have: bao.All()}
}

func (e entry) info(h blobs.Hash) blobs.Info {
	if e.complete {
		return completeInfo(h, e.size)
	}
	return blobs.Info{Hash: h, Size: e.size, Proven: true, Have: e.have.ranges()}
}

// Info says what is here of a blob.
func (s *Store) Info(ctx context.Context, h blobs.Hash) (blobs.Info, error) {
	if err := s.alive(ctx); err != nil {
		return blobs.Info{}, err
	}
	if h == blobs.EmptyHash {
		return completeInfo(h, 0), nil
	}
	if p := s.partial(h); p != nil {
		if info := p.info(); len(info.Have) > 0 {
			return info, nil
		}
	}
	e, err := s.load(ctx, h)
	if err != nil {
		return blobs.Info{}, err
	}
	return e.info(h), nil
}

// List says what is here of every blob, in order of hashes. The empty blob, which every store holds, is not listed.
func (s *Store) List(ctx context.Context) ([]blobs.Info, error) {
	if err := s.alive(ctx); err != nil {
		return nil, err
	}
	list, bad, err := s.scan(ctx)
	for _, h := range bad {
		s.log.Warn("blob with corrupt metadata left out of the list", "hash", h.Short())
	}
	return list, err
}

// scan is what is here of every blob, and the blobs whose metadata is corrupt, both in order of hashes.
func (s *Store) scan(ctx context.Context) (list []blobs.Info, bad []blobs.Hash, err error) {
	err = s.tables.Each(ctx, tableBlobs, nil, func(key, value []byte) error {
		if len(key) != blobs.HashSize {
			return nil // not ours
		}
		h := blobs.Hash(key)
		if e, err := decodeEntry(h, value); err == nil {
			list = append(list, e.info(h))
		} else {
			bad = append(bad, h)
		}
		return nil
	})
	if err != nil {
		return nil, nil, tablesError(err)
	}
	return s.withOpenPartials(list), bad, nil
}

// Delete removes a blob at once, whatever keeps it. A blob that is not here is no error. Writers of a partial blob
// get ErrNotFound from then on.
func (s *Store) Delete(ctx context.Context, h blobs.Hash) error {
	if err := s.alive(ctx); err != nil {
		return err
	}
	defer s.keys.lock(h)()
	return s.remove(ctx, h)
}

// remove removes blobs whose keys are locked: the metadata first, so that it never names files that are gone.
func (s *Store) remove(ctx context.Context, hashes ...blobs.Hash) error {
	var changes []Change
	for _, h := range hashes {
		if p := s.partial(h); p != nil {
			p.kill(fmt.Errorf("%s was deleted: %w", h.Short(), blobs.ErrNotFound))
		}
		for _, table := range []string{tableBlobs, tableData, tableOutboards} {
			changes = append(changes, unset(table, h[:]))
		}
	}
	removeFiles := func() {
		for _, h := range hashes {
			if err := s.removeFiles(h, dataSuffix, pairsSuffix, partSuffix); err != nil {
				// Collect tries again.
				s.log.Warn("file of a deleted blob stays", "hash", h.Short(), "err", err)
			}
		}
	}
	err := s.commits.apply(ctx, changes...)
	if errors.Is(err, blobs.ErrNoSpace) {
		// A full disk has no room for the new metadata either, and nothing else would make some.
		removeFiles()
		err = s.commits.apply(ctx, changes...)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	for _, h := range hashes {
		delete(s.suspects, h)
	}
	s.mu.Unlock()
	removeFiles()
	return nil
}

// Verify reads a blob, or what is here of it, from storage and compares it with its hash.
func (s *Store) Verify(ctx context.Context, h blobs.Hash) error {
	b, err := s.open(ctx, h)
	if err != nil {
		return err
	}
	defer b.Close()
	return b.verifyAll(ctx)
}

// suspect remembers that a blob was found corrupt, so that the next Add of it replaces it.
func (s *Store) suspect(h blobs.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.suspects[h] {
		s.log.Warn("stored blob is corrupt", "hash", h.Short())
	}
	s.suspects[h] = true
}

// keyLocks is a lock for each blob that is being made, changed or removed.
type keyLocks struct {
	mu    sync.Mutex
	locks map[blobs.Hash]*keyLock
	none  chan struct{} // closed when no lock is left; nil unless somebody waits
}

type keyLock struct {
	sync.Mutex
	users int
}

// lock locks a blob and returns what unlocks it. Who locks several does so in order of their hashes.
func (k *keyLocks) lock(h blobs.Hash) (unlock func()) {
	k.mu.Lock()
	l := k.locks[h]
	if l == nil {
		if k.locks == nil {
			k.locks = map[blobs.Hash]*keyLock{}
		}
		l = &keyLock{}
		k.locks[h] = l
	}
	l.users++
	k.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.locks, h)
		}
		if len(k.locks) == 0 && k.none != nil {
			close(k.none)
			k.none = nil
		}
	}
}

// drain waits until no blob is locked. It is called once.
func (k *keyLocks) drain() {
	k.mu.Lock()
	none := make(chan struct{})
	if len(k.locks) > 0 {
		k.none = none
	} else {
		close(none)
	}
	k.mu.Unlock()
	<-none
}

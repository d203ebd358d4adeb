package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// What a partial blob may lose in a crash: so many bytes, or what came in so much time.
const (
	syncBytes = 8 << 20
	syncAfter = 2 * time.Second
)

// maxInlineOutboard is the largest outboard that is kept in the metadata, in bytes.
const maxInlineOutboard = 64 << 10

// partial is a blob on its way, shared by all who write or read it. Locks are taken in this order: the blob's key,
// syncing, mu, the store's mu.
type partial struct {
	s *Store
	h blobs.Hash

	writers, readers int // guarded by the store's mu

	syncing sync.Mutex // one sync, completion or end at a time
	named   bool       // the files' names are on stable storage; guarded by syncing

	mu       sync.Mutex
	size     uint64   // 0 until proven
	have     bitmap   // groups that are here
	written  bitmap   // pairs that were written since the blob was opened
	small    []byte   // the blob itself, where it is one group: it goes into the metadata
	data     *os.File // nil until the first group
	tree     *os.File // the outboard
	dirty    int      // bytes since the last sync
	timer    *time.Timer
	complete bool
	dead     error // why nothing more can be written
	// overtakenBy is the size of the complete blob that was added meanwhile. have and the files stay as they were.
	overtakenBy uint64
}

// Partial opens or creates a partial blob for writing.
func (s *Store) Partial(ctx context.Context, h blobs.Hash) (blobs.Partial, error) {
	if h == blobs.EmptyHash {
		return nil, fmt.Errorf("%s: %w", h.Short(), blobs.ErrComplete)
	}
	p, err := s.acquire(ctx, h, true)
	if err != nil {
		return nil, err
	}
	return &writer{p: p}, nil
}

// acquire begins a use of a partial blob: of one that is in use, or else of what the metadata says. ErrComplete where
// the blob is complete; readers get ErrNotFound where nothing is here.
func (s *Store) acquire(ctx context.Context, h blobs.Hash, write bool) (*partial, error) {
	if err := s.alive(ctx); err != nil {
		return nil, err
	}
	defer s.keys.lock(h)()
	s.mu.Lock()
	p := s.partials[h]
	if p != nil {
		p.use(write)
	}
	s.mu.Unlock()
	if p != nil {
		return p, nil
	}

	p = &partial{s: s, h: h}
	e, err := s.load(ctx, h)
	switch {
	case err == nil && e.complete:
		return nil, fmt.Errorf("%s: %w", h.Short(), blobs.ErrComplete)
	case err == nil:
		err = p.reopen(e)
	case write && (errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrCorrupt)):
		err = nil // begin anew; what the metadata said, if it did, is written over
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		p.closeFiles()
		return nil, blobs.ErrClosed
	}
	p.use(write)
	s.partials[h] = p
	return p, nil
}

// use counts a user; the store's mu is held.
func (p *partial) use(write bool) {
	if !write {
		p.readers++
		return
	}
	p.writers++
	if p.s.recent != nil {
		p.s.recent[p.h] = true
	}
}

// release ends a use, and closes the files after the last one.
func (p *partial) release(write bool) {
	s := p.s
	s.mu.Lock()
	if write {
		p.writers--
	} else {
		p.readers--
	}
	last := p.writers+p.readers == 0
	if last && s.partials[p.h] == p {
		delete(s.partials, p.h)
	}
	s.mu.Unlock()
	if !last {
		return
	}
	p.kill(blobs.ErrClosed)
	p.closeFiles()
}

// closeFiles closes the files of a blob that nobody uses.
func (p *partial) closeFiles() {
	for _, f := range []*os.File{p.data, p.tree} {
		if f != nil {
			f.Close() // what mattered was synced
		}
	}
}

// partial is the partial blob that is in use, or nil.
func (s *Store) partial(h blobs.Hash) *partial {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.partials[h]
}

// reopen opens the files of a blob that the metadata knows.
func (p *partial) reopen(e entry) (err error) {
	p.setSize(e.size)
	part := p.s.path(p.h, partSuffix)
	if _, err := os.Stat(part); errors.Is(err, fs.ErrNotExist) {
		// A crash between the rename and the metadata of a completion.
		err := os.Rename(p.s.path(p.h, dataSuffix), part)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if p.data, err = os.OpenFile(part, os.O_RDWR, 0); err == nil {
		p.tree, err = os.OpenFile(p.s.path(p.h, pairsSuffix), os.O_RDWR, 0)
	}
	if errors.Is(err, fs.ErrNotExist) {
		p.s.log.Warn("files of a partial blob are gone: it begins anew", "hash", p.h.Short())
		p.closeFiles()
		p.data, p.tree = nil, nil
		return nil
	}
	if err != nil {
		p.closeFiles()
		return fmt.Errorf("partial blob %s: %w", p.h.Short(), err)
	}
	p.have, p.named = e.have, true
	return nil
}

func (p *partial) setSize(size uint64) {
	groups := bao.Groups(size)
	p.size, p.have, p.written = size, newBitmap(groups), newBitmap(groups-1)
}

// info is what is here now.
func (p *partial) info() blobs.Info {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.complete {
		return completeInfo(p.h, max(p.size, p.overtakenBy))
	}
	return p.held()
}

// held is what the files hold; mu is held.
func (p *partial) held() blobs.Info {
	if p.complete && p.overtakenBy == 0 {
		return completeInfo(p.h, p.size)
	}
	return blobs.Info{Hash: p.h, Size: p.size, Proven: p.size > 0, Have: p.have.ranges()}
}

func (p *partial) proven(size uint64) error {
	if size == 0 {
		return fmt.Errorf("%s: %w: it is not the hash of no bytes", p.h.Short(), blobs.ErrVerify)
	}
	if size > MaxSize {
		return fmt.Errorf("%s: %w: %d bytes, at most %d", p.h.Short(), blobs.ErrTooLarge, size, uint64(MaxSize))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.dead != nil:
		return p.dead
	case p.size == 0:
		p.setSize(size)
	case p.size != size:
		return fmt.Errorf("%s: %w: size %d was proven before, now %d", p.h.Short(), blobs.ErrVerify, p.size, size)
	}
	return nil
}

// begin checks a group that is to be written and makes the files; done reports that there is nothing to write.
func (p *partial) begin(i uint64, data []byte, parents []bao.Parent) (done bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.dead != nil:
		return false, p.dead
	case p.complete:
		return true, nil
	case p.size == 0:
		return false, fmt.Errorf("%s: group %d came before the size", p.h.Short(), i)
	case i >= p.have.n || len(data) != bao.GroupLen(p.size, i):
		return false, fmt.Errorf("%s: no group %d of %d bytes in %d bytes", p.h.Short(), i, len(data), p.size)
	case p.have.has(i):
		return true, nil
	}
	for _, parent := range parents {
		if parent.Index >= p.written.n {
			return false, fmt.Errorf("%s: no pair %d in %d bytes", p.h.Short(), parent.Index, p.size)
		}
	}
	if p.have.n == 1 {
		p.small = bytes.Clone(data)
		p.took(i, len(data))
		return true, nil
	}
	return false, p.makeFiles()
}

// makeFiles makes the files of a new blob, over what a crash may have left; mu is held.
func (p *partial) makeFiles() error {
	if p.data != nil {
		return nil
	}
	if err := p.s.makeHashDir(p.h); err != nil {
		return err
	}
	const flags = os.O_RDWR | os.O_CREATE | os.O_TRUNC
	data, err := os.OpenFile(p.s.path(p.h, partSuffix), flags, 0o600)
	if err != nil {
		return fmt.Errorf("partial blob %s: %w", p.h.Short(), noSpace(err))
	}
	tree, err := os.OpenFile(p.s.path(p.h, pairsSuffix), flags, 0o600)
	if err != nil {
		data.Close()
		return fmt.Errorf("partial blob %s: %w", p.h.Short(), noSpace(err))
	}
	p.data, p.tree = data, tree
	return nil
}

// took records a group that is written; mu is held.
func (p *partial) took(i uint64, n int) {
	if p.dead != nil || !p.have.add(i) {
		return
	}
	p.dirtied(n)
}

// dirtied sees to it that the state is written in time; mu is held.
func (p *partial) dirtied(n int) {
	if p.dirty == 0 {
		p.s.flushes.Add(1)
		p.timer = time.AfterFunc(syncAfter, func() {
			defer p.s.flushes.Done()
			if err := p.sync(); err != nil {
				p.s.log.Warn("partial blob not written", "hash", p.h.Short(), "err", err)
			}
		})
	}
	p.dirty += n
}

// cleaned takes the count of what is to be written and stops the timer; mu is held.
func (p *partial) cleaned() (n int) {
	n, p.dirty = p.dirty, 0
	if p.timer != nil && p.timer.Stop() {
		p.s.flushes.Done()
	}
	p.timer = nil
	return n
}

func (p *partial) writeGroup(i uint64, data []byte, parents []bao.Parent) error {
	if done, err := p.begin(i, data, parents); done || err != nil {
		return err
	}
	err := p.writePairs(parents)
	if err == nil {
		_, err = p.data.WriteAt(data, int64(i)*bao.GroupSize)
	}
	if err != nil {
		return fmt.Errorf("partial blob %s: %w", p.h.Short(), noSpace(err))
	}
	p.mu.Lock()
	p.took(i, len(data))
	full := p.dirty >= syncBytes
	p.mu.Unlock()
	if full {
		return p.sync()
	}
	return nil
}

// writePairs writes the pairs that are new, neighbours at once.
func (p *partial) writePairs(parents []bao.Parent) error {
	var fresh []bao.Parent
	p.mu.Lock()
	for _, parent := range parents {
		if !p.written.has(parent.Index) {
			fresh = append(fresh, parent)
		}
	}
	p.mu.Unlock()
	slices.SortFunc(fresh, func(a, b bao.Parent) int { return int(a.Index) - int(b.Index) })
	for len(fresh) > 0 {
		n := 1
		for n < len(fresh) && fresh[n].Index == fresh[0].Index+uint64(n) {
			n++
		}
		var buf []byte
		for _, parent := range fresh[:n] {
			buf = parent.Append(buf)
		}
		if _, err := p.tree.WriteAt(buf, int64(fresh[0].Index)*bao.PairSize); err != nil {
			return err
		}
		p.mu.Lock()
		for _, parent := range fresh[:n] {
			p.written.add(parent.Index)
		}
		p.mu.Unlock()
		fresh = fresh[n:]
	}
	return nil
}

// sync brings what was written to stable storage, and then the metadata that says so.
func (p *partial) sync() error {
	p.syncing.Lock()
	defer p.syncing.Unlock()
	p.mu.Lock()
	if p.dirty == 0 || p.dead != nil || p.complete {
		p.cleaned()
		p.mu.Unlock()
		return nil
	}
	n := p.cleaned()
	e := entry{size: p.size, have: p.have.clone()}
	small := p.small != nil
	p.mu.Unlock()

	var err error
	if small {
		err = p.finishSmall()
	} else if err = p.syncFiles(); err == nil {
		err = p.s.commits.apply(context.Background(), set(tableBlobs, p.h[:], e.encode()))
	}
	if err != nil {
		p.mu.Lock()
		p.dirtied(n)
		p.mu.Unlock()
	}
	return err
}

func (p *partial) syncFiles() error {
	err := errors.Join(p.data.Sync(), p.tree.Sync())
	if err == nil && !p.named {
		if err = syncDir(p.s.hashDir(p.h)); err == nil {
			p.named = true
		}
	}
	if err != nil {
		return fmt.Errorf("partial blob %s: %w", p.h.Short(), noSpace(err))
	}
	return nil
}

// kill ends all writing: the blob is deleted, or the store is closed.
func (p *partial) kill(why error) {
	p.syncing.Lock()
	defer p.syncing.Unlock()
	p.end(func() { p.dead = why })
}

// end takes the blob out of use under its last state; syncing is held.
func (p *partial) end(change func()) {
	p.mu.Lock()
	change()
	p.cleaned()
	p.mu.Unlock()
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if p.s.partials[p.h] == p {
		delete(p.s.partials, p.h)
	}
}

// shut writes what is pending for the last time.
func (p *partial) shut() error {
	err := p.sync()
	p.kill(blobs.ErrClosed)
	return err
}

// dropGroup forgets a group that was found corrupt, so that it is fetched again, and the pairs above it with it.
func (p *partial) dropGroup(i uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.complete || p.dead != nil || !p.have.has(i) {
		return
	}
	p.have.remove(i)
	p.written = newBitmap(p.written.n)
	p.dirtied(1)
}

// withOpenPartials corrects a list of what the metadata says by what is newer in memory.
func (s *Store) withOpenPartials(list []blobs.Info) []blobs.Info {
	s.mu.Lock()
	open := make([]*partial, 0, len(s.partials))
	for _, p := range s.partials {
		open = append(open, p)
	}
	s.mu.Unlock()
	for _, p := range open {
		info := p.info()
		at, found := slices.BinarySearchFunc(list, info, compareInfo)
		switch {
		case found && !list[at].Complete:
			list[at] = info
		case !found && len(info.Have) > 0:
			list = slices.Insert(list, at, info)
		}
	}
	return list
}

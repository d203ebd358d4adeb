package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// sweepBatch is how many blobs are removed in one commit.
const sweepBatch = 100

// Collect removes what nothing keeps: first it marks what tags, temporary tags, open partial blobs and protect keep,
// then it removes the rest, and files that belong to no blob. What is added, tagged or opened for writing meanwhile
// stays.
func (s *Store) Collect(ctx context.Context, protect func(add func(blobs.HashAndFormat)) error) (blobs.Collected, error) {
	var count blobs.Collected
	s.collecting.Lock()
	defer s.collecting.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return count, blobs.ErrClosed
	}
	s.recent = map[blobs.Hash]bool{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.recent = nil
	}()

	live, broken, err := s.mark(ctx, protect)
	if err != nil {
		return count, fmt.Errorf("collect blobs: nothing was removed: %w", err)
	}
	count.Broken = broken
	if err := s.sweep(ctx, live, &count); err != nil {
		return count, fmt.Errorf("collect blobs: %w", err)
	}
	if err := s.sweepFiles(ctx); err != nil {
		return count, fmt.Errorf("collect files of blobs: %w", err)
	}
	return count, nil
}

// mark is the set of blobs to keep, and how many sequences among them could not be read whole.
func (s *Store) mark(ctx context.Context, protect func(add func(blobs.HashAndFormat)) error) (map[blobs.Hash]bool, int, error) {
	roots := map[blobs.HashAndFormat]bool{}
	tags, err := s.Tags(ctx, "")
	if err != nil {
		return nil, 0, err
	}
	for _, tag := range tags {
		roots[tag.HashAndFormat] = true
	}
	if protect != nil {
		if err := protect(func(h blobs.HashAndFormat) { roots[h] = true }); err != nil {
			return nil, 0, err
		}
	}
	s.mu.Lock()
	for h := range s.temps {
		roots[h] = true
	}
	s.mu.Unlock()

	live, broken := map[blobs.Hash]bool{}, 0
	for root := range roots {
		live[root.Hash] = true
		if root.Format != blobs.SeqFormat {
			continue
		}
		err := s.children(ctx, root.Hash, func(h blobs.Hash) { live[h] = true })
		if err := s.alive(ctx); err != nil {
			return nil, 0, err
		}
		if err != nil {
			s.log.Warn("sequence to keep cannot be read: its blobs may be removed", "hash", root.Hash.Short(), "err", err)
			broken++
		}
	}
	return live, broken, nil
}

// children calls fn for the hashes of a sequence: of a partial or damaged one for those that can be read, and then
// it returns why not all can.
func (s *Store) children(ctx context.Context, h blobs.Hash, fn func(blobs.Hash)) (err error) {
	b, err := s.open(ctx, h)
	if err != nil {
		return err
	}
	defer b.Close()
	size := b.Info().Size
	buf := make([]byte, bao.GroupSize) // holds 512 hashes, so that none is cut
	for i := range bao.Groups(size) {
		if ctxErr := ctx.Err(); ctxErr != nil {
			return ctxErr
		}
		group := buf[:bao.GroupLen(size, i)]
		if _, readErr := b.ReadAt(group, int64(i*bao.GroupSize)); readErr != nil {
			err = readErr
			continue
		}
		for len(group) >= blobs.HashSize {
			fn(blobs.Hash(group[:blobs.HashSize]))
			group = group[blobs.HashSize:]
		}
		if len(group) > 0 {
			err = fmt.Errorf("%w: sequence of %d bytes, no multiple of %d", blobs.ErrCorrupt, size, blobs.HashSize)
		}
	}
	return err
}

// shield keeps a blob, and its children, from the Collect that runs, if one does: it may be past its mark.
func (s *Store) shield(ctx context.Context, h blobs.HashAndFormat) {
	keep := func(h blobs.Hash) (running bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.recent != nil {
			s.recent[h] = true
		}
		return s.recent != nil
	}
	if keep(h.Hash) && h.Format == blobs.SeqFormat {
		// A sequence that is not here keeps nothing yet: its children are held by who is bringing it.
		if err := s.children(ctx, h.Hash, func(child blobs.Hash) { keep(child) }); err != nil {
			s.log.Debug("sequence not read while blobs are collected", "hash", h.Hash.Short(), "err", err)
		}
	}
}

// kept reports whether something that came after the mark keeps a blob whose key is locked.
func (s *Store) kept(h blobs.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recent[h] || s.temps[blobs.HashAndFormat{Hash: h}] > 0 ||
		s.temps[blobs.HashAndFormat{Hash: h, Format: blobs.SeqFormat}] > 0 {
		return true
	}
	p := s.partials[h]
	return p != nil && p.writers > 0
}

func (s *Store) sweep(ctx context.Context, live map[blobs.Hash]bool, count *blobs.Collected) error {
	if err := s.alive(ctx); err != nil {
		return err
	}
	list, bad, err := s.scan(ctx)
	if err != nil {
		return err
	}
	for _, h := range bad { // whatever it is, it cannot be read
		list = append(list, blobs.Info{Hash: h})
	}
	slices.SortFunc(list, compareInfo)
	var dead []blobs.Info
	for _, info := range list {
		if live[info.Hash] {
			count.Kept++
			count.KeptBytes += stored(info)
		} else {
			dead = append(dead, info)
		}
	}
	for batch := range slices.Chunk(dead, sweepBatch) {
		if err := s.sweepBatch(ctx, batch, count); err != nil {
			return err
		}
	}
	return nil
}

// stored is how many bytes of a blob are here.
func stored(info blobs.Info) uint64 {
	if info.Complete || info.Size == 0 {
		return info.Size
	}
	chunks := bao.Chunks(info.Size)
	n := info.Have.Count(chunks) * bao.ChunkSize
	if info.Have.Contains(chunks - 1) {
		n -= chunks*bao.ChunkSize - info.Size
	}
	return n
}

// sweepBatch removes blobs in one commit, unless something keeps them now.
func (s *Store) sweepBatch(ctx context.Context, batch []blobs.Info, count *blobs.Collected) error {
	if err := s.alive(ctx); err != nil {
		return err
	}
	var hashes []blobs.Hash
	var freed uint64
	for _, info := range batch { // in order of hashes, as the locks want it
		unlock := s.keys.lock(info.Hash)
		defer unlock()
		if s.kept(info.Hash) {
			count.Kept++
			count.KeptBytes += stored(info)
			continue
		}
		hashes = append(hashes, info.Hash)
		freed += stored(info)
	}
	if err := s.remove(ctx, hashes...); err != nil {
		return err
	}
	count.Removed += len(hashes)
	count.RemovedBytes += freed
	return nil
}

// sweepFiles removes files that the metadata does not know: of crashes, and of removals that failed.
func (s *Store) sweepFiles(ctx context.Context) error {
	return s.eachFile(func(h blobs.Hash, suffix string, size int64) error {
		if err := s.alive(ctx); err != nil {
			return err
		}
		defer s.keys.lock(h)()
		if s.kept(h) {
			return nil
		}
		e, err := s.load(ctx, h)
		var waste bool
		switch {
		case errors.Is(err, blobs.ErrNotFound):
			waste = true
		case err != nil:
			return err
		case e.complete:
			waste = suffix == partSuffix || suffix == dataSuffix && e.data != inFile || suffix == pairsSuffix && e.outboard != inFile
		}
		if !waste {
			return nil
		}
		s.log.Info("file of no blob removed", "hash", h.Short(), "suffix", suffix, "bytes", size)
		return s.removeFiles(h, suffix)
	})
}

func compareInfo(a, b blobs.Info) int { return bytes.Compare(a.Hash[:], b.Hash[:]) }

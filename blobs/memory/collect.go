package memory

import (
	"context"
	"fmt"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// Collect removes what nothing keeps.
func (s *Store) Collect(ctx context.Context, protect func(add func(blobs.HashAndFormat)) error) (count blobs.Collected, err error) {
	s.collecting.Lock()
	defer s.collecting.Unlock()
	if err := s.locked(ctx, func() error { s.recent = map[blobs.Hash]bool{}; return nil }); err != nil {
		return count, err
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.recent = nil
	}()
	roots := map[blobs.HashAndFormat]bool{}
	if protect != nil {
		if err := protect(func(h blobs.HashAndFormat) { roots[h] = true }); err != nil {
			return count, fmt.Errorf("collect blobs: nothing was removed: %w", err)
		}
	}
	err = s.locked(ctx, func() error {
		for _, h := range s.tags {
			roots[h] = true
		}
		for h := range s.temps {
			roots[h] = true
		}
		live := s.recent
		for root := range roots {
			live[root.Hash] = true
			if root.Format == blobs.SeqFormat && !s.children(root.Hash, func(h blobs.Hash) { live[h] = true }) {
				count.Broken++
			}
		}
		for h, c := range s.blobs {
			stored := c.stored()
			if live[h] || c.writers > 0 {
				if stored > 0 {
					count.Kept++
					count.KeptBytes += stored
				}
				continue
			}
			s.remove(h)
			count.Removed++
			count.RemovedBytes += stored
		}
		return nil
	})
	return count, err
}

// children calls fn for the hashes of a sequence that can be read; it reports whether all can. The lock is held.
func (s *Store) children(h blobs.Hash, fn func(blobs.Hash)) bool {
	c, err := s.find(h)
	if err != nil {
		return false
	}
	whole := c.size()%blobs.HashSize == 0
	for i := range bao.Groups(c.size()) {
		group := c.group(i)
		whole = whole && (group != nil || c.size() == 0)
		for ; len(group) >= blobs.HashSize; group = group[blobs.HashSize:] {
			fn(blobs.Hash(group[:blobs.HashSize]))
		}
	}
	return whole
}

// shield keeps a blob, and its children, from the Collect that runs; the lock is held.
func (s *Store) shield(h blobs.HashAndFormat) {
	if s.recent == nil {
		return
	}
	s.recent[h.Hash] = true
	if h.Format == blobs.SeqFormat {
		s.children(h.Hash, func(child blobs.Hash) { s.recent[child] = true })
	}
}

// Package memory keeps blobs in memory, for tests and for what need not last. It behaves as package disk does.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// MaxSize is the largest blob that the store takes, in bytes.
const MaxSize = 1 << 40

const maxTagName = 1024

// Store keeps blobs in memory. It implements [blobs.Store].
type Store struct {
	collecting sync.Mutex // one Collect at a time

	mu     sync.Mutex
	closed bool
	blobs  map[blobs.Hash]*content
	tags   map[string]blobs.HashAndFormat
	temps  map[blobs.HashAndFormat]int
	recent map[blobs.Hash]bool // used since the Collect that runs began; nil while none runs
}

var _ blobs.Store = (*Store)(nil)

// New makes an empty store.
func New() *Store {
	return &Store{
		blobs: map[blobs.Hash]*content{},
		tags:  map[string]blobs.HashAndFormat{},
		temps: map[blobs.HashAndFormat]int{},
	}
}

// locked calls fn while nobody else is at work in the store.
func (s *Store) locked(ctx context.Context, fn func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return blobs.ErrClosed
	}
	return fn()
}

func notFound(h blobs.Hash) error { return fmt.Errorf("%s: %w", h.Short(), blobs.ErrNotFound) }

// Add reads r to its end and keeps it.
func (s *Store) Add(ctx context.Context, r io.Reader) (*blobs.TempTag, uint64, error) {
	var buf bytes.Buffer
	for {
		if err := s.locked(ctx, func() error { return nil }); err != nil {
			return nil, 0, fmt.Errorf("add blob: %w", err)
		}
		n, err := io.CopyN(&buf, r, 1<<20)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, 0, fmt.Errorf("add blob after %d bytes: %w", n, err)
		}
	}
	data := buf.Bytes()
	root, outboard := bao.NewOutboard(data)
	h := blobs.HashAndFormat{Hash: root}
	err := s.locked(ctx, func() error {
		if s.temps[h]++; s.recent != nil {
			s.recent[h.Hash] = true
		}
		c := s.blobs[h.Hash]
		if c == nil && h.Hash != blobs.EmptyHash {
			c = &content{hash: h.Hash}
			s.blobs[h.Hash] = c
		}
		if c != nil {
			c.setComplete(data, outboard)
		}
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("add blob: %w", err)
	}
	return s.tempTag(h), uint64(len(data)), nil
}

func (s *Store) tempTag(h blobs.HashAndFormat) *blobs.TempTag {
	return blobs.NewTempTag(h, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.temps[h]--; s.temps[h] == 0 {
			delete(s.temps, h)
		}
	})
}

// find is what is here of a blob; the lock is held.
func (s *Store) find(h blobs.Hash) (*content, error) {
	if h == blobs.EmptyHash {
		return &content{hash: h, complete: true, data: []byte{}}, nil
	}
	if c := s.blobs[h]; c != nil && (c.complete || len(c.have) > 0) {
		return c, nil
	}
	return nil, notFound(h)
}

// Info says what is here of a blob.
func (s *Store) Info(ctx context.Context, h blobs.Hash) (info blobs.Info, err error) {
	err = s.locked(ctx, func() error {
		c, err := s.find(h)
		if err == nil {
			info = c.info()
		}
		return err
	})
	return info, err
}

// Open opens a complete or partial blob for reading.
func (s *Store) Open(ctx context.Context, h blobs.Hash) (b blobs.Blob, err error) {
	err = s.locked(ctx, func() error {
		c, err := s.find(h)
		if err == nil {
			b = &reader{s: s, c: c}
		}
		return err
	})
	return b, err
}

// Partial opens or creates a partial blob for writing.
func (s *Store) Partial(ctx context.Context, h blobs.Hash) (p blobs.Partial, err error) {
	err = s.locked(ctx, func() error {
		c := s.blobs[h]
		if h == blobs.EmptyHash || c != nil && c.complete {
			return fmt.Errorf("%s: %w", h.Short(), blobs.ErrComplete)
		}
		if c == nil {
			c = &content{hash: h}
			s.blobs[h] = c
		}
		if c.writers++; s.recent != nil {
			s.recent[h] = true
		}
		p = &writer{s: s, c: c}
		return nil
	})
	return p, err
}

// TempTag keeps a blob, and its children where it is a sequence, until it is released.
func (s *Store) TempTag(h blobs.HashAndFormat) *blobs.TempTag {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.temps[h]++
	s.shield(h)
	return s.tempTag(h)
}

// SetTag names what to keep.
func (s *Store) SetTag(ctx context.Context, name string, h blobs.HashAndFormat) error {
	if len(name) > maxTagName {
		return fmt.Errorf("tag name of %d bytes: at most %d", len(name), maxTagName)
	}
	if h.Format > blobs.SeqFormat {
		return fmt.Errorf("tag %q: format %d is not known", name, h.Format)
	}
	return s.locked(ctx, func() error {
		s.shield(h)
		s.tags[name] = h
		return nil
	})
}

// Tag is what a tag keeps.
func (s *Store) Tag(ctx context.Context, name string) (h blobs.HashAndFormat, err error) {
	err = s.locked(ctx, func() error {
		var ok bool
		if h, ok = s.tags[name]; !ok {
			return fmt.Errorf("tag %q: %w", name, blobs.ErrNotFound)
		}
		return nil
	})
	return h, err
}

// DeleteTag removes a tag.
func (s *Store) DeleteTag(ctx context.Context, name string) error {
	return s.locked(ctx, func() error {
		delete(s.tags, name)
		return nil
	})
}

// Tags are the tags whose names begin with prefix, in order of their names.
func (s *Store) Tags(ctx context.Context, prefix string) (tags []blobs.NamedTag, err error) {
	err = s.locked(ctx, func() error {
		for _, name := range slices.Sorted(maps.Keys(s.tags)) {
			if strings.HasPrefix(name, prefix) {
				tags = append(tags, blobs.NamedTag{Name: name, HashAndFormat: s.tags[name]})
			}
		}
		return nil
	})
	return tags, err
}

func compareHashes(a, b blobs.Hash) int { return bytes.Compare(a[:], b[:]) }

// List says what is here of every blob, in order of hashes. The empty blob, which every store holds, is not listed.
func (s *Store) List(ctx context.Context) (list []blobs.Info, err error) {
	err = s.locked(ctx, func() error {
		for _, h := range slices.SortedFunc(maps.Keys(s.blobs), compareHashes) {
			if c, err := s.find(h); err == nil {
				list = append(list, c.info())
			}
		}
		return nil
	})
	return list, err
}

// Delete removes a blob at once, whatever keeps it.
func (s *Store) Delete(ctx context.Context, h blobs.Hash) error {
	return s.locked(ctx, func() error {
		s.remove(h)
		return nil
	})
}

// remove removes a blob; writers of it get ErrNotFound from then on. The lock is held.
func (s *Store) remove(h blobs.Hash) {
	if c := s.blobs[h]; c != nil {
		c.deleted = true
		delete(s.blobs, h)
	}
}

// Verify compares what is here of a blob with its hash.
func (s *Store) Verify(ctx context.Context, h blobs.Hash) error {
	b, err := s.Open(ctx, h)
	if err != nil {
		return err
	}
	defer b.Close()
	return b.Encode(io.Discard, b.Info().Have)
}

// Close releases the store. Blobs that are open stay readable.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

package disk

import (
	"context"
	"fmt"

	"github.com/OpenArchive/save-dweb-go/blobs"
)

// MaxTagName is the longest name of a tag, in bytes.
const MaxTagName = 1024

// tagKey is never empty, as a name may be.
func tagKey(name string) []byte { return append([]byte{'t'}, name...) }

func encodeTag(h blobs.HashAndFormat) []byte { return append([]byte{byte(h.Format)}, h.Hash[:]...) }

func decodeTag(name string, b []byte) (h blobs.HashAndFormat, err error) {
	if len(b) != 1+blobs.HashSize || b[0] > byte(blobs.SeqFormat) {
		return h, fmt.Errorf("%w: tag %q", blobs.ErrCorrupt, name)
	}
	return blobs.HashAndFormat{Hash: blobs.Hash(b[1:]), Format: blobs.Format(b[0])}, nil
}

// SetTag names what to keep.
func (s *Store) SetTag(ctx context.Context, name string, h blobs.HashAndFormat) error {
	if len(name) > MaxTagName {
		return fmt.Errorf("tag name of %d bytes: at most %d", len(name), MaxTagName)
	}
	if h.Format > blobs.SeqFormat {
		return fmt.Errorf("tag %q: format %d is not known", name, h.Format)
	}
	if err := s.alive(ctx); err != nil {
		return err
	}
	s.shield(ctx, h)
	return s.commits.apply(ctx, set(tableTags, tagKey(name), encodeTag(h)))
}

// Tag is what a tag keeps.
func (s *Store) Tag(ctx context.Context, name string) (blobs.HashAndFormat, error) {
	b, err := s.get(ctx, tableTags, tagKey(name))
	if err != nil {
		return blobs.HashAndFormat{}, err
	}
	if b == nil {
		return blobs.HashAndFormat{}, fmt.Errorf("tag %q: %w", name, blobs.ErrNotFound)
	}
	return decodeTag(name, b)
}

// DeleteTag removes a tag.
func (s *Store) DeleteTag(ctx context.Context, name string) error {
	if err := s.alive(ctx); err != nil {
		return err
	}
	return s.commits.apply(ctx, unset(tableTags, tagKey(name)))
}

// Tags are the tags whose names begin with prefix, in order of their names.
func (s *Store) Tags(ctx context.Context, prefix string) ([]blobs.NamedTag, error) {
	if err := s.alive(ctx); err != nil {
		return nil, err
	}
	var tags []blobs.NamedTag
	err := s.tables.Each(ctx, tableTags, tagKey(prefix), func(key, value []byte) error {
		name := string(key[1:])
		h, err := decodeTag(name, value)
		if err != nil {
			return err
		}
		tags = append(tags, blobs.NamedTag{Name: name, HashAndFormat: h})
		return nil
	})
	if err != nil {
		return nil, tablesError(err)
	}
	return tags, nil
}

// TempTag keeps a blob, and its children where it is a sequence, until it is released or the process ends.
func (s *Store) TempTag(h blobs.HashAndFormat) *blobs.TempTag {
	tag := s.hold(h)
	s.shield(context.Background(), h)
	return tag
}

func (s *Store) hold(h blobs.HashAndFormat) *blobs.TempTag {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.temps[h]++
	return blobs.NewTempTag(h, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.temps[h]--; s.temps[h] == 0 {
			delete(s.temps, h)
		}
	})
}

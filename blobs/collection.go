package blobs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of collections from others.
const (
	MaxCollection     = 1 << 20  // entries
	MaxCollectionMeta = 64 << 20 // bytes of the blob of names
	MaxName           = 4 << 10  // bytes of one name
)

const collectionHeader = "CollectionV0."

// Entry is a blob of a collection and its name.
type Entry struct {
	Name string
	Hash Hash
}

// Collection is iroh's list of named blobs: a sequence of hashes, the first of which names the blob of names. Order
// counts; names may repeat, and the format does not check them: see [CheckName].
type Collection []Entry

// Meta is the blob of names.
func (c Collection) Meta() ([]byte, error) {
	if len(c) > MaxCollection {
		return nil, fmt.Errorf("collection of %d entries: at most %d: %w", len(c), MaxCollection, ErrTooLarge)
	}
	b := binary.AppendUvarint([]byte(collectionHeader), uint64(len(c)))
	for _, e := range c {
		if len(e.Name) > MaxName {
			return nil, fmt.Errorf("name of %d bytes in a collection: at most %d: %w", len(e.Name), MaxName, ErrTooLarge)
		}
		if !utf8.ValidString(e.Name) {
			return nil, fmt.Errorf("name %q in a collection is not UTF-8: %w", e.Name, ErrFormat)
		}
		b = append(binary.AppendUvarint(b, uint64(len(e.Name))), e.Name...)
	}
	if len(b) > MaxCollectionMeta {
		return nil, fmt.Errorf("names of a collection take %d bytes: at most %d: %w", len(b), MaxCollectionMeta, ErrTooLarge)
	}
	return b, nil
}

// Encode is the blob of names and the sequence, which names it first. The sequence's hash names the collection.
func (c Collection) Encode() (meta []byte, seq HashSeq, err error) {
	if meta, err = c.Meta(); err != nil {
		return nil, HashSeq{}, err
	}
	hashes := make([]Hash, 0, len(c)+1)
	hashes = append(hashes, Sum(meta))
	for _, e := range c {
		hashes = append(hashes, e.Hash)
	}
	return meta, NewHashSeq(hashes...), nil
}

// ParseCollection joins a sequence with its blob of names.
func ParseCollection(seq HashSeq, meta []byte) (Collection, error) {
	if seq.Len() == 0 {
		return nil, fmt.Errorf("collection without the hash of its names: %w", ErrFormat)
	}
	names, err := parseMeta(meta, seq.Len()-1)
	if err != nil {
		return nil, err
	}
	c := make(Collection, len(names))
	for i, name := range names {
		c[i] = Entry{name, seq.At(i + 1)}
	}
	return c, nil
}

// parseMeta reads a blob of names, of which there must be want.
func parseMeta(b []byte, want int) ([]string, error) {
	if len(b) > MaxCollectionMeta || want > MaxCollection {
		return nil, fmt.Errorf("collection of %d entries with %d bytes of names: at most %d and %d: %w",
			want, len(b), MaxCollection, MaxCollectionMeta, ErrTooLarge)
	}
	b, ok := bytes.CutPrefix(b, []byte(collectionHeader))
	if !ok {
		return nil, fmt.Errorf("names of a collection do not begin with %q: %w", collectionHeader, ErrFormat)
	}
	count, b, err := takeUvarint(b)
	if err != nil {
		return nil, fmt.Errorf("number of names of a collection: %w", err)
	}
	if count != uint64(want) {
		return nil, fmt.Errorf("collection of %d names and %d blobs: %w", count, want, ErrFormat)
	}
	// every name takes a byte at least, so count is bounded before room is made for it
	if count > uint64(len(b)) {
		return nil, fmt.Errorf("collection claims %d names in %d bytes: %w", count, len(b), ErrFormat)
	}
	names := make([]string, 0, count)
	for i := range want {
		var n uint64
		if n, b, err = takeUvarint(b); err != nil {
			return nil, fmt.Errorf("name %d of a collection: %w", i, err)
		}
		if n > MaxName || n > uint64(len(b)) {
			return nil, fmt.Errorf("name %d of a collection is said to have %d bytes: %w", i, n, ErrFormat)
		}
		name := string(b[:n])
		if !utf8.ValidString(name) {
			return nil, fmt.Errorf("name %d of a collection is not UTF-8: %w", i, ErrFormat)
		}
		names, b = append(names, name), b[n:]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%d bytes follow the names of a collection: %w", len(b), ErrFormat)
	}
	return names, nil
}

func takeUvarint(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, fmt.Errorf("number is cut short or above 64 bits: %w", ErrFormat)
	}
	return v, b[n:], nil
}

// ReadSeq reads the sequence that h names from a store; ErrTooLarge above limit hashes.
func ReadSeq(ctx context.Context, s Store, h Hash, limit int) (HashSeq, error) {
	b, err := ReadAll(ctx, s, h, uint64(limit)*HashSize)
	if err != nil {
		return HashSeq{}, fmt.Errorf("sequence %s: %w", h.Short(), err)
	}
	return ParseHashSeq(b)
}

// ReadCollection reads the collection that h names from a store: its sequence and its names, not its blobs.
func ReadCollection(ctx context.Context, s Store, h Hash) (Collection, error) {
	seq, err := ReadSeq(ctx, s, h, MaxCollection+1)
	if err != nil {
		return nil, err
	}
	if seq.Len() == 0 {
		return nil, fmt.Errorf("collection %s without the hash of its names: %w", h.Short(), ErrFormat)
	}
	meta, err := ReadAll(ctx, s, seq.At(0), MaxCollectionMeta)
	if err != nil {
		return nil, fmt.Errorf("names of collection %s: %w", h.Short(), err)
	}
	return ParseCollection(seq, meta)
}

// AddCollection adds the names and the sequence of a collection to a store. The tag keeps both and the blobs.
func AddCollection(ctx context.Context, s Store, c Collection) (*TempTag, error) {
	meta, seq, err := c.Encode()
	if err != nil {
		return nil, err
	}
	metaTag, _, err := s.Add(ctx, bytes.NewReader(meta))
	if err != nil {
		return nil, fmt.Errorf("add the names of a collection: %w", err)
	}
	defer metaTag.Release()
	seqTag, _, err := s.Add(ctx, bytes.NewReader(seq.Bytes()))
	if err != nil {
		return nil, fmt.Errorf("add a collection: %w", err)
	}
	defer seqTag.Release()
	return s.TempTag(HashAndFormat{seq.Hash(), SeqFormat}), nil
}

// ReadAll reads a whole blob from a store into memory: ErrTooLarge above limit bytes, ErrNotFound where it is not
// complete.
func ReadAll(ctx context.Context, s Store, h Hash, limit uint64) (_ []byte, err error) {
	blob, err := s.Open(ctx, h)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	info := blob.Info()
	if !info.Complete {
		return nil, fmt.Errorf("blob %s is here only in part: %w", h.Short(), ErrNotFound)
	}
	if info.Size > limit {
		return nil, fmt.Errorf("blob %s has %d bytes, at most %d were expected: %w", h.Short(), info.Size, limit, ErrTooLarge)
	}
	b := make([]byte, info.Size)
	if n, err := blob.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("read blob %s: %w", h.Short(), err)
	}
	return b, nil
}

// CheckName says why a name from a collection is not safe to use as a relative path of a file, with "/" between its
// parts: it is absolute, empty, leaves its folder, or holds what file systems forbid or treat specially. The format
// itself allows any text.
func CheckName(name string) error {
	bad := func(why string) error { return fmt.Errorf("name %q %s: %w", name, why, ErrFormat) }
	switch {
	case name == "":
		return bad("is empty")
	case len(name) > MaxName:
		return fmt.Errorf("name of %d bytes: at most %d: %w", len(name), MaxName, ErrFormat)
	case !utf8.ValidString(name):
		return bad("is not UTF-8")
	case strings.ContainsAny(name, "\\:"):
		return bad("holds a backslash or a colon, which some systems take for part of a path")
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return bad("holds a control character")
	}
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "":
			return bad("is absolute or has an empty part")
		case part == "." || part == "..":
			return bad("leaves its folder")
		case len(part) > 255:
			return bad("has a part of more than 255 bytes")
		case strings.HasSuffix(part, ".") || strings.HasSuffix(part, " "):
			return bad("has a part that ends in a dot or a space, which some systems drop")
		case reservedName(part):
			return bad("is the name of a device on some systems")
		}
	}
	return nil
}

// reservedName reports whether Windows takes a name for a device, whatever its extension.
func reservedName(part string) bool {
	base, _, _ := strings.Cut(strings.ToUpper(part), ".")
	switch base = strings.TrimRight(base, " "); base {
	case "CON", "PRN", "AUX", "NUL":
		return true
	}
	return len(base) == 4 && (base[:3] == "COM" || base[:3] == "LPT") && base[3] >= '1' && base[3] <= '9'
}

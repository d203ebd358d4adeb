package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// MaxItem is the largest item of an answer to Observe that is read, in bytes.
const MaxItem = 1 << 20

// Bitfield says which chunks of a blob are somewhere, and the size that is known of it there.
type Bitfield struct {
	Size   uint64
	Ranges bao.Ranges
}

// Canonical is the form in which iroh keeps a bitfield: nothing beyond the blob's chunks, and an open end where the last
// chunk is there.
func (f Bitfield) Canonical() Bitfield {
	if f.Size == 0 {
		if !f.Ranges.IsEmpty() {
			f.Ranges = bao.All()
		}
		return f
	}
	chunks := bao.Chunks(f.Size)
	r := f.Ranges.Intersect(bao.Span(0, chunks))
	if r.Contains(chunks - 1) {
		r = r.Union(bao.From(chunks - 1))
	}
	return Bitfield{f.Size, r}
}

// Update applies a later item of an answer to Observe, which holds what has changed. The size comes from the side that
// reaches further.
func (f Bitfield) Update(change Bitfield) Bitfield {
	out := Bitfield{f.Size, f.Ranges.SymmetricDifference(change.Ranges)}
	if upper(change.Ranges) > upper(f.Ranges) || len(f.Ranges) == 0 {
		out.Size = change.Size
	}
	return out
}

func upper(r bao.Ranges) uint64 {
	switch {
	case len(r) == 0:
		return 0
	case r.Open():
		return bao.LastChunk
	}
	return r[len(r)-1]
}

// Append appends the bitfield as an item of an answer to Observe holds it.
func (f Bitfield) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, f.Size)
	b = binary.AppendUvarint(b, uint64(len(f.Ranges)))
	for _, at := range f.Ranges {
		b = binary.AppendUvarint(b, at)
	}
	return b
}

// ParseBitfield reads what [Bitfield.Append] writes.
func ParseBitfield(b []byte) (f Bitfield, err error) {
	in := input{b: b}
	f.Size = in.uvarint("size")
	f.Ranges = in.boundaries(in.count("boundaries", 1))
	if err := in.end(); err != nil {
		return Bitfield{}, err
	}
	return f, nil
}

// boundaries reads absolute boundaries.
func (in *input) boundaries(n int) (r bao.Ranges) {
	for range n {
		at := in.uvarint("boundary")
		if in.err == nil && len(r) > 0 && at <= r[len(r)-1] {
			in.fail("boundaries do not ascend")
		}
		if in.err != nil {
			return nil
		}
		r = append(r, at)
	}
	return r
}

// AppendItem appends the bitfield as an answer to Observe has it: its length, then itself.
func (f Bitfield) AppendItem(b []byte) []byte {
	body := f.Append(nil)
	return append(binary.AppendUvarint(b, uint64(len(body))), body...)
}

// ReadItem reads the next item of an answer to Observe. At the end of the stream it returns io.EOF.
func ReadItem(r interface {
	io.Reader
	io.ByteReader
}) (Bitfield, error) {
	n, err := binary.ReadUvarint(r)
	switch {
	case errors.Is(err, io.EOF):
		return Bitfield{}, io.EOF
	case err != nil:
		return Bitfield{}, fmt.Errorf("%w: length of a bitfield: %w", ErrFormat, err)
	case n > MaxItem:
		return Bitfield{}, fmt.Errorf("%w: bitfield of %d bytes, at most %d are read", ErrFormat, n, MaxItem)
	}
	// it grows with what arrives, not with what is announced
	body, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return Bitfield{}, fmt.Errorf("read a bitfield: %w", err)
	}
	if uint64(len(body)) < n {
		return Bitfield{}, fmt.Errorf("%w: bitfield is cut short: %w", ErrFormat, io.ErrUnexpectedEOF)
	}
	return ParseBitfield(body)
}

// MarshalFile is the content of a .bitfield file of iroh's store: the hash of the rest, then size and boundaries as one
// list.
func (f Bitfield) MarshalFile() []byte {
	body := binary.AppendUvarint(nil, uint64(len(f.Ranges))+1)
	for _, v := range slices.Concat([]uint64{f.Size}, f.Ranges) {
		body = binary.AppendUvarint(body, v)
	}
	h := blobs.Sum(body)
	return append(h[:], body...)
}

// ParseFile reads a .bitfield file of iroh's store.
func ParseFile(b []byte) (f Bitfield, err error) {
	in := input{b: b}
	if sum := in.hash(); in.err == nil && blobs.Sum(in.b) != sum {
		in.fail("bitfield does not match its hash")
	}
	n := in.count("values", 1)
	if in.err == nil && n == 0 {
		in.fail("bitfield without a size")
	}
	f.Size = in.uvarint("size")
	f.Ranges = in.boundaries(n - 1)
	if err := in.end(); err != nil {
		return Bitfield{}, err
	}
	return f, nil
}

package bao

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Visitor takes what a response proves, in its order. Each function may be nil; an error of one ends the decoding and
// is returned as it is.
type Visitor struct {
	// Size is called first, with the size that the response claims. It is not proven yet: bounds are checked here,
	// and nothing is allocated for it.
	Size func(size uint64) error
	// Parent is called with each verified pair at or above group level, in ascending order of Index.
	Parent func(p Parent) error
	// Leaf is called with verified bytes, the first of which begins a chunk: a whole group, or where a group is cut a
	// part of it. data is valid until Leaf returns.
	Leaf func(chunk uint64, data []byte) error
}

// Decode verifies a whole response for these chunks of the blob that root names: nothing may be missing (ErrTruncated),
// wrong (ErrMismatch) or follow (ErrTrailing). The visitor sees only verified bytes, but sees those that come before an
// error. The size is proven if the response holds the last chunk; of an empty selection it is only a claim.
func Decode(root [HashSize]byte, response []byte, ranges Ranges, v Visitor) (size uint64, proven bool, err error) {
	src := &memSource{response}
	size, proven, err = decode(root, src, ranges, v)
	if err == nil && len(src.b) > 0 {
		err = fmt.Errorf("%w by %d bytes", ErrTrailing, len(src.b))
	}
	return size, proven, err
}

// DecodeFrom is [Decode] of a response that comes from a stream, of which it reads not one byte more than belongs to
// it. Of responses for several blobs it reads the next one.
func DecodeFrom(root [HashSize]byte, r io.Reader, ranges Ranges, v Visitor) (size uint64, proven bool, err error) {
	return decode(root, &streamSource{r: r}, ranges, v)
}

// DecodePrefix is [Decode] of the first of several responses that follow each other; it returns what comes after it.
func DecodePrefix(root [HashSize]byte, responses []byte, ranges Ranges, v Visitor) (size uint64, proven bool, rest []byte, err error) {
	src := &memSource{responses}
	size, proven, err = decode(root, src, ranges, v)
	return size, proven, src.b, err
}

type source interface {
	// next is the next n <= GroupSize bytes, valid until it is called again.
	next(n int) ([]byte, error)
}

type memSource struct{ b []byte }

func (s *memSource) next(n int) ([]byte, error) {
	if len(s.b) < n {
		return nil, ErrTruncated
	}
	b := s.b[:n]
	s.b = s.b[n:]
	return b, nil
}

type streamSource struct {
	r   io.Reader
	buf [GroupSize]byte
}

func (s *streamSource) next(n int) ([]byte, error) {
	if _, err := io.ReadFull(s.r, s.buf[:n]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, ErrTruncated
		}
		return nil, err
	}
	return s.buf[:n], nil
}

type decoder struct {
	src  source
	size uint64
	sel  Ranges
	v    Visitor
	leaf *leafBuf
}

func decode(root [HashSize]byte, src source, ranges Ranges, v Visitor) (size uint64, proven bool, err error) {
	if !ranges.Valid() {
		return 0, false, ErrRanges
	}
	head, err := src.next(HeaderSize)
	if err != nil {
		return 0, false, fmt.Errorf("size of the response: %w", err)
	}
	size = binary.LittleEndian.Uint64(head)
	if err := checkSize(size); err != nil {
		return size, false, fmt.Errorf("claimed size: %w", errors.Join(ErrMismatch, err))
	}
	if v.Size != nil {
		if err := v.Size(size); err != nil {
			return size, false, err
		}
	}
	chunks := Chunks(size)
	d := decoder{src: src, size: size, sel: ranges.Clamp(chunks), v: v}
	d.leaf = leafBufs.Get().(*leafBuf)
	defer leafBufs.Put(d.leaf)
	if err := d.walk(rootNode(size), cvOf(root[:])); err != nil {
		return size, false, err
	}
	return size, d.sel.Contains(chunks - 1), nil
}

func (d *decoder) walk(n node, want cv) error {
	cover := d.sel.cover(n.first, n.end)
	if cover == none {
		return nil
	}
	isRoot := n.isRoot(d.size)
	if cover == full && n.inGroup() {
		_, length := n.bytes(d.size)
		data, err := d.src.next(int(length))
		if err != nil {
			return fmt.Errorf("data at chunk %d: %w", n.first, err)
		}
		if d.leaf.leafCV(data, n.first, isRoot) != want {
			return fmt.Errorf("data at chunk %d: %w", n.first, ErrMismatch)
		}
		if d.v.Leaf == nil {
			return nil
		}
		return d.v.Leaf(n.first, data)
	}
	pair, err := d.src.next(PairSize)
	if err != nil {
		return fmt.Errorf("pair above chunk %d: %w", n.first, err)
	}
	left, right := cvOf(pair), cvOf(pair[HashSize:])
	if parentCV(left, right, isRoot) != want {
		return fmt.Errorf("pair above chunk %d: %w", n.first, ErrMismatch)
	}
	if d.v.Parent != nil && !n.inGroup() {
		p := Parent{Index: n.index, Left: [HashSize]byte(pair[:HashSize]), Right: [HashSize]byte(pair[HashSize:])}
		if err := d.v.Parent(p); err != nil {
			return err
		}
	}
	l, r := n.children()
	if err := d.walk(l, left); err != nil {
		return err
	}
	return d.walk(r, right)
}

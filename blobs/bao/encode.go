package bao

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"lukechampine.com/blake3/guts"
)

// Source is a blob, or a part of one, with its outboard.
type Source struct {
	Root [HashSize]byte
	Size uint64
	Data io.ReaderAt
	// Outboard is in pre-order without the size, as [Hasher] makes it and as a partial blob collects it. Nil will do up
	// to 16 KiB.
	Outboard io.ReaderAt
	// Trust leaves out the comparison of whole groups and pairs with their hashes. Groups that are cut are always
	// compared, because their inner hashes are computed anyway.
	Trust bool
}

// Encode writes iroh's response for these chunks: the size, then pairs and leaves in pre-order. Where data or outboard
// are not what the root names it fails with ErrMismatch before it has written the wrong part; what came before is
// written already.
func Encode(w io.Writer, src Source, ranges Ranges) error {
	if err := checkSize(src.Size); err != nil {
		return err
	}
	if !ranges.Valid() {
		return ErrRanges
	}
	if _, buffers := w.(io.ByteWriter); !buffers {
		b := bufio.NewWriterSize(w, 4*GroupSize)
		if err := Encode(b, src, ranges); err != nil {
			return errors.Join(err, b.Flush())
		}
		return b.Flush()
	}
	e := encoder{src: src, w: w, sel: ranges.Clamp(Chunks(src.Size)), pairs: pairReader{r: src.Outboard}}
	e.leaf = leafBufs.Get().(*leafBuf)
	defer leafBufs.Put(e.leaf)

	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, src.Size)); err != nil {
		return err
	}
	return e.walk(rootNode(src.Size), cvOf(src.Root[:]))
}

func checkSize(size uint64) error {
	if size > MaxSize {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, size)
	}
	return nil
}

type encoder struct {
	src   Source
	w     io.Writer
	sel   Ranges
	pairs pairReader
	leaf  *leafBuf
	group [GroupSize]byte
	pair  [PairSize]byte
}

func (e *encoder) walk(n node, want cv) error {
	if e.sel.cover(n.first, n.end) == none {
		return nil
	}
	if n.inGroup() {
		off, length := n.bytes(e.src.Size)
		data := e.group[:length]
		if err := readAt(e.src.Data, data, off); err != nil {
			return fmt.Errorf("read group at chunk %d: %w", n.first, err)
		}
		return e.whole(n, data, want)
	}
	left, right, err := e.pairs.at(n.index)
	if err != nil {
		return err
	}
	if !e.src.Trust && parentCV(left, right, n.isRoot(e.src.Size)) != want {
		return fmt.Errorf("pair %d of the outboard: %w", n.index, ErrMismatch)
	}
	if err := e.writePair(left, right); err != nil {
		return err
	}
	l, r := n.children()
	if err := e.walk(l, left); err != nil {
		return err
	}
	return e.walk(r, right)
}

// whole writes what is selected of a group, or of a whole blob that is not larger.
func (e *encoder) whole(n node, data []byte, want cv) error {
	cut := e.sel.cover(n.first, n.end) == part
	if cut || !e.src.Trust {
		top := e.leaf.leafNode(data, n.first, n.isRoot(e.src.Size))
		if guts.ChainingValue(top) != want {
			return fmt.Errorf("data at chunk %d: %w", n.first, ErrMismatch)
		}
		if cut {
			return e.halves(n, data, top)
		}
	}
	_, err := e.w.Write(data)
	return err
}

// halves writes what is selected of a node within a group: its pair, which the block of its tree node holds, and what
// is below.
func (e *encoder) halves(n node, data []byte, top guts.Node) error {
	if err := e.writePair(cv(top.Block[:8]), cv(top.Block[8:])); err != nil {
		return err
	}
	left, right := n.children()
	at := left.chunks() * ChunkSize
	if err := e.inside(left, data[:at]); err != nil {
		return err
	}
	return e.inside(right, data[at:])
}

func (e *encoder) inside(n node, data []byte) error {
	switch e.sel.cover(n.first, n.end) {
	case none:
		return nil
	case full:
		_, err := e.w.Write(data)
		return err
	}
	return e.halves(n, data, e.leaf.leafNode(data, n.first, false))
}

func (e *encoder) writePair(left, right cv) error {
	_, err := e.w.Write(appendPair(e.pair[:0], left, right))
	return err
}

// pairReader reads pairs of an outboard, a few neighbours at once: a subtree's pairs lie together.
type pairReader struct {
	r      io.ReaderAt
	window [16 * PairSize]byte
	first  uint64 // of the window, in pairs
	n      uint64 // pairs in the window
}

func (p *pairReader) at(index uint64) (left, right cv, err error) {
	if index < p.first || index-p.first >= p.n {
		if p.r == nil {
			return left, right, errors.New("the outboard is missing")
		}
		p.first, p.n = index, 0
		n, err := p.r.ReadAt(p.window[:], int64(index*PairSize))
		if n < PairSize {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return left, right, fmt.Errorf("read pair %d of the outboard: %w", index, err)
		}
		p.n = uint64(n / PairSize)
	}
	b := p.window[(index-p.first)*PairSize:]
	return cvOf(b), cvOf(b[HashSize:]), nil
}

// readAt fills b; the end of the source before that is io.ErrUnexpectedEOF.
func readAt(r io.ReaderAt, b []byte, off uint64) error {
	if len(b) == 0 {
		return nil
	}
	n, err := r.ReadAt(b, int64(off))
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

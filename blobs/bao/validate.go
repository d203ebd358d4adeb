package bao

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// ValidRanges finds which groups of a blob are intact: their bytes match their hash, and so do the pairs above them. It
// returns their chunks. Bytes that cannot be read because they lie past the end of data or outboard are not intact;
// other failures to read are errors.
func ValidRanges(ctx context.Context, src Source) (Ranges, error) {
	if err := checkSize(src.Size); err != nil {
		return nil, err
	}
	v := validator{ctx: ctx, src: src, pairs: pairReader{r: src.Outboard}}
	v.leaf = leafBufs.Get().(*leafBuf)
	defer leafBufs.Put(v.leaf)
	if err := v.walk(rootNode(src.Size), cvOf(src.Root[:])); err != nil {
		return nil, err
	}
	return v.valid, nil
}

type validator struct {
	ctx   context.Context
	src   Source
	pairs pairReader
	leaf  *leafBuf
	group [GroupSize]byte
	valid Ranges
}

func (v *validator) walk(n node, want cv) error {
	isRoot := n.isRoot(v.src.Size)
	if n.inGroup() {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		off, length := n.bytes(v.src.Size)
		data := v.group[:length]
		switch err := readAt(v.src.Data, data, off); {
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fmt.Errorf("read group at chunk %d: %w", n.first, err)
		}
		if v.leaf.leafCV(data, n.first, isRoot) == want {
			v.valid = v.valid.AppendSpan(n.first, n.end)
		}
		return nil
	}
	left, right, err := v.pairs.at(n.index)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil
	case err != nil:
		return err
	}
	if parentCV(left, right, isRoot) != want {
		return nil
	}
	l, r := n.children()
	if err := v.walk(l, left); err != nil {
		return err
	}
	return v.walk(r, right)
}

// Outboard looks up pairs of an outboard in pre-order without size.
type Outboard struct {
	R io.ReaderAt
}

// Parent reads one pair, as it is: it is not compared with anything.
func (o Outboard) Parent(index uint64) (Parent, error) {
	p := Parent{Index: index}
	var b [PairSize]byte
	if o.R == nil {
		return p, errors.New("the outboard is missing")
	}
	if err := readAt(o.R, b[:], index*PairSize); err != nil {
		return p, fmt.Errorf("read pair %d of the outboard: %w", index, err)
	}
	p.Left, p.Right = [HashSize]byte(b[:HashSize]), [HashSize]byte(b[HashSize:])
	return p, nil
}

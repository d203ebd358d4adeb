package wire

import (
	"encoding/binary"
	"iter"
	"math"
	"slices"

	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// AppendRanges appends a RangeSpec: the number of boundaries, the first one, and how far each is from the one before.
// The ranges must be valid.
func AppendRanges(b []byte, r bao.Ranges) []byte {
	b = binary.AppendUvarint(b, uint64(len(r)))
	last := uint64(0)
	for _, at := range r {
		b = binary.AppendUvarint(b, at-last)
		last = at
	}
	return b
}

// ParseRanges reads a RangeSpec and nothing else.
func ParseRanges(b []byte) (bao.Ranges, error) {
	in := input{b: b}
	r := in.ranges()
	return r, in.end()
}

func (in *input) ranges() bao.Ranges {
	n := in.count("boundaries", 1)
	var r bao.Ranges
	last := uint64(0)
	for i := range n {
		width := in.uvarint("boundary")
		switch {
		case in.err != nil:
			return nil
		case i > 0 && width == 0:
			in.fail("boundary %d repeats the one before", i)
			return nil
		case width > math.MaxUint64-last:
			in.fail("boundary %d is above 64 bits", i)
			return nil
		}
		last += width
		r = append(r, last)
	}
	return r
}

// Seq says which chunks are asked of each blob of a sequence: a RangeSpecSeq. Each entry holds from its index on until
// the next one, the last one for ever; before the first one nothing is asked. In a Get index 0 is the blob that the
// request names and index i+1 its child i; in a GetMany index i is hash i.
type Seq []SeqEntry

// SeqEntry begins a run of blobs of which the same chunks are asked.
type SeqEntry struct {
	From   uint64
	Ranges bao.Ranges
}

// One asks for these chunks of index 0 alone.
func One(r bao.Ranges) Seq { return List(r) }

// Everything asks for all blobs, whole.
func Everything() Seq { return Seq{{0, bao.All()}} }

// List asks for these chunks of indexes 0, 1, ... and for nothing of those that follow.
func List(ranges ...bao.Ranges) (s Seq) {
	for i, r := range ranges {
		s = s.With(uint64(i), r)
	}
	return s.With(uint64(len(ranges)), nil)
}

// With asks for these chunks from an index on. It is added at the end: the index is above those of s.
func (s Seq) With(from uint64, r bao.Ranges) Seq {
	if s.last().Equal(r) {
		return s
	}
	return append(slices.Clip(s), SeqEntry{from, r})
}

func (s Seq) last() bao.Ranges {
	if len(s) == 0 {
		return nil
	}
	return s[len(s)-1].Ranges
}

// Valid reports whether the indexes ascend, the ranges are valid, and no entry repeats the one before it.
func (s Seq) Valid() bool {
	for i, e := range s {
		if !e.Ranges.Valid() || i > 0 && e.From <= s[i-1].From || e.Ranges.Equal(s[:i].last()) {
			return false
		}
	}
	return true
}

// At is what is asked of the blob with an index.
func (s Seq) At(index uint64) bao.Ranges {
	i, found := slices.BinarySearchFunc(s, index, func(e SeqEntry, index uint64) int {
		switch {
		case e.From < index:
			return -1
		case e.From > index:
			return 1
		}
		return 0
	})
	if found {
		return s[i].Ranges
	}
	return s[:i].last()
}

// Indexes yields the indexes below end of which anything is asked, and what.
func (s Seq) Indexes(end uint64) iter.Seq2[uint64, bao.Ranges] {
	return func(yield func(uint64, bao.Ranges) bool) {
		for i, e := range s {
			stop := end
			if i+1 < len(s) {
				stop = min(end, s[i+1].From)
			}
			if e.Ranges.IsEmpty() {
				continue
			}
			for index := e.From; index < stop; index++ {
				if !yield(index, e.Ranges) {
					return
				}
			}
		}
	}
}

// AppendSeq appends a RangeSpecSeq. The sequence must be valid.
func AppendSeq(b []byte, s Seq) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	last := uint64(0)
	for _, e := range s {
		b = AppendRanges(binary.AppendUvarint(b, e.From-last), e.Ranges)
		last = e.From
	}
	return b
}

// ParseSeq reads a RangeSpecSeq and nothing else.
func ParseSeq(b []byte) (Seq, error) {
	in := input{b: b}
	s := in.seq()
	return s, in.end()
}

func (in *input) seq() (s Seq) {
	n := in.count("ranges of blobs", 2)
	from := uint64(0)
	for i := range n {
		delta := in.uvarint("index of a blob")
		if i > 0 && delta == 0 || delta > math.MaxUint64-from {
			in.fail("index %d of a blob does not follow the one before", i)
		}
		from += delta
		r := in.ranges()
		if in.err == nil && r.Equal(s.last()) {
			in.fail("entry %d asks for the same as the one before", i)
		}
		if in.err != nil {
			return nil
		}
		s = append(s, SeqEntry{from, r})
	}
	return s
}

package bao

import (
	"fmt"
	"iter"
	"math"
	"slices"
	"sort"
	"strings"
)

// LastChunk is the chunk to ask for where the last chunk of a blob is meant whose size is not known yet.
const LastChunk = math.MaxUint64

// Ranges is a set of chunks, by sorted boundaries: [b0,b1) is in, [b1,b2) is out, and so on; an odd number of
// boundaries leaves the end open. nil is the empty set and Ranges{0} all chunks. No method but AppendSpan changes its receiver.
type Ranges []uint64

// All is the set of all chunks.
func All() Ranges { return Ranges{0} }

// From is the set of the chunks from first on.
func From(first uint64) Ranges { return Ranges{first} }

// Last is the set of the last chunk of a blob of any size, which proves the size.
func Last() Ranges { return Ranges{LastChunk} }

// Single is the set of one chunk.
func Single(chunk uint64) Ranges {
	if chunk == LastChunk {
		return Last()
	}
	return Ranges{chunk, chunk + 1}
}

// Span is the set of the chunks from first to before end; empty where there are none.
func Span(first, end uint64) Ranges {
	if first >= end {
		return nil
	}
	return Ranges{first, end}
}

// GroupSpan is the set of the chunks of the groups from first to before end.
func GroupSpan(first, end uint64) Ranges {
	return Span(satMul(first, GroupChunks), satMul(end, GroupChunks))
}

func satMul(a, b uint64) uint64 {
	if a > math.MaxUint64/b {
		return math.MaxUint64
	}
	return a * b
}

// Valid reports whether the boundaries ascend, which every method expects of its arguments.
func (r Ranges) Valid() bool {
	for i := 1; i < len(r); i++ {
		if r[i-1] >= r[i] {
			return false
		}
	}
	return true
}

// Canonical is the set in which each boundary, in any order, turns "in" to "out" and back: two equal ones cancel.
func (r Ranges) Canonical() Ranges {
	if r.Valid() {
		return slices.Clone(r)
	}
	s := slices.Clone(r)
	slices.Sort(s)
	out := s[:0]
	for _, b := range s {
		if n := len(out); n > 0 && out[n-1] == b {
			out = out[:n-1]
		} else {
			out = append(out, b)
		}
	}
	return out
}

// IsEmpty reports whether no chunk is in the set.
func (r Ranges) IsEmpty() bool { return len(r) == 0 }

// IsAll reports whether every chunk is in the set.
func (r Ranges) IsAll() bool { return len(r) == 1 && r[0] == 0 }

// Open reports whether the set has no end.
func (r Ranges) Open() bool { return len(r)%2 == 1 }

// Equal reports whether both hold the same chunks.
func (r Ranges) Equal(o Ranges) bool { return slices.Equal(r, o) }

// above is the number of boundaries at or below chunk: odd where chunk is in the set.
func (r Ranges) above(chunk uint64) int {
	return sort.Search(len(r), func(i int) bool { return r[i] > chunk })
}

// Contains reports whether a chunk is in the set.
func (r Ranges) Contains(chunk uint64) bool { return r.above(chunk)%2 == 1 }

// ContainsSpan reports whether all chunks from first to before end are in the set.
func (r Ranges) ContainsSpan(first, end uint64) bool {
	return first >= end || r.cover(first, end) == full
}

// Touches reports whether a chunk from first to before end is in the set.
func (r Ranges) Touches(first, end uint64) bool { return first < end && r.cover(first, end) != none }

type coverage uint8

const (
	none coverage = iota
	part
	full
)

// cover says how much of [first,end), which is not empty, is in the set.
func (r Ranges) cover(first, end uint64) coverage {
	i := r.above(first)
	whole := i == len(r) || r[i] >= end
	switch {
	case i%2 == 1 && whole:
		return full
	case i%2 == 0 && whole:
		return none
	}
	return part
}

// Union is the set of the chunks of either.
func (r Ranges) Union(o Ranges) Ranges {
	return merge(r, o, func(a, b bool) bool { return a || b })
}

// Intersect is the set of the chunks of both.
func (r Ranges) Intersect(o Ranges) Ranges {
	return merge(r, o, func(a, b bool) bool { return a && b })
}

// Subtract is the set of the chunks of r that are not in o.
func (r Ranges) Subtract(o Ranges) Ranges {
	return merge(r, o, func(a, b bool) bool { return a && !b })
}

// SymmetricDifference is the set of the chunks of exactly one of both.
func (r Ranges) SymmetricDifference(o Ranges) Ranges {
	return merge(r, o, func(a, b bool) bool { return a != b })
}

// merge walks the boundaries of both once and keeps those at which op changes.
func merge(a, b Ranges, op func(a, b bool) bool) Ranges {
	var out Ranges
	in := false
	for i, j := 0, 0; i < len(a) || j < len(b); {
		at := uint64(math.MaxUint64)
		if i < len(a) {
			at = a[i]
		}
		if j < len(b) {
			at = min(at, b[j])
		}
		if i < len(a) && a[i] == at {
			i++
		}
		if j < len(b) && b[j] == at {
			j++
		}
		if now := op(i%2 == 1, j%2 == 1); now != in {
			if out == nil {
				out = make(Ranges, 0, len(a)+len(b)-max(i, j)+1)
			}
			out = append(out, at)
			in = now
		}
	}
	return out
}

// Clamp is what the set selects of a blob of so many chunks, as both sides of a request understand it: the chunks
// that exist, and the last one where the set touches it or anything behind it. An empty blob counts as one chunk.
func (r Ranges) Clamp(chunks uint64) Ranges {
	chunks = max(chunks, 1)
	if len(r) == 0 {
		return nil
	}
	inside := r.Intersect(Ranges{0, chunks})
	if r.Open() || r[len(r)-1] > chunks-1 {
		inside = inside.Union(Ranges{chunks - 1, chunks})
	}
	return inside
}

// Count is the number of chunks of the set that are below limit.
func (r Ranges) Count(limit uint64) (n uint64) {
	for first, end := range r.Spans(limit) {
		n += end - first
	}
	return n
}

// Spans yields the runs of chunks, first and end (exclusive), cut at limit, in ascending order.
func (r Ranges) Spans(limit uint64) iter.Seq2[uint64, uint64] {
	return func(yield func(uint64, uint64) bool) {
		for i := 0; i < len(r) && r[i] < limit; i += 2 {
			end := limit
			if i+1 < len(r) {
				end = min(end, r[i+1])
			}
			if !yield(r[i], end) {
				return
			}
		}
	}
}

// First is the lowest chunk of the set; false where it is empty.
func (r Ranges) First() (uint64, bool) {
	if len(r) == 0 {
		return 0, false
	}
	return r[0], true
}

// WholeGroups is the set of the chunks of those groups of a blob of so many chunks that are wholly in the set. The
// last group is whole when all its existing chunks are in.
func (r Ranges) WholeGroups(chunks uint64) Ranges {
	var out Ranges
	for first, end := range r.Spans(chunks) {
		if rest := first % GroupChunks; rest != 0 {
			first = satMul(first/GroupChunks+1, GroupChunks)
		}
		if end < chunks {
			end -= end % GroupChunks
		}
		out = out.AppendSpan(first, end)
	}
	return out
}

// TouchedGroups is the set of the chunks of those groups of a blob of so many chunks of which the set holds any.
func (r Ranges) TouchedGroups(chunks uint64) Ranges {
	var out Ranges
	for first, end := range r.Spans(chunks) {
		first -= first % GroupChunks
		out = out.AppendSpan(first, min(chunks, satMul((end-1)/GroupChunks+1, GroupChunks)))
	}
	return out
}

// Groups yields the numbers of the groups of a blob of so many chunks of which the set holds any, in ascending order.
func (r Ranges) Groups(chunks uint64) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for first, end := range r.TouchedGroups(chunks).Spans(chunks) {
			for g := first / GroupChunks; g <= (end-1)/GroupChunks; g++ {
				if !yield(g) {
					return
				}
			}
		}
	}
}

// AppendSpan adds the chunks from first to before end to a set that has an end; the span must begin in or behind its
// last one. Like append it may change the memory of r, which is the quick way to build a set in order.
func (r Ranges) AppendSpan(first, end uint64) Ranges {
	if first >= end {
		return r
	}
	if n := len(r); n > 0 && r[n-1] >= first {
		r[n-1] = max(r[n-1], end)
		return r
	}
	return append(r, first, end)
}

// String shows the set for logs, such as "0..16 32..".
func (r Ranges) String() string {
	var b strings.Builder
	for i := 0; i < len(r); i += 2 {
		if i > 0 {
			b.WriteByte(' ')
		}
		switch {
		case r[i] == LastChunk:
			b.WriteString("last")
		case i+1 < len(r):
			fmt.Fprintf(&b, "%d..%d", r[i], r[i+1])
		default:
			fmt.Fprintf(&b, "%d..", r[i])
		}
	}
	return b.String()
}

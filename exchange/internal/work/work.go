// Package work keeps what is still to be fetched of one blob, in the order in which to fetch it. It is not safe for use
// by several goroutines.
package work

import (
	"sort"

	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// Unit is how many chunks a provider takes at a time: 15 groups, which are 8 READs of 30 chunks. Units begin at its
// multiples, so that groups which READs cut become whole by the same provider's answers.
const Unit = 15 * bao.GroupChunks

// Span is a run of chunks, End excluded.
type Span struct{ First, End uint64 }

// Len is the number of chunks.
func (s Span) Len() uint64 { return s.End - s.First }

// IsEmpty reports whether no chunk is left.
func (s Span) IsEmpty() bool { return s.First >= s.End }

// Clip is the part of s below end.
func (s Span) Clip(end uint64) Span { return Span{min(s.First, end), min(s.End, end)} }

// Split cuts s into its first n chunks and the rest.
func (s Span) Split(n uint64) (head, rest Span) {
	at := s.First + min(n, s.Len())
	return Span{s.First, at}, Span{at, s.End}
}

// Queue is what nobody has taken yet. The zero value is empty.
type Queue struct {
	stack []entry // the head of the queue is the last one
}

type entry struct {
	Span
	avoid any // who has just failed at it
}

// Fill replaces the queue's contents by these chunks below end, in ascending order.
func (q *Queue) Fill(r bao.Ranges, end uint64) {
	q.stack = q.stack[:0]
	for first, stop := range r.Spans(end) {
		q.stack = append(q.stack, entry{Span: Span{first, stop}})
	}
	for i, j := 0, len(q.stack)-1; i < j; i, j = i+1, j-1 {
		q.stack[i], q.stack[j] = q.stack[j], q.stack[i]
	}
}

// PutBack puts a span at the head. avoid, if not nil, is who should not be the next to try it.
func (q *Queue) PutBack(s Span, avoid any) {
	if !s.IsEmpty() {
		q.stack = append(q.stack, entry{s, avoid})
	}
}

// Raise moves what the queue holds of s to its head.
func (q *Queue) Raise(s Span) {
	var up []entry
	out := make([]entry, 0, len(q.stack)+2)
	for _, e := range q.stack {
		first, end := max(e.First, s.First), min(e.End, s.End)
		if first >= end {
			out = append(out, e)
			continue
		}
		up = append(up, entry{Span{first, end}, e.avoid})
		// The stack is in reverse: what follows comes first.
		if end < e.End {
			out = append(out, entry{Span{end, e.End}, e.avoid})
		}
		if e.First < first {
			out = append(out, entry{Span{e.First, first}, e.avoid})
		}
	}
	q.stack = append(out, up...)
}

// Clip removes everything from end on.
func (q *Queue) Clip(end uint64) {
	out := q.stack[:0]
	for _, e := range q.stack {
		if e.Span = e.Clip(end); !e.IsEmpty() {
			out = append(out, e)
		}
	}
	q.stack = out
}

// IsEmpty reports whether there is nothing to take.
func (q *Queue) IsEmpty() bool { return len(q.stack) == 0 }

// Chunks is how many chunks are left.
func (q *Queue) Chunks() (n uint64) {
	for _, e := range q.stack {
		n += e.Len()
	}
	return n
}

// Everything is what a provider has that holds the whole blob.
var Everything = bao.All()

// Take removes the first run of chunks that who may take, up to the end of its unit. have is what who holds; alone says
// that nobody else could do what who should avoid.
func (q *Queue) Take(who any, alone bool, have bao.Ranges) (Span, bool) {
	for i := len(q.stack) - 1; i >= 0; i-- {
		e := q.stack[i]
		if e.avoid != nil && e.avoid == who && !alone {
			continue
		}
		s, ok := firstOf(have, e.Span)
		if !ok {
			continue
		}
		s.End = min(s.End, s.First-s.First%Unit+Unit)
		var rest []entry
		if s.End < e.End {
			rest = append(rest, entry{Span{s.End, e.End}, e.avoid})
		}
		if e.First < s.First {
			rest = append(rest, entry{Span{e.First, s.First}, e.avoid})
		}
		switch len(rest) {
		case 0:
			q.stack = append(q.stack[:i], q.stack[i+1:]...)
		case 1:
			q.stack[i] = rest[0]
		case 2:
			q.stack = append(q.stack, entry{})
			copy(q.stack[i+2:], q.stack[i+1:])
			q.stack[i], q.stack[i+1] = rest[0], rest[1]
		}
		return s, true
	}
	return Span{}, false
}

// Has reports whether the queue holds anything that whoever holds have could give.
func (q *Queue) Has(have bao.Ranges) bool {
	for _, e := range q.stack {
		if have.Touches(e.First, e.End) {
			return true
		}
	}
	return false
}

// firstOf is the first run of chunks of s that are in r.
func firstOf(r bao.Ranges, s Span) (Span, bool) {
	i := sort.Search(len(r), func(i int) bool { return r[i] > s.First })
	if i%2 == 0 { // s begins outside of r
		if i == len(r) || r[i] >= s.End {
			return Span{}, false
		}
		s.First = r[i]
		i++
	}
	if i < len(r) {
		s.End = min(s.End, r[i])
	}
	return s, true
}

package work

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

func takeAll(q *Queue, who any, alone bool, have bao.Ranges) (got []Span) {
	for {
		s, ok := q.Take(who, alone, have)
		if !ok {
			return got
		}
		got = append(got, s)
	}
}

func TestTake(t *testing.T) {
	tests := []struct {
		name  string
		fill  bao.Ranges
		end   uint64
		have  bao.Ranges
		raise Span
		want  []Span
	}{
		{"nothing", nil, 100, Everything, Span{}, nil},
		{"one unit", bao.All(), 100, Everything, Span{}, []Span{{0, 100}}},
		{"units begin at multiples", bao.Span(10, 500), 1000, Everything, Span{}, []Span{{10, 240}, {240, 480}, {480, 500}}},
		{"holes", bao.Ranges{0, 16, 32}, 48, Everything, Span{}, []Span{{0, 16}, {32, 48}}},
		{"partial holder", bao.All(), 600, bao.Ranges{16, 32, 300, 301}, Span{}, []Span{{16, 32}, {300, 301}}},
		{"open holder", bao.All(), 260, bao.Ranges{250}, Span{}, []Span{{250, 260}}},
		{"tail first", bao.All(), 500, Everything, Span{496, 500}, []Span{{496, 500}, {0, 240}, {240, 480}, {480, 496}}},
		{"middle first", bao.All(), 240, Everything, Span{16, 32}, []Span{{16, 32}, {0, 16}, {32, 240}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var q Queue
			q.Fill(tt.fill, tt.end)
			if !tt.raise.IsEmpty() {
				q.Raise(tt.raise)
			}
			if diff := cmp.Diff(tt.want, takeAll(&q, "a", true, tt.have)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPutBackGoesToOthersFirst(t *testing.T) {
	var q Queue
	q.Fill(bao.Span(100, 110), 200)
	q.PutBack(Span{0, 10}, "a")
	if s, ok := q.Take("a", false, Everything); !ok || s != (Span{100, 110}) {
		t.Errorf("a took %v, %v: want what it has not failed at", s, ok)
	}
	if s, ok := q.Take("a", false, Everything); ok {
		t.Errorf("a took %v though others may try it", s)
	}
	if s, ok := q.Take("b", false, Everything); !ok || s != (Span{0, 10}) {
		t.Errorf("b took %v, %v", s, ok)
	}
	q.PutBack(Span{0, 10}, "a")
	if s, ok := q.Take("a", true, Everything); !ok || s != (Span{0, 10}) {
		t.Errorf("a, alone, took %v, %v", s, ok)
	}
}

// However providers take, put back and raise, every chunk is handed out exactly once.
func TestQueueLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		end := rapid.Uint64Range(1, 3000).Draw(t, "end")
		var q Queue
		q.Fill(bao.All(), end)
		seen := make([]int, end)
		for q.Chunks() > 0 {
			if rapid.IntRange(0, 9).Draw(t, "raise") == 0 {
				a := rapid.Uint64Range(0, end).Draw(t, "from")
				q.Raise(Span{a, a + rapid.Uint64Range(0, 300).Draw(t, "len")})
			}
			have := Everything
			if rapid.Bool().Draw(t, "partial") {
				a := rapid.Uint64Range(0, end).Draw(t, "have")
				have = bao.Span(a, a+rapid.Uint64Range(1, 500).Draw(t, "much"))
			}
			s, ok := q.Take("a", rapid.Bool().Draw(t, "alone"), have)
			if !ok {
				continue
			}
			if s.IsEmpty() || s.First/Unit != (s.End-1)/Unit {
				t.Fatalf("took %v", s)
			}
			if keep := rapid.Uint64Range(0, s.Len()).Draw(t, "keep"); keep < s.Len() {
				var rest Span
				s, rest = s.Split(keep)
				q.PutBack(rest, rapid.SampledFrom([]any{nil, "a", "b"}).Draw(t, "avoid"))
			}
			for c := s.First; c < s.End; c++ {
				seen[c]++
			}
		}
		for c, n := range seen {
			if n != 1 {
				t.Fatalf("chunk %d was taken %d times", c, n)
			}
		}
	})
}

package bao

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// universe is how many chunks the model of a set looks at; the last stands for all above.
const universe = 70

type model [universe]bool

func modelOf(r Ranges) (m model) {
	for i := range m {
		for _, b := range r {
			if b <= uint64(i) {
				m[i] = !m[i]
			}
		}
	}
	return m
}

func randomRanges(rnd *rand.Rand, limit int) Ranges {
	var r Ranges
	for range rnd.IntN(8) {
		r = append(r, uint64(rnd.IntN(limit)))
	}
	slices.Sort(r)
	return slices.Compact(r)
}

func TestRangesAgainstModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		a, b := randomRanges(rnd, universe), randomRanges(rnd, universe)
		ma, mb := modelOf(a), modelOf(b)
		both := func(op func(x, y bool) bool) (m model) {
			for i := range m {
				m[i] = op(ma[i], mb[i])
			}
			return m
		}
		for _, c := range []struct {
			name string
			got  Ranges
			want model
		}{
			{"union", a.Union(b), both(func(x, y bool) bool { return x || y })},
			{"intersect", a.Intersect(b), both(func(x, y bool) bool { return x && y })},
			{"subtract", a.Subtract(b), both(func(x, y bool) bool { return x && !y })},
			{"difference", a.SymmetricDifference(b), both(func(x, y bool) bool { return x != y })},
		} {
			if !c.got.Valid() {
				t.Fatalf("%s of %v and %v: %v is not canonical", c.name, []uint64(a), []uint64(b), []uint64(c.got))
			}
			if diff := cmp.Diff(c.want, modelOf(c.got)); diff != "" {
				t.Fatalf("%s of %v and %v: %s", c.name, a, b, diff)
			}
		}
		checkOne(t, rnd, a, ma)
	}
}

func checkOne(t *testing.T, rnd *rand.Rand, a Ranges, m model) {
	t.Helper()
	limit := uint64(1 + rnd.IntN(universe-1))
	count := uint64(0)
	for i, in := range m {
		if a.Contains(uint64(i)) != in {
			t.Fatalf("%v contains %d: %v", a, i, !in)
		}
		if in && uint64(i) < limit {
			count++
		}
	}
	if a.Count(limit) != count {
		t.Fatalf("%v counts %d below %d, want %d", a, a.Count(limit), limit, count)
	}
	first, end := uint64(rnd.IntN(universe)), uint64(rnd.IntN(universe))
	all, any := true, false
	for i := first; i < end; i++ {
		all, any = all && m[i], any || m[i]
	}
	if a.ContainsSpan(first, end) != all || a.Touches(first, end) != any {
		t.Fatalf("%v: span %d..%d", a, first, end)
	}

	// groups of a blob of limit chunks
	var whole, touched Ranges
	var numbers []uint64
	for g := uint64(0); g*GroupChunks < limit; g++ {
		lo, hi := g*GroupChunks, min(limit, (g+1)*GroupChunks)
		if a.Count(hi)-a.Count(lo) == hi-lo {
			whole = whole.Union(Span(lo, hi))
		}
		if a.Count(hi) > a.Count(lo) {
			touched = touched.Union(Span(lo, hi))
			numbers = append(numbers, g)
		}
	}
	if got := a.WholeGroups(limit); !got.Equal(whole) {
		t.Fatalf("whole groups of %v in %d chunks: %v, want %v", a, limit, got, whole)
	}
	if got := a.TouchedGroups(limit); !got.Equal(touched) {
		t.Fatalf("touched groups of %v in %d chunks: %v, want %v", a, limit, got, touched)
	}
	if got := slices.Collect(a.Groups(limit)); !slices.Equal(got, numbers) {
		t.Fatalf("groups of %v in %d chunks: %v, want %v", a, limit, got, numbers)
	}
	selected := modelSelect(a, limit)
	clamped := a.Clamp(limit)
	for i, want := range selected {
		if clamped.Contains(uint64(i)) != want {
			t.Fatalf("%v of %d chunks selects %v, chunk %d is wrong", a, limit, clamped, i)
		}
	}
	if clamped.Open() || len(clamped) > 0 && clamped[len(clamped)-1] > limit {
		t.Fatalf("%v of %d chunks selects %v, which reaches beyond", a, limit, clamped)
	}
}

// modelSelect is the rule of the specification, chunk by chunk.
func modelSelect(r Ranges, chunks uint64) []bool {
	selected := make([]bool, chunks)
	for i := range selected {
		n := 0
		for _, b := range r {
			if b <= uint64(i) {
				n++
			}
		}
		selected[i] = n%2 == 1
	}
	if len(r)%2 == 1 || len(r) > 0 && r[len(r)-1] > chunks-1 {
		selected[chunks-1] = true
	}
	return selected
}

func TestRangesForms(t *testing.T) {
	for _, c := range []struct {
		name string
		got  Ranges
		want []uint64
		text string
	}{
		{"all", All(), []uint64{0}, "0.."},
		{"nothing", Span(5, 5), nil, ""},
		{"backwards", Span(6, 5), nil, ""},
		{"last", Last(), []uint64{LastChunk}, "last"},
		{"single", Single(7), []uint64{7, 8}, "7..8"},
		{"single last", Single(LastChunk), []uint64{LastChunk}, "last"},
		{"groups", GroupSpan(1, 3), []uint64{16, 48}, "16..48"},
		{"groups without end", GroupSpan(1, 1<<62), []uint64{16, LastChunk}, "16..18446744073709551615"},
		{"from", From(9).Union(Single(2)), []uint64{2, 3, 9}, "2..3 9.."},
		{"canonical", Ranges{9, 2, 5, 9, 9}.Canonical(), []uint64{2, 5, 9}, "2..5 9.."},
		{"built in order", Ranges(nil).AppendSpan(1, 3).AppendSpan(3, 4).AppendSpan(4, 4).AppendSpan(8, 9), []uint64{1, 4, 8, 9}, "1..4 8..9"},
		{"canonical nothing", Ranges{3, 3}.Canonical(), nil, ""},
		{"clamped to the empty blob", All().Clamp(0), []uint64{0, 1}, "0..1"},
		{"clamped behind the end", Span(8, 12).Clamp(7), []uint64{6, 7}, "6..7"},
		{"clamped with a hole at the end", Ranges{0, 5, 7, 10}.Clamp(7), []uint64{0, 5, 6, 7}, "0..5 6..7"},
	} {
		if !c.got.Equal(c.want) || c.got.String() != c.text {
			t.Errorf("%s: %v %q, want %v %q", c.name, []uint64(c.got), c.got, c.want, c.text)
		}
	}
	if (Ranges{1, 1}).Valid() || (Ranges{2, 1}).Valid() || !(Ranges{1, 2, 3}).Valid() || !(Ranges(nil)).Valid() {
		t.Error("Valid is wrong")
	}
	if first, ok := (Ranges{4, 8}).First(); !ok || first != 4 {
		t.Error("First is wrong")
	}
	if _, ok := (Ranges{}).First(); ok || !(Ranges{}).IsEmpty() || !All().IsAll() || From(1).IsAll() {
		t.Error("the empty set is wrong")
	}
}

// TestRangesShared checks that no result shares memory with an argument in a way that a later use changes it.
func TestRangesShared(t *testing.T) {
	a := Ranges{0, 16, 32, 48}
	before := slices.Clone(a)
	u := a.Union(Span(16, 32))
	w := a.WholeGroups(48)
	_ = append(u, 99)
	w[0] = 77
	if !a.Equal(before) {
		t.Errorf("changed to %v", a)
	}
}

package disk

import (
	"math/bits"

	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// bitmap is a set of the groups of a blob, or of its pairs: one bit each.
type bitmap struct {
	words []uint64
	n     uint64 // members may be 0 to n-1
	count uint64 // members
}

func newBitmap(n uint64) bitmap { return bitmap{words: make([]uint64, (n+63)/64), n: n} }

func (b *bitmap) has(i uint64) bool { return i < b.n && b.words[i/64]>>(i%64)&1 == 1 }

// add reports whether i is new.
func (b *bitmap) add(i uint64) bool {
	if b.has(i) {
		return false
	}
	b.words[i/64] |= 1 << (i % 64)
	b.count++
	return true
}

func (b *bitmap) remove(i uint64) {
	if b.has(i) {
		b.words[i/64] &^= 1 << (i % 64)
		b.count--
	}
}

func (b *bitmap) addSpan(first, end uint64) {
	for i := first; i < end; i++ {
		b.add(i)
	}
}

func (b *bitmap) full() bool { return b.count == b.n }

func (b *bitmap) clone() bitmap {
	c := *b
	c.words = append([]uint64(nil), b.words...)
	return c
}

// runs are the sorted boundaries of the members' runs: in from the first, out from the second, and so on.
func (b *bitmap) runs() (runs []uint64) {
	inside := false
	for i := uint64(0); i < b.n; {
		w := b.words[i/64] >> (i % 64)
		if inside {
			w = ^w
		}
		skip := uint64(bits.TrailingZeros64(w)) // 64 where nothing changes in this word
		if left := 64 - i%64; skip >= left {
			i += left
			continue
		}
		if i += skip; i < b.n {
			runs = append(runs, i)
			inside = !inside
		}
	}
	if inside {
		runs = append(runs, b.n)
	}
	return runs
}

// ranges are the chunks of the groups in the set. A set that holds the last group has no end, as iroh writes it.
func (b *bitmap) ranges() bao.Ranges {
	runs := b.runs()
	if len(runs) == 0 {
		return nil
	}
	if runs[len(runs)-1] == b.n {
		runs = runs[:len(runs)-1]
	}
	for i := range runs {
		runs[i] *= bao.GroupChunks
	}
	return runs
}

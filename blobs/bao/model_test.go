package bao

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	lukebao "lukechampine.com/blake3/bao"
	"lukechampine.com/blake3/guts"
)

// modelHash hashes a subtree chunk by chunk.
func modelHash(data []byte, first uint64, root bool) cv {
	flags := uint32(0)
	if root {
		flags = guts.FlagRoot
	}
	if len(data) <= ChunkSize {
		n := guts.CompressChunk(data, &guts.IV, first, 0)
		n.Flags |= flags
		return guts.ChainingValue(n)
	}
	cut := modelCut(data)
	n := guts.ParentNode(modelHash(data[:cut], first, false), modelHash(data[cut:], first+uint64(cut/ChunkSize), false), &guts.IV, flags)
	return guts.ChainingValue(n)
}

func modelCut(data []byte) int {
	cut := ChunkSize
	for cut*2 < len(data) {
		cut *= 2
	}
	return cut
}

// modelEncode writes a response as the specification tells it, with a set of chunks as a list of yes and no.
func modelEncode(data []byte, first uint64, selected []bool) (out []byte) {
	switch {
	case !slices.Contains(selected, true):
		return nil
	case len(data) <= ChunkSize, len(data) <= GroupSize && !slices.Contains(selected, false):
		return data
	}
	cut := modelCut(data)
	n := cut / ChunkSize
	out = appendPair(nil, modelHash(data[:cut], first, false), modelHash(data[cut:], first+uint64(n), false))
	out = append(out, modelEncode(data[:cut], first, selected[:n])...)
	return append(out, modelEncode(data[cut:], first+uint64(n), selected[n:])...)
}

func TestEncodeAgainstModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 150 {
		size := rnd.IntN(150 * ChunkSize)
		if rnd.IntN(3) == 0 {
			size -= size % ChunkSize
		}
		data := sample()[:size]
		chunks := Chunks(uint64(size))
		ranges := randomRanges(rnd, int(chunks)+10)
		root, pre := NewOutboard(data)
		if root != bytesOf(modelHash(data, 0, true)) {
			t.Fatalf("root of %d bytes is wrong", size)
		}
		want := binary.LittleEndian.AppendUint64(nil, uint64(size))
		want = append(want, modelEncode(data, 0, modelSelect(ranges, chunks))...)
		var got bytes.Buffer
		src := Source{Root: root, Size: uint64(size), Data: bytes.NewReader(data), Outboard: bytes.NewReader(pre)}
		if err := Encode(&got, src, ranges); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Fatalf("response of %d bytes for %v differs from the model", size, ranges)
		}
		if n := EncodedSize(uint64(size), ranges); n != uint64(len(want)) {
			t.Fatalf("EncodedSize of %d bytes, %v: %d, want %d", size, ranges, n, len(want))
		}
		checkDecode(t, fmt.Sprint(size, ranges), root, data, pre, want, ranges)
	}
}

func TestAgainstLuke(t *testing.T) {
	for _, size := range []int{0, 1, 1024, 16384, 16385, 100000, 262144, 262145, 1 << 20, 3000001, 12 << 20} {
		data := sample()[:size]
		want, wantRoot := lukebao.EncodeBuf(data, 4, true)
		root, pre := NewOutboard(data)
		if root != wantRoot || !bytes.Equal(pre, want[8:]) {
			t.Errorf("%d bytes: root or outboard differ", size)
		}
		if Root(data) != wantRoot {
			t.Errorf("%d bytes: Root differs", size)
		}
		if got, n, err := RootReader(t.Context(), bytes.NewReader(data)); err != nil || got != wantRoot || n != uint64(size) {
			t.Errorf("%d bytes: RootReader: %d bytes, %v", size, n, err)
		}
		combined, _ := lukebao.EncodeBuf(data, 4, false)
		var response bytes.Buffer
		src := Source{Root: root, Size: uint64(size), Data: bytes.NewReader(data), Outboard: bytes.NewReader(pre)}
		if err := Encode(&response, src, All()); err != nil || !bytes.Equal(response.Bytes(), combined) {
			t.Errorf("%d bytes: response for everything differs: %v", size, err)
		}
		valid, err := ValidRanges(context.Background(), src)
		if err != nil || !valid.Equal(Span(0, Chunks(uint64(size)))) {
			t.Errorf("%d bytes: valid are %v, %v", size, valid, err)
		}
	}
}

func TestFitRanges(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 600 {
		size := uint64(1 + rnd.IntN(400*ChunkSize))
		if rnd.IntN(4) == 0 {
			size = size/ChunkSize*ChunkSize + 1 // the shortest last chunk
		}
		chunks := Chunks(size)
		start := rnd.Uint64N(chunks)
		limit := rnd.IntN(40 << 10)
		last := rnd.IntN(2) == 0
		// the longest run that fits, by trying all
		var want Ranges
		wantEnd := start
		for end := start + 1; end <= chunks; end++ {
			r := Span(start, end)
			if last {
				r = r.Union(Last()).Clamp(chunks)
			}
			if EncodedSize(size, r) <= uint64(limit) {
				want, wantEnd = r, end
			}
		}
		got, end := FitRanges(size, start, limit, last)
		// a run up to before the last chunk, which is asked for anyway, is the whole run
		if last && wantEnd == chunks-1 && end == chunks {
			wantEnd = chunks
		}
		if !got.Equal(want) || end != wantEnd {
			t.Fatalf("size %d, start %d, limit %d, last %v: %v to %d, want %v to %d", size, start, limit, last, got, end, want, wantEnd)
		}
	}
	// the spec's figures: 30 chunks always fit up to 128 MiB, 29 up to 8 GiB
	for _, c := range []struct{ size, chunks uint64 }{{128 << 20, 30}, {8 << 30, 29}} {
		for start := uint64(0); start+c.chunks <= Chunks(c.size) && start < 2000; start++ {
			if _, end := FitRanges(c.size, start, 32<<10, false); end-start < c.chunks {
				t.Fatalf("%d chunks from %d of %d bytes", end-start, start, c.size)
			}
		}
	}
	if r, end := FitRanges(5000, 9, 1<<20, true); !r.IsEmpty() || end != 9 {
		t.Errorf("start behind the end: %v to %d", r, end)
	}
}

func TestShorten(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	for range 400 {
		size := uint64(1 + rnd.IntN(200*ChunkSize))
		chunks := Chunks(size)
		ranges := randomRanges(rnd, int(chunks)+10)
		limit := rnd.IntN(60 << 10)
		last := rnd.IntN(2) == 0
		all := ranges.Clamp(chunks)
		cut := func(n uint64) Ranges {
			r := all.Intersect(Span(0, n))
			if last {
				r = r.Union(Span(chunks-1, chunks))
			}
			return r
		}
		got, n := Shorten(size, ranges, limit, last)
		var want Ranges
		for i := uint64(0); i <= chunks; i++ {
			if r := cut(i); EncodedSize(size, r) <= uint64(limit) {
				want = r
			}
		}
		if !got.Equal(want) {
			t.Fatalf("size %d, %v, limit %d, last %v: %v, want %v", size, ranges, limit, last, got, want)
		}
		if !got.IsEmpty() && !cut(n).Equal(got) {
			t.Fatalf("size %d, %v, limit %d, last %v: %v is not what is below %d", size, ranges, limit, last, got, n)
		}
		if n < chunks && !got.IsEmpty() && EncodedSize(size, cut(n+1)) <= uint64(limit) {
			t.Fatalf("size %d, %v, limit %d, last %v: %d is not the largest", size, ranges, limit, last, n)
		}
	}
}

func TestPath(t *testing.T) {
	for groups := uint64(1); groups < 70; groups++ {
		for g := range groups {
			var want []uint64
			for n := (node{0, groups * GroupChunks, 0}); !n.inGroup(); {
				want = append(want, n.index)
				left, right := n.children()
				if n = left; g*GroupChunks >= right.first {
					n = right
				}
			}
			if got := Path(nil, groups, g); !slices.Equal(got, want) {
				t.Fatalf("group %d of %d: %v, want %v", g, groups, got, want)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		size, chunks, groups, outboard uint64
		lastLen                        int
	}{
		{0, 1, 1, 0, 0}, {1, 1, 1, 0, 1}, {1024, 1, 1, 0, 1024}, {1025, 2, 1, 0, 1025}, {16384, 16, 1, 0, 16384},
		{16385, 17, 2, 64, 1}, {1 << 30, 1 << 20, 1 << 16, 64 * (1<<16 - 1), 16384},
		{MaxSize, 1 << 53, 1 << 49, 64 * (1<<49 - 1), 16383},
	} {
		if Chunks(c.size) != c.chunks || Groups(c.size) != c.groups || OutboardSize(c.size) != c.outboard {
			t.Errorf("%d bytes: %d chunks, %d groups, %d", c.size, Chunks(c.size), Groups(c.size), OutboardSize(c.size))
		}
		if n := GroupLen(c.size, c.groups-1); n != c.lastLen {
			t.Errorf("%d bytes: last group has %d", c.size, n)
		}
		if n := GroupLen(c.size, c.groups); n != 0 {
			t.Errorf("%d bytes: a group behind the end has %d", c.size, n)
		}
	}
	// the largest sizes do not overflow
	if n := EncodedSize(MaxSize, Span(0, 1).Union(Last())); n != 8+2*1024-1+uint64(2*53-1)*64 {
		t.Errorf("two chunks of the largest blob take %d", n)
	}
}

package bao

import "sort"

// EncodedSize is the length in bytes of the response for these chunks of a blob of size bytes, header included.
func EncodedSize(size uint64, ranges Ranges) uint64 {
	return HeaderSize + walkSize(rootNode(size), size, ranges.Clamp(Chunks(size)))
}

func walkSize(n node, size uint64, sel Ranges) uint64 {
	switch sel.cover(n.first, n.end) {
	case none:
		return 0
	case full:
		_, length := n.bytes(size)
		return length + (units(n.chunks(), GroupChunks)-1)*PairSize
	}
	left, right := n.children()
	return PairSize + walkSize(left, size, sel) + walkSize(right, size, sel)
}

// FitRanges finds the longest run of chunks from start whose response fits limit bytes, together with the last chunk
// of the blob where last is set. It returns what to ask for and where the run ends; end is start, and the ranges empty,
// where not even one chunk fits.
func FitRanges(size, start uint64, limit int, last bool) (ranges Ranges, end uint64) {
	chunks := Chunks(size)
	if start >= chunks {
		return nil, start
	}
	want := Span(start, chunks)
	if last {
		want = want.Union(Last())
	}
	short, end := Shorten(size, want, limit, last)
	if end <= start {
		return nil, start
	}
	return short, end
}

// Shorten finds the largest n for which the response for those of the ranges that are below chunk n, and for the last
// chunk of the blob where last is set, fits limit bytes. It returns these ranges, within the blob, and n, which is the
// number of the blob's chunks where everything fits. The ranges are empty where nothing fits.
func Shorten(size uint64, ranges Ranges, limit int, last bool) (short Ranges, n uint64) {
	chunks := Chunks(size)
	all := ranges.Clamp(chunks)
	fits := func(r Ranges) bool {
		return HeaderSize+walkSize(rootNode(size), size, r) <= uint64(limit)
	}
	var tail Ranges
	if last {
		tail = Span(chunks-1, chunks)
		all = all.Union(tail)
	}
	if limit < HeaderSize {
		return nil, 0
	}
	enough := uint64(limit)/ChunkSize + 1 // chunks that may fit: the last one may be short
	if all.Count(chunks) <= enough && fits(all) {
		return all, chunks
	}
	// Only the last chunk, which may be short, can make a response shorter by making a subtree whole; below it the
	// size grows with every chunk.
	body := all.Intersect(Span(0, chunks-1))
	most := min(body.Count(chunks), enough)
	k := sort.Search(int(most), func(k int) bool { return !fits(body.head(uint64(k + 1)).Union(tail)) })
	short = body.head(uint64(k)).Union(tail)
	if k == 0 && (!last || !fits(tail)) {
		return nil, 0
	}
	if next, ok := body.nth(uint64(k)); ok {
		return short, next
	}
	return short, chunks - 1
}

// nth is the chunk of the set, which has an end, that has k chunks of the set before it.
func (r Ranges) nth(k uint64) (uint64, bool) {
	for i := 0; i+1 < len(r); i += 2 {
		n := r[i+1] - r[i]
		if k < n {
			return r[i] + k, true
		}
		k -= n
	}
	return 0, false
}

// head is the first k chunks of the set, which has an end.
func (r Ranges) head(k uint64) (out Ranges) {
	for first, end := range r.Spans(LastChunk) {
		if k == 0 {
			break
		}
		n := min(k, end-first)
		out = append(out, first, first+n)
		k -= n
	}
	return out
}

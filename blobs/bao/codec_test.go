package bao

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"slices"
	"testing"
	"testing/iotest"
)

func sampleSource(size int) Source {
	data := sample()[:size]
	root, pre := NewOutboard(data)
	return Source{Root: root, Size: uint64(size), Data: bytes.NewReader(data), Outboard: bytes.NewReader(pre)}
}

func encoded(t testing.TB, src Source, ranges Ranges) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Encode(&b, src, ranges); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestEncodeRefusesRot(t *testing.T) {
	const size = 100_000
	src := sampleSource(size)
	data, pre := sample()[:size], make([]byte, OutboardSize(size))
	if _, err := src.Outboard.ReadAt(pre, 0); err != nil {
		t.Fatal(err)
	}
	flip := func(b []byte, at int) *bytes.Reader {
		b = slices.Clone(b)
		b[at] ^= 4
		return bytes.NewReader(b)
	}
	for _, c := range []struct {
		name         string
		data, tree   io.ReaderAt
		ranges       Ranges
		trusts, want error
		valid        Ranges
	}{
		{"data", flip(data, 40_000), src.Outboard, All(), nil, ErrMismatch, Ranges{0, 32, 48, 98}},
		{"data of a cut group", flip(data, 40_000), src.Outboard, Single(33), ErrMismatch, ErrMismatch, Ranges{0, 32, 48, 98}},
		{"root pair", src.Data, flip(pre, 0), All(), nil, ErrMismatch, nil},
		{"pair 1", src.Data, flip(pre, 64+9), All(), nil, ErrMismatch, Ranges{64, 98}},
		{"elsewhere", flip(data, 40_000), src.Outboard, Span(64, 98), nil, nil, Ranges{0, 32, 48, 98}},
		{"short data", bytes.NewReader(data[:90_000]), src.Outboard, All(), io.ErrUnexpectedEOF, io.ErrUnexpectedEOF, Ranges{0, 80}},
		{"short tree", src.Data, bytes.NewReader(pre[:64]), All(), io.ErrUnexpectedEOF, io.ErrUnexpectedEOF, nil},
	} {
		broken := src
		broken.Data, broken.Outboard = c.data, c.tree
		for _, trust := range []bool{false, true} {
			broken.Trust = trust
			want := c.want
			if trust {
				want = c.trusts
			}
			var memory bytes.Buffer
			if err := Encode(&memory, broken, c.ranges); !errors.Is(err, want) || (want == nil) != (err == nil) {
				t.Errorf("%s, trust %v: %v, want %v", c.name, trust, err, want)
			}
			// what was written before is the beginning of the right answer
			right := encoded(t, src, c.ranges)
			if !trust && !bytes.HasPrefix(right, memory.Bytes()) {
				t.Errorf("%s: wrote what is wrong", c.name)
			}
		}
		got, err := ValidRanges(t.Context(), broken)
		if err != nil || !got.Equal(c.valid) {
			t.Errorf("%s: valid are %v, %v; want %v", c.name, got, err, c.valid)
		}
	}
}

func TestReadFailuresAreNotRot(t *testing.T) {
	bad := errors.New("bad disk")
	src := sampleSource(50_000)
	for _, broken := range []Source{
		{Root: src.Root, Size: src.Size, Data: failingAt{bad}, Outboard: src.Outboard},
		{Root: src.Root, Size: src.Size, Data: src.Data, Outboard: failingAt{bad}},
	} {
		if _, err := ValidRanges(t.Context(), broken); !errors.Is(err, bad) {
			t.Errorf("valid: %v", err)
		}
		if err := Encode(io.Discard, broken, All()); !errors.Is(err, bad) {
			t.Errorf("encode: %v", err)
		}
	}
	src.Outboard = nil
	if _, err := ValidRanges(t.Context(), src); err == nil {
		t.Error("no outboard")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ValidRanges(ctx, sampleSource(50_000)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := Encode(&failing{100, bad}, sampleSource(50_000), All()); !errors.Is(err, bad) {
		t.Errorf("writer fails: %v", err)
	}
	if err := Encode(io.Discard, sampleSource(10), Ranges{3, 3}); !errors.Is(err, ErrRanges) {
		t.Errorf("ranges: %v", err)
	}
	if err := Encode(io.Discard, Source{Size: MaxSize + 1}, All()); !errors.Is(err, ErrTooLarge) {
		t.Errorf("size: %v", err)
	}
}

type failingAt struct{ err error }

func (f failingAt) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestOutboardLookup(t *testing.T) {
	src := sampleSource(1 << 20)
	o := Outboard{src.Outboard}
	var parents []Parent
	if _, _, err := Decode(src.Root, encoded(t, src, Single(700)), Single(700), Visitor{
		Parent: func(p Parent) error { parents = append(parents, p); return nil },
	}); err != nil {
		t.Fatal(err)
	}
	path := Path(nil, 64, 700/GroupChunks)
	if len(parents) != 6 || len(path) != 6 {
		t.Fatalf("%d pairs, path %v", len(parents), path)
	}
	for i, index := range path {
		if p, err := o.Parent(index); err != nil || p != parents[i] {
			t.Errorf("pair %d: %v, got %d", index, err, parents[i].Index)
		}
	}
	if _, err := o.Parent(63); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a pair behind the end: %v", err)
	}
	if _, err := (Outboard{}).Parent(0); err == nil {
		t.Error("a pair of nothing")
	}
}

// TestDecodeFrom reads several responses from one stream, one byte at a time.
func TestDecodeFrom(t *testing.T) {
	var stream []byte
	sources := []Source{sampleSource(0), sampleSource(70_000), sampleSource(5), sampleSource(3000)}
	ranges := []Ranges{All(), Ranges{3, 20, 60}, Last(), nil}
	for i, src := range sources {
		stream = append(stream, encoded(t, src, ranges[i])...)
	}
	r := iotest.OneByteReader(bytes.NewReader(stream))
	rest := stream
	for i, src := range sources {
		for _, from := range []bool{true, false} {
			n := 0
			v := Visitor{Leaf: func(chunk uint64, data []byte) error {
				n += len(data)
				if !bytes.Equal(data, sample()[chunk*ChunkSize:][:len(data)]) {
					t.Errorf("blob %d: chunk %d differs", i, chunk)
				}
				return nil
			}}
			var size uint64
			var err error
			if from {
				size, _, err = DecodeFrom(src.Root, r, ranges[i], v)
			} else {
				size, _, rest, err = DecodePrefix(src.Root, rest, ranges[i], v)
			}
			if err != nil || size != src.Size {
				t.Fatalf("blob %d: %d bytes, %v", i, size, err)
			}
			want := 0
			for first, end := range ranges[i].Clamp(Chunks(size)).Spans(Chunks(size)) {
				want += int(min(size, end*ChunkSize) - first*ChunkSize)
			}
			if n != want {
				t.Errorf("blob %d: %d bytes, want %d", i, n, want)
			}
		}
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF || len(rest) != 0 {
		t.Errorf("the stream is not at its end")
	}
	if _, _, err := DecodeFrom(sources[1].Root, bytes.NewReader(stream[8:100]), All(), Visitor{}); !errors.Is(err, ErrTruncated) {
		t.Errorf("a short stream: %v", err)
	}
	bad := errors.New("bad line")
	if _, _, err := DecodeFrom(sources[1].Root, iotest.ErrReader(bad), All(), Visitor{}); !errors.Is(err, bad) {
		t.Errorf("a broken stream: %v", err)
	}
}

func TestDecodeStopsAtVisitor(t *testing.T) {
	src := sampleSource(100_000)
	response := encoded(t, src, All())
	stop := errors.New("stop")
	for name, v := range map[string]Visitor{
		"size":   {Size: func(uint64) error { return stop }},
		"parent": {Parent: func(Parent) error { return stop }},
		"leaf":   {Leaf: func(uint64, []byte) error { return stop }},
	} {
		if _, _, err := Decode(src.Root, response, All(), v); !errors.Is(err, stop) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := Decode(src.Root, response, Ranges{5, 4}, Visitor{}); !errors.Is(err, ErrRanges) {
		t.Errorf("ranges: %v", err)
	}
	// an empty blob is proven too: a liar cannot pass any blob off as empty
	if _, proven, err := Decode(src.Root, make([]byte, 8), All(), Visitor{}); !errors.Is(err, ErrMismatch) || proven {
		t.Errorf("empty blob: %v", err)
	}
	huge := binary.LittleEndian.AppendUint64(nil, MaxSize+1)
	if _, _, err := Decode(src.Root, huge, All(), Visitor{}); !errors.Is(err, ErrMismatch) || !errors.Is(err, ErrTooLarge) {
		t.Errorf("impossible size: %v", err)
	}
}

// TestDecodeMemory decodes short responses that claim the largest size: nothing is allocated for what is not there.
func TestDecodeMemory(t *testing.T) {
	response := binary.LittleEndian.AppendUint64(nil, MaxSize)
	response = append(response, make([]byte, 30<<10)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const rounds = 100
	for range rounds {
		if _, _, err := Decode([HashSize]byte{}, response, All(), Visitor{}); !errors.Is(err, ErrMismatch) {
			t.Fatal(err)
		}
		if _, _, err := DecodeFrom([HashSize]byte{}, bytes.NewReader(response), All(), Visitor{}); !errors.Is(err, ErrMismatch) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / rounds; n > 3*GroupSize {
		t.Errorf("%d bytes for one response", n)
	}
}

func FuzzDecode(f *testing.F) {
	sizes := []int{0, 1, 1024, 1025, 5000, 16384, 16385, 40_000, 70_000, 100_000}
	sets := []Ranges{All(), nil, Last(), Single(0), {0, 28, LastChunk}, {3, 5, 17, 33}, {16, 32}, {40, 90}}
	type blob struct {
		src Source
		pre []byte
	}
	var known []blob
	for _, size := range sizes {
		root, pre := NewOutboard(sample()[:size])
		known = append(known, blob{Source{root, uint64(size), bytes.NewReader(sample()[:size]), bytes.NewReader(pre), false}, pre})
	}
	boundaries := func(r Ranges) (b []byte) {
		for _, at := range r {
			b = binary.BigEndian.AppendUint64(b, at)
		}
		return b
	}
	for i := range known {
		for _, r := range sets {
			response := encoded(f, known[i].src, r)
			if len(response) > 40_000 {
				continue
			}
			f.Add(uint8(i), boundaries(r), response)
			response[len(response)-1] ^= 1
			f.Add(uint8(i), boundaries(r), response)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, bounds, response []byte) {
		b := known[int(which)%len(known)]
		var ranges Ranges
		for len(bounds) >= 8 && len(ranges) < 64 {
			ranges, bounds = append(ranges, binary.BigEndian.Uint64(bounds)), bounds[8:]
		}
		ranges = ranges.Canonical()
		data := sample()[:b.src.Size]
		got := 0
		size, proven, err := Decode(b.src.Root, response, ranges, Visitor{
			Parent: func(p Parent) error { got += PairSize; return nil },
			Leaf: func(chunk uint64, leaf []byte) error {
				got += len(leaf)
				if chunk*ChunkSize > uint64(len(data)) || !bytes.HasPrefix(data[chunk*ChunkSize:], leaf) {
					t.Fatalf("unverified bytes at chunk %d", chunk)
				}
				if !ranges.Clamp(Chunks(b.src.Size)).Contains(chunk) && !ranges.Touches(chunk, LastChunk) {
					t.Fatalf("chunk %d was not asked for", chunk)
				}
				return nil
			},
		})
		if got > len(response) {
			t.Fatalf("%d bytes out of %d", got, len(response))
		}
		if err != nil {
			return
		}
		if proven && size != b.src.Size {
			t.Fatalf("size %d is believed, it is %d", size, b.src.Size)
		}
		if uint64(len(response)) != EncodedSize(size, ranges) {
			t.Fatalf("accepted %d bytes, the response has %d", len(response), EncodedSize(size, ranges))
		}
		if size == b.src.Size && !bytes.Equal(response, encoded(t, b.src, ranges)) {
			t.Fatal("two responses for the same chunks")
		}
	})
}

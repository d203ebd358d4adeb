package bao

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/iotest"
)

var hasherSizes = []int{
	0, 1, GroupSize - 1, GroupSize, GroupSize + 1, segmentSize - 1, segmentSize, segmentSize + 1, 2 * segmentSize,
	3*segmentSize + 5, 4 * segmentSize, 7*segmentSize + GroupSize, 20*segmentSize + 1, 12 << 20,
}

// finish ends a hasher and returns its root and outboard.
func finish(t *testing.T, h *Hasher, size int) ([HashSize]byte, []byte) {
	t.Helper()
	root, n, err := h.Finish()
	if err != nil || n != uint64(size) {
		t.Fatalf("finish: %d bytes, %v; want %d", n, err, size)
	}
	var pre bytes.Buffer
	if err := h.WriteOutboard(&pre); err != nil {
		t.Fatal(err)
	}
	return root, pre.Bytes()
}

// memScratch is a scratch file in memory.
type memScratch struct{ Spill }

func newMemScratch() *memScratch { return &memScratch{Spill{Limit: 1 << 30}} }

func TestHasher(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 10))
	for _, size := range hasherSizes {
		data := sample()[:size]
		wantRoot, wantPre := NewOutboard(data)
		check := func(how string, h *Hasher) {
			t.Helper()
			if root, pre := finish(t, h, size); root != wantRoot || !bytes.Equal(pre, wantPre) {
				t.Errorf("%s of %d bytes: root or outboard differ", how, size)
			}
		}

		pieces := NewHasher(newMemScratch())
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 1+rnd.IntN(400<<10))
			if _, err := pieces.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		check("Write", pieces)

		var spilled memScratch
		spilled.Limit = 1 << 30
		created := 0
		spill := &Spill{Limit: 5000, Create: func() (Scratch, error) { created++; return &spilled, nil }}
		copied := NewHasher(spill)
		var out bytes.Buffer
		if n, err := copied.Copy(t.Context(), &out, iotest.HalfReader(bytes.NewReader(data))); err != nil || n != uint64(size) {
			t.Fatal(n, err)
		}
		check("Copy", copied)
		if !bytes.Equal(out.Bytes(), data) {
			t.Errorf("Copy of %d bytes wrote something else", size)
		}
		if want := OutboardSize(uint64(size)) > 5000; want != (created == 1) {
			t.Errorf("Copy of %d bytes created %d files", size, created)
		}

		mixed := NewHasher(newMemScratch())
		at := size / 3
		if _, err := mixed.Copy(t.Context(), io.Discard, bytes.NewReader(data[:at])); err != nil {
			t.Fatal(err)
		}
		if _, err := mixed.Write(data[at : 2*at]); err != nil {
			t.Fatal(err)
		}
		if _, err := mixed.Copy(t.Context(), nil, bytes.NewReader(data[2*at:])); err != nil {
			t.Fatal(err)
		}
		check("Copy, Write, Copy", mixed)
	}
}

type failing struct {
	after int
	err   error
}

func (f *failing) Write(b []byte) (int, error) {
	if f.after -= len(b); f.after < 0 {
		return 0, f.err
	}
	return len(b), nil
}

func (f *failing) WriteAt(b []byte, _ int64) (int, error)  { return f.Write(b) }
func (f *failing) ReadAt(b []byte, off int64) (int, error) { return 0, io.EOF }

func TestHasherFailures(t *testing.T) {
	data := bytes.Repeat(sample(), 3)
	bad := errors.New("bad day")

	h := NewHasher(nil)
	if n, err := h.Copy(t.Context(), &failing{1 << 20, bad}, bytes.NewReader(data)); !errors.Is(err, bad) || n >= uint64(len(data)) {
		t.Errorf("writer fails: %d bytes, %v", n, err)
	}

	h = NewHasher(nil)
	src := io.MultiReader(bytes.NewReader(data[:segmentSize+7]), iotest.ErrReader(bad))
	if n, err := h.Copy(t.Context(), io.Discard, src); !errors.Is(err, bad) || n != segmentSize+7 {
		t.Errorf("reader fails: %d bytes, %v", n, err)
	}

	h = NewHasher(&failing{1000, bad})
	_, err := h.Copy(t.Context(), nil, bytes.NewReader(data))
	_, _, finishErr := h.Finish()
	if !errors.Is(finishErr, bad) || !errors.Is(h.WriteOutboard(io.Discard), bad) {
		t.Errorf("scratch fails: %v, %v", err, finishErr)
	}

	h = NewHasher(&Spill{Limit: 100, Create: func() (Scratch, error) { return nil, bad }})
	if _, err := h.Write(data[:2*segmentSize+1]); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Finish(); !errors.Is(err, bad) {
		t.Errorf("scratch cannot be made: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	h = NewHasher(nil)
	endless := readerFunc(func(b []byte) (int, error) { cancel(); return len(b), nil })
	if _, err := h.Copy(ctx, io.Discard, endless); !errors.Is(err, context.Canceled) {
		t.Errorf("context ends: %v", err)
	}

	h = NewHasher(nil)
	if err := h.WriteOutboard(io.Discard); err == nil {
		t.Error("outboard of a hasher that is not finished")
	}
	if _, _, err := h.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := h.WriteOutboard(io.Discard); err == nil {
		t.Error("outboard without scratch")
	}
	if _, err := h.Write(data[:1]); err == nil {
		t.Error("write after the end")
	}
	if _, err := h.Copy(t.Context(), nil, bytes.NewReader(data)); err == nil {
		t.Error("copy after the end")
	}
	s := &Spill{Limit: 10}
	if _, err := s.WriteAt(data[:1], 5); err == nil {
		t.Error("a gap in memory")
	}
}

type readerFunc func(b []byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// TestHasherMemory hashes far more than it may allocate.
func TestHasherMemory(t *testing.T) {
	const size = 192 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	zeros := readerFunc(func(b []byte) (int, error) { return len(b), nil })
	h := NewHasher(discardScratch{})
	if _, err := h.Copy(t.Context(), io.Discard, io.LimitReader(zeros, size)); err != nil {
		t.Fatal(err)
	}
	if _, n, err := h.Finish(); err != nil || n != size {
		t.Fatal(n, err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 20*segmentSize+1<<20 {
		t.Errorf("allocated %d bytes to hash %d", n, size)
	}
}

type discardScratch struct{}

func (discardScratch) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }
func (discardScratch) ReadAt([]byte, int64) (int, error)      { return 0, io.EOF }

// TestPreOrderLarge turns over outboards of more groups than are turned at once, made of numbers instead of hashes.
func TestPreOrderLarge(t *testing.T) {
	for _, groups := range []uint64{1, 2, 3, flipGroups - 1, flipGroups, flipGroups + 1, 2*flipGroups + 1, 5*flipGroups + 77} {
		want := make([]byte, (groups-1)*PairSize)
		for i := range groups - 1 {
			binary.LittleEndian.PutUint64(want[i*PairSize:], i)
		}
		post := PostOrder(want)
		if groups > 2 && bytes.Equal(post, want) {
			t.Errorf("%d groups: the orders do not differ", groups)
		}
		var got bytes.Buffer
		if err := preOrder(&got, bytes.NewReader(post), groups); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%d groups: order differs", groups)
		}
		if groups > 1 {
			if err := preOrder(io.Discard, bytes.NewReader(post[:len(post)-1]), groups); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d groups: short scratch: %v", groups, err)
			}
		}
	}
}

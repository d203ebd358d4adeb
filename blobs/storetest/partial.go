package storetest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// start opens the partial blob and closes it at the end of the test.
func start(t *testing.T, s blobs.Store, f *Feed) blobs.Partial {
	t.Helper()
	p, err := f.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func write(t *testing.T, f *Feed, p blobs.Partial, groups ...uint64) {
	t.Helper()
	for _, i := range groups {
		if err := f.Write(p, i); err != nil {
			t.Fatalf("write group %d: %v", i, err)
		}
	}
}

func complete(t *testing.T, p blobs.Partial) bool {
	t.Helper()
	done, err := p.Complete(t.Context())
	if err != nil {
		t.Fatalf("complete: %v", err)
	}
	return done
}

func checkPartial(t *testing.T, s blobs.Store, f *Feed, want bao.Ranges) {
	t.Helper()
	info, err := f.CheckPartial(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if !info.Have.Equal(want) {
		t.Fatalf("here are %v, want %v", info.Have, want)
	}
}

func testPartial(t *testing.T, s blobs.Store) {
	for _, size := range sizes {
		if size > bao.GroupSize {
			partialOfSize(t, s, size)
		}
	}
}

// partialOfSize brings a blob of more than one group in two parts, each in any order.
func partialOfSize(t *testing.T, s blobs.Store, size int) {
	t.Helper()
	f := NewFeed(Data(size, 10))
	p := start(t, s, f)
	gone(t, s, f.Hash)
	if complete(t, p) {
		t.Fatal("complete with nothing here")
	}
	order := make([]uint64, 0, f.Groups())
	for i := range f.Groups() {
		order = append(order, i)
	}
	rand.New(rand.NewPCG(uint64(size), 1)).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	half := len(order) / 2
	write(t, f, p, order[:half]...)
	write(t, f, p, order[0]) // once more does nothing
	var have bao.Ranges
	for _, i := range order[:half] {
		span := bao.GroupSpan(i, i+1)
		if i == f.Groups()-1 {
			span = bao.From(i * bao.GroupChunks)
		}
		have = have.Union(span)
	}
	want := blobs.Info{Hash: f.Hash, Size: uint64(size), Proven: true, Have: have}
	if diff := cmp.Diff(want, p.Info()); diff != "" {
		t.Fatal(diff)
	}
	info, err := s.Info(t.Context(), f.Hash)
	if diff := cmp.Diff(want, info); diff != "" || err != nil {
		t.Fatal(err, diff)
	}
	checkPartial(t, s, f, have)
	checkPartialEncode(t, s, f, have)
	if err := s.Verify(t.Context(), f.Hash); err != nil {
		t.Fatal(err)
	}
	if complete(t, p) {
		t.Fatal("complete with half of it here")
	}
	b, err := s.Open(t.Context(), f.Hash)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, p, order[half:]...)
	for range 2 { // the second time it is already
		if !complete(t, p) {
			t.Fatal("all is here and it is not complete")
		}
	}
	checkReads(t, b, f.Data) // opened when it was not complete
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	Check(t, s, f.Data)
	write(t, f, p, 0)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Partial(t.Context(), f.Hash); !errors.Is(err, blobs.ErrComplete) {
		t.Fatalf("partial of a complete blob: %v", err)
	}
	Check(t, s, f.Data)
}

func checkPartialEncode(t *testing.T, s blobs.Store, f *Feed, have bao.Ranges) {
	t.Helper()
	b, err := s.Open(t.Context(), f.Hash)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	chunks := bao.Chunks(uint64(len(f.Data)))
	for first := range chunks {
		if first%13 != 0 {
			continue
		}
		ranges := bao.Span(first, first+11)
		var got bytes.Buffer
		err := b.Encode(&got, ranges)
		if here := have.ContainsSpan(first, min(first+11, chunks)); !here {
			if !errors.Is(err, blobs.ErrNotFound) || got.Len() > 0 {
				t.Fatalf("encode %v, which is not all here: %d bytes, %v", ranges, got.Len(), err)
			}
		} else if err != nil || !bytes.Equal(got.Bytes(), f.response(t, ranges)) {
			t.Fatalf("encode %v: %v, or not what iroh answers", ranges, err)
		}
	}
	var got bytes.Buffer
	if err := b.Encode(&got, have.Clamp(chunks)); err != nil || !bytes.Equal(got.Bytes(), f.response(t, have.Clamp(chunks))) {
		t.Fatalf("encode all that is here: %v, or not what iroh answers", err)
	}
}

func testPartialSmall(t *testing.T, s blobs.Store) {
	for _, size := range []int{1, 1024, 5000, 16384} {
		for _, finish := range []bool{true, false} {
			seed := uint64(11)
			if finish {
				seed++
			}
			f := NewFeed(Data(size, seed))
			p := start(t, s, f)
			write(t, f, p, 0)
			if finish && !complete(t, p) {
				t.Fatal("all is here and it is not complete")
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			// Whoever closes without completing may leave it partial.
			checkPartial(t, s, f, bao.All())
			if finish {
				Check(t, s, f.Data)
			}
		}
	}
}

func testPartialMisuse(t *testing.T, s blobs.Store) {
	f := NewFeed(Data(50_000, 12))
	p, err := s.Partial(t.Context(), f.Hash)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if info := p.Info(); info.Hash != f.Hash || info.Size != 0 || info.Proven || len(info.Have) > 0 {
		t.Errorf("info at the begin: %+v", info)
	}
	if err := f.Write(p, 0); err == nil {
		t.Error("a group was taken before the size")
	}
	for size, want := range map[uint64]error{0: blobs.ErrVerify, 1 << 60: blobs.ErrTooLarge} {
		if err := p.SetSize(size); !errors.Is(err, want) {
			t.Errorf("size %d: %v, want %v", size, err, want)
		}
	}
	if err := p.SetSize(50_000); err != nil {
		t.Fatal(err)
	}
	if err := p.SetSize(50_000); err != nil {
		t.Errorf("the same size again: %v", err)
	}
	if err := p.SetSize(50_001); !errors.Is(err, blobs.ErrVerify) {
		t.Errorf("another size: %v, want ErrVerify", err)
	}
	for name, err := range map[string]error{
		"past the end": p.WriteGroup(4, f.Data[:848], nil),
		"too short":    p.WriteGroup(0, f.Data[:100], nil),
		"too long":     p.WriteGroup(3, f.Data[:bao.GroupSize], nil),
		"pair":         p.WriteGroup(0, f.Data[:bao.GroupSize], []bao.Parent{{Index: 3}}),
	} {
		if err == nil {
			t.Errorf("a group was taken: %s", name)
		}
	}
	gone(t, s, f.Hash)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error("second close:", err)
	}
	if err := f.Write(p, 0); !errors.Is(err, blobs.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	gone(t, s, f.Hash)
}

func testPartialShared(t *testing.T, s blobs.Store) {
	f := NewFeed(Data(200_000, 13))
	p, q := start(t, s, f), start(t, s, f)
	write(t, f, p, 1, 2)
	if got := q.Info().Have; !got.Equal(bao.GroupSpan(1, 3)) {
		t.Errorf("the second one sees %v", got)
	}
	if err := q.SetSize(1); !errors.Is(err, blobs.ErrVerify) {
		t.Errorf("another size by the second one: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, f, q, 4)
	checkPartial(t, s, f, bao.GroupSpan(1, 3).Union(bao.GroupSpan(4, 5)))
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	r := start(t, s, f)
	if got := r.Info(); got.Size != 200_000 || !got.Have.Equal(bao.GroupSpan(1, 3).Union(bao.GroupSpan(4, 5))) {
		t.Errorf("a later one sees %+v", got)
	}
}

func testPartialDeleted(t *testing.T, s blobs.Store) {
	f := NewFeed(Data(100_000, 14))
	p := start(t, s, f)
	write(t, f, p, 0, 1)
	if err := s.Delete(t.Context(), f.Hash); err != nil {
		t.Fatal(err)
	}
	gone(t, s, f.Hash)
	if err := f.Write(p, 2); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("write to a deleted blob: %v", err)
	}
	if done, err := p.Complete(t.Context()); done || !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("complete of a deleted blob: %t, %v", done, err)
	}
	q := start(t, s, f)
	if got := q.Info().Have; len(got) > 0 {
		t.Errorf("a new one has %v", got)
	}
	write(t, f, q, 3)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	checkPartial(t, s, f, bao.GroupSpan(3, 4))
}

func testPartialOvertaken(t *testing.T, s blobs.Store) {
	for _, size := range []int{1000, 100_000} {
		overtakenOfSize(t, s, size)
	}
}

// overtakenOfSize adds a blob while it is on its way.
func overtakenOfSize(t *testing.T, s blobs.Store, size int) {
	t.Helper()
	f := NewFeed(Data(size, 15))
	p := start(t, s, f)
	if size > bao.GroupSize {
		write(t, f, p, 1)
	}
	Add(t, s, f.Data)
	Check(t, s, f.Data)
	write(t, f, p, 0)
	if !complete(t, p) || !p.Info().Complete {
		t.Error("the blob was added and is not complete")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	Check(t, s, f.Data)
}

// Many write overlapping parts at once, others read and ask.
func testPartialConcurrent(t *testing.T, s blobs.Store) {
	f := NewFeed(Data(3<<20+5, 16))
	var wg sync.WaitGroup
	completed := make(chan struct{})
	for w := range 4 {
		p := start(t, s, f)
		wg.Go(func() {
			order := make([]uint64, f.Groups())
			for i := range order {
				order[i] = uint64(i)
			}
			rnd := rand.New(rand.NewPCG(uint64(w), 2))
			rnd.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			for _, i := range order {
				if err := f.Write(p, i); err != nil {
					t.Error(err)
				}
				if _, err := p.Complete(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if !p.Info().Complete {
				t.Error("a writer has written all and it is not complete")
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				if _, err := f.CheckServed(t.Context(), s); err != nil {
					t.Error(err)
				}
				select {
				case <-completed:
					return
				default:
				}
			}
		})
	}
	wg.Wait()
	close(completed)
	readers.Wait()
	Check(t, s, f.Data)
}

// A Receiver that is fed by responses of 29 chunks, as providers send them, and by liars.
func testReceiver(t *testing.T, s blobs.Store) {
	for _, size := range []int{1, 16384, 16385, 100_000, 1<<20 + 7} {
		f := NewFeed(Data(size, 17))
		chunks := bao.Chunks(uint64(size))
		r, err := blobs.NewReceiver(t.Context(), s, f.Hash, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		var starts []uint64
		for first := uint64(0); first < chunks; first += 29 {
			starts = append(starts, first)
		}
		slices.Reverse(starts) // the last chunk comes first and proves the size
		done := false
		for _, first := range starts {
			ranges := bao.Span(first, min(first+29, chunks))
			bad := f.response(t, ranges)
			bad[len(bad)-1] ^= 1
			if _, _, err := r.Write(t.Context(), ranges, bad); !errors.Is(err, blobs.ErrVerify) {
				t.Fatalf("a changed bit: %v, want ErrVerify", err)
			}
			if _, done, err = r.Write(t.Context(), ranges, f.response(t, ranges)); err != nil {
				t.Fatal(err)
			}
		}
		if !done {
			t.Error("all came and it is not complete")
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		Check(t, s, f.Data)
		if _, err := blobs.NewReceiver(t.Context(), s, f.Hash, 1<<30); !errors.Is(err, blobs.ErrComplete) {
			t.Errorf("a receiver of a complete blob: %v", err)
		}
	}
}

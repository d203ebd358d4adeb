package blobs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// questions cuts a blob into the ranges that are asked, the last chunk with the first.
func questions(size uint64, limit int) (asked []bao.Ranges) {
	chunks := bao.Chunks(size)
	for at := uint64(0); at < chunks; {
		r, end := bao.FitRanges(size, at, limit, at == 0)
		if end == at {
			panic("limit is too low")
		}
		asked = append(asked, r)
		at = end
	}
	return asked
}

func receive(t *testing.T, s Store, h Hash, limit uint64) *Receiver {
	t.Helper()
	r, err := NewReceiver(t.Context(), s, h, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestReceive(t *testing.T) {
	for _, size := range []int{1, 1024, 16384, 16385, 40_000, 262_144, 1_000_001} {
		for _, limit := range []int{5000, 32 << 10, 100 << 10} {
			t.Run(fmt.Sprint(size, " by ", limit), func(t *testing.T) {
				p := newProvider(sample()[:size])
				s := newFakeStore()
				r := receive(t, s, p.h, uint64(size))
				asked := questions(uint64(size), limit)
				rnd := rand.New(rand.NewPCG(uint64(size), uint64(limit)))
				rest := asked[1:]
				rnd.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })

				total, done := 0, false
				missing := bao.All()
				for i, q := range asked {
					if done {
						t.Fatal("done before everything has come")
					}
					answer := p.answer(q)
					gained, now, err := r.Write(t.Context(), q, answer)
					if err != nil {
						t.Fatal(err)
					}
					// nothing is gained twice
					if again, _, err := r.Write(t.Context(), q, answer); again != 0 || err != nil {
						t.Fatalf("question %d again: gained %d, %v", i, again, err)
					}
					missing = missing.Clamp(bao.Chunks(uint64(size))).Subtract(q.Clamp(bao.Chunks(uint64(size))))
					if got := r.Missing(); !got.Equal(missing) {
						t.Fatalf("missing %v, want %v", got, missing)
					}
					total, done = total+gained, now
				}
				if !done || total != size {
					t.Errorf("done %v after %d of %d bytes", done, total, size)
				}
				if info := r.Info(); !info.Complete {
					t.Errorf("info %+v", info)
				}
				if _, err := NewReceiver(t.Context(), s, p.h, 1<<40); !errors.Is(err, ErrComplete) {
					t.Errorf("receiver of a complete blob: %v", err)
				}
				if n, most := s.parts[p.h].pairs, len(asked)*64; n > most {
					t.Errorf("%d pairs were written in %d answers", n, len(asked))
				}
			})
		}
	}
}

// TestReceiveTogether lets many goroutines bring overlapping answers, through two receivers of one blob.
func TestReceiveTogether(t *testing.T) {
	const size = 700_003
	p := newProvider(sample()[:size])
	s := newFakeStore()
	receivers := []*Receiver{receive(t, s, p.h, size), receive(t, s, p.h, size)}
	first := bao.Span(0, 20).Union(bao.Last())
	for _, r := range receivers {
		if _, _, err := r.Write(t.Context(), first, p.answer(first)); err != nil {
			t.Fatal(err)
		}
	}
	chunks := bao.Chunks(size)
	var wg sync.WaitGroup
	for worker := range 8 {
		// Two receivers do not share their cut groups, and may each write a group: workers keep to whole groups of
		// their receiver's half, but those of one receiver overlap.
		r, half := receivers[worker%2], chunks/32*bao.GroupChunks
		lo, hi := uint64(0), half
		if worker%2 == 1 {
			lo, hi = half, chunks
		}
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(worker), 1))
			for at := lo; at < hi; at += 1 + rnd.Uint64N(29) {
				q := bao.Span(at, min(hi, at+29))
				if _, _, err := r.Write(t.Context(), q, p.answer(q)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if info := receivers[0].Info(); !info.Complete {
		t.Errorf("missing %v", receivers[0].Missing())
	}
	if _, done, err := receivers[1].Write(t.Context(), first, p.answer(first)); !done || err != nil {
		t.Errorf("a late answer: done %v, %v", done, err)
	}
}

func TestReceiveRefuses(t *testing.T) {
	const size = 100_000
	p := newProvider(sample()[:size])
	other := newProvider(sample()[1 : size+1])
	all := bao.All()
	good := p.answer(all)
	flipped := append([]byte(nil), good...)
	flipped[50_000] ^= 1
	long := append(append([]byte(nil), good...), 0)
	wrongSize := p.answer(bao.Single(0))
	wrongSize[0]--
	for _, c := range []struct {
		name   string
		limit  uint64
		ranges bao.Ranges
		bytes  []byte
		want   []error
	}{
		{"a flipped bit", size, all, flipped, []error{ErrVerify, bao.ErrMismatch}},
		{"a byte missing", size, all, good[:len(good)-1], []error{ErrVerify, bao.ErrTruncated}},
		{"a byte too many", size, all, long, []error{ErrVerify, bao.ErrTrailing}},
		{"nothing", size, all, nil, []error{ErrVerify, bao.ErrTruncated}},
		{"another blob", size, all, other.answer(all), []error{ErrVerify}},
		{"other ranges", size, bao.Span(0, 30), p.answer(bao.Span(0, 29)), []error{ErrVerify}},
		{"empty blob", size, all, make([]byte, 8), []error{ErrVerify}},
		{"too large", size - 1, all, good, []error{ErrTooLarge}},
		{"size not proven", size, bao.Single(0), p.answer(bao.Single(0)), []error{ErrSizeUnknown}},
		{"only a claim", size, nil, p.answer(nil), []error{ErrSizeUnknown}},
		{"bad ranges", size, bao.Ranges{5, 5}, good, []error{bao.ErrRanges}},
	} {
		s := newFakeStore()
		r := receive(t, s, p.h, c.limit)
		gained, done, err := r.Write(t.Context(), c.ranges, c.bytes)
		for _, want := range c.want {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", c.name, err, want)
			}
		}
		if part := s.parts[p.h]; gained != 0 || done || part.proven || len(part.written) > 0 {
			t.Errorf("%s: gained %d, done %v, store changed: %v", c.name, gained, done, part.proven)
		}
		if !r.Missing().IsAll() {
			t.Errorf("%s: missing %v", c.name, r.Missing())
		}
	}

	// a wrong size that its pairs do not betray is refused once the right one is known
	s := newFakeStore()
	r := receive(t, s, p.h, size)
	if _, _, err := r.Write(t.Context(), bao.Last(), p.answer(bao.Last())); err != nil {
		t.Fatal(err)
	}
	if _, _, err := bao.Decode(p.h, wrongSize, bao.Single(0), bao.Visitor{}); err != nil {
		t.Fatalf("the test's wrong size shows by itself: %v", err)
	}
	if _, _, err := r.Write(t.Context(), bao.Single(0), wrongSize); !errors.Is(err, ErrVerify) {
		t.Errorf("wrong size: %v", err)
	}
}

// TestReceiveLimitAtOpen: a partial blob that an earlier receiver allowed is too large for a stricter one.
func TestReceiveLimitAtOpen(t *testing.T) {
	p := newProvider(sample()[:50_000])
	s := newFakeStore()
	r := receive(t, s, p.h, 50_000)
	if _, _, err := r.Write(t.Context(), bao.Last(), p.answer(bao.Last())); err != nil {
		t.Fatal(err)
	}
	if _, err := NewReceiver(t.Context(), s, p.h, 49_999); !errors.Is(err, ErrTooLarge) {
		t.Errorf("stricter: %v", err)
	}
	if open := s.parts[p.h].open; open != 1 {
		t.Errorf("%d uses are open, want 1", open)
	}
}

func TestReceiveResume(t *testing.T) {
	const size = 200_000
	p := newProvider(sample()[:size])
	s := newFakeStore()
	first, err := NewReceiver(t.Context(), s, p.h, size)
	if err != nil {
		t.Fatal(err)
	}
	q := bao.Span(0, 40).Union(bao.Last()) // two whole groups, a cut one, and the last, which is cut too
	if gained, _, err := first.Write(t.Context(), q, p.answer(q)); err != nil || gained != 40*1024+size%1024 {
		t.Fatal(gained, err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if _, _, err := first.Write(t.Context(), q, p.answer(q)); !errors.Is(err, ErrClosed) {
		t.Errorf("write after close: %v", err)
	}

	second := receive(t, s, p.h, size)
	want := bao.Span(32, bao.Chunks(size))
	if got := second.Missing(); !got.Equal(want) {
		t.Fatalf("missing %v, want %v", got, want)
	}
	// the size is known: a response need not prove it any more
	part := bao.Span(32, 64)
	if _, _, err := second.Write(t.Context(), part, p.answer(part)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := second.Write(ctx, want, p.answer(want)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if gained, done, err := second.Write(t.Context(), want, p.answer(want)); err != nil || !done || gained != size-64*1024 {
		t.Errorf("gained %d, done %v, %v", gained, done, err)
	}
}

// TestReceiveWholeAtOpen: after a crash between the last group and the end nothing has to be fetched.
func TestReceiveWholeAtOpen(t *testing.T) {
	p := newProvider(sample()[:30_000])
	s := newFakeStore()
	part, err := s.Partial(t.Context(), p.h)
	if err != nil {
		t.Fatal(err)
	}
	if err := part.SetSize(30_000); err != nil {
		t.Fatal(err)
	}
	var parents []bao.Parent
	if _, _, err := bao.Decode(p.h, p.answer(bao.All()), bao.All(), bao.Visitor{
		Parent: func(p bao.Parent) error { parents = append(parents, p); return nil },
		Leaf: func(chunk uint64, data []byte) error {
			return part.WriteGroup(chunk/bao.GroupChunks, data, parents)
		},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := NewReceiver(t.Context(), s, p.h, 1<<30); !errors.Is(err, ErrComplete) {
		t.Errorf("%v", err)
	}
	if _, ok := s.blobs[p.h]; !ok {
		t.Error("the blob is not complete")
	}
}

func TestReceiveStoreFails(t *testing.T) {
	const size = 100_000
	p := newProvider(sample()[:size])
	s := newFakeStore()
	full := errors.New("disk is full")
	s.fail = func(group uint64) error {
		if group == 3 {
			return full
		}
		return nil
	}
	r := receive(t, s, p.h, size)
	if _, done, err := r.Write(t.Context(), bao.All(), p.answer(bao.All())); !errors.Is(err, full) || errors.Is(err, ErrVerify) || done {
		t.Fatalf("done %v, %v", done, err)
	}
	if want := bao.Span(48, 98); !r.Missing().Equal(want) {
		t.Errorf("missing %v, want %v", r.Missing(), want)
	}
	s.fail = nil
	if gained, done, err := r.Write(t.Context(), bao.All(), p.answer(bao.All())); err != nil || !done || gained != size-48*1024 {
		t.Errorf("gained %d, done %v, %v", gained, done, err)
	}
}

// TestReceiveForgetsOldest: cut groups take bounded memory, and what is dropped is missing again.
func TestReceiveForgetsOldest(t *testing.T) {
	const size = 20 * bao.GroupSize
	p := newProvider(sample()[:size])
	r := receive(t, newFakeStore(), p.h, size)
	r.cutRoom = 3
	for g := range uint64(5) {
		q := bao.Single(g * bao.GroupChunks)
		if g == 0 {
			q = q.Union(bao.Last())
		}
		if _, _, err := r.Write(t.Context(), q, p.answer(q)); err != nil {
			t.Fatal(err)
		}
	}
	// the last chunk's group came after group 0, then 1, 2, 3, 4; of these 2, 3 and 4 are kept
	want := bao.Span(0, 320).Subtract(bao.Ranges{32, 33, 48, 49, 64, 65})
	if got := r.Missing(); !got.Equal(want) {
		t.Errorf("missing %v, want %v", got, want)
	}
	if len(r.cut) != 3 {
		t.Errorf("%d groups in memory", len(r.cut))
	}
}

func FuzzReceive(f *testing.F) {
	const size = 40_000
	p := newProvider(sample()[:size])
	for _, r := range []bao.Ranges{bao.All(), bao.Last(), {3, 20, 39}, {0, 28, bao.LastChunk}, {0, 1}} {
		b := p.answer(r)
		f.Add(uint16(r[0]), uint16(30), b)
		f.Add(uint16(r[0]), uint16(0), b)
	}
	f.Fuzz(func(t *testing.T, first, n uint16, response []byte) {
		ranges := bao.Span(uint64(first), uint64(first)+uint64(n))
		if n == 0 {
			ranges = bao.Last().Union(bao.Span(uint64(first), uint64(first)+1))
		}
		s := newFakeStore()
		r, err := NewReceiver(t.Context(), s, p.h, size)
		if err != nil {
			t.Fatal(err)
		}
		// fakePartial fails for any group that is not proven, and that is not a lie of the sender
		for range 2 {
			gained, _, err := r.Write(t.Context(), ranges, response)
			switch {
			case err == nil, errors.Is(err, ErrVerify), errors.Is(err, ErrSizeUnknown), errors.Is(err, ErrTooLarge):
			default:
				t.Fatal(err)
			}
			if gained > len(response) {
				t.Fatalf("gained %d from %d bytes", gained, len(response))
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

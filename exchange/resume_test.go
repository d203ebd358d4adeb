package exchange

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/veilid/memory"
)

// While nobody can be reached the transfer waits, says so, and goes on from where it was.
func TestParkedUntilSomebodyComesBack(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.net.SetConditions(memory.Conditions{Delay: 50 * time.Millisecond})
		a, b := w.member("a"), w.member("b")
		a.node.SetRate(2_000_000, 0)
		want := data(10 << 20)
		h := add(t, want, a)
		req := request(h, a)
		var mu sync.Mutex
		waited, gone := "", false
		req.Progress = func(p Progress) {
			mu.Lock()
			defer mu.Unlock()
			if !gone && p.Size > 0 && p.Done > p.Size/2 {
				gone = true
				a.node.SetOnline(false)
				time.AfterFunc(20*time.Minute, func() { a.node.SetOnline(true) })
			}
			if p.Waiting != "" {
				waited = p.Waiting
			}
		}
		took := b.fetch(t, req, want, time.Hour)
		t.Logf("%v, waited: %q", took, waited)
		if took < 20*time.Minute || took > 23*time.Minute {
			t.Errorf("took %v: want some 20 minutes and what the back-off adds", took)
		}
		if !strings.Contains(waited, "no provider can be reached") {
			t.Errorf("waiting was %q", waited)
		}
		for g, n := range b.store.groups[h] {
			if n != 1 {
				t.Fatalf("group %d was stored %d times", g, n)
			}
		}
	})
}

func TestWhatItWaitedFor(t *testing.T) {
	want := data(100_000)
	tests := []struct {
		name  string
		setup func(w *world, a *member)
		err   error
	}{
		{"offline", func(w *world, a *member) { a.node.SetOnline(false) }, ErrUnreachable},
		{"away", func(w *world, a *member) { a.away = true }, ErrUnreachable},
		{"does not hold it", func(w *world, a *member) { a.store.Delete(context.Background(), blobs.Sum(want)) }, ErrNotHeld},
		{"must not give it", func(w *world, a *member) { a.hidden[blobs.Sum(want)] = true }, ErrNotHeld},
		{"knows another secret", func(w *world, a *member) { a.x.AddGroup(a.group(8)) }, ErrDenied},
		{"left the group", func(w *world, a *member) { a.x.RemoveGroup(testGroup) }, ErrDenied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run(t, func(t *testing.T, w *world) {
				a, b := w.member("a"), w.member("b")
				h := add(t, want, a)
				tt.setup(w, a)
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				begun := time.Now()
				_, err := b.x.Fetch(ctx, request(h, a))
				if !errors.Is(err, tt.err) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error %v: want %v, and the deadline", err, tt.err)
				}
				if d := time.Since(begun); d != time.Minute {
					t.Errorf("gave up after %v", d)
				}
			})
		})
	}
}

// A member that did not have the blob gets it later.
func TestHolderComesLate(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		a, b := w.member("a"), w.member("b")
		want := data(100_000)
		time.AfterFunc(10*time.Second, func() { add(t, want, a) })
		took := b.fetch(t, request(blobs.Sum(want), a), want, time.Hour)
		if took < 10*time.Second || took > 30*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestPartialHolderServes(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.net.SetConditions(memory.Conditions{Delay: 50 * time.Millisecond})
		a, b, c := w.member("a"), w.member("b"), w.member("c")
		want := data(6 << 20)
		h := add(t, want, a)
		a.node.SetRate(1_000_000, 0)

		// b has a half of it when a goes away.
		ctx, cancel := context.WithCancel(context.Background())
		_, err := b.x.Fetch(ctx, whenHalf(request(h, a), cancel))
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		a.node.SetOnline(false)
		held := mustInfo(t, b, h)
		if held.Complete || len(held.Have) == 0 {
			t.Fatalf("b holds %+v", held)
		}

		// c gets from b what b has.
		ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err = c.x.Fetch(ctx, request(h, b)); !errors.Is(err, ErrNotHeld) {
			t.Fatalf("error %v, want %v", err, ErrNotHeld)
		}
		if got := mustInfo(t, c, h); !got.Have.Equal(held.Have) {
			t.Errorf("c holds %v of what b holds, %v", got.Have, held.Have)
		}

		// With a back, c and b get the rest, also from each other, while both are at it.
		a.node.SetOnline(true)
		var both sync.WaitGroup
		both.Go(func() { b.fetch(t, request(h, a, c), want, 10*time.Minute) })
		both.Go(func() { c.fetch(t, request(h, a, b), want, 10*time.Minute) })
		both.Wait()
	})
}

func mustInfo(t *testing.T, m *member, h blobs.Hash) blobs.Info {
	t.Helper()
	info, err := m.store.Info(context.Background(), h)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// What was stored before a restart is not fetched again.
func TestResumeAfterRestart(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.net.SetConditions(memory.Conditions{Delay: 20 * time.Millisecond})
		a, b := w.member("a"), w.member("b")
		a.node.SetRate(2_000_000, 0)
		want := data(8<<20 + 5)
		h := add(t, want, a)
		for range 3 {
			ctx, cancel := context.WithTimeout(context.Background(), 1100*time.Millisecond)
			_, err := b.x.Fetch(ctx, request(h, a))
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			if err := b.x.Close(); err != nil {
				t.Fatal(err)
			}
			b.start()
		}
		before := heldBytes(mustInfo(t, b, h))
		var last Progress
		req := request(h, a)
		req.Progress = func(p Progress) { last = p }
		b.fetch(t, req, want, time.Minute)
		if want := uint64(len(want)) - before; last.Fetched != want {
			t.Errorf("fetched %d bytes, %d were missing", last.Fetched, want)
		}
		for g, n := range b.store.groups[h] {
			if n != 1 {
				t.Fatalf("group %d was stored %d times", g, n)
			}
		}
	})
}

func TestSingleFlight(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.net.SetConditions(memory.Conditions{Delay: 50 * time.Millisecond})
		a, b, c := w.member("a"), w.member("b"), w.member("c")
		a.node.SetRate(1_000_000, 0)
		c.node.SetRate(1_000_000, 0)
		want := data(4 << 20)
		h := add(t, want, a, c)

		// The first one begins, the second brings another provider, the third is too picky, the first gives up.
		first, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := b.x.Fetch(first, request(h, a)); !errors.Is(err, context.Canceled) {
				t.Errorf("the first got %v", err)
			}
		})
		<-time.After(500 * time.Millisecond)
		all.Go(func() {
			var last Progress
			req := request(h, c)
			req.Progress = func(p Progress) { last = p }
			b.fetch(t, req, want, time.Minute)
			if len(last.Providers) != 2 {
				t.Errorf("the transfer had %d providers", len(last.Providers))
			}
		})
		<-time.After(200 * time.Millisecond)
		if n := len(b.x.Transfers()); n != 1 {
			t.Errorf("%d transfers", n)
		}
		req := request(h, c)
		req.MaxSize = 1 << 20
		if _, err := b.x.Fetch(context.Background(), req); !errors.Is(err, blobs.ErrTooLarge) {
			t.Errorf("the third got %v", err)
		}
		cancel()
		all.Wait()
		for g, n := range b.store.groups[h] {
			if n != 1 {
				t.Fatalf("group %d was stored %d times", g, n)
			}
		}
		if n := len(b.x.Transfers()); n != 0 {
			t.Errorf("%d transfers at the end", n)
		}
	})
}

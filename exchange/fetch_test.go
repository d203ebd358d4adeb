package exchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
	"github.com/OpenArchive/save-dweb-go/veilid/memory"
)

func TestFetchSizes(t *testing.T) {
	for _, n := range []int{0, 1, 1023, 1024, 1025, 16384, 16385, 28*1024 - 1, 28 * 1024, 28*1024 + 1, 100_000, 245_760, 1_000_003, 5 << 20} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			run(t, func(t *testing.T, w *world) {
				a, b := w.member("a"), w.member("b")
				want := data(n)
				h := add(t, want, a)
				b.fetch(t, request(h, a), want, time.Minute)
			})
		})
	}
}

// The way of the lab's second row: 490 ms there and back, where only hundreds of calls in flight fill the line.
func TestWindowOpensOverDistance(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.net.SetConditions(memory.Conditions{Delay: 235 * time.Millisecond, Jitter: 20 * time.Millisecond})
		a, b := w.member("a"), w.member("b")
		a.node.SetRate(15<<20, 0)
		want := data(50 << 20)
		h := add(t, want, a)
		took := b.fetch(t, request(h, a), want, time.Minute)
		size, rtt := b.window("a")
		t.Logf("%v, %s, window %d, round trip %v", took, mbps(len(want), took), size, rtt)
		if size < 200 {
			t.Errorf("window is %d: want hundreds", size)
		}
		if took > 8*time.Second { // 3.3 s at the line's rate, and doubling to it takes 3.5 s
			t.Errorf("50 MiB took %v", took)
		}
		// A second blob begins with the window that the first one found.
		want = data(20 << 20)
		h = add(t, want, a)
		took = b.fetch(t, request(h, a), want, time.Minute)
		if took > 3500*time.Millisecond {
			t.Errorf("20 MiB over a known way took %v", took)
		}
	})
}

// Near by, where 16 calls in flight are all that the nodes can carry, more would only queue.
func TestWindowStaysModestNearby(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.net.SetConditions(memory.Conditions{Delay: 1200 * time.Microsecond, Jitter: 600 * time.Microsecond})
		a, b := w.member("a"), w.member("b")
		a.node.SetRate(18_000_000, 0)
		want := data(50 << 20)
		h := add(t, want, a)
		peak := 0
		req := request(h, a)
		req.Progress = func(Progress) {
			n, _ := b.window("a")
			peak = max(peak, n)
		}
		took := b.fetch(t, req, want, time.Minute)
		size, rtt := b.window("a")
		t.Logf("%v, %s, window %d, at most %d, round trip %v", took, mbps(len(want), took), size, peak, rtt)
		if size < 8 || peak > 40 {
			t.Errorf("window %d, at most %d: want 8 to 32 or so", size, peak)
		}
		if ideal := time.Duration(float64(len(want)) / 18e6 * 1e9); took > ideal*115/100 {
			t.Errorf("took %v: %v is what the line allows", took, ideal)
		}
	})
}

func TestManyProviders(t *testing.T) {
	for _, tt := range []struct {
		providers int
		loss      float64
		limit     time.Duration
	}{
		{1, 0, 8 * time.Second}, {2, 0, 6 * time.Second}, {3, 0.01, 8 * time.Second}, {5, 0.03, 8 * time.Second}, {2, 0.1, 20 * time.Second},
	} {
		t.Run(fmt.Sprintf("%d lossy %g", tt.providers, tt.loss), func(t *testing.T) {
			run(t, func(t *testing.T, w *world) {
				w.net.SetConditions(memory.Conditions{Delay: 100 * time.Millisecond, Jitter: 50 * time.Millisecond, Loss: tt.loss / 2})
				var from []*member
				for i := range tt.providers {
					from = append(from, w.member(fmt.Sprint(i)))
				}
				b := w.member("b")
				want := data(20 << 20)
				h := add(t, want, from...)
				var last Progress
				req := request(h, from...)
				req.Progress = func(p Progress) { last = p }
				took := b.fetch(t, req, want, 5*time.Minute)
				t.Logf("%v, %s", took, mbps(len(want), took))
				if took > tt.limit {
					t.Errorf("took %v, want at most %v", took, tt.limit)
				}
				sum := uint64(0)
				for _, p := range last.Providers {
					sum += p.Bytes
					if p.Bytes == 0 {
						t.Errorf("provider %s brought nothing", p.Peer)
					}
				}
				if sum != uint64(len(want)) || last.Done != sum || last.Size != sum || last.Waiting != "" {
					t.Errorf("at the end progress is %+v", last)
				}
			})
		})
	}
}

func TestThreeSlowProvidersTogether(t *testing.T) {
	took := func(n int) (d time.Duration) {
		run(t, func(t *testing.T, w *world) {
			w.net.SetConditions(memory.Conditions{Delay: 40 * time.Millisecond, Jitter: 10 * time.Millisecond})
			var from []*member
			for i := range 3 {
				m := w.member(fmt.Sprint(i))
				m.node.SetRate(500_000, 0)
				from = append(from, m)
			}
			b := w.member("b")
			want := data(8 << 20)
			h := add(t, want, from...)
			d = b.fetch(t, request(h, from[:n]...), want, 5*time.Minute)
		})
		return d
	}
	one, three := took(1), took(3)
	gain := one.Seconds() / three.Seconds()
	t.Logf("one %v, three %v: %.2f times as fast", one, three, gain)
	if gain < 2.2 {
		t.Errorf("three providers are %.2f times as fast as one: want 2.2", gain)
	}
}

// whenHalf calls f once when half of a transfer is there.
func whenHalf(req Request, f func()) Request {
	var once sync.Once
	req.Progress = func(p Progress) {
		if p.Size > 0 && p.Done > p.Size/2 {
			once.Do(f)
		}
	}
	return req
}

func TestProviderDiesInTheMiddle(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.net.SetConditions(memory.Conditions{Delay: 50 * time.Millisecond})
		a, b, c := w.member("a"), w.member("b"), w.member("c")
		for _, m := range []*member{a, b} {
			m.node.SetRate(2_000_000, 0)
		}
		want := data(10 << 20)
		h := add(t, want, a, b)
		died := false
		req := whenHalf(request(h, a, b), func() { died = true; a.node.SetOnline(false) })
		took := c.fetch(t, req, want, time.Minute)
		t.Logf("%v", took)
		if !died {
			t.Error("the provider outlived the transfer")
		}
		if took > 9*time.Second { // 2.6 s, then 2.6 s by the other, and a deadline between
			t.Errorf("took %v", took)
		}
	})
}

func TestRouteDiesInTheMiddle(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprintf("silent=%v", silent), func(t *testing.T) {
			run(t, func(t *testing.T, w *world) {
				w.net.SetConditions(memory.Conditions{Delay: 50 * time.Millisecond})
				a, b := w.member("a"), w.member("b")
				a.node.SetRate(2_000_000, 0)
				want := data(10 << 20)
				h := add(t, want, a)
				old := a.route()
				req := whenHalf(request(h, a), func() {
					w.net.SilenceRoute(old.ID, silent)
					if silent { // the owner notices in its own time
						time.AfterFunc(6*time.Second, func() { w.net.KillRoute(old.ID) })
					} else {
						w.net.KillRoute(old.ID)
					}
				})
				took := b.fetch(t, req, want, 2*time.Minute)
				t.Logf("%v", took)
				if a.route().ID == old.ID || a.fresh == 0 {
					t.Error("the route is the old one, or was not read again")
				}
				if limit := 30 * time.Second; took > limit {
					t.Errorf("took %v, want at most %v", took, limit)
				}
				for g, n := range b.store.groups[h] {
					if n != 1 {
						t.Fatalf("group %d was stored %d times", g, n)
					}
				}
			})
		})
	}
}

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

func TestTooLarge(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		a, b := w.member("a"), w.member("b", func(c *Config) { c.MaxBlob = 1 << 20 })
		h := add(t, data(1<<20+1), a)
		if _, err := b.x.Fetch(context.Background(), request(h, a)); !errors.Is(err, blobs.ErrTooLarge) {
			t.Errorf("error %v", err)
		}
		if len(b.store.groups[h]) != 0 {
			t.Error("something of it was stored")
		}
		want := data(1 << 20)
		b.fetch(t, request(add(t, want, a), a), want, time.Minute)
	})
}

func TestDiskFull(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		a, b := w.member("a"), w.member("b")
		want := data(4 << 20)
		h := add(t, want, a)
		b.store.full = func(n int) error {
			if n >= 100 {
				return blobs.ErrNoSpace
			}
			return nil
		}
		if _, err := b.x.Fetch(context.Background(), request(h, a)); !errors.Is(err, blobs.ErrNoSpace) {
			t.Fatalf("error %v", err)
		}
		kept := mustInfo(t, b, h).Have.Count(bao.Chunks(uint64(len(want)))) / bao.GroupChunks
		if kept != 100 {
			t.Errorf("%d groups were kept, 100 were stored", kept)
		}
		b.store.full = nil
		b.fetch(t, request(h, a), want, time.Minute)
		for g, n := range b.store.groups[h] {
			if n != 1 {
				t.Fatalf("group %d was stored %d times", g, n)
			}
		}
	})
}

func TestRateLimits(t *testing.T) {
	want := data(6 << 20)
	for _, at := range []string{"provider", "fetcher"} {
		t.Run(at, func(t *testing.T) {
			run(t, func(t *testing.T, w *world) {
				w.net.SetConditions(memory.Conditions{Delay: 20 * time.Millisecond})
				limit := func(c *Config) { c.MaxRate = 1 << 20 }
				none := func(*Config) {}
				up, down := limit, none
				if at == "fetcher" {
					up, down = none, limit
				}
				a, b := w.member("a", up), w.member("b", down)
				took := b.fetch(t, request(add(t, want, a), a), want, time.Minute)
				t.Logf("%v, %s", took, mbps(len(want), took))
				if took < 5500*time.Millisecond || took > 8*time.Second {
					t.Errorf("6 MiB at 1 MiB/s took %v", took)
				}
			})
		})
	}
}

func TestCloseEndsTransfers(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.net.SetConditions(memory.Conditions{Delay: 50 * time.Millisecond})
		a, b := w.member("a"), w.member("b")
		a.node.SetRate(1_000_000, 0)
		h := add(t, data(4<<20), a)
		done := make(chan error, 1)
		go func() {
			_, err := b.x.Fetch(context.Background(), request(h, a))
			done <- err
		}()
		<-time.After(time.Second)
		if err := b.x.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("error %v", err)
		}
		if _, err := b.x.Fetch(context.Background(), request(h, a)); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		synctest.Wait()
	})
}

func TestFetchSmall(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.net.SetConditions(memory.Conditions{Delay: 50 * time.Millisecond})
		a, b, c := w.member("a"), w.member("b"), w.member("c")
		var hashes []blobs.Hash
		var sizes []uint64
		var want [][]byte
		for i := range 200 {
			d := bytes.Repeat([]byte{byte(i), 1}, 10*i)
			switch i {
			case 50:
				d = data(300_000) // too large for a batch
			case 51:
				d = want[7] // twice the same
			}
			at := []*member{a, c}
			if i%10 == 3 {
				at = at[1:] // only one has it
			}
			hashes = append(hashes, add(t, d, at...))
			sizes = append(sizes, uint64(len(d)))
			want = append(want, d)
		}
		sizes[20] = 5 // the caller is wrong
		begun := time.Now()
		tags, err := b.x.FetchSmall(context.Background(), request(blobs.Hash{}, a, c), hashes, sizes)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%v", time.Since(begun))
		if d := time.Since(begun); d > 2500*time.Millisecond {
			t.Errorf("took %v: 100 ms for each of a dozen rounds would do", d)
		}
		for i, tag := range tags {
			if tag.Hash != hashes[i] {
				t.Errorf("tag %d is for %s", i, tag.Hash.Short())
			}
			b.check(t, hashes[i], want[i])
			tag.Release()
		}
	})
}

package exchange

import (
	"context"
	"errors"
	"fmt"
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

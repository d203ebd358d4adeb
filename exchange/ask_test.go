package exchange

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/exchange/internal/frame"
	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/memory"
)

func TestPing(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.net.SetConditions(memory.Conditions{Delay: 120 * time.Millisecond})
		a, b := w.member("a"), w.member("b")
		ctx := context.Background()
		rtt, err := b.x.Ping(ctx, testGroup, a.peer())
		if err != nil || rtt < 240*time.Millisecond || rtt > 250*time.Millisecond {
			t.Errorf("round trip %v, %v", rtt, err)
		}
		a.away = true
		c := w.member("c")
		if _, err := c.x.Ping(ctx, testGroup, a.peer()); !errors.Is(err, ErrAway) {
			t.Errorf("away: %v", err)
		}
		a.node.SetOnline(false)
		begun := time.Now()
		if _, err := b.x.Ping(ctx, testGroup, a.peer()); !errors.Is(err, ErrUnreachable) {
			t.Errorf("offline: %v", err)
		}
		if d := time.Since(begun); d > controlTimeout {
			t.Errorf("found out after %v", d)
		}
		if _, err := b.x.Ping(ctx, GroupID{}, a.peer()); !errors.Is(err, ErrUnknownGroup) {
			t.Errorf("no such group: %v", err)
		}
		ctx, cancel := context.WithCancelCause(ctx)
		gone := errors.New("no longer of interest")
		time.AfterFunc(time.Second, func() { cancel(gone) })
		if _, err := b.x.Ping(ctx, testGroup, a.peer()); !errors.Is(err, gone) {
			t.Errorf("given up: %v", err)
		}
	})
}

func TestHello(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		a, b := w.member("a"), w.member("b")
		var heard []Greeting
		var route []byte
		g := a.group(7)
		g.OnHello = func(e Greeting, r []byte) { heard, route = append(heard, e), r }
		a.x.AddGroup(g)
		got, err := b.x.Hello(context.Background(), testGroup, a.peer())
		if want := (Greeting{Device: "a's phone", Repo: "a"}); err != nil || got != want {
			t.Errorf("a says %+v, %v", got, err)
		}
		if want := (Greeting{Device: "b's phone", Repo: "b"}); len(heard) != 1 || heard[0] != want || !bytes.Equal(route, b.route().Blob) {
			t.Errorf("b said %+v, route of %d bytes", heard, len(route))
		}
	})
}

// A HELLO of a peer that was out of reach ends the waiting for it: its new route need not be in the DHT yet.
func TestHelloEndsWaiting(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		a, b := w.member("a"), w.member("b")
		want := data(10_000)
		h := add(t, want, a)
		old := a.route()
		w.net.KillRoute(old.ID)
		synctest.Wait()
		stuck := Peer{ID: "a", Route: func(context.Context, bool) ([]byte, error) { return old.Blob, nil }}
		time.AfterFunc(10*time.Minute, func() {
			if _, err := a.x.Hello(context.Background(), testGroup, b.peer()); err != nil {
				t.Error(err)
			}
		})
		took := b.fetch(t, Request{Group: testGroup, Hash: h, Peers: func() []Peer { return []Peer{stuck} }}, want, time.Hour)
		if took < 10*time.Minute || took > 10*time.Minute+10*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestHave(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		a, b, c := w.member("a"), w.member("b"), w.member("c")
		whole, hidden := add(t, data(70_000), a), add(t, data(80_000), a)
		a.hidden[hidden] = true
		part := add(t, data(6<<20), c)
		c.node.SetRate(1_000_000, 0)
		ctx, cancel := context.WithCancel(context.Background())
		if _, err := a.x.Fetch(ctx, whenHalf(request(part, c), cancel)); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		hashes := []blobs.Hash{whole, hidden, part, {9}, blobs.EmptyHash}
		for i := range 1000 { // more than one question takes
			hashes = append(hashes, blobs.Hash{10, byte(i), byte(i >> 8)})
		}
		held, err := b.x.Have(context.Background(), testGroup, a.peer(), hashes)
		if err != nil || len(held) != len(hashes) {
			t.Fatal(len(held), err)
		}
		info := mustInfo(t, a, part)
		for i, h := range held {
			ok := h.Hash == hashes[i] && !h.Complete && len(h.Have) == 0
			switch i {
			case 0:
				ok = h.Complete && h.Size == 70_000
			case 2:
				ok = !h.Complete && h.Size == 6<<20 && h.Have.Equal(info.Have)
			case 4:
				ok = h.Complete && h.Size == 0
			}
			if !ok {
				t.Errorf("%d: %+v", i, h)
			}
		}
	})
}

func TestNews(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		a, b, c, away := w.member("a"), w.member("b"), w.member("c"), w.member("away")
		away.away = true
		repo := veilid.OpaqueRecordKey{Key32: veilid.Key32{Kind: veilid.VLD0, Value: [32]byte{5}}}
		n := News{Repo: repo, Root: blobs.Hash{1}, Version: 3}
		to := []Peer{b.peer(), c.peer(), away.peer()}
		for _, v := range []uint64{3, 3, 2, 4} {
			n.Version = v
			if err := a.x.SendNews(context.Background(), testGroup, to, n); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		for _, m := range []*member{b, c} {
			m.mu.Lock()
			if len(m.news) != 2 || m.news[0].Version != 3 || m.news[1] != n {
				t.Errorf("%s heard %+v", m.name, m.news)
			}
			m.mu.Unlock()
		}
		// Strangers tell no news.
		s := w.member("stranger")
		s.x.AddGroup(s.group(8))
		n.Version = 9
		if err := s.x.SendNews(context.Background(), testGroup, to, n); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(b.news) != 2 {
			t.Error("a stranger's news was believed")
		}
		c.node.SetOnline(false)
		a.node.SetOnline(false)
		if err := a.x.SendNews(context.Background(), testGroup, to, n); err == nil {
			t.Error("no error, though nothing could be sent")
		}
	})
}

func TestNewsAreBounded(t *testing.T) {
	s := &served{news: map[veilid.OpaqueRecordKey]uint64{}, hello: map[string]time.Time{}}
	for i := range 3 * maxNewsRepos {
		n := frame.News{Version: 1}
		n.Repo.Value = [32]byte{byte(i), byte(i >> 8)}
		if !s.isNew(n) {
			t.Fatalf("news %d is not new", i)
		}
	}
	if len(s.news) > maxNewsRepos {
		t.Errorf("%d repos remembered", len(s.news))
	}
}

// Our route is made anew whenever it is lost, however long that takes, and each is announced once and in order.
func TestOwnRoute(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		a := w.member("a")
		first, ok := a.x.Route()
		if !ok || first.ID != a.route().ID {
			t.Fatal("no route, or not the announced one")
		}
		if s := a.x.State(); s.Degraded != "" || !s.Attached || s.Route.ID != first.ID {
			t.Errorf("degraded %q, attached %v", s.Degraded, s.Attached)
		}
		w.net.KillRoute(first.ID)
		synctest.Wait()
		second, ok := a.x.Route()
		if !ok || second.ID == first.ID || a.route().ID != second.ID {
			t.Fatal("the dead route was not replaced")
		}

		// Offline, no route can be made; the state says so.
		a.node.SetOnline(false)
		w.net.KillRoute(second.ID)
		<-time.After(10 * time.Minute)
		if _, ok := a.x.Route(); ok {
			t.Fatal("a route without a network")
		}
		if s := a.x.State(); !strings.Contains(s.Degraded, "no private route") || s.Attached {
			t.Errorf("degraded %q, attached %v", s.Degraded, s.Attached)
		}
		a.node.SetOnline(true)
		<-time.After(2 * time.Second)
		third, ok := a.x.Route()
		if !ok || a.route().ID != third.ID || len(a.routes) != 3 {
			t.Errorf("%d routes announced", len(a.routes))
		}
		if err := a.x.Close(); err != nil {
			t.Fatal(err)
		}
		if err := a.node.ReleasePrivateRoute(context.Background(), third.ID); err == nil {
			t.Error("the route outlived the exchange")
		}
	})
}

// A callback that blocks holds up neither calls nor routes; what is out of date by then is not announced.
func TestSlowOnRoute(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		release := make(chan struct{})
		var mu sync.Mutex
		var told []veilid.RouteID
		a := w.member("a", func(c *Config) {
			c.OnRoute = func(b veilid.RouteBlob) {
				<-release
				mu.Lock()
				defer mu.Unlock()
				told = append(told, b.ID)
			}
		})
		var all []veilid.RouteID
		for range 3 {
			b, _ := a.x.Route()
			all = append(all, b.ID)
			w.net.KillRoute(b.ID)
			synctest.Wait()
		}
		last, _ := a.x.Route()
		close(release)
		synctest.Wait()
		if want := []veilid.RouteID{all[0], last.ID}; !slices.Equal(told, want) {
			t.Errorf("announced %d routes, want the first and the last", len(told))
		}
	})
}

func TestNodeRestarts(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		a, b := w.member("a"), w.member("b")
		want := data(1 << 20)
		h := add(t, want, a)
		if err := a.x.Close(); err != nil {
			t.Fatal(err)
		}
		a.node = w.net.Restart(a.node)
		a.start()
		b.fetch(t, request(h, a), want, time.Minute)
	})
}

func TestNew(t *testing.T) {
	net := memory.NewNetwork()
	defer net.Close()
	node := net.NewNode("a")
	for name, c := range map[string]Config{
		"nothing":       {},
		"no store":      {Node: node},
		"too many hops": {Node: node, Store: newSpyStore(), Hops: 5},
		"negative hops": {Node: node, Store: newSpyStore(), Hops: -1},
		"negative rate": {Node: node, Store: newSpyStore(), MaxRate: -1},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	x, err := New(Config{Node: node, Store: newSpyStore()})
	if err != nil {
		t.Fatal(err)
	}
	if s := x.State(); s.Degraded != "not started" {
		t.Errorf("state %+v", s)
	}
	if err := x.Start(context.Background()); err != nil {
		t.Error(err)
	}
	if err := x.Start(context.Background()); err == nil {
		t.Error("started twice")
	}
	if err := errors.Join(x.Close(), x.Close()); err != nil {
		t.Error(err)
	}
	if err := x.Start(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("started after Close: %v", err)
	}
}

// The context of Start ends the work as Close does.
func TestStartContext(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		m := &member{w: w, name: "m", node: w.net.NewNode("m"), store: newSpyStore()}
		x, err := New(Config{Node: m.node, Store: m.store})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		if err := x.Start(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		x.wg.Wait()
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Two transfers over one route share its window; the one that comes second is not starved.
func TestTransfersShareARoute(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.net.SetConditions(memory.Conditions{Delay: 50 * time.Millisecond})
		a, b := w.member("a"), w.member("b")
		a.node.SetRate(2_000_000, 0)
		large, small := data(16<<20), data(2<<20)
		lh, sh := add(t, large, a), add(t, small, a)
		var both sync.WaitGroup
		both.Go(func() { b.fetch(t, request(lh, a), large, time.Minute) })
		<-time.After(2 * time.Second)
		took := b.fetch(t, request(sh, a), small, time.Minute)
		t.Logf("%v", took)
		if took > 3500*time.Millisecond { // 1.05 s alone, 2.1 s with its half
			t.Errorf("the second transfer took %v", took)
		}
		both.Wait()
	})
}

// However wide the windows are, no more is asked for than memory is allowed.
func TestInFlightIsBounded(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.net.SetConditions(memory.Conditions{Delay: 200 * time.Millisecond})
		a, c := w.member("a"), w.member("c")
		b := w.member("b", func(c *Config) { c.MaxInFlight = 1 << 20 })
		want := data(6 << 20)
		h := add(t, want, a, c)
		peak := 0
		req := request(h, a, c)
		req.Progress = func(p Progress) {
			n := 0
			for _, pp := range p.Providers {
				n += pp.InFlight
			}
			peak = max(peak, n)
		}
		took := b.fetch(t, req, want, time.Minute)
		t.Logf("%v, at most %d in flight", took, peak)
		if peak > 32 || peak < 24 {
			t.Errorf("%d READs in flight: 32 fill 1 MiB", peak)
		}
		if n := b.x.flying.Load(); n != 0 {
			t.Errorf("%d bytes are still counted", n)
		}
	})
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func FuzzParseRead(f *testing.F) {
	f.Add(getRequest(blobs.Hash{1}, []uint64{0, 30, 1<<64 - 1}))
	f.Add(manyRequest([]blobs.Hash{{1}, {2}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRead(b)
		if err != nil {
			return
		}
		if !r.ranges.Valid() || len(r.ranges) > 2*maxSpans || len(r.many) > frame.MaxHashes || (r.many == nil) == (len(r.ranges) == 0) {
			t.Fatalf("%+v", r)
		}
	})
}

// Whatever is asked of a blob, the answer fits, and what it claims is what a receiver verifies.
func FuzzAnswerRead(f *testing.F) {
	f.Add(uint32(100_000), []byte{0, 30}, true)
	f.Add(uint32(1), []byte{}, true)
	f.Add(uint32(70_000), []byte{3, 1, 9, 2}, false)
	f.Fuzz(func(t *testing.T, size uint32, cuts []byte, last bool) {
		net := memory.NewNetwork()
		defer net.Close()
		from, to := newSpyStore(), newSpyStore()
		x, err := New(Config{Node: net.NewNode("a"), Store: from})
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		want := data(int(size % (1 << 18)))
		tag, _, err := from.Add(context.Background(), bytes.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		pc := &piece{last: last}
		if len(cuts) > 1 {
			pc.First = uint64(cuts[0])
			pc.End = pc.First + uint64(cuts[1])
		}
		body := getRequest(tag.Hash, pc.ranges())
		if len(pc.ranges()) == 0 {
			return
		}
		a := x.answerRead(Group{Visible: func(blobs.Hash) bool { return true }}, body)
		if len(a) > veilid.MaxMessageSize {
			t.Fatalf("answer of %d bytes", len(a))
		}
		st, resp, err := frame.ParseAnswer(a)
		if err != nil || st != frame.OK && st != frame.Shortened {
			t.Fatalf("status %d, %v", st, err)
		}
		ranges := pc.ranges()
		if st == frame.Shortened {
			if _, ranges, resp, err = shortened(pc, resp); err != nil {
				t.Fatal(err)
			}
		}
		r, err := blobs.NewReceiver(context.Background(), to, tag.Hash, 1<<20)
		if errors.Is(err, blobs.ErrComplete) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, _, err := r.Write(context.Background(), ranges, resp); err != nil && !errors.Is(err, blobs.ErrSizeUnknown) {
			t.Fatalf("%v of %d bytes: %v", ranges, len(want), err)
		}
	})
}

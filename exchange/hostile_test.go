package exchange

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/exchange/internal/frame"
	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/memory"
)

// window is the size of the window towards a peer, and the smoothed round trip.
func (m *member) window(peer string) (size int, rtt time.Duration) {
	for _, l := range m.x.linksWhere(func(l *link) bool { return l.key.peer == peer }) {
		l.mu.Lock()
		size, rtt = l.win.Size(), l.win.RTT()
		l.mu.Unlock()
	}
	return size, rtt
}

// No lie reaches the store, and the liar is not asked again for this blob.
func TestLiars(t *testing.T) {
	lies := map[string]func(honest []byte) []byte{
		"flipped bit":    func(a []byte) []byte { b := bytes.Clone(a); b[len(b)/2] ^= 1; return b },
		"last byte":      func(a []byte) []byte { b := bytes.Clone(a); b[len(b)-1] ^= 1; return b },
		"other size":     func(a []byte) []byte { b := bytes.Clone(a); b[1] ^= 1; return b },
		"truncated":      func(a []byte) []byte { return a[:len(a)-1] },
		"half":           func(a []byte) []byte { return a[:len(a)/2] },
		"too long":       func(a []byte) []byte { return append(bytes.Clone(a), 0) },
		"only header":    func(a []byte) []byte { return a[:9] },
		"shortened more": func(a []byte) []byte { return append([]byte{byte(frame.Shortened), 10}, a[1:]...) },
		"endless varint": func([]byte) []byte { return append([]byte{byte(frame.Shortened)}, bytes.Repeat([]byte{0xff}, 20)...) },
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, w *world) {
				w.net.SetConditions(memory.Conditions{Delay: 10 * time.Millisecond})
				a, b := w.member("a"), w.member("b")
				liar := w.fake("liar", onlyReads(lie))
				want := data(1 << 20)
				h := add(t, want, a, liar.member)
				var last Progress
				req := request(h, liar.member, a)
				req.Progress = func(p Progress) { last = p }
				took := b.fetch(t, req, want, time.Minute)
				if took > 3*time.Second {
					t.Errorf("took %v", took)
				}
				for _, p := range last.Providers {
					if p.Peer == "liar" && (p.State != "liar" || p.Bytes > 0) {
						t.Errorf("the liar is %q and brought %d bytes", p.State, p.Bytes)
					}
				}
				// Not even in the next transfer.
				if err := b.store.Delete(context.Background(), h); err != nil {
					t.Fatal(err)
				}
				n := liar.count(frame.OpRead)
				b.fetch(t, req, want, time.Minute)
				if liar.count(frame.OpRead) != n {
					t.Error("the liar was asked again")
				}
			})
		})
	}
}

func TestOnlyALiar(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		b := w.member("b")
		liar := w.fake("liar", onlyReads(func(a []byte) []byte { return a[:len(a)-1] }))
		h := add(t, data(100_000), liar.member)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := b.x.Fetch(ctx, request(h, liar.member)); !errors.Is(err, blobs.ErrVerify) {
			t.Errorf("error %v", err)
		}
		if n := liar.count(frame.OpRead); n != 1 {
			t.Errorf("the liar was asked %d times", n)
		}
		if len(b.store.groups[h]) > 0 {
			t.Error("something was stored")
		}
	})
}

// Peers that are of no use do not hold up one that is.
func TestUselessPeers(t *testing.T) {
	tests := []struct {
		name   string
		answer func([]byte) []byte
		limit  time.Duration
	}{
		{"silent", func([]byte) []byte { return nil }, 3 * time.Second},
		{"empty", func([]byte) []byte { return []byte{} }, 3 * time.Second},
		{"busy", func([]byte) []byte { return frame.BusyAnswer(10 * time.Second) }, 3 * time.Second},
		{"busy without a time", func([]byte) []byte { return []byte{byte(frame.Busy)} }, 3 * time.Second},
		{"not found", func([]byte) []byte { return []byte{byte(frame.NotFound)} }, 3 * time.Second},
		{"denied", func([]byte) []byte { return denied }, 3 * time.Second},
		{"bad request", func([]byte) []byte { return []byte{byte(frame.BadRequest)} }, 3 * time.Second},
		{"too large", func([]byte) []byte { return []byte{byte(frame.TooLarge)} }, 3 * time.Second},
		{"unknown status", func([]byte) []byte { return []byte{99, 1, 2, 3} }, 3 * time.Second},
		{"legacy", func([]byte) []byte { return []byte{frame.LegacyRefusal} }, 3 * time.Second},
		{"shortened to nothing", func([]byte) []byte { return frame.AppendShortened(nil, 0) }, 3 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run(t, func(t *testing.T, w *world) {
				w.net.SetConditions(memory.Conditions{Delay: 10 * time.Millisecond})
				a, b := w.member("a"), w.member("b")
				useless := w.fake("useless", onlyReads(tt.answer))
				want := data(4 << 20)
				h := add(t, want, a, useless.member)
				took := b.fetch(t, request(h, useless.member, a), want, time.Minute)
				if took > tt.limit {
					t.Errorf("took %v", took)
				}
				if n := useless.count(frame.OpRead); n == 0 || n > 20 {
					t.Errorf("the useless peer was asked %d times", n)
				}
			})
		})
	}
}

// One that answers at first and then falls silent is left after a few calls.
func TestStaller(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.net.SetConditions(memory.Conditions{Delay: 10 * time.Millisecond})
		a, b := w.member("a"), w.member("b")
		a.node.SetRate(4_000_000, 0)
		n := 0
		staller := w.fake("staller", onlyReads(func(a []byte) []byte {
			if n++; n > 40 {
				return nil
			}
			return a
		}))
		want := data(8 << 20)
		h := add(t, want, a, staller.member)
		took := b.fetch(t, request(h, a, staller.member), want, time.Minute)
		t.Logf("%v, asked %d times", took, staller.count(frame.OpRead))
		if took > 4*time.Second { // 2 s by the other alone
			t.Errorf("took %v", took)
		}
	})
}

func TestBusyPeerIsAskedWhenItSaid(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		b := w.member("b")
		var at []time.Time
		shy := w.fake("shy", onlyReads(func(a []byte) []byte {
			at = append(at, time.Now())
			if len(at) == 1 {
				return frame.BusyAnswer(7 * time.Second)
			}
			return a
		}))
		want := data(1000)
		h := add(t, want, shy.member)
		b.fetch(t, request(h, shy.member), want, time.Minute)
		if d := at[1].Sub(at[0]); d < 7*time.Second || d > 7100*time.Millisecond {
			t.Errorf("asked again after %v", d)
		}
	})
}

// A peer that knows only tunnels is not waited for: there are other ways to ask it.
func TestOnlyLegacyPeers(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		b := w.member("b")
		old := w.fake("old", func(frame.Frame, []byte) []byte { return []byte{frame.LegacyRefusal} })
		ctx := context.Background()
		if _, err := b.x.Fetch(ctx, request(blobs.Sum([]byte("x")), old.member)); !errors.Is(err, ErrLegacyPeer) {
			t.Errorf("Fetch: %v", err)
		}
		if _, err := b.x.Ping(ctx, testGroup, old.peer()); !errors.Is(err, ErrLegacyPeer) {
			t.Errorf("Ping: %v", err)
		}
	})
}

// Answers that are too big for a way that loses single datagrams become smaller.
func TestSmallerAnswersWhereBigOnesAreLost(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.net.SetConditions(memory.Conditions{Delay: 20 * time.Millisecond, LossPerKiB: 0.012})
		a, b := w.member("a"), w.member("b")
		a.node.SetRate(2_000_000, 0)
		want := data(12 << 20)
		h := add(t, want, a)
		smallest := 30
		req := request(h, a)
		req.Progress = func(Progress) {
			for _, l := range b.x.linksWhere(func(*link) bool { return true }) {
				l.mu.Lock()
				smallest = min(smallest, l.win.Chunks())
				l.mu.Unlock()
			}
		}
		took := b.fetch(t, req, want, 10*time.Minute)
		t.Logf("%v, %s, down to %d chunks", took, mbps(len(want), took), smallest)
		if smallest == 30 {
			t.Error("the answers stayed large")
		}
	})
}

// ask sends raw bytes to a member's route, as anybody who has its blob can.
func (w *world) ask(t *testing.T, from *member, to veilid.RouteBlob, q []byte) []byte {
	t.Helper()
	id, err := from.node.ImportRemotePrivateRoute(context.Background(), to.Blob)
	if err != nil {
		t.Fatal(err)
	}
	if id != to.ID {
		t.Fatal("an imported route has another id than its owner's")
	}
	a, err := from.node.Context(veilid.SafetySelection{}).AppCall(context.Background(), veilid.RouteTarget(id), q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Strangers get the same answer to everything, so that they learn nothing, not even whether a blob exists.
func TestStrangersLearnNothing(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		a, s, b := w.member("a"), w.member("stranger"), w.member("b")
		h := add(t, data(1000), a)
		absent := blobs.Sum([]byte("absent"))
		ours, others := frame.NewKeys(secretOf(7)), frame.NewKeys(secretOf(9))
		seal := func(k *frame.Keys, op frame.Op, to veilid.RouteBlob, body []byte) []byte {
			q, err := k.Seal(op, to.ID, body)
			if err != nil {
				t.Fatal(err)
			}
			return q
		}
		read := getRequest(h, []uint64{0})
		good := seal(ours, frame.OpRead, a.route(), read)
		changed := func(i int) []byte { q := bytes.Clone(good); q[i] ^= 1; return q }
		random := make([]byte, 200)
		rand.Read(random)
		copy(random, "DWB1")
		strange := map[string][]byte{
			"another group's READ of what is there": seal(others, frame.OpRead, a.route(), read),
			"another group's READ of what is not":   seal(others, frame.OpRead, a.route(), getRequest(absent, []uint64{0})),
			"another group's PING":                  seal(others, frame.OpPing, a.route(), nil),
			"another group's HAVE":                  seal(others, frame.OpHave, a.route(), h[:]),
			"another group's HELLO":                 seal(others, frame.OpHello, a.route(), frame.Hello{Version: 1}.Append(nil)),
			"another group's nonsense":              seal(others, 99, a.route(), []byte("x")),
			"changed operation":                     changed(4),
			"changed tag":                           changed(5),
			"changed nonce":                         changed(13),
			"changed body":                          changed(26),
			"changed mac":                           changed(len(good) - 1),
			"cut short":                             good[:len(good)-1],
			"very short":                            good[:10],
			"meant for another member":              seal(ours, frame.OpRead, b.route(), read),
			"random":                                random,
		}
		for name, q := range strange {
			if got := w.ask(t, s, a.route(), q); !bytes.Equal(got, denied) {
				t.Errorf("%s: answered with % x", name, got[:min(len(got), 20)])
			}
		}
		if got := w.ask(t, s, a.route(), good); got[0] != byte(frame.OK) || len(got) != 1+8+1000 {
			t.Errorf("a member's READ: % x", got[:min(len(got), 20)])
		}
		for name, q := range map[string][]byte{"a tunnel": []byte("VLD0 and so on"), "nothing": {}, "other magic": []byte("DWB2xxxx")} {
			if got := w.ask(t, s, a.route(), q); !bytes.Equal(got, []byte{frame.LegacyRefusal}) {
				t.Errorf("%s: answered with % x", name, got)
			}
		}
	})
}

func TestLegacyDoor(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		var a *member
		a = w.member("a", func(c *Config) {
			c.Legacy = func(c *veilid.AppCall) bool {
				if string(c.Message) == "refuse" {
					return false
				}
				go a.node.AppCallReply(context.Background(), c.CallID, []byte{0})
				return true
			}
		})
		s := w.member("s")
		if got := w.ask(t, s, a.route(), []byte("tunnel")); !bytes.Equal(got, []byte{0}) {
			t.Errorf("taken call: % x", got)
		}
		if got := w.ask(t, s, a.route(), []byte("refuse")); !bytes.Equal(got, []byte{1}) {
			t.Errorf("refused call: % x", got)
		}
	})
}

// Requests of members that are not as they should be are answered all the same.
func TestBadRequests(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		a, b := w.member("a"), w.member("b")
		h := add(t, data(100_000), a)
		keys := frame.NewKeys(secretOf(7))
		bodies := map[string]struct {
			op   frame.Op
			body []byte
			want frame.Status
		}{
			"empty READ":           {frame.OpRead, nil, frame.BadRequest},
			"READ of nothing":      {frame.OpRead, getRequest(h, nil), frame.BadRequest},
			"READ with a tail":     {frame.OpRead, append(getRequest(h, []uint64{0}), 0), frame.BadRequest},
			"READ with children":   {frame.OpRead, append(append([]byte{0}, h[:]...), 1, 0, 1, 0), frame.BadRequest},
			"READ of absent blob":  {frame.OpRead, getRequest(blobs.Hash{1}, []uint64{0}), frame.NotFound},
			"READ of everything":   {frame.OpRead, getRequest(h, []uint64{0}), frame.Shortened},
			"READ past the end":    {frame.OpRead, getRequest(h, []uint64{1 << 40}), frame.OK},
			"READ of no blobs":     {frame.OpRead, manyRequest(nil), frame.BadRequest},
			"READ of absent blobs": {frame.OpRead, manyRequest([]blobs.Hash{{1}, {2}}), frame.Shortened},
			"push":                 {frame.OpRead, append([]byte{8}, h[:]...), frame.BadRequest},
			"empty HAVE":           {frame.OpHave, nil, frame.BadRequest},
			"odd HAVE":             {frame.OpHave, h[:31], frame.BadRequest},
			"long HAVE":            {frame.OpHave, make([]byte, 32*513), frame.BadRequest},
			"full HAVE":            {frame.OpHave, make([]byte, 32*512), frame.OK},
			"bad HELLO":            {frame.OpHello, []byte{1, 0, 0xff, 0xff, 0xff}, frame.BadRequest},
			"NEWS as a call":       {frame.OpNews, nil, frame.BadRequest},
			"unknown operation":    {77, nil, frame.BadRequest},
		}
		for name, q := range bodies {
			raw, err := keys.Seal(q.op, a.route().ID, q.body)
			if err != nil {
				t.Fatal(err)
			}
			got := w.ask(t, b, a.route(), raw)
			if frame.Status(got[0]) != q.want || len(got) > veilid.MaxMessageSize {
				t.Errorf("%s: status %d, %d bytes", name, got[0], len(got))
			}
		}
	})
}

// More small questions than a group may ask are refused with a time to wait, READs go on.
func TestFloodOfSmallQuestions(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		a, b := w.member("a"), w.member("b")
		ctx := context.Background()
		busy := 0
		for range 600 {
			if _, err := b.x.Ping(ctx, testGroup, a.peer()); errors.Is(err, ErrBusy) {
				busy++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if busy < 150 || busy > 200 {
			t.Errorf("%d of 600 were refused, 400 are allowed at once", busy)
		}
		want := data(10_000)
		b.fetch(t, request(add(t, want, a), a), want, time.Second)
		<-time.After(time.Second)
		if _, err := b.x.Ping(ctx, testGroup, a.peer()); err != nil {
			t.Errorf("a second later: %v", err)
		}
	})
}

// A provider that cannot keep up says when to ask again rather than fall silent.
func TestBusyAboveTheRate(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		a := w.member("a", func(c *Config) { c.MaxRate = 200_000 })
		s := w.member("s")
		h := add(t, data(30_000), a)
		keys := frame.NewKeys(secretOf(7))
		id, err := s.node.ImportRemotePrivateRoute(context.Background(), a.route().Blob)
		if err != nil {
			t.Fatal(err)
		}
		type reply struct {
			status frame.Status
			retry  time.Duration
		}
		replies := make(chan reply, 100)
		for range 100 {
			q, err := keys.Seal(frame.OpRead, id, getRequest(h, []uint64{0}))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				got, err := s.node.Context(veilid.SafetySelection{}).AppCall(context.Background(), veilid.RouteTarget(id), q)
				if err != nil {
					t.Errorf("no answer: %v", err)
					got = []byte{9}
				}
				replies <- reply{frame.Status(got[0]), frame.ParseBusy(got[1:])}
			}()
		}
		served, busy := 0, 0
		for range 100 {
			switch r := <-replies; r.status {
			case frame.OK, frame.Shortened:
				served++
			case frame.Busy:
				if busy++; r.retry < 100*time.Millisecond || r.retry > 5*time.Second {
					t.Errorf("retry after %v", r.retry)
				}
			default:
				t.Errorf("status %d", r.status)
			}
		}
		t.Logf("%d served, %d told to come back", served, busy)
		if served < 8 || busy < 70 {
			t.Error("want about ten served and the others refused")
		}
	})
}

// A group that floods us does not hold up another.
func TestGroupsTakeTurns(t *testing.T) {
	q := newCallQueue()
	loud, quiet := &served{}, &served{}
	for i := range 100 {
		if _, ok := q.push(incoming{group: loud, say: []byte(fmt.Sprint(i))}); !ok {
			t.Fatal("no room")
		}
	}
	q.push(incoming{group: quiet})
	q.pop()
	if in, _ := q.pop(); in.group != quiet {
		t.Error("the quiet group waits behind the loud one")
	}
	for i := 1; i < 100; i++ {
		if in, _ := q.pop(); string(in.say) != fmt.Sprint(i) {
			t.Fatalf("question %d came as %s", i, in.say)
		}
	}
	n := 0
	for range 2 * maxGroupReads {
		if _, ok := q.push(incoming{group: loud}); ok {
			n++
		}
	}
	if n != maxGroupReads {
		t.Errorf("%d of one group were queued, want %d", n, maxGroupReads)
	}
	q.close()
	if _, ok := q.pop(); ok {
		t.Error("a closed queue gives work")
	}
}

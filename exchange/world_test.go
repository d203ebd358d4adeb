package exchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/memory"
)

// world is a network of members of one group, in virtual time.
type world struct {
	t   *testing.T
	net *memory.Network
	all []*member
}

// member is one device.
type member struct {
	w     *world
	name  string
	node  *memory.Node
	store *spyStore
	x     *Exchange

	mu     sync.Mutex
	routes []veilid.RouteBlob // as told to OnRoute: the last one is what the "DHT" holds
	hidden map[blobs.Hash]bool
	news   []News
	fresh  int // how often the route was read again
	away   bool
}

var testGroup = GroupID{Key32: veilid.Key32{Kind: veilid.VLD0, Value: [32]byte{1}}}

func secretOf(b byte) veilid.SharedSecret {
	return veilid.NewSharedSecret(veilid.VLD0, [32]byte{b})
}

// run calls f in a bubble with a network without members.
func run(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: memory.NewNetwork()}
		defer func() {
			for _, m := range w.all {
				m.stop()
			}
			w.net.Close()
		}()
		f(t, w)
	})
}

// member adds a device that belongs to the group, and waits until it has a route.
func (w *world) member(name string, change ...func(*Config)) *member {
	w.t.Helper()
	m := &member{w: w, name: name, node: w.net.NewNode(name), store: newSpyStore(), hidden: map[blobs.Hash]bool{}}
	m.start(change...)
	w.all = append(w.all, m)
	return m
}

func (m *member) start(change ...func(*Config)) {
	m.w.t.Helper()
	cfg := Config{Node: m.node, Store: m.store, OnRoute: func(b veilid.RouteBlob) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.routes = append(m.routes, b)
	}}
	if os.Getenv("DWEB_TEST_LOG") != "" {
		cfg.Log = slog.New(slog.NewTextHandler(m.w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("at", m.name)
	}
	for _, f := range change {
		f(&cfg)
	}
	x, err := New(cfg)
	if err != nil {
		m.w.t.Fatal(err)
	}
	m.x = x
	x.AddGroup(m.group(7))
	if err := x.Start(context.Background()); err != nil {
		m.w.t.Fatal(err)
	}
	synctest.Wait()
}

func (m *member) group(secret byte) Group {
	return Group{
		ID: testGroup, Secret: secretOf(secret),
		Visible: func(h blobs.Hash) bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return !m.hidden[h]
		},
		OnNews: func(_ string, n News) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.news = append(m.news, n)
		},
		Greet: func() Greeting { return Greeting{Device: m.name + "'s phone", Repo: m.name} },
	}
}

func (m *member) stop() {
	if m.x != nil {
		if err := m.x.Close(); err != nil {
			m.w.t.Error(err)
		}
		m.x = nil
	}
	m.store.Close()
}

// peer is the member as others see it.
func (m *member) peer() Peer {
	return Peer{ID: m.name, Route: func(_ context.Context, fresh bool) ([]byte, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if fresh {
			m.fresh++
		}
		if m.away || len(m.routes) == 0 {
			return nil, ErrAway
		}
		return m.routes[len(m.routes)-1].Blob, nil
	}}
}

func (m *member) route() veilid.RouteBlob {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.routes[len(m.routes)-1]
}

func peersOf(ms ...*member) func() []Peer {
	return func() (ps []Peer) {
		for _, m := range ms {
			ps = append(ps, m.peer())
		}
		return ps
	}
}

// request asks some members for a blob.
func request(h blobs.Hash, from ...*member) Request {
	return Request{Group: testGroup, Hash: h, Peers: peersOf(from...)}
}

// data is n bytes that look random.
func data(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	r.Read(b)
	return b
}

// add puts a blob into members' stores.
func add(t *testing.T, b []byte, to ...*member) (h blobs.Hash) {
	t.Helper()
	for _, m := range to {
		h = addTo(t, b, m.store)
	}
	return h
}

func addTo(t testing.TB, b []byte, s *spyStore) blobs.Hash {
	t.Helper()
	tag, _, err := s.Add(context.Background(), bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return tag.Hash
}

// fetch fetches within a limit of virtual time, and compares.
func (m *member) fetch(t *testing.T, req Request, want []byte, limit time.Duration) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	begun := time.Now()
	tag, err := m.x.Fetch(ctx, req)
	if err != nil {
		t.Fatalf("after %v: %v", time.Since(begun), err)
	}
	took := time.Since(begun)
	defer tag.Release()
	m.check(t, req.Hash, want)
	return took
}

// check compares a complete blob with what it should be.
func (m *member) check(t *testing.T, h blobs.Hash, want []byte) {
	t.Helper()
	b, err := m.store.Open(context.Background(), h)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if info := b.Info(); !info.Complete || info.Size != uint64(len(want)) {
		t.Fatalf("store holds %+v, want %d bytes", info, len(want))
	}
	got := make([]byte, len(want))
	if _, err := b.ReadAt(got, 0); err != nil && len(got) > 0 && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("the blob has other bytes")
	}
}

func mbps(n int, d time.Duration) string {
	return fmt.Sprintf("%.2f MB/s", float64(n)/d.Seconds()/1e6)
}

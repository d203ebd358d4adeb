package exchange

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/disk"
	"github.com/OpenArchive/save-dweb-go/interop/lab"
	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/remote"
)

// TestLabFetch moves blobs between real nodes, near by and over the distances of the lab's table.
func TestLabFetch(t *testing.T) {
	l := lab.Start(t, 10)
	type device struct {
		*Exchange
		store blobs.Store
		route veilid.RouteBlob
	}
	start := func(k int) device {
		n, err := remote.Dial(t.Context(), l.Socket(k), remote.Options{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		s, err := disk.Open(t.Context(), t.TempDir(), disk.Options{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		routes := make(chan veilid.RouteBlob, 100)
		x, err := New(Config{Node: n, Store: s, OnRoute: func(b veilid.RouteBlob) { routes <- b }})
		if err != nil {
			t.Fatal(err)
		}
		x.AddGroup((&member{name: "lab"}).group(7))
		if err := x.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := x.Close(); err != nil {
				t.Error(err)
			}
			n.Close()
			s.Close()
		})
		select {
		case r := <-routes:
			return device{x, s, r}
		case <-time.After(time.Minute):
			t.Fatalf("no route: %s", x.State().Degraded)
		}
		return device{}
	}
	a, b, c := start(2), start(3), start(4)
	peer := func(name string, d device) Peer {
		return Peer{ID: name, Route: func(context.Context, bool) ([]byte, error) {
			if r, ok := d.Route(); ok {
				return r.Blob, nil
			}
			return nil, ErrAway
		}}
	}
	peers := func() []Peer { return []Peer{peer("a", a), peer("c", c)} }
	if rtt, err := b.Ping(t.Context(), testGroup, peer("a", a)); err != nil {
		t.Fatal(err)
	} else {
		t.Logf("round trip %v", rtt)
	}
	for i, tt := range []struct {
		name      string
		wan       string
		providers int
		size      int
	}{
		{"near", "", 1, 64 << 20},
		{"near, two providers", "", 2, 64 << 20},
		{"40 ms on each link", "all delay=40ms", 1, 64 << 20},
		{"40 ms and 1 % loss", "all delay=40ms loss=1", 1, 16 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.wan != "" {
				if err := l.Wan(tt.wan); err != nil {
					t.Fatal(err)
				}
			}
			want := data(tt.size + i)
			var h blobs.Hash
			for _, d := range []device{a, c}[:tt.providers] {
				tag, _, err := d.store.Add(t.Context(), bytes.NewReader(want))
				if err != nil {
					t.Fatal(err)
				}
				h = tag.Hash
			}
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			begun := time.Now()
			second := 0
			tag, err := b.Fetch(ctx, Request{Group: testGroup, Hash: h, Peers: func() []Peer { return peers()[:tt.providers] }, Progress: func(p Progress) {
				if s := int(time.Since(begun) / time.Second); s != second {
					second = s
					for _, l := range b.linksWhere(func(*link) bool { return true }) {
						l.mu.Lock()
						if len(l.calls) > 0 {
							t.Logf("%s: %v", l.key.peer, l.win)
						}
						l.mu.Unlock()
					}
					t.Logf("%2d s: %5.1f MiB, %5.2f MB/s, %s", s, float64(p.Done)/(1<<20), p.Rate/1e6, p.Waiting)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer tag.Release()
			took := time.Since(begun)
			t.Logf("%v, %s", took, mbps(len(want), took)) // how fast it should be is make bench's affair
			if err := b.store.Verify(ctx, h); err != nil {
				t.Error(err)
			}
		})
	}
}

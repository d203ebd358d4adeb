package exchange

import (
	"context"
	"testing"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/memory"
)

// BenchmarkFetch is the exchange's own cost, both ends, over a network that costs nothing.
func BenchmarkFetch(b *testing.B) {
	net := memory.NewNetwork()
	defer net.Close()
	start := func(name string) (*Exchange, *spyStore, chan veilid.RouteBlob) {
		routes := make(chan veilid.RouteBlob, 8)
		s := newSpyStore()
		x, err := New(Config{Node: net.NewNode(name), Store: s, OnRoute: func(r veilid.RouteBlob) { routes <- r }})
		if err != nil {
			b.Fatal(err)
		}
		x.AddGroup((&member{name: name}).group(7))
		if err := x.Start(context.Background()); err != nil {
			b.Fatal(err)
		}
		return x, s, routes
	}
	px, ps, routes := start("provider")
	defer px.Close()
	fx, fs, _ := start("fetcher")
	defer fx.Close()
	route := <-routes
	const size = 64 << 20
	h := addTo(b, data(size), ps)
	req := Request{Group: testGroup, Hash: h, Peers: func() []Peer {
		return []Peer{{ID: "provider", Route: func(context.Context, bool) ([]byte, error) { return route.Blob, nil }}}
	}}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		tag, err := fx.Fetch(context.Background(), req)
		if err != nil {
			b.Fatal(err)
		}
		tag.Release()
		if err := fs.Delete(context.Background(), h); err != nil {
			b.Fatal(err)
		}
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/remote"
)

// plain makes bare app calls between two nodes: what the network carries without us. Small questions go from one node
// to the other, large answers come back, as a transfer's do; routes and safety are those of the exchange.
type plain struct {
	from, to *remote.Node
	target   veilid.Target
	route    veilid.RouteID
	end      context.CancelFunc
	done     chan struct{}
}

var hop = veilid.SafetySpec{HopCount: 1, Stability: veilid.Reliable, Sequencing: veilid.PreferOrdered}

func newPlain(ctx context.Context, from, to string) (p *plain, err error) {
	p = &plain{done: make(chan struct{})}
	if p.from, err = remote.Dial(ctx, from, remote.Options{}); err != nil {
		return nil, err
	}
	if p.to, err = remote.Dial(ctx, to, remote.Options{}); err != nil {
		return nil, errors.Join(err, p.from.Close())
	}
	blob, err := p.to.NewPrivateRoute(ctx, veilid.PrivateSpec{HopCount: 1, Stability: veilid.Reliable, Sequencing: veilid.PreferOrdered})
	if err != nil {
		return nil, errors.Join(err, p.from.Close(), p.to.Close())
	}
	id, err := p.from.ImportRemotePrivateRoute(ctx, blob.Blob)
	if err != nil {
		return nil, errors.Join(err, p.from.Close(), p.to.Close())
	}
	p.target, p.route = veilid.RouteTarget(id), blob.ID
	sub := p.to.Subscribe(veilid.AppCalls)
	actx, cancel := context.WithCancel(context.Background())
	p.end = cancel
	go p.answer(actx, sub)
	return p, nil
}

// answer answers each question with as many bytes as it asks for, in KiB.
func (p *plain) answer(ctx context.Context, sub veilid.Subscription) {
	defer close(p.done)
	defer sub.Close()
	data := make([]byte, veilid.MaxMessageSize)
	for i := range data {
		data[i] = byte(i * 131 >> 3)
	}
	var g errgroup.Group
	defer g.Wait() //nolint:errcheck // a reply that fails shows at the asker
	for {
		u, err := sub.Next(ctx)
		if err != nil {
			return
		}
		c, ok := u.(*veilid.AppCall)
		if !ok || c.Route != p.route || len(c.Message) != 1 {
			continue
		}
		g.Go(func() error { return p.to.AppCallReply(ctx, c.CallID, data[:int(c.Message[0])<<10]) })
	}
}

func (p *plain) close() error {
	p.end()
	<-p.done
	return errors.Join(p.from.Close(), p.to.Close())
}

// rate makes n calls for answers of kib KiB, window of them at a time, and returns the bytes of answers per second.
func (p *plain) rate(ctx context.Context, kib byte, window, n int) (float64, error) {
	dht := p.from.Context(veilid.Safe(hop))
	if _, err := dht.AppCall(ctx, p.target, []byte{1}); err != nil { // the route's first call is slower
		return 0, fmt.Errorf("first call: %w", err)
	}
	var got, failed atomic.Int64
	var g errgroup.Group
	g.SetLimit(window)
	began := time.Now()
	for range n {
		g.Go(func() error {
			b, err := dht.AppCall(ctx, p.target, []byte{kib})
			if err != nil {
				failed.Add(1)
				return nil
			}
			got.Add(int64(len(b)))
			return nil
		})
	}
	g.Wait() //nolint:errcheck // failures are counted
	if 2*failed.Load() > int64(n) {
		return 0, fmt.Errorf("%d of %d calls failed", failed.Load(), n)
	}
	return float64(got.Load()) / time.Since(began).Seconds(), nil
}

// best is the highest rate of 32 KiB answers among these windows, each with perWindow calls for each place in it.
func (p *plain) best(ctx context.Context, windows []int, calls func(window int) int) (rate float64, at int, err error) {
	for _, w := range windows {
		r, err := p.rate(ctx, 32, w, calls(w))
		if err != nil {
			return 0, 0, fmt.Errorf("%d calls in flight: %w", w, err)
		}
		if r > rate {
			rate, at = r, w
		}
	}
	return rate, at, nil
}

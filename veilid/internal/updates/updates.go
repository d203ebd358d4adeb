// Package updates hands a node's updates to its subscribers. Every engine of veilid.Node uses it, so that order, loss
// and the end of a subscription are the same on all of them.
package updates

import (
	"sync"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// The default bounds of one subscriber's queue.
const (
	DefaultUpdates = 4096
	DefaultBytes   = 64 << 20 // of payload
)

// Option is a choice of [New].
type Option func(*Broadcaster)

// WithQueue bounds each subscriber's queue to this many updates and this many bytes of payload.
func WithQueue(updates, bytes int) Option {
	return func(b *Broadcaster) { b.maxUpdates, b.maxBytes = updates, bytes }
}

// Broadcaster copies each published update to every subscription that wants its kind. Publishing never waits: a
// subscriber that reads too slowly loses updates of its own and no others.
type Broadcaster struct {
	maxUpdates, maxBytes int

	mu     sync.Mutex
	subs   map[*subscription]struct{}
	closed bool
}

// New is a broadcaster without subscribers.
func New(opts ...Option) *Broadcaster {
	b := &Broadcaster{maxUpdates: DefaultUpdates, maxBytes: DefaultBytes, subs: map[*subscription]struct{}{}}
	for _, o := range opts {
		o(b)
	}
	return b
}

// Publish delivers u to those who asked for its kind, in the order of the calls. It keeps u, which must not change
// any more. After Close it does nothing.
func (b *Broadcaster) Publish(u veilid.Update) {
	kind, noise := classify(u)
	size := payload(u)
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subs {
		if kind == 0 || s.kinds&kind != 0 {
			s.push(u, size, noise)
		}
	}
}

// Subscribe starts to deliver the updates of these kinds that are published from now on.
func (b *Broadcaster) Subscribe(kinds veilid.UpdateKinds) veilid.Subscription {
	s := &subscription{
		owner: b, kinds: kinds, maxUpdates: b.maxUpdates, maxBytes: b.maxBytes, wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		s.end(false)
	} else {
		b.subs[s] = struct{}{}
	}
	return s
}

// Close ends all subscriptions. What is queued may still be read; then Next returns veilid.ErrShutdown.
func (b *Broadcaster) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for s := range b.subs {
		s.end(false)
	}
	clear(b.subs)
}

func (b *Broadcaster) remove(s *subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subs, s)
}

// classify tells the kind to subscribe to, 0 for what always arrives, and whether a later update of the same kind
// says the same again, so that its loss harms least.
func classify(u veilid.Update) (kind veilid.UpdateKinds, noise bool) {
	switch u.(type) {
	case *veilid.AppMessage:
		return veilid.AppMessages, false
	case *veilid.AppCall:
		return veilid.AppCalls, false
	case *veilid.Attachment:
		return veilid.Attachments, true
	case *veilid.Network:
		return veilid.Networks, true
	case *veilid.RouteChange:
		return veilid.RouteChanges, false
	case *veilid.ValueChange:
		return veilid.ValueChanges, false
	case *veilid.Log:
		return veilid.Logs, true
	}
	return 0, false
}

// payload is the size in bytes of what an update carries.
func payload(u veilid.Update) int {
	const key = 4 + veilid.KeySize
	switch u := u.(type) {
	case *veilid.AppMessage:
		return len(u.Message)
	case *veilid.AppCall:
		return len(u.Message)
	case *veilid.Network:
		return len(u.NodeIDs) * key
	case *veilid.RouteChange:
		return (len(u.DeadRoutes) + len(u.DeadRemoteRoutes)) * key
	case *veilid.ValueChange:
		n := len(u.Subkeys) * 8
		if u.Value != nil {
			n += len(u.Value.Data)
		}
		return n
	case *veilid.Log:
		return len(u.Level) + len(u.Message)
	}
	return 0
}

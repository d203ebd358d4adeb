// Package backend is a device's whole life in its groups: it owns the node, the blob store and the vault, knows the
// groups, runs their work in the network and the jobs that people asked for, and tells what happens.
package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/exchange"
	"github.com/OpenArchive/save-dweb-go/group"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Errors of the backend.
var (
	// ErrGroupNotFound: this device is not in such a group.
	ErrGroupNotFound = errors.New("Group not found") //nolint:staticcheck // the Save app's wording
	// ErrAmbiguous: several groups, repos or files match what was given.
	ErrAmbiguous = errors.New("ambiguous")
	// ErrClosed: the backend was closed.
	ErrClosed = errors.New("backend is closed")
	// ErrOffline: the network must answer, and cannot be reached.
	ErrOffline = errors.New("not attached to the network")
)

// withdrawLimit bounds how long Close tells members that this device goes away.
const withdrawLimit = 8 * time.Second

// Config is what New needs. The backend owns Node, Store and Table from then on and closes them.
type Config struct {
	Node    veilid.Node
	Store   blobs.Store
	Table   Table   // keys and caches, encrypted at rest
	Device  string  // what members see as this device's name; may be empty
	Hops    int     // of routes, 1 to 4; 0: 1
	MaxBlob uint64  // largest file to fetch, in bytes; 0: the exchange's default
	MaxRate float64 // bytes per second in each direction; 0: none
	Log     *slog.Logger
}

// Table keeps keys and caches, encrypted and authenticated at rest; package vault has one. Close ends its use.
type Table interface {
	group.Table
	// Each calls f for every value whose key begins with prefix.
	Each(prefix string, f func(key string, value []byte) error) error
	// Scrub makes unreadable, in the files too, what was deleted or overwritten.
	Scrub() error
	Close() error
}

// Backend is a device's part in its groups. Its methods may be called from any goroutine.
type Backend struct {
	cfg    Config
	x      *exchange.Exchange
	log    *slog.Logger
	events *events
	jobs   *jobs

	ready  atomic.Bool
	cancel context.CancelFunc
	ctx    context.Context // of the work in the network
	wg     sync.WaitGroup

	joinMu sync.Mutex // one create, join or leave at a time

	mu      sync.Mutex
	groups  map[veilid.OpaqueRecordKey]*running
	route   []byte
	att     veilid.Attachment
	started bool
	closed  bool
}

// running is a group with the goroutine that works for it.
type running struct {
	*group.Group
	stop context.CancelFunc
	done chan struct{}
}

// New makes a backend and loads the groups. It uses no network: names, members, lists and local files can be read
// before Start and whenever the node is offline.
func New(ctx context.Context, cfg Config) (*Backend, error) {
	b := &Backend{
		cfg: cfg, log: cfg.Log, groups: map[veilid.OpaqueRecordKey]*running{},
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.events = newEvents()
	b.ctx, b.cancel = context.WithCancel(context.WithoutCancel(ctx))
	var err error
	b.x, err = exchange.New(exchange.Config{
		Node: cfg.Node, Store: cfg.Store, OnRoute: b.onRoute, Hops: cfg.Hops,
		MaxBlob: cfg.MaxBlob, MaxRate: cfg.MaxRate, Log: b.log,
	})
	if err != nil {
		b.cancel()
		return nil, fmt.Errorf("exchange: %w", err)
	}
	b.jobs = newJobs(b)
	if err := b.loadGroups(ctx); err != nil {
		b.cancel()
		return nil, err
	}
	return b, nil
}

func (b *Backend) deps() group.Deps {
	return group.Deps{
		DHT:   b.cfg.Node.Context(veilid.Safe(veilid.SafetySpec{HopCount: b.cfg.Hops, Stability: veilid.Reliable, Sequencing: veilid.PreferOrdered})),
		Store: b.cfg.Store, Exchange: b.x, Table: b.cfg.Table, Ready: b.ready.Load, Device: b.cfg.Device, Log: b.log,
		Emit: func(e group.Event) {
			b.events.publish(Event{Type: string(e.Type), Group: keyText(e.Group), Repo: keyText(e.Repo), File: e.File})
			if e.Type == group.FilesChanged {
				b.jobs.collectSoon()
			}
		},
	}
}

func keyText(k veilid.OpaqueRecordKey) string {
	if k.IsZero() {
		return ""
	}
	return k.String()
}

// Start attaches the node and begins to work in the network: routes, publishing, watching. It returns at once; State
// and events tell how it goes.
func (b *Backend) Start() error {
	b.mu.Lock()
	if b.closed || b.started {
		defer b.mu.Unlock()
		if b.closed {
			return ErrClosed
		}
		return nil
	}
	b.started = true
	gs := slices.Collect(maps.Values(b.groups)) // later ones are run by who adds them
	b.mu.Unlock()

	sub := b.cfg.Node.Subscribe(veilid.Attachments | veilid.ValueChanges)
	b.wg.Go(func() {
		defer sub.Close()
		b.follow(sub)
	})
	b.wg.Go(b.attach)
	for _, g := range gs {
		b.run(g)
	}
	if err := b.x.Start(b.ctx); err != nil {
		return fmt.Errorf("exchange: %w", err)
	}
	b.jobs.start()
	return nil
}

// attach connects the node, as often as it takes.
func (b *Backend) attach() {
	wait := time.Second
	for {
		a, err := b.cfg.Node.AttachmentState(b.ctx)
		if err == nil {
			b.onAttachment(a)
			if a.State != veilid.Detached {
				return
			}
			err = b.cfg.Node.Attach(b.ctx)
		}
		if err == nil || b.ctx.Err() != nil {
			return
		}
		b.log.Warn("attach", "err", err, "retry", wait)
		select {
		case <-b.ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, time.Minute)
	}
}

// follow takes in the node's updates.
func (b *Backend) follow(sub veilid.Subscription) {
	for {
		u, err := sub.Next(b.ctx)
		if err != nil {
			return
		}
		switch u := u.(type) {
		case *veilid.Attachment:
			b.onAttachment(*u)
		case *veilid.ValueChange:
			for _, g := range b.all() {
				if g.OnValueChange(u) {
					break
				}
			}
		case *veilid.Reconnected:
			b.reattach(u.Restarted)
			b.wg.Go(b.attach)
		case *veilid.Lagged:
			b.reattach(false) // changes may be among what was lost
		case *veilid.Shutdown:
			b.ready.Store(false)
		}
	}
}

func (b *Backend) onAttachment(a veilid.Attachment) {
	b.mu.Lock()
	changed := b.att.State != a.State || b.att.PublicInternetReady != a.PublicInternetReady
	b.att = a
	b.mu.Unlock()
	was := b.ready.Swap(a.Ready())
	if changed {
		b.events.publish(Event{Type: EventAttachment, State: string(a.State), Ready: a.Ready()})
	}
	if a.Ready() && !was {
		b.reattach(false)
	}
}

func (b *Backend) reattach(restarted bool) {
	for _, g := range b.all() {
		g.Reattach(restarted)
	}
}

// onRoute hands a new route to the groups, which publish it.
func (b *Backend) onRoute(r veilid.RouteBlob) {
	b.mu.Lock()
	b.route = r.Blob
	b.mu.Unlock()
	for _, g := range b.all() {
		g.SetRoute(r.Blob)
	}
}

func (b *Backend) all() []*running {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Values(b.groups))
}

// run lets a group serve and work until it is stopped.
func (b *Backend) run(r *running) {
	ctx, cancel := context.WithCancel(b.ctx)
	b.mu.Lock()
	r.stop, r.done = cancel, make(chan struct{})
	route := b.route
	b.mu.Unlock()
	r.Serve()
	if route != nil {
		r.SetRoute(route)
	}
	b.wg.Go(func() {
		defer close(r.done)
		r.Run(ctx)
	})
}

func (r *running) halt() {
	if r.stop != nil {
		r.stop()
		<-r.done
	}
}

// Close tells members that this device goes away, ends all work and closes node, store and table. What is written is
// kept, what was not published yet is published after the next Start.
func (b *Backend) Close(ctx context.Context) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	started := b.started
	b.mu.Unlock()

	b.jobs.close()
	if started && b.ready.Load() {
		b.withdraw(ctx)
	}
	b.cancel()
	err := b.x.Close()
	b.wg.Wait()
	b.events.close()
	return errors.Join(err, b.cfg.Node.Close(), b.cfg.Store.Close(), b.cfg.Table.Close())
}

// withdraw empties the routes in all groups, so that members skip this device at once.
func (b *Backend) withdraw(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, withdrawLimit)
	defer cancel()
	var wg sync.WaitGroup
	for _, g := range b.all() {
		wg.Go(func() {
			g.halt()
			if err := g.Withdraw(ctx); err != nil {
				b.log.Warn("members are not told that this device goes away", "err", err)
			}
		})
	}
	wg.Wait()
}

// State is what the backend is doing.
type State struct {
	Attachment veilid.Attachment
	Ready      bool   // routes and the DHT can be used
	Route      string // id of this device's route; empty: none now
	Groups     int
	Pending    int // groups with writes that have not reached the network yet
}

// State tells what the backend is doing, without the network.
func (b *Backend) State() State {
	b.mu.Lock()
	s := State{Attachment: b.att, Ready: b.ready.Load(), Groups: len(b.groups)}
	b.mu.Unlock()
	if r, ok := b.x.Route(); ok {
		s.Route = r.ID.String()
	}
	for _, g := range b.all() {
		if !g.Published() {
			s.Pending++
		}
	}
	return s
}

// WaitReady waits until the node can use routes and the DHT.
func (b *Backend) WaitReady(ctx context.Context) error {
	if err := b.cfg.Node.WaitReady(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrOffline, err)
	}
	return nil
}

// Node is the backend's node.
func (b *Backend) Node() veilid.Node { return b.cfg.Node }

// Store is the backend's blob store.
func (b *Backend) Store() blobs.Store { return b.cfg.Store }

// Transfers lists what moves now.
func (b *Backend) Transfers() []exchange.Progress { return b.x.Transfers() }

// matches reports whether a person meant this key: whole, without its kind, or by its first characters.
func matches(k veilid.OpaqueRecordKey, ref string) bool {
	const least = 4
	return ref == k.String() || ref == k.Bare() || len(ref) >= least && strings.HasPrefix(k.Bare(), ref)
}

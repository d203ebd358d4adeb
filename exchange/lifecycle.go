package exchange

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/exchange/internal/frame"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Defaults of Config.
const (
	defaultMaxBlob     = 64 << 30
	defaultMaxInFlight = 32 << 20
)

// Exchange serves the groups' blobs on one private route and fetches blobs from others.
type Exchange struct {
	cfg   Config
	log   *slog.Logger
	rc    veilid.RoutingContext
	calls *callQueue
	cache *blobCache
	up    *bucket // what we send
	down  *bucket // what we ask for

	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	flying atomic.Int64 // READs that are asked for or not yet stored
	starts atomic.Bool

	groupsMu sync.RWMutex
	byTag    map[frame.Tag]*served
	byID     map[GroupID]*served

	routes ownRoutes

	lifeMu sync.Mutex // taken last
	closed bool

	mu        sync.Mutex
	links     map[linkKey]*link
	imports   map[veilid.RouteID]int
	transfers map[blobs.Hash]*transfer
	liars     map[liarKey]time.Time
}

// New makes an exchange; Start lets it work. Before Start it can fetch, but serves nobody.
func New(cfg Config) (*Exchange, error) {
	if cfg.Node == nil || cfg.Store == nil {
		return nil, errors.New("exchange needs a node and a blob store")
	}
	if cfg.Hops == 0 {
		cfg.Hops = 1
	}
	if cfg.Hops < 0 || cfg.Hops > veilid.MaxRouteHops {
		return nil, fmt.Errorf("%d hops: want 1 to %d", cfg.Hops, veilid.MaxRouteHops)
	}
	if cfg.MaxRate < 0 {
		return nil, fmt.Errorf("rate of %g bytes per second: want 0 (none) or more", cfg.MaxRate)
	}
	if cfg.MaxBlob == 0 {
		cfg.MaxBlob = defaultMaxBlob
	}
	if cfg.MaxInFlight <= 0 {
		cfg.MaxInFlight = defaultMaxInFlight
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	x := &Exchange{
		cfg:       cfg,
		log:       cfg.Log,
		rc:        cfg.Node.Context(veilid.Safe(safety(cfg.Hops))),
		calls:     newCallQueue(),
		cache:     newBlobCache(cfg.Store),
		up:        newBucket(cfg.MaxRate),
		down:      newBucket(cfg.MaxRate),
		byTag:     map[frame.Tag]*served{},
		byID:      map[GroupID]*served{},
		links:     map[linkKey]*link{},
		imports:   map[veilid.RouteID]int{},
		transfers: map[blobs.Hash]*transfer{},
		liars:     map[liarKey]time.Time{},
	}
	x.ctx, x.cancel = context.WithCancelCause(context.Background())
	return x, nil
}

func safety(hops int) veilid.SafetySpec {
	return veilid.SafetySpec{HopCount: hops, Stability: veilid.Reliable, Sequencing: veilid.PreferOrdered}
}

// Start allocates our private route, and a new one whenever it dies, and answers calls until Close, or until ctx ends.
func (x *Exchange) Start(ctx context.Context) error {
	x.lifeMu.Lock()
	defer x.lifeMu.Unlock()
	switch {
	case x.closed:
		return ErrClosed
	case x.starts.Swap(true):
		return errors.New("exchange was started already")
	}
	stop := context.AfterFunc(ctx, func() { x.cancel(context.Cause(ctx)) })
	context.AfterFunc(x.ctx, func() { stop() })

	// Calls come in by another subscription than what tells of routes: a flood of calls must not hide a dead route.
	calls := x.cfg.Node.Subscribe(veilid.AppCalls | veilid.AppMessages)
	events := x.cfg.Node.Subscribe(veilid.RouteChanges | veilid.Attachments)
	x.routes.init()
	x.run(func() { x.listen(calls) })
	x.run(func() { x.watch(events) })
	x.run(x.keepRoute)
	x.run(x.announceRoutes)
	x.run(x.janitor)
	for range readWorkers {
		x.run(x.serveReads)
	}
	for range controlWorkers {
		x.run(x.serveControls)
	}
	x.run(func() {
		<-x.ctx.Done()
		x.calls.close()
		calls.Close()
		events.Close()
	})
	return nil
}

// run starts a goroutine that Close waits for. The caller holds x.lifeMu, or runs in such a goroutine itself.
func (x *Exchange) run(f func()) { x.wg.Go(f) }

// tryRun is run for callers outside; it reports false after Close.
func (x *Exchange) tryRun(f func()) bool {
	x.lifeMu.Lock()
	defer x.lifeMu.Unlock()
	if x.closed {
		return false
	}
	x.wg.Go(f)
	return true
}

// Close stops serving, ends transfers (what arrived is kept) and releases our routes.
func (x *Exchange) Close() error {
	x.lifeMu.Lock()
	if x.closed {
		x.lifeMu.Unlock()
		x.wg.Wait()
		return nil
	}
	x.closed = true
	x.lifeMu.Unlock()
	x.cancel(ErrClosed)
	x.wg.Wait()
	x.cache.close()

	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	for _, id := range x.routes.all() {
		x.release(ctx, id)
	}
	x.mu.Lock()
	imports := x.imports
	x.imports = map[veilid.RouteID]int{}
	x.mu.Unlock()
	for id := range imports {
		x.release(ctx, id)
	}
	return nil
}

// release gives back a route; that it is gone already is no matter.
func (x *Exchange) release(ctx context.Context, id veilid.RouteID) {
	if err := x.cfg.Node.ReleasePrivateRoute(ctx, id); err != nil {
		x.log.Debug("route not released", "route", id, "err", err)
	}
}

// watch follows what the node says of itself and of routes.
func (x *Exchange) watch(sub veilid.Subscription) {
	// Updates tell changes only.
	if a, err := x.cfg.Node.AttachmentState(x.ctx); err == nil {
		x.routes.attached(a.Ready())
	}
	for {
		u, err := sub.Next(x.ctx)
		if err != nil {
			return
		}
		switch u := u.(type) {
		case *veilid.RouteChange:
			x.routes.died(u.DeadRoutes)
			for _, id := range u.DeadRemoteRoutes {
				x.routeDied(id)
			}
		case *veilid.Attachment:
			if was := x.routes.attached(u.Ready()); !was && u.Ready() {
				x.retryAll()
			}
		case *veilid.Reconnected:
			if u.Restarted {
				x.routes.lost("the node was restarted")
			}
			x.retryAll()
		case *veilid.Shutdown:
			x.routes.lost("the node has shut down")
		}
	}
}

// janitor closes what has not been used for a while.
func (x *Exchange) janitor() {
	t := time.NewTicker(10 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-x.ctx.Done():
			return
		case now := <-t.C:
			x.cache.sweep(now)
			x.sweepLinks(now)
		}
	}
}

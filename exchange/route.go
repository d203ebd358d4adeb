package exchange

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Back-off of attempts to allocate our route. There is no last attempt.
const (
	minRouteRetry = time.Second
	maxRouteRetry = 30 * time.Second
	routeTimeout  = 30 * time.Second
)

// ownRoutes is our private route, and those before it that may still carry calls.
type ownRoutes struct {
	mu       sync.Mutex
	current  veilid.RouteBlob
	alive    []veilid.RouteID
	since    time.Time
	degraded string
	ready    bool
	wake     chan struct{} // something changed for keepRoute
	fresh    chan struct{} // something changed for announceRoutes
}

func (r *ownRoutes) init() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake, r.fresh = make(chan struct{}, 1), make(chan struct{}, 1)
	r.since, r.degraded = time.Now(), "no private route yet"
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (r *ownRoutes) set(b veilid.RouteBlob) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current, r.since, r.degraded = b, time.Now(), ""
	r.alive = append(r.alive, b.ID)
	poke(r.fresh)
}

func (r *ownRoutes) get() veilid.RouteBlob {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

func (r *ownRoutes) all() []veilid.RouteID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.alive)
}

func (r *ownRoutes) isOurs(id veilid.RouteID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.alive, id)
}

// died forgets routes of ours that the node says are dead.
func (r *ownRoutes) died(ids []veilid.RouteID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alive = slices.DeleteFunc(r.alive, func(id veilid.RouteID) bool { return slices.Contains(ids, id) })
	if !r.current.ID.IsZero() && slices.Contains(ids, r.current.ID) {
		r.dropLocked("the private route died")
	}
}

// lost forgets all routes.
func (r *ownRoutes) lost(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alive = nil
	r.dropLocked(why)
}

func (r *ownRoutes) dropLocked(why string) {
	r.current, r.since, r.degraded = veilid.RouteBlob{}, time.Now(), why
	poke(r.wake)
}

func (r *ownRoutes) failed(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.degraded = why
}

// attached notes the node's readiness and returns the former one. A node that has just become ready is worth an attempt
// at once.
func (r *ownRoutes) attached(ready bool) (was bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, r.ready = r.ready, ready
	if ready && !was {
		poke(r.wake)
	}
	return was
}

// keepRoute allocates a route whenever there is none.
func (x *Exchange) keepRoute() {
	retry := minRouteRetry
	for {
		var again <-chan time.Time
		if x.routes.get().ID.IsZero() {
			ctx, cancel := context.WithTimeout(x.ctx, routeTimeout)
			spec := safety(x.cfg.Hops)
			b, err := x.cfg.Node.NewPrivateRoute(ctx, veilid.PrivateSpec{
				HopCount: spec.HopCount, Stability: spec.Stability, Sequencing: spec.Sequencing,
			})
			cancel()
			switch {
			case x.ctx.Err() != nil:
				if err == nil { // nobody else knows of it
					x.routes.set(b)
				}
				return
			case err == nil:
				x.log.Info("private route allocated", "route", b.ID)
				x.routes.set(b)
				retry = minRouteRetry
			default:
				x.log.Debug("private route not allocated", "err", err, "retry", retry)
				x.routes.failed("no private route: " + err.Error())
				again = time.After(retry)
				retry = min(2*retry, maxRouteRetry)
			}
		}
		select {
		case <-x.ctx.Done():
			return
		case <-x.routes.wake:
			retry = minRouteRetry
		case <-again:
		}
	}
}

// announceRoutes tells of new routes, one after the other. A route that is no longer the current one when its turn comes
// is left out: nobody shall publish it.
func (x *Exchange) announceRoutes() {
	var told veilid.RouteID
	for {
		select {
		case <-x.ctx.Done():
			return
		case <-x.routes.fresh:
		}
		b := x.routes.get()
		if b.ID.IsZero() || b.ID == told {
			continue
		}
		told = b.ID
		if x.cfg.OnRoute != nil {
			x.cfg.OnRoute(b)
		}
	}
}

// Route is our private route, if there is one now.
func (x *Exchange) Route() (veilid.RouteBlob, bool) {
	b := x.routes.get()
	return b, !b.ID.IsZero()
}

// State is how the exchange does now.
func (x *Exchange) State() State {
	r := &x.routes
	r.mu.Lock()
	defer r.mu.Unlock()
	s := State{Route: r.current, Since: r.since, Degraded: r.degraded, Attached: r.ready}
	if !x.starts.Load() {
		s.Degraded = "not started"
	}
	return s
}

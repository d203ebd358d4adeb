package exchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/OpenArchive/save-dweb-go/exchange/internal/window"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Bounds of links.
const (
	maxLinks     = 4096
	linkIdle     = 10 * time.Minute // unused links are dropped after this
	importIdle   = 4 * time.Minute  // nodes forget imported routes that nobody used for five
	minSuspended = time.Second
	maxSuspended = time.Minute
	connectLimit = 30 * time.Second
	legacyPause  = 5 * time.Minute // until a peer that spoke only tunnels is asked again
)

// Causes for which calls in flight are given up.
var (
	errRouteDead = errors.New("the route to the peer died")
	errNotNeeded = errors.New("another answer came first")
)

type linkKey struct {
	group GroupID
	peer  string
}

type linkState uint8

const (
	linkNew        linkState = iota
	linkConnecting           // its route is being read and imported
	linkReady
	linkSuspended // until link.until
	linkAway      // until link.until
	linkLegacy    // until link.until
)

// link is the way to one device of a member, shared by all transfers. Its lock is taken after a transfer's, and never
// the other way round.
type link struct {
	x   *Exchange
	key linkKey

	mu      sync.Mutex
	peer    Peer
	state   linkState
	why     error // of linkSuspended
	until   time.Time
	backoff time.Duration
	stale   bool   // the route is to be read again from the DHT
	hint    []byte // route blob that the peer itself told
	route   veilid.RouteID
	blob    []byte // that route was imported from
	win     *window.Controller
	busy    time.Time // the peer asked for quiet until then
	heard   time.Time // last answer
	used    time.Time
	losses  int // in a row
	calls   map[*call]struct{}
	users   map[*transfer]*use
	changed chan struct{} // closed at each change of state
}

// use is one transfer's part of a link.
type use struct {
	inFlight int
	hungry   bool // was refused a call and has more to ask
}

// link finds or makes the link to a peer.
func (x *Exchange) link(g GroupID, p Peer) *link {
	key := linkKey{g, p.ID}
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.links[key]
	if l == nil {
		if len(x.links) >= maxLinks {
			x.dropOldestLink()
		}
		l = &link{
			x: x, key: key, peer: p, used: time.Now(), backoff: minSuspended,
			calls: map[*call]struct{}{}, users: map[*transfer]*use{}, changed: make(chan struct{}),
		}
		x.links[key] = l
		return l
	}
	l.mu.Lock()
	l.peer, l.used = p, time.Now()
	l.mu.Unlock()
	return l
}

// dropOldestLink makes room. The caller holds x.mu.
func (x *Exchange) dropOldestLink() {
	var oldest *link
	var used time.Time
	for _, l := range x.links {
		l.mu.Lock()
		if len(l.users) == 0 && len(l.calls) == 0 && (oldest == nil || l.used.Before(used)) {
			oldest, used = l, l.used
		}
		l.mu.Unlock()
	}
	if oldest != nil {
		delete(x.links, oldest.key)
	}
}

// sweepLinks drops links that nobody has used for a while, and gives back their routes.
func (x *Exchange) sweepLinks(now time.Time) {
	var gone []veilid.RouteID
	x.mu.Lock()
	for k, l := range x.links {
		l.mu.Lock()
		if len(l.users) == 0 && len(l.calls) == 0 && l.state != linkConnecting && now.Sub(l.used) > linkIdle {
			delete(x.links, k)
			if x.unimport(l.route) {
				gone = append(gone, l.route)
			}
			l.route = veilid.RouteID{}
			l.setState(linkNew)
		}
		l.mu.Unlock()
	}
	x.mu.Unlock()
	for _, id := range gone {
		x.release(x.ctx, id)
	}
}

// unimport counts one use of an imported route less and reports whether it was the last. The caller holds x.mu.
func (x *Exchange) unimport(id veilid.RouteID) bool {
	if id.IsZero() || x.imports[id] == 0 {
		return false
	}
	x.imports[id]--
	if x.imports[id] > 0 {
		return false
	}
	delete(x.imports, id)
	return true
}

// setState changes the state and tells everybody who waits for that. The caller holds l.mu.
func (l *link) setState(s linkState) {
	l.state = s
	close(l.changed)
	l.changed = make(chan struct{})
	for t := range l.users {
		poke(t.wake)
	}
}

// connect begins to find the peer's route unless that is done, under way or to be put off. The caller holds l.mu.
func (l *link) connect(now time.Time) {
	switch l.state {
	case linkConnecting:
		return
	case linkReady:
		if len(l.calls) > 0 || now.Sub(l.used) < importIdle {
			return
		}
	case linkSuspended, linkAway, linkLegacy:
		if now.Before(l.until) {
			return
		}
	}
	l.setState(linkConnecting)
	peer, stale, hint := l.peer, l.stale, l.hint
	l.hint = nil
	if !l.x.tryRun(func() { l.dial(peer, stale, hint) }) {
		l.why, l.until = ErrClosed, now.Add(maxSuspended)
		l.setState(linkSuspended)
	}
}

// dial reads and imports the peer's route.
func (l *link) dial(peer Peer, stale bool, hint []byte) {
	ctx, cancel := context.WithTimeout(l.x.ctx, connectLimit)
	defer cancel()
	blob, err := hint, error(nil)
	if len(blob) == 0 {
		blob, err = peer.Route(ctx, stale)
	}
	var id veilid.RouteID
	if err == nil {
		id, err = l.x.cfg.Node.ImportRemotePrivateRoute(ctx, blob)
	}
	now := time.Now()
	var released veilid.RouteID
	l.x.mu.Lock()
	l.mu.Lock()
	if err == nil {
		if old := l.route; old != id {
			l.x.imports[id]++
			if l.x.unimport(old) {
				released = old
			}
		}
		l.route, l.blob, l.win, l.used = id, blob, window.New(), now
		l.heard, l.losses = time.Time{}, 0
		l.setState(linkReady)
	} else {
		l.x.log.Debug("peer not reachable", "peer", l.key.peer, "err", err)
		s := linkSuspended
		if errors.Is(err, ErrAway) {
			s = linkAway
		}
		l.suspend(now, s, err)
	}
	l.mu.Unlock()
	l.x.mu.Unlock()
	if !released.IsZero() {
		l.x.release(ctx, released)
	}
}

// suspend puts the link out of use for a while that doubles each time. The caller holds l.mu.
func (l *link) suspend(now time.Time, s linkState, why error) {
	for c := range l.calls {
		c.cancel(errRouteDead)
	}
	l.why, l.stale = why, true
	l.until = now.Add(l.backoff)
	l.backoff = min(2*l.backoff, maxSuspended)
	if s == linkLegacy {
		l.until = now.Add(legacyPause)
	}
	l.setState(s)
}

// retryNow ends a suspension: there is reason to believe that the peer can be reached again.
func (l *link) retryNow(hint []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if hint != nil {
		l.hint = hint
	}
	if l.state == linkSuspended || l.state == linkAway || l.state == linkLegacy {
		l.until, l.backoff = time.Time{}, minSuspended
		l.setState(l.state)
	}
}

// PeerMoved says that a peer has another route than before, as its record in the DHT shows. Calls on the former one are
// given up, since nobody may be there to answer them.
func (x *Exchange) PeerMoved(g GroupID, peer string, blob []byte) {
	x.mu.Lock()
	l := x.links[linkKey{g, peer}]
	x.mu.Unlock()
	if l == nil || len(blob) == 0 {
		return
	}
	l.mu.Lock()
	moved := l.state == linkReady && !bytes.Equal(l.blob, blob)
	if moved {
		for c := range l.calls {
			c.cancel(errRouteDead)
		}
		l.setState(linkNew)
	}
	l.mu.Unlock()
	if !moved {
		l.retryNow(nil)
	}
}

// retryAll ends all suspensions: our own node has found its way back.
func (x *Exchange) retryAll() {
	for _, l := range x.linksWhere(func(*link) bool { return true }) {
		l.retryNow(nil)
	}
}

// repoHeard ends the suspensions of a member's devices: one of them has just spoken. Its route is believed to be that of
// the only device, where there is only one.
func (x *Exchange) repoHeard(g GroupID, repo string, route []byte) {
	if repo == "" {
		return
	}
	ls := x.linksWhere(func(l *link) bool {
		return l.key.group == g && (l.key.peer == repo || strings.HasPrefix(l.key.peer, repo+"/"))
	})
	for _, l := range ls {
		if len(ls) == 1 {
			l.retryNow(route)
		} else {
			l.retryNow(nil)
		}
	}
}

func (x *Exchange) linksWhere(ok func(*link) bool) (ls []*link) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, l := range x.links {
		if ok(l) {
			ls = append(ls, l)
		}
	}
	return ls
}

// routeDied is the node's word that an imported route is dead.
func (x *Exchange) routeDied(id veilid.RouteID) {
	now := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, l := range x.links {
		l.mu.Lock()
		if l.route == id {
			x.unimport(id) // the node has forgotten it: nothing to release
			l.route = veilid.RouteID{}
			if l.state == linkReady {
				l.suspend(now, linkSuspended, errRouteDead)
			}
		}
		l.mu.Unlock()
	}
}

// join makes a transfer a user of the link.
func (l *link) join(t *transfer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users[t] = &use{}
}

// wakeAt is when the link may be of use again by the passing of time; zero where only an event can make it so.
func (l *link) wakeAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.state {
	case linkReady:
		return l.busy
	case linkSuspended, linkAway, linkLegacy:
		return l.until
	}
	return time.Time{}
}

// leave ends that.
func (l *link) leave(t *transfer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.users, t)
	for other := range l.users {
		poke(other.wake)
	}
}

// ready connects and waits until the link can be used.
func (l *link) ready(ctx context.Context) (veilid.RouteID, error) {
	tried := false
	for {
		l.mu.Lock()
		if !tried { // a caller who asks now deserves an attempt now
			if l.state != linkReady && l.state != linkConnecting {
				l.until = time.Time{}
			}
			tried = true
		}
		l.connect(time.Now())
		state, route, why, changed := l.state, l.route, l.why, l.changed
		l.mu.Unlock()
		switch state {
		case linkReady:
			return route, nil
		case linkAway:
			return route, ErrAway
		case linkSuspended, linkLegacy:
			return route, fmt.Errorf("%w: %w", ErrUnreachable, why)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return route, context.Cause(ctx)
		}
	}
}

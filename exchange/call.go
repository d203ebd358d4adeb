package exchange

import (
	"context"
	"fmt"
	"time"

	"github.com/OpenArchive/save-dweb-go/exchange/internal/window"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// call is a READ in flight.
type call struct {
	link   *link
	route  veilid.RouteID
	win    *window.Controller // of the link when the call began
	ticket window.Ticket
	user   *transfer
	ctx    context.Context
	cancel context.CancelCauseFunc
	stop   context.CancelFunc
	wide   int // bytes taken from the rate limit
	chunks int // how many to ask for at most
}

// readSize is what a READ counts against rates and the bound of memory, in bytes.
const readSize = veilid.MaxMessageSize

// begin reserves a READ over the link for a transfer. It is nil where there is no room now; wait, if not 0, is when the
// rate limit allows one. ready is false where the link cannot be used at present.
func (l *link) begin(t *transfer) (c *call, wait time.Duration, ready bool) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.users[t]
	if l.connect(now); l.state != linkReady || now.Before(l.busy) || u == nil {
		return nil, 0, false
	}
	u.hungry = true
	if l.win.Room() == 0 || l.unfair(u) {
		return nil, 0, true
	}
	if n := l.x.flying.Add(readSize); n > max(int64(l.x.cfg.MaxInFlight), readSize) {
		l.x.flying.Add(-readSize)
		return nil, 0, true
	}
	if wait = l.x.down.take(readSize); wait > 0 {
		l.x.flying.Add(-readSize)
		return nil, wait, true
	}
	u.hungry = false
	u.inFlight++
	l.used = now
	c = &call{link: l, route: l.route, win: l.win, user: t, wide: readSize, chunks: l.win.Chunks()}
	c.ticket = l.win.Send(now)
	ctx, cancel := context.WithCancelCause(t.ctx)
	c.cancel = cancel
	c.ctx, c.stop = context.WithDeadline(ctx, now.Add(l.win.Deadline()))
	l.calls[c] = struct{}{}
	return c, 0, true
}

// abort takes back a READ for which there turned out to be no work.
func (c *call) abort() {
	l := c.link
	l.mu.Lock()
	if u := l.users[c.user]; u != nil {
		u.hungry = false
	}
	l.mu.Unlock()
	c.end(callDropped, 0, false, 0, nil)
	l.x.stored()
}

// isDoubtful reports whether the peer did not answer last time, and has not since.
func (l *link) isDoubtful() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stale
}

func (l *link) isReady() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == linkReady
}

// timing is the link's usual round trip, 0 where it is not known, and when an answer is late.
func (l *link) timing() (rtt, late time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.win == nil {
		return 0, time.Second
	}
	return l.win.RTT(), l.win.Late()
}

// unfair reports whether others wait for room and this one has its share. The caller holds l.mu.
func (l *link) unfair(u *use) bool {
	others := 0
	for _, v := range l.users {
		if v != u && v.hungry {
			others++
		}
	}
	return others > 0 && u.inFlight*(others+1) >= l.win.Size()
}

// outcome is how a READ ended.
type outcome uint8

const (
	callAnswered outcome = iota
	callLost
	callBusy
	callDead    // the route cannot be used
	callDropped // nobody waits for it any more
)

// end counts the end of a READ at the link. bytes is the size of the answer, whole whether it asked as much as it might,
// retry how long a busy peer wants to be left alone.
func (c *call) end(o outcome, bytes int, whole bool, retry time.Duration, why error) {
	now := time.Now()
	c.stop()
	c.cancel(nil)
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, c)
	u := l.users[c.user]
	if u != nil {
		u.inFlight--
	}
	l.x.down.giveBack(c.wide - bytes)
	if c.win != l.win || l.state != linkReady {
		return // of a route that is given up already
	}
	switch o {
	case callAnswered:
		l.win.Ack(now, c.ticket, whole)
		l.answered(now)
	case callBusy:
		l.win.Busy(now, c.ticket)
		l.answered(now)
		l.busy = now.Add(retry)
	case callLost:
		l.win.Lost(now, c.ticket)
		l.losses++
		// Four in a row and nothing heard for two deadlines: by chance that is rare. A route that never worked gets two,
		// and one that has just failed one.
		if l.losses >= 4 && now.Sub(l.heard) >= 2*l.win.Deadline() || l.heard.IsZero() && (l.losses >= 2 || l.stale) {
			l.suspend(now, linkSuspended, fmt.Errorf("%d calls without an answer: %w", l.losses, why))
		}
	case callDead:
		l.win.Cancel(now, c.ticket)
		l.suspend(now, linkSuspended, why)
	case callDropped:
		l.win.Cancel(now, c.ticket)
	}
	for t, v := range l.users {
		if t != c.user && v.hungry {
			poke(t.wake)
		}
	}
}

func (l *link) answered(now time.Time) {
	l.heard, l.losses = now, 0
	l.backoff, l.stale = minSuspended, false
}

// stored gives back a READ's part of the memory bound.
func (x *Exchange) stored() {
	if x.flying.Add(-readSize)+readSize >= int64(x.cfg.MaxInFlight)-readSize {
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, t := range x.transfers {
			poke(t.wake)
		}
	}
}

package exchange

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
	"github.com/OpenArchive/save-dweb-go/exchange/internal/frame"
	"github.com/OpenArchive/save-dweb-go/exchange/internal/work"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// ranges is what a piece asks for.
func (pc *piece) ranges() bao.Ranges {
	r := bao.Span(pc.First, pc.End)
	if pc.last {
		r = r.Union(bao.Last())
	}
	return r
}

// read makes one call for a piece and deals with its answer.
func (t *transfer) read(cp *copyOf) {
	defer t.reads.Done()
	c, pc := cp.call, cp.piece
	status, body, o, err := t.x.ask(c, frame.OpRead, getRequest(t.hash, pc.ranges()))
	size := len(body)
	if err == nil {
		size++
	}
	var retry time.Duration
	if status == frame.Busy && o == callAnswered {
		o, retry = callBusy, frame.ParseBusy(body)
	}
	whole := status == frame.OK && 4*pc.Len() >= 3*uint64(min(c.chunks, probeChunks))
	c.end(o, size, whole, retry, err)
	if errors.Is(err, frame.ErrLegacy) {
		c.link.isLegacy()
	}

	if err != nil || o != callAnswered || status != frame.OK && status != frame.Shortened {
		t.x.stored()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.refused(cp, o, status, err)
		t.drop(cp, pc.Span)
		t.feedAll()
		return
	}

	// The next question goes out before this answer is verified.
	t.mu.Lock()
	useless := pc.arrived || t.over || cp.p.state == provLiar
	pc.arrived = pc.arrived || !useless
	t.feed(cp.p)
	t.mu.Unlock()
	if useless {
		t.x.stored()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.drop(cp, pc.Span)
		return
	}
	got, ranges := pc.Span, pc.ranges()
	if status == frame.Shortened {
		got, ranges, body, err = shortened(pc, body)
	}
	gained, done := 0, false
	if err == nil && len(ranges) > 0 && len(body) > 0 {
		gained, done, err = t.recv.Write(t.ctx, ranges, body)
	} else if err == nil {
		got = work.Span{First: pc.First, End: pc.First}
	}
	t.x.stored()
	t.took(cp, got, gained, done, err)
}

// ask sends a question over a link's route and sorts what comes back.
func (x *Exchange) ask(c *call, op frame.Op, body []byte) (frame.Status, []byte, outcome, error) {
	g := x.served(c.link.key.group)
	if g == nil {
		return 0, nil, callDropped, ErrUnknownGroup
	}
	q, err := g.keys.Seal(op, c.route, body)
	if err != nil {
		return 0, nil, callDropped, err
	}
	answer, err := x.rc.AppCall(c.ctx, veilid.RouteTarget(c.route), q)
	if err != nil {
		switch cause := context.Cause(c.ctx); {
		case cause != nil && !errors.Is(cause, context.DeadlineExceeded):
			return 0, nil, callDropped, cause
		case cause != nil:
			return 0, nil, callLost, cause
		}
		switch veilid.KindOf(err) {
		case veilid.ErrInvalidTarget, veilid.ErrNoConnection, veilid.ErrTryAgain, veilid.ErrShutdown, veilid.ErrNotInitialized:
			return 0, nil, callDead, err
		}
		return 0, nil, callLost, err
	}
	status, body, err := frame.ParseAnswer(answer)
	return status, body, callAnswered, err
}

// shortened is what a shortened answer holds of what was asked.
func shortened(pc *piece, body []byte) (got work.Span, ranges bao.Ranges, response []byte, err error) {
	n, response, err := frame.ParseShortened(body)
	if err != nil {
		return got, nil, nil, err
	}
	got = work.Span{First: pc.First, End: max(pc.First, min(pc.End, n))}
	ranges = bao.Span(got.First, got.End)
	if pc.last {
		ranges = ranges.Union(bao.Last())
	}
	return got, ranges, response, nil
}

// refused draws the conclusions from a call that brought no data. The caller holds t.mu.
func (t *transfer) refused(cp *copyOf, o outcome, status frame.Status, err error) {
	p := cp.p
	switch {
	case errors.Is(err, ErrUnknownGroup):
		p.state = provDenied
		t.later(p)
	case errors.Is(err, frame.ErrMalformed):
		t.x.log.Info("peer sent a malformed answer", "peer", p.l.key.peer, "err", err)
		p.state = provMissing
		t.later(p)
	case o != callAnswered || err != nil || p.state != provActive:
	case status == frame.NotFound, status == frame.TooLarge, status == frame.BadRequest:
		if status != frame.NotFound {
			t.x.log.Info("peer refuses a READ", "peer", p.l.key.peer, "status", status)
		}
		p.state = provMissing
		t.later(p)
	case status == frame.Denied:
		p.state = provDenied
		t.later(p)
	}
	if p.state != provActive {
		t.giveUp(p)
	}
}

// took counts what a READ brought and goes on.
func (t *transfer) took(cp *copyOf, got work.Span, gained int, done bool, err error) {
	pc, p := cp.piece, cp.p
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
	case errors.Is(err, blobs.ErrVerify), errors.Is(err, frame.ErrMalformed):
		t.x.log.Warn("peer sent wrong data", "peer", p.l.key.peer, "hash", t.hash.Short(), "err", err)
		t.lied(p)
		pc.arrived = false
		t.drop(cp, pc.Span)
		t.feedAll()
		return
	case errors.Is(err, blobs.ErrComplete):
		done = true
	case t.ctx.Err() != nil:
		t.drop(cp, pc.Span)
		return
	default:
		t.drop(cp, pc.Span)
		t.failLocked(fmt.Errorf("store: %w", err))
		return
	}
	t.fetched += uint64(gained)
	p.bytes += uint64(gained)
	t.meter.add(now, gained)
	if gained > 0 {
		t.waiting = ""
		p.reaskIn = minReask
	}
	news := false
	if !t.known {
		if info := t.recv.Info(); info.Proven {
			t.setSize(info.Size)
			news = true
		}
	}
	_, rest := pc.Split(got.Len())
	if t.known {
		rest = rest.Clip(bao.Chunks(t.size))
	}
	if got.IsEmpty() && !rest.IsEmpty() && !done { // it has the blob, but not this
		p.state = provMissing
		if t.later(p); p.reaskIn == 2*minReask {
			p.reask = now // it may have other parts; the first time it is asked at once
		}
		t.giveUp(p)
		poke(t.wake)
	}
	for _, other := range pc.copies {
		if other != cp {
			other.call.cancel(errNotNeeded)
		}
	}
	t.drop(cp, work.Span{})
	if !rest.IsEmpty() {
		t.queue.PutBack(rest, nil)
		news = true
	}
	switch {
	case done:
		t.finish()
	case news || t.queue.IsEmpty():
		t.feedAll()
	default:
		t.feed(p)
	}
}

// drop forgets a call. rest is what nobody else brings now. The caller holds t.mu.
func (t *transfer) drop(cp *copyOf, rest work.Span) {
	pc, p := cp.piece, cp.p
	p.flying--
	if pc.last {
		p.probing = false
	}
	pc.copies = slices.DeleteFunc(pc.copies, func(c *copyOf) bool { return c == cp })
	if !rest.IsEmpty() && (len(pc.copies) > 0 || pc.arrived) {
		return // another call goes on, or has brought it
	}
	if i := slices.Index(t.flying, pc); i >= 0 {
		t.flying = slices.Delete(t.flying, i, i+1)
		if t.known {
			rest = rest.Clip(bao.Chunks(t.size))
		}
		t.queue.PutBack(rest, p)
	}
}

// lied ends the use of a provider for this blob: its bytes were not what the hash names. The caller holds t.mu.
func (t *transfer) lied(p *provider) {
	p.state = provLiar
	t.giveUp(p)
	t.x.addLiar(p.l.key, t.hash)
	for _, pc := range t.flying {
		for _, c := range pc.copies {
			if c.p == p {
				c.call.cancel(errNotNeeded)
			}
		}
	}
}

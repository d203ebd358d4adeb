package exchange

import (
	"context"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs/bao"
	"github.com/OpenArchive/save-dweb-go/exchange/internal/frame"
	"github.com/OpenArchive/save-dweb-go/exchange/internal/work"
)

// feedAll gives every provider as much work as its window has room for. The caller holds t.mu.
func (t *transfer) feedAll() {
	t.settle()
	for _, p := range t.provs {
		t.feed(p)
	}
	if end := t.known && t.queue.IsEmpty(); end != t.endgame {
		t.endgame = end
		poke(t.wake) // from now on the clock counts
	}
}

// settle looks whether everything is there once nothing is left to ask. Chunks of groups that never became whole may
// have been dropped from memory: they are asked again. The caller holds t.mu.
func (t *transfer) settle() {
	if t.over || !t.known || len(t.flying) > 0 || !t.queue.IsEmpty() {
		return
	}
	for _, p := range t.provs {
		if !p.unit.IsEmpty() {
			return
		}
	}
	t.queue.Fill(t.recv.Missing(), bao.Chunks(t.size))
	if !t.queue.IsEmpty() {
		return
	}
	switch info, err := t.x.cfg.Store.Info(t.ctx, t.hash); {
	case err != nil:
		t.failLocked(err)
	case info.Complete: // by somebody else's hand
		t.finish()
	default:
		t.failLocked(errIncomplete)
	}
}

// feed gives a provider work. The caller holds t.mu.
func (t *transfer) feed(p *provider) {
	for !t.over && p.listed && p.state == provActive && !p.asking {
		if !t.known && (p.probing || t.probes() >= firstProbes+int(time.Since(t.begun)/probeTick)) {
			return // what else there is to ask is not known yet
		}
		if p.unit.IsEmpty() && t.queue.IsEmpty() && !t.canHelp(p) {
			return
		}
		c, wait, ready := p.l.begin(t)
		if !ready {
			t.giveUp(p)
			return
		}
		if c == nil {
			if wait > 0 {
				t.rateAt = time.Now().Add(wait)
			}
			return
		}
		pc := t.next(p, c)
		if pc == nil {
			c.abort()
			return
		}
		cp := &copyOf{piece: pc, p: p, call: c}
		if len(pc.copies) == 0 {
			pc.sent = c.ticket.Sent()
			t.flying = append(t.flying, pc)
		}
		pc.copies = append(pc.copies, cp)
		p.flying++
		p.probing = p.probing || pc.last
		t.reads.Add(1)
		go t.read(cp)
	}
}

// probes is how many first READs are on their way. The caller holds t.mu.
func (t *transfer) probes() (n int) {
	for _, p := range t.provs {
		if p.probing {
			n++
		}
	}
	return n
}

// canHelp reports whether a provider without work of its own might take some of what others have. The caller holds t.mu.
func (t *transfer) canHelp(p *provider) bool {
	if !t.known {
		return false
	}
	for _, q := range t.provs {
		if q != p && !q.unit.IsEmpty() {
			return true
		}
	}
	return t.late(p, nil) != nil
}

// next is what a provider shall be asked now; nil where there is nothing for it. The caller holds t.mu.
func (t *transfer) next(p *provider, c *call) *piece {
	if p.unit.IsEmpty() {
		var ok bool
		if p.unit, ok = t.queue.Take(p, false, p.have); !ok && !t.queue.IsEmpty() {
			p.unit, _ = t.queue.Take(p, t.alone(p), p.have)
		}
		if p.unit.IsEmpty() {
			t.steal(p)
		}
	}
	if p.unit.IsEmpty() {
		return t.late(p, c)
	}
	pc := &piece{last: !t.known}
	pc.Span, p.unit = p.unit.Split(t.fit(p.unit.First, uint64(c.chunks)))
	return pc
}

// fit is how many chunks from first to ask in one READ, at most n.
func (t *transfer) fit(first, n uint64) uint64 {
	if !t.known {
		return min(n, probeChunks)
	}
	if bao.EncodedSize(t.size, bao.Span(first, first+n)) <= frame.MaxAnswer {
		return n
	}
	_, end := bao.FitRanges(t.size, first, frame.MaxAnswer, false)
	return max(1, min(n, end-first))
}

// alone reports whether no other provider can be asked now. The caller holds t.mu.
func (t *transfer) alone(p *provider) bool {
	for _, q := range t.provs {
		if q != p && q.listed && q.state == provActive && q.l.isReady() {
			return false
		}
	}
	return true
}

// steal takes half of what the most loaded other provider has not asked yet. The caller holds t.mu.
func (t *transfer) steal(p *provider) {
	if !t.known || !p.have.IsAll() {
		return
	}
	var from *provider
	for _, q := range t.provs {
		if q != p && !q.unit.IsEmpty() && (from == nil || q.unit.Len() > from.unit.Len()) {
			from = q
		}
	}
	if from == nil {
		return
	}
	keep := from.unit.Len() / 2
	if keep < bao.GroupChunks {
		keep = 0
	}
	from.unit, p.unit = from.unit.Split(keep)
}

// Looked at for duplicates: the oldest are the likeliest to be late.
const lateLook = 16

// late finds a piece that another provider is late with, or that p would bring much sooner: only at the end, when
// nothing else is left to do, and never for a third time. c is nil to ask only whether there is one. The caller holds t.mu.
func (t *transfer) late(p *provider, c *call) *piece {
	if !t.known || !t.queue.IsEmpty() {
		return nil
	}
	now := time.Now()
	mine, _ := p.l.timing()
	if mine == 0 {
		mine = 500 * time.Millisecond
	}
	for i, pc := range t.flying {
		if i >= lateLook {
			break
		}
		if pc.arrived || len(pc.copies) != 1 || !p.have.ContainsSpan(pc.First, min(pc.End, bao.Chunks(t.size))) {
			continue
		}
		other := pc.copies[0].p
		theirs, late := other.l.timing()
		if theirs == 0 { // never heard of: not waited for longer than p would take twice
			theirs, late = 2*mine, min(late, 2*mine)
		}
		age := now.Sub(pc.sent)
		if other == p && age < late+theirs {
			continue
		}
		if age < late && age+mine+mine/2 >= theirs {
			continue
		}
		if c != nil {
			pc.sent = now // the next look is at others first
		}
		return pc
	}
	return nil
}

// reaskIf asks a provider again what it holds, if that is due. The caller holds t.mu.
func (t *transfer) reaskIf(p *provider, now time.Time) {
	if p.reask.IsZero() || now.Before(p.reask) || p.asking || !p.listed || t.over {
		return
	}
	p.asking, p.reask = true, time.Time{}
	t.reads.Add(1)
	go t.askHave(p)
}

// askHave learns what a provider holds of the blob.
func (t *transfer) askHave(p *provider) {
	defer t.reads.Done()
	ctx, cancel := context.WithTimeout(t.ctx, controlTimeout)
	defer cancel()
	held, err := t.x.have(ctx, p.l, t.hash)
	t.mu.Lock()
	defer t.mu.Unlock()
	p.asking = false
	switch {
	case err != nil:
		if isDenied(err) {
			p.state = provDenied
		}
	case held.Complete:
		p.state, p.have = provActive, work.Everything
	case len(held.Have) > 0:
		p.state, p.have = provActive, held.Have
	default:
		p.state = provMissing
	}
	if p.state == provActive && p.have.IsAll() && err == nil {
		p.reask = time.Time{}
	} else {
		t.later(p)
	}
	poke(t.wake)
}

// later puts off asking a provider what it holds, each time for longer. The caller holds t.mu.
func (t *transfer) later(p *provider) {
	p.reask = time.Now().Add(p.reaskIn)
	p.reaskIn = min(2*p.reaskIn, maxReask)
}

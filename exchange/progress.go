package exchange

import (
	"fmt"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
)

// idle reports whether nothing is asked for but of peers that did not answer last time. The caller holds t.mu.
func (t *transfer) idle() bool {
	for _, p := range t.provs {
		if p.flying > 0 && !p.l.isDoubtful() {
			return false
		}
	}
	return true
}

// reason says why nothing moves. The caller holds t.mu.
func (t *transfer) reason() string {
	n := t.count()
	switch {
	case n.listed == 0:
		return "no member is known who may hold the blob"
	case n.ready+n.connecting > 0:
		if n.busy > 0 {
			return "peers are busy"
		}
		return "" // about to move
	case n.reachable == 0:
		return fmt.Sprintf("no provider can be reached (%d suspended, %d away)", n.suspended, n.away)
	}
	return fmt.Sprintf("no provider can help now (%d suspended, %d away, %d without the blob, %d denied, %d sent wrong data, %d without this protocol)",
		n.suspended, n.away, n.missing, n.denied, n.liars, n.legacy)
}

type counts struct {
	listed, connecting, ready, busy, suspended, away, legacy, missing, denied, liars, reachable int
}

// count counts the providers by what can be had from them. The caller holds t.mu.
func (t *transfer) count() (n counts) {
	now := time.Now()
	for _, p := range t.provs {
		if !p.listed {
			continue
		}
		n.listed++
		switch p.state {
		case provMissing:
			n.missing++
			n.reachable++
			continue
		case provDenied:
			n.denied++
			n.reachable++
			continue
		case provLiar:
			n.liars++
			n.reachable++
			continue
		}
		p.l.mu.Lock()
		state, busy, stale := p.l.state, p.l.busy, p.l.stale
		p.l.mu.Unlock()
		if stale && (state == linkConnecting || state == linkReady) {
			state = linkSuspended // it is tried again, and has not answered yet
		}
		switch state {
		case linkNew, linkConnecting:
			n.connecting++
		case linkReady:
			n.reachable++
			switch {
			case p.unit.IsEmpty() && !t.queue.Has(p.have): // a partial holder that has nothing more to give
				n.missing++
			case now.Before(busy):
				n.busy++
				n.ready++
			default:
				n.ready++
			}
		case linkSuspended:
			n.suspended++
		case linkAway:
			n.away++
		case linkLegacy:
			n.legacy++
			n.reachable++
		}
	}
	return n
}

// stuck is the error that says what a transfer waited for when its time was over. nil: it was moving.
func (t *transfer) stuck() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.idle() {
		return nil
	}
	switch n := t.count(); {
	case n.suspended+n.away+n.connecting > 0 || n.listed == 0:
		return ErrUnreachable
	case n.busy > 0:
		return ErrBusy
	case n.missing > 0:
		return ErrNotHeld
	case n.denied > 0:
		return ErrDenied
	case n.legacy > 0:
		return ErrLegacyPeer
	case n.liars > 0:
		return blobs.ErrVerify
	}
	return nil
}

// onlyLegacy reports whether waiting is of no use: all peers speak only tunnels, and there are other ways to ask those.
// The caller holds t.mu.
func (t *transfer) onlyLegacy() bool {
	n := t.count()
	return n.listed > 0 && n.legacy == n.listed
}

// progress is how far the transfer is now.
func (t *transfer) progress() Progress {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	pr := Progress{
		Hash: t.hash, Fetched: t.fetched, Done: t.stored + t.fetched, Waiting: t.waiting, Rate: t.meter.rate(now),
	}
	if t.known {
		pr.Size = t.size
		pr.Done = min(pr.Done, t.size)
	}
	if t.complete {
		pr.Done, pr.Waiting = pr.Size, ""
	}
	pr.Providers = make([]ProviderProgress, 0, len(t.provs))
	for _, p := range t.provs {
		if p.listed || p.bytes > 0 {
			pr.Providers = append(pr.Providers, p.progress())
		}
	}
	return pr
}

func (p *provider) progress() ProviderProgress {
	l := p.l
	pp := ProviderProgress{Peer: l.key.peer, Bytes: p.bytes, InFlight: p.flying}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.win != nil {
		pp.RTT = l.win.RTT()
	}
	switch p.state {
	case provMissing:
		pp.State = "missing"
	case provDenied:
		pp.State = "denied"
	case provLiar:
		pp.State = "liar"
	default:
		pp.State = [...]string{
			linkNew: "connecting", linkConnecting: "connecting", linkReady: "active",
			linkSuspended: "suspended", linkAway: "away", linkLegacy: "legacy",
		}[l.state]
	}
	return pp
}

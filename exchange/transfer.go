package exchange

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
	"github.com/OpenArchive/save-dweb-go/exchange/internal/work"
)

// Paces of a transfer.
const (
	probeChunks  = 28                     // of the first READs, which ask the last chunk too
	firstProbes  = 3                      // providers asked at first, before the size is known
	probeTick    = 500 * time.Millisecond // until one more is
	activePoll   = 2 * time.Second        // how often the peers are asked for while something moves
	parkedPoll   = 5 * time.Second        // and while nothing does
	endgameTick  = 50 * time.Millisecond  // how often late answers are looked for at the end
	progressTick = 200 * time.Millisecond
	minReask     = 2 * time.Second // until a provider that lacks chunks is asked again; doubles
	maxReask     = time.Minute
)

// transfer brings one blob into the store, for all who wait for it.
type transfer struct {
	x     *Exchange
	hash  blobs.Hash
	limit uint64 // largest size
	recv  *blobs.Receiver

	ctx    context.Context
	cancel context.CancelCauseFunc
	wake   chan struct{}
	done   chan struct{} // closed when err is final and nothing of it runs any more
	sized  chan struct{} // closed when size is final
	reads  sync.WaitGroup

	waiters map[*Request]struct{} // guarded by x.mu
	ending  bool                  // guarded by x.mu: nobody may join any more

	newcomer atomic.Bool // somebody has joined

	mu       sync.Mutex
	err      error
	complete bool
	over     bool // nothing new is begun
	known    bool // the size is proven
	size     uint64
	queue    work.Queue
	endgame  bool     // everything is asked
	flying   []*piece // in the order in which they were sent
	provs    []*provider
	byKey    map[linkKey]*provider
	begun    time.Time
	asked    time.Time // when Peers was called
	rateAt   time.Time // when the rate limit allows the next READ
	waiting  string
	meter    meter
	stored   uint64 // bytes that were here at the beginning
	fetched  uint64
}

// provider is one peer's part of a transfer.
type provider struct {
	l       *link
	state   providerState
	unit    work.Span  // taken from the queue, not yet asked
	have    bao.Ranges // what it holds
	reask   time.Time  // when to ask again what it holds; zero: no need
	reaskIn time.Duration
	asking  bool
	probing bool // its first READ is on its way
	listed  bool // Peers named it when it was last called
	bytes   uint64
	flying  int
}

type providerState uint8

const (
	provActive providerState = iota
	provMissing
	provDenied
	provLiar
)

// piece is a run of chunks that is asked for, by one call or, at the very end, two.
type piece struct {
	work.Span
	last    bool // the last chunk too
	copies  []*copyOf
	arrived bool
	sent    time.Time
}

// copyOf is one call for a piece.
type copyOf struct {
	piece *piece
	p     *provider
	call  *call
}

// errIncomplete should not happen: the receiver misses nothing, and yet the blob is not complete.
var errIncomplete = errors.New("nothing is missing, but the blob is not complete")

// start begins the transfer; it reports false where the exchange is closed. The caller holds x.mu.
func (t *transfer) start() bool {
	return t.x.tryRun(func() {
		err := t.open()
		if err == nil {
			t.manage()
		} else {
			t.fail(err)
		}
		t.reads.Wait()
		if t.recv != nil {
			if err := t.recv.Close(); err != nil {
				t.x.log.Warn("partial blob not closed", "hash", t.hash.Short(), "err", err)
			}
		}
		for _, p := range t.provs {
			p.l.leave(t)
		}
		t.cancel(nil)
		t.x.mu.Lock()
		t.ending = true
		delete(t.x.transfers, t.hash)
		t.x.mu.Unlock()
		close(t.done)
	})
}

// open looks at what is here already.
func (t *transfer) open() error {
	r, err := blobs.NewReceiver(t.ctx, t.x.cfg.Store, t.hash, t.limit)
	if errors.Is(err, blobs.ErrComplete) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.complete, t.over = true, true
		return nil
	}
	if err != nil {
		return err
	}
	t.recv = r
	info := r.Info()
	t.mu.Lock()
	defer t.mu.Unlock()
	if info.Proven {
		t.setSize(info.Size)
		t.stored = heldBytes(info)
	} else {
		t.queue.Fill(bao.All(), bao.Chunks(t.limit))
	}
	return nil
}

// heldBytes is how many bytes of a blob of proven size are in the store.
func heldBytes(info blobs.Info) uint64 {
	chunks := bao.Chunks(info.Size)
	n := info.Have.Count(chunks) * bao.ChunkSize
	if info.Have.Contains(chunks - 1) {
		n -= chunks*bao.ChunkSize - info.Size // the last one is short
	}
	return n
}

// setSize notes the proven size. The caller holds t.mu.
func (t *transfer) setSize(size uint64) {
	t.known, t.size = true, size
	close(t.sized)
	chunks := bao.Chunks(size)
	if t.queue.IsEmpty() && len(t.flying) == 0 {
		t.queue.Fill(t.recv.Missing(), chunks)
	} else {
		t.queue.Clip(chunks)
	}
	for _, p := range t.provs {
		p.unit = p.unit.Clip(chunks)
	}
	// The last group early: with it the store can prove the size to others, and players of films often begin there.
	t.queue.Raise(work.Span{First: (chunks - 1) / bao.GroupChunks * bao.GroupChunks, End: chunks})
}

// manage keeps the transfer going until it is over: it looks for peers, and wakes up when a pause ends.
func (t *transfer) manage() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if t.ctx.Err() != nil {
			t.fail(context.Cause(t.ctx))
		}
		next, over := t.turn()
		if over {
			return
		}
		timer.Reset(max(time.Until(next), time.Millisecond))
		select {
		case <-t.ctx.Done():
		case <-t.wake:
		case <-timer.C:
		}
	}
}

// turn does what can be done now and says when to look again.
func (t *transfer) turn() (next time.Time, over bool) {
	t.refreshPeers()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return next, true
	}
	now := time.Now()
	for _, p := range t.provs {
		t.reaskIf(p, now)
	}
	t.feedAll()
	if t.over {
		return next, true
	}
	idle := t.idle()
	if idle && t.onlyLegacy() {
		t.failLocked(ErrLegacyPeer)
		return next, true
	}
	t.waiting = ""
	poll := activePoll
	if idle && t.rateAt.Before(now) {
		t.waiting = t.reason()
		poll = parkedPoll
	}
	next = now.Add(poll)
	sooner := func(at time.Time) {
		if at.After(now) && at.Before(next) {
			next = at
		}
	}
	for _, p := range t.provs {
		sooner(p.reask)
		sooner(p.l.wakeAt())
	}
	sooner(t.rateAt)
	if len(t.flying) > 0 && t.endgame {
		sooner(now.Add(endgameTick))
	}
	if len(t.flying) > 0 && !t.known {
		sooner(now.Add(probeTick))
	}
	return next, false
}

// refreshPeers asks those who wait who may have the blob.
func (t *transfer) refreshPeers() {
	now := time.Now()
	t.mu.Lock()
	due := t.newcomer.Swap(false) || now.Sub(t.asked) >= activePoll/2
	if due {
		t.asked = now
	}
	t.mu.Unlock()
	if !due {
		return
	}
	t.x.mu.Lock()
	reqs := make([]*Request, 0, len(t.waiters))
	for r := range t.waiters {
		reqs = append(reqs, r)
	}
	t.x.mu.Unlock()
	type named struct {
		g GroupID
		p Peer
	}
	var all []named
	for _, r := range reqs {
		for _, p := range r.Peers() {
			all = append(all, named{r.Group, p})
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.provs {
		p.listed = false
	}
	for _, n := range all {
		key := linkKey{n.g, n.p.ID}
		l := t.x.link(n.g, n.p)
		p := t.byKey[key]
		switch {
		case p == nil:
			p = &provider{l: l, have: work.Everything, reaskIn: minReask}
			if t.x.isLiar(key, t.hash) {
				p.state = provLiar
			}
			t.byKey[key] = p
			t.provs = append(t.provs, p)
			l.join(t)
		case p.l != l: // the link was dropped meanwhile
			p.l.leave(t)
			p.l = l
			l.join(t)
		}
		p.listed = true
	}
	for _, p := range t.provs {
		if !p.listed {
			t.giveUp(p)
		}
	}
}

// giveUp returns what a provider has taken and not asked. The caller holds t.mu.
func (t *transfer) giveUp(p *provider) {
	t.queue.PutBack(p.unit, nil)
	p.unit = work.Span{}
}

// fail ends the transfer with an error, unless it is over.
func (t *transfer) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failLocked(err)
}

func (t *transfer) failLocked(err error) {
	if t.over {
		return
	}
	t.over, t.err = true, err
	t.cancel(err)
	poke(t.wake)
}

// finish ends the transfer: the blob is complete. The caller holds t.mu.
func (t *transfer) finish() {
	if t.over {
		return
	}
	t.over, t.complete = true, true
	for _, pc := range t.flying {
		for _, c := range pc.copies {
			c.call.cancel(errNotNeeded)
		}
	}
	poke(t.wake)
}

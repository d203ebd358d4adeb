package exchange

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
)

// Fetch brings a blob into the store, from many providers at once, and returns when it is complete. While nobody can
// be reached it waits and tries again, until ctx ends; the error then says what it waited for ([ErrUnreachable],
// [ErrNotHeld], ...) besides the context's own. Two fetches of one hash share one transfer, which ends when the last of
// them is given up. It returns a temporary tag that keeps the blob until it is released.
func (x *Exchange) Fetch(ctx context.Context, req Request) (*blobs.TempTag, error) {
	if req.Peers == nil {
		return nil, errors.New("fetch: request without peers")
	}
	if x.served(req.Group) == nil {
		return nil, fmt.Errorf("fetch %s: %w", req.Hash.Short(), ErrUnknownGroup)
	}
	if req.MaxSize == 0 || req.MaxSize > x.cfg.MaxBlob {
		req.MaxSize = x.cfg.MaxBlob
	}
	tag := x.cfg.Store.TempTag(blobs.HashAndFormat{Hash: req.Hash, Format: blobs.Raw})
	err := x.fetch(ctx, &req)
	if err != nil {
		tag.Release()
		return nil, fmt.Errorf("fetch %s: %w", req.Hash.Short(), err)
	}
	return tag, nil
}

func (x *Exchange) fetch(ctx context.Context, req *Request) error {
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		switch info, err := x.cfg.Store.Info(ctx, req.Hash); {
		case err == nil && info.Complete:
			if req.Progress != nil {
				req.Progress(Progress{Hash: req.Hash, Size: info.Size, Done: info.Size})
			}
			return nil
		case err != nil && !errors.Is(err, blobs.ErrNotFound):
			return err
		}
		t, joined, err := x.attach(req)
		if err != nil {
			return err
		}
		if !joined { // it is ending: what comes after it is a new one
			select {
			case <-t.done:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		err = x.await(ctx, t, req)
		if errors.Is(err, blobs.ErrTooLarge) && t.limit < req.MaxSize {
			continue // too large for whoever began it, not for us
		}
		return err
	}
}

// attach joins the transfer of the hash, or begins one. joined is false where the one there is can take nobody more.
func (x *Exchange) attach(req *Request) (t *transfer, joined bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if t = x.transfers[req.Hash]; t != nil {
		if t.ending {
			return t, false, nil
		}
		t.waiters[req] = struct{}{}
		t.newcomer.Store(true)
		poke(t.wake)
		return t, true, nil
	}
	t = &transfer{
		x: x, hash: req.Hash, limit: req.MaxSize, begun: time.Now(),
		wake: make(chan struct{}, 1), done: make(chan struct{}), sized: make(chan struct{}),
		waiters: map[*Request]struct{}{req: {}}, byKey: map[linkKey]*provider{},
	}
	t.ctx, t.cancel = context.WithCancelCause(x.ctx)
	x.transfers[req.Hash] = t
	if !t.start() {
		delete(x.transfers, req.Hash)
		return nil, false, ErrClosed
	}
	return t, true, nil
}

// await waits for a transfer and reports its progress.
func (x *Exchange) await(ctx context.Context, t *transfer, req *Request) error {
	var ticks <-chan time.Time
	if req.Progress != nil {
		ticker := time.NewTicker(progressTick)
		defer ticker.Stop()
		ticks = ticker.C
		defer func() { req.Progress(t.progress()) }()
	}
	var last Progress
	sized := t.sized
	for {
		select {
		case <-t.done:
			return t.err
		case <-ctx.Done():
			stuck := t.stuck()
			x.detach(t, req)
			if stuck != nil {
				return fmt.Errorf("%w: %w", stuck, context.Cause(ctx))
			}
			return context.Cause(ctx)
		case <-sized:
			sized = nil
			if t.size > req.MaxSize {
				x.detach(t, req)
				return fmt.Errorf("%d bytes, at most %d are allowed: %w", t.size, req.MaxSize, blobs.ErrTooLarge)
			}
		case <-ticks:
			if p := t.progress(); moved(p, last) {
				req.Progress(p)
				last = p
			}
		}
	}
}

// moved reports whether there is something new to tell.
func moved(p, last Progress) bool {
	return p.Done != last.Done || p.Size != last.Size || p.Waiting != last.Waiting || p.Fetched != last.Fetched ||
		len(p.Providers) != len(last.Providers) || p.Rate >= 1 || last.Rate >= 1
}

// detach ends one waiter's interest. After the last one the transfer ends, and detach waits for that.
func (x *Exchange) detach(t *transfer, req *Request) {
	x.mu.Lock()
	delete(t.waiters, req)
	last := len(t.waiters) == 0
	if last {
		t.ending = true
		t.cancel(context.Canceled)
	}
	x.mu.Unlock()
	if last {
		<-t.done
	}
}

// Transfers lists the transfers that run.
func (x *Exchange) Transfers() []Progress {
	x.mu.Lock()
	ts := make([]*transfer, 0, len(x.transfers))
	for _, t := range x.transfers {
		ts = append(ts, t)
	}
	x.mu.Unlock()
	ps := make([]Progress, len(ts))
	for i, t := range ts {
		ps[i] = t.progress()
	}
	return ps
}

// Liars are remembered for as long as it takes them to be repaired, and no more of them than fit.
const (
	maxLiars  = 4096
	liarSpan  = time.Hour
	liarSweep = 16 // looked at to find a place
)

type liarKey struct {
	link linkKey
	hash blobs.Hash
}

func (x *Exchange) isLiar(k linkKey, h blobs.Hash) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	at, ok := x.liars[liarKey{k, h}]
	return ok && time.Since(at) < liarSpan
}

func (x *Exchange) addLiar(k linkKey, h blobs.Hash) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.liars) >= maxLiars {
		var oldest liarKey
		var when time.Time
		n := 0
		for k, at := range x.liars { // in random order
			if when.IsZero() || at.Before(when) {
				oldest, when = k, at
			}
			if n++; n >= liarSweep {
				break
			}
		}
		delete(x.liars, oldest)
	}
	x.liars[liarKey{k, h}] = time.Now()
}

package group

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/OpenArchive/save-dweb-go/exchange"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Timing of the worker.
const (
	reconcileEvery = 5 * time.Minute // whatever watches and news tell
	retryFirst     = time.Second     // after a failed pass, doubling
	retryMost      = time.Minute     // ... up to this
	passLimit      = 2 * time.Minute // of one pass: a network that never answers must not hold it up for ever
	recheckSlot    = 5 * time.Second // after taking a slot: others may have taken it at the same time
	greetLimit     = 20 * time.Second
	newsAfterHello = 500 * time.Millisecond
	rewatchAfter   = 20 * time.Second
	flushRetry     = 300 * time.Millisecond
	parallelRepos  = 8
)

// worker does the network's side of a group, in one goroutine: opening and watching records, reading what changed,
// publishing what was written. Its fields are guarded by mu.
type worker struct {
	wake chan struct{}
	ctx  context.Context // of the present Run
	wg   sync.WaitGroup  // what Run waits for

	mu      sync.Mutex
	dirty   map[veilid.OpaqueRecordKey]bool // records to read again
	fresh   bool                            // the group's record was read in this run, or made in it
	waiting []chan error                    // told the result of the next whole pass
	status  time.Time                       // when subkey 4 was last published
	recheck time.Time                       // when to look at the own slot again; zero: not
	rewatch bool                            // a watch could not be set up
	news    *exchange.News                  // of the own repo, as long as they are told again
	tell    []time.Time                     // when to tell them
}

func (w *worker) init() {
	w.wake = make(chan struct{}, 1)
	w.dirty = map[veilid.OpaqueRecordKey]bool{}
}

// wake lets the worker look for work.
func (g *Group) wake() {
	select {
	case g.worker.wake <- struct{}{}:
	default:
	}
}

// touch marks a record as changed in the network.
func (g *Group) touch(ids ...veilid.OpaqueRecordKey) {
	g.worker.mu.Lock()
	for _, id := range ids {
		g.worker.dirty[id] = true
	}
	g.worker.mu.Unlock()
	g.wake()
}

func (g *Group) touchAll() {
	ids := []veilid.OpaqueRecordKey{g.id}
	for _, r := range g.Repos() {
		ids = append(ids, r.id)
	}
	g.touch(ids...)
}

// takeDirty reports whether a record is to be read, and takes the mark away.
func (g *Group) takeDirty(id veilid.OpaqueRecordKey) bool {
	g.worker.mu.Lock()
	defer g.worker.mu.Unlock()
	d := g.worker.dirty[id]
	delete(g.worker.dirty, id)
	return d
}

// Run does the group's work in the network until ctx ends.
func (g *Group) Run(ctx context.Context) {
	g.worker.ctx = ctx
	defer g.worker.wg.Wait()
	g.touchAll()
	retry := retryFirst
	timer := time.NewTimer(0)
	defer timer.Stop()
	nextReconcile := time.Now().Add(jitter(reconcileEvery))
	for {
		select {
		case <-ctx.Done():
			g.answer(ctx.Err())
			return
		case <-g.worker.wake:
		case <-timer.C:
		}
		if !g.d.Ready() {
			timer.Reset(time.Minute) // becoming ready wakes it
			continue
		}
		if time.Now().After(nextReconcile) {
			nextReconcile = time.Now().Add(jitter(reconcileEvery))
			g.touchAll()
		}
		err := g.pass(ctx)
		wait := time.Until(nextReconcile)
		if err != nil && ctx.Err() == nil {
			g.d.Log.Debug("group pass", "err", err, "retry", retry)
			wait = min(wait, jitter(retry))
			retry = min(2*retry, retryMost)
		} else {
			retry = retryFirst
		}
		g.worker.mu.Lock()
		if !g.worker.recheck.IsZero() {
			wait = min(wait, time.Until(g.worker.recheck))
		}
		if len(g.worker.tell) > 0 {
			wait = min(wait, time.Until(g.worker.tell[0]))
		}
		if g.worker.rewatch {
			wait = min(wait, jitter(rewatchAfter))
			g.worker.rewatch = false
		}
		g.worker.mu.Unlock()
		timer.Reset(max(wait, time.Millisecond))
	}
}

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// answer ends the waiting of Refresh.
func (g *Group) answer(err error) {
	g.worker.mu.Lock()
	defer g.worker.mu.Unlock()
	for _, c := range g.worker.waiting {
		c <- err
	}
	g.worker.waiting = nil
}

// nextPass is told the result of the next whole pass.
func (g *Group) nextPass() <-chan error {
	done := make(chan error, 1)
	g.worker.mu.Lock()
	defer g.worker.mu.Unlock()
	g.worker.waiting = append(g.worker.waiting, done)
	return done
}

// Refresh reads everything again from the network, publishes what is pending, and waits until that is done. Its error
// joins what failed; what could be read is there all the same.
func (g *Group) Refresh(ctx context.Context) error {
	done := g.nextPass()
	g.touchAll()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		if !g.d.Ready() {
			return fmt.Errorf("not attached to the network: %w", veilid.ErrTryAgain)
		}
		return ctx.Err()
	}
}

// Flush waits until everything that was written here has reached the network, or ctx ends.
func (g *Group) Flush(ctx context.Context) error {
	for !g.Published() {
		done := g.nextPass()
		g.wake()
		select {
		case err := <-done:
			if err == nil || g.Published() {
				continue
			}
			select {
			case <-time.After(flushRetry):
			case <-ctx.Done():
				return fmt.Errorf("not published yet: %w", err)
			}
		case <-ctx.Done():
			return fmt.Errorf("not published yet: %w", ctx.Err())
		}
	}
	return nil
}

// pass does all the work that there is once.
func (g *Group) pass(ctx context.Context) error {
	g.worker.mu.Lock()
	waiting := g.worker.waiting
	g.worker.waiting = nil
	g.worker.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, passLimit)
	defer cancel()
	var errs []error
	if own := g.Own(); own != nil { // first its record, then the slot that leads others to it
		if g.takeDirty(own.id) {
			if err := own.verifyRoute(ctx); err != nil {
				g.touchLater(own.id)
				errs = append(errs, fmt.Errorf("own repo: %w", err))
			}
		}
		if err := own.publish(ctx); err != nil {
			errs = append(errs, fmt.Errorf("own repo: %w", err))
		}
	}
	errs = append(errs, g.passGroup(ctx), g.passRepos(ctx))
	g.tellAgain(ctx)
	err := errors.Join(errs...)
	if serr := g.save(); serr != nil {
		err = errors.Join(err, serr)
	}
	for _, c := range waiting {
		c <- err
	}
	return err
}

// passGroup does the work on the group's own record.
func (g *Group) passGroup(ctx context.Context) error {
	if err := g.rec.ensureOpen(ctx, g.d.DHT); err != nil {
		return err
	}
	var errs []error
	if err := g.publishGroup(ctx); err != nil {
		errs = append(errs, err)
	}
	g.watch(ctx, g.rec)
	w := &g.worker
	w.mu.Lock()
	recheck := !w.recheck.IsZero() && time.Now().After(w.recheck)
	if recheck {
		w.recheck = time.Time{}
	}
	fresh := w.fresh
	w.mu.Unlock()
	if g.takeDirty(g.id) || recheck || !fresh {
		changed, err := g.rec.refresh(ctx, g.d.DHT)
		if len(changed) > 0 {
			g.applyGroup(changed)
		}
		if err != nil {
			g.touchLater(g.id)
			errs = append(errs, err)
		} else {
			w.mu.Lock()
			w.fresh, fresh = true, true
			w.mu.Unlock()
		}
	}
	if fresh {
		if err := g.advertise(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// watch asks to be told of changes. Until that works, reconciliation tells of them.
func (g *Group) watch(ctx context.Context, r *record) {
	if err := r.ensureWatched(ctx, g.d.DHT); err != nil {
		g.d.Log.Debug("watch", "err", err)
		g.worker.mu.Lock()
		g.worker.rewatch = true
		g.worker.mu.Unlock()
	}
}

// touchLater marks a record without waking the worker: the retry timer does.
func (g *Group) touchLater(id veilid.OpaqueRecordKey) {
	g.worker.mu.Lock()
	defer g.worker.mu.Unlock()
	g.worker.dirty[id] = true
}

// applyGroup takes in new values of the group's record.
func (g *Group) applyGroup(changed []uint32) {
	for _, n := range changed {
		if n == nameSubkey {
			g.emit(GroupRenamed, nil, "")
		}
	}
	g.applySlots()
}

// applySlots makes repos of the slots that name one, and marks those that no slot names any more.
func (g *Group) applySlots() {
	named := map[veilid.OpaqueRecordKey]bool{}
	var added []*Repo
	values := g.rec.snapshot()
	g.mu.Lock()
	for s := uint32(firstSlot); s <= lastSlot; s++ {
		b := values[s].Data
		if len(b) == 0 {
			continue
		}
		key, err := decodeSlot(b)
		if err != nil {
			g.d.Log.Warn("slot is skipped", "slot", s, "err", err)
			continue
		}
		named[key.Opaque()] = true
		if g.repos[key.Opaque()] == nil {
			r := g.newRepo(key, veilid.KeyPair{})
			g.repos[r.id] = r
			added = append(added, r)
		}
	}
	for id, r := range g.repos {
		r.mu.Lock()
		r.gone = r != g.own && !named[id] // kept all the same: a hostile member may have overwritten the slot
		r.mu.Unlock()
	}
	g.mu.Unlock()
	for _, r := range added {
		g.touchLater(r.id)
		g.emit(MemberAdded, r, "")
	}
}

// passRepos does the work on all other members' repos, several at once.
func (g *Group) passRepos(ctx context.Context) error {
	var mu sync.Mutex
	var errs []error
	var eg errgroup.Group
	eg.SetLimit(parallelRepos)
	for _, r := range g.Repos() {
		if r.CanWrite() {
			continue
		}
		eg.Go(func() error {
			if err := r.update(ctx); err != nil {
				mu.Lock()
				errs = append(errs, fmt.Errorf("repo %s: %w", short(r.id), err))
				mu.Unlock()
			}
			return nil
		})
	}
	eg.Wait() //nolint:errcheck // errors are collected
	return errors.Join(errs...)
}

// OnValueChange takes in a change of a watched record; it reports whether the record is one of this group's.
func (g *Group) OnValueChange(u *veilid.ValueChange) bool {
	id := u.Key.Opaque()
	rec := g.rec
	g.d.Log.Debug("value change", "record", short(id), "subkeys", u.Subkeys, "count", u.Count, "value", u.Value != nil)
	if id != g.id {
		r, err := g.Repo(id)
		if err != nil {
			return false
		}
		rec = r.rec
	}
	if u.Count == 0 { // the watch has ended, by itself or with this last change
		rec.unwatched()
	}
	if u.Value != nil && len(u.Subkeys) == 1 && u.Subkeys[0].First == u.Subkeys[0].Last {
		n := u.Subkeys[0].First
		if rec.store(n, u.Value) {
			if id == g.id {
				g.applyGroup([]uint32{n})
			} else if r, err := g.Repo(id); err == nil {
				r.changed([]uint32{n})
			}
			g.wake()
		}
		if u.Count > 0 {
			return true
		}
	}
	g.touch(id)
	return true
}

// onHello takes in that a member's device is there anew: its route may be another one than the record showed.
func (g *Group) onHello(h exchange.Greeting, _ []byte) {
	g.d.Log.Debug("hello", "repo", h.Repo, "device", h.Device)
	id, err := veilid.Parse[veilid.OpaqueRecordKey](h.Repo)
	if err != nil {
		return
	}
	if _, err := g.Repo(id); err != nil {
		id = g.id // a member whose slot was not seen yet
	}
	g.worker.mu.Lock() // it may have missed the last news
	g.worker.tell = append([]time.Time{time.Now().Add(newsAfterHello)}, g.worker.tell...)
	g.worker.mu.Unlock()
	g.touch(id)
}

// greet tells all other members that this device is there, by its new route.
func (g *Group) greet() {
	for _, p := range g.peers() {
		g.worker.wg.Go(func() {
			ctx, cancel := context.WithTimeout(g.worker.ctx, greetLimit)
			defer cancel()
			if _, err := g.d.Exchange.Hello(ctx, g.id, p); err != nil {
				g.d.Log.Debug("hello", "peer", p.ID, "err", err)
			}
		})
	}
}

// onNews takes in what a member tells of its repo.
func (g *Group) onNews(from string, n exchange.News) {
	g.d.Log.Debug("news", "from", from, "repo", short(n.Repo), "version", n.Version)
	if r, err := g.Repo(n.Repo); err == nil && !r.CanWrite() && r.Root() != n.Root {
		g.touch(r.id)
	} else if err != nil {
		g.touch(g.id) // a member whose slot was not seen yet
	}
}

// Reattach is called when the node has begun anew or is ready again: records must be opened and watched again.
func (g *Group) Reattach(restarted bool) {
	if restarted {
		g.rec.lost()
		for _, r := range g.Repos() {
			r.rec.lost()
		}
		g.worker.mu.Lock()
		g.worker.status = time.Time{}
		g.worker.mu.Unlock()
	}
	g.touchAll()
}

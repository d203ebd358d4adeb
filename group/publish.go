package group

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/exchange"
)

// protocols is what subkey 4 tells others that this program speaks.
var protocols = []string{"DWB1"}

// publishGroup writes what is pending of the group's record.
func (g *Group) publishGroup(ctx context.Context) error {
	g.mu.Lock()
	pending := clone(g.pending)
	g.mu.Unlock()
	for n, v := range pending {
		if err := g.rec.writeOver(ctx, g.d.DHT, n, v); err != nil {
			return err
		}
		g.mu.Lock()
		if bytes.Equal(g.pending[n], v) {
			delete(g.pending, n)
		}
		g.mu.Unlock()
		g.emit(Published, nil, "")
	}
	return nil
}

// advertise names the own repo in a slot of the group, unless one does.
func (g *Group) advertise(ctx context.Context) error {
	own := g.Own()
	if own == nil || !g.keys.CanWrite() || g.Name() == "" {
		return nil // without its name, that this is the group is not proven
	}
	for attempt := range MaxMembers {
		values := map[uint32][]byte{}
		for n, v := range g.rec.snapshot() {
			values[n] = v.Data
		}
		c, err := chooseSlot(values, own.rec.key)
		if err != nil || c.taken {
			return err
		}
		if _, err := g.rec.write(ctx, g.d.DHT, c.slot, encodeSlot(own.rec.key)); err != nil {
			return err
		}
		read, err := g.rec.read(ctx, g.d.DHT, c.slot)
		if err != nil {
			return err
		}
		if checkSlot(read, own.rec.key) == slotOurs {
			g.applySlots()
			g.worker.mu.Lock()
			g.worker.recheck = time.Now().Add(jitter(recheckSlot))
			g.worker.mu.Unlock()
			return nil
		}
		// Others join at this moment, too: each tries again after another while.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(time.Duration(attempt+1) * 200 * time.Millisecond)):
		}
	}
	return ErrFull
}

// publish writes what is pending of the own repo.
func (r *Repo) publish(ctx context.Context) error {
	r.queueStatus()
	r.mu.Lock()
	pending := clone(r.pending)
	r.mu.Unlock()
	if len(pending) == 0 {
		return nil
	}
	if err := r.rec.ensureOpen(ctx, r.g.d.DHT); err != nil {
		return err
	}
	var errs []error
	r.mu.Lock()
	routeKey := r.routeKey
	r.mu.Unlock()
	for _, n := range []uint32{routeKey, pointerSubkey, legacySubkey, nameSubkey, statusSubkey} {
		v, ok := pending[n]
		if !ok {
			continue
		}
		var err error
		switch n {
		case routeKey:
			err = r.publishRoute(ctx, n, v)
		case pointerSubkey:
			err = r.publishPointer(ctx, v)
		default:
			err = r.rec.writeOver(ctx, r.g.d.DHT, n, v)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.mu.Lock()
		if bytes.Equal(r.pending[n], v) {
			delete(r.pending, n)
		}
		r.mu.Unlock()
		if n == routeKey {
			r.g.greet()
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	r.g.emit(Published, r, "")
	return nil
}

// publishRoute publishes this device's route. A route that stands there and was not seen here before is that of another
// device of this member: then this one takes a subkey of its own.
func (r *Repo) publishRoute(ctx context.Context, n uint32, route []byte) error {
	r.mu.Lock()
	mine := r.lastRoutes
	if len(mine) == 0 || !bytes.Equal(mine[0], route) {
		mine = append([][]byte{route}, mine[:min(1, len(mine))]...)
	}
	r.lastRoutes = mine
	r.mu.Unlock()
	if err := r.g.save(); err != nil { // before the network has it: a crash in between must not make it a stranger's
		return err
	}
	now, err := r.rec.read(ctx, r.g.d.DHT, n)
	if err != nil {
		return err
	}
	if len(now) == 0 || slices.ContainsFunc(mine, func(m []byte) bool { return bytes.Equal(m, now) }) {
		return r.rec.writeOver(ctx, r.g.d.DHT, n, route)
	}
	if _, err := r.rec.refresh(ctx, r.g.d.DHT); err != nil {
		return err
	}
	for _, free := range routeSubkeys {
		if len(r.rec.value(free)) > 0 {
			continue
		}
		if err := r.rec.writeOver(ctx, r.g.d.DHT, free, route); err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.routeKey = free
		return nil
	}
	return r.rec.writeOver(ctx, r.g.d.DHT, n, route) // all are taken, perhaps by devices that are no more
}

// verifyRoute looks whether the network still holds this device's route, and queues it again if not.
func (r *Repo) verifyRoute(ctx context.Context) error {
	r.g.mu.Lock()
	route := r.g.route
	r.g.mu.Unlock()
	r.mu.Lock()
	n := r.routeKey
	_, queued := r.pending[n]
	r.mu.Unlock()
	if route == nil || queued {
		return nil
	}
	now, err := r.rec.read(ctx, r.g.d.DHT, n)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, route) {
		r.mu.Lock()
		r.pending[n] = route
		r.mu.Unlock()
	}
	return nil
}

// keepMerged is how many manifests of other devices are remembered as merged.
const keepMerged = 8

// queueStatus renews subkey 4 when it is due.
func (r *Repo) queueStatus() {
	w := &r.g.worker
	w.mu.Lock()
	due := time.Since(w.status) >= statusInterval
	if due {
		w.status = time.Now()
	}
	w.mu.Unlock()
	if !due {
		return
	}
	v, err := sealValue(r.g.keys.Secret, statusContext, r.id, status{protocols, time.Now().Unix(), r.g.d.Device})
	if err != nil {
		r.g.d.Log.Error("status", "err", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending[statusSubkey] = v
}

// publishPointer publishes a manifest. Another device of this member may have published one meanwhile: then both are
// merged, and the result is what is pending next.
func (r *Repo) publishPointer(ctx context.Context, sealed []byte) error {
	var p pointer
	if err := openValue(r.g.keys.Secret, pointerContext, r.id, sealed, &p); err != nil {
		return err
	}
	// Whatever stands there that is not what this device published last must not be lost. The network refuses a write
	// only if this node had not seen the other value before, so it is looked at first.
	now, err := r.rec.read(ctx, r.g.d.DHT, pointerSubkey)
	if err != nil {
		return err
	}
	if theirs, ok := r.foreign(now, p); ok {
		return r.merge(ctx, theirs)
	}
	other, err := r.rec.write(ctx, r.g.d.DHT, pointerSubkey, sealed)
	if err != nil {
		return err
	}
	if other != nil {
		if theirs, ok := r.foreign(other.Data, p); ok {
			return r.merge(ctx, theirs)
		}
		if err := r.rec.writeOver(ctx, r.g.d.DHT, pointerSubkey, sealed); err != nil {
			return err
		}
	}
	entries, _, err := r.g.readRepo(ctx, r.id, p.Root)
	if err != nil {
		return err
	}
	if err := r.g.d.Store.SetTag(ctx, r.publishedTag(), blobs.HashAndFormat{Hash: p.Root, Format: blobs.SeqFormat}); err != nil {
		return err
	}
	r.mu.Lock()
	r.published, r.base = p.Root, entries
	r.reindex(p, r.legacyHash())
	r.mu.Unlock()
	r.g.announce(ctx, r, p)
	return nil
}

// foreign reads a published pointer and reports whether another device of this member has published it.
func (r *Repo) foreign(sealed []byte, ours pointer) (theirs pointer, yes bool) {
	if len(sealed) == 0 {
		return pointer{}, false
	}
	if err := openValue(r.g.keys.Secret, pointerContext, r.id, sealed, &theirs); err != nil {
		r.g.d.Log.Warn("published pointer is replaced: it cannot be read", "err", err)
		return pointer{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return theirs, theirs.Root != ours.Root && theirs.Root != r.published && !slices.Contains(r.merged, theirs.Root)
}

// legacyHash is the current collection's hash. Callers hold mu.
func (r *Repo) legacyHash() blobs.Hash {
	b := r.pending[legacySubkey]
	if b == nil {
		b = r.rec.value(legacySubkey)
	}
	h, err := decodeLegacyHash(b)
	if err != nil {
		return blobs.Hash{}
	}
	return h
}

// merge joins the own files with those that another device of this member has published.
func (r *Repo) merge(ctx context.Context, theirs pointer) error {
	if _, err := r.rec.refresh(ctx, r.g.d.DHT); err != nil { // where that device can be reached
		return err
	}
	tags, err := r.g.fetchManifest(ctx, theirs)
	if err != nil {
		return fmt.Errorf("merge with this member's other device: %w", err)
	}
	for _, t := range tags {
		defer t.Release()
	}
	entries, _, err := r.g.readRepo(ctx, r.id, theirs.Root)
	if err != nil {
		return err
	}
	r.mu.Lock()
	base := r.base
	r.version = max(r.version, theirs.Version)
	r.mu.Unlock()
	err = r.change(ctx, func(ours []entry) ([]entry, error) { return mergeEntries(base, ours, entries), nil })
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.base = entries // what both have now: a second merge must not bring back what is removed from here on
	if r.merged = append(r.merged, theirs.Root); len(r.merged) > keepMerged {
		r.merged = r.merged[1:]
	}
	r.mu.Unlock()
	return fmt.Errorf("merged with this member's other device, to be published next: %w", errAgain)
}

// errAgain lets the worker come back at once for what it has just queued.
var errAgain = errors.New("work was queued")

// newsAgain is when news are told again: a member whose device was about to return has missed them.
var newsAgain = []time.Duration{3 * time.Second, 15 * time.Second, time.Minute}

// announce tells the members that are there of a new manifest, now and some times again. It is a hint: watches and
// reconciliation tell of it, too, but later.
func (g *Group) announce(ctx context.Context, r *Repo, p pointer) {
	n := exchange.News{Repo: r.id, Root: p.Root, Version: p.Version}
	now := time.Now()
	g.worker.mu.Lock()
	g.worker.news, g.worker.tell = &n, nil
	for _, d := range newsAgain {
		g.worker.tell = append(g.worker.tell, now.Add(d))
	}
	g.worker.mu.Unlock()
	g.tellNews(ctx, n)
}

// tellAgain tells the latest news again when that is due.
func (g *Group) tellAgain(ctx context.Context) {
	w := &g.worker
	now := time.Now()
	w.mu.Lock()
	due := 0
	for due < len(w.tell) && !w.tell[due].After(now) {
		due++
	}
	w.tell = w.tell[due:]
	n := w.news
	w.mu.Unlock()
	if due > 0 && n != nil {
		g.tellNews(ctx, *n)
	}
}

func (g *Group) tellNews(ctx context.Context, n exchange.News) {
	if peers := g.peers(); len(peers) > 0 {
		err := g.d.Exchange.SendNews(ctx, g.id, peers, n)
		g.d.Log.Debug("news sent", "peers", len(peers), "version", n.Version, "err", err)
	}
}

// SetRoute makes this the route by which members reach this device; nil: there is none now.
func (g *Group) SetRoute(blob []byte) {
	g.mu.Lock()
	g.route = blob
	own := g.own
	g.mu.Unlock()
	if own == nil || blob == nil {
		return
	}
	own.mu.Lock()
	own.pending[own.routeKey] = blob
	own.mu.Unlock()
	g.wake()
}

// Withdraw tells members that this device goes away, so that they do not try to reach it.
func (g *Group) Withdraw(ctx context.Context) error {
	own := g.Own()
	if own == nil || !g.d.Ready() {
		return nil
	}
	if err := own.rec.ensureOpen(ctx, g.d.DHT); err != nil {
		return err
	}
	own.mu.Lock()
	n := own.routeKey
	delete(own.pending, n)
	own.mu.Unlock()
	if len(own.rec.value(n)) == 0 {
		return nil // none was published
	}
	return own.rec.writeOver(ctx, g.d.DHT, n, []byte{})
}

package group

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/exchange"
)

// update reads what is new of another member's repo: its record, then the manifest that it points to.
func (r *Repo) update(ctx context.Context) error {
	r.mu.Lock()
	gone := r.gone
	r.mu.Unlock()
	if gone {
		return nil
	}
	var errs []error
	if err := r.rec.ensureOpen(ctx, r.g.d.DHT); err != nil {
		r.g.touchLater(r.id)
		r.setProblem(err)
		return err
	}
	if r.g.takeDirty(r.id) {
		changed, err := r.rec.refresh(ctx, r.g.d.DHT)
		r.g.d.Log.Debug("repo read", "repo", short(r.id), "changed", changed, "err", err)
		r.changed(changed)
		if err != nil {
			r.g.touchLater(r.id)
			errs = append(errs, err)
		}
	}
	r.g.watch(ctx, r.rec)
	errs = append(errs, r.fetchFiles(ctx))
	err := errors.Join(errs...)
	if err != nil {
		r.setProblem(err)
	}
	return err
}

func (r *Repo) setProblem(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problem = err
}

// changed tells of new values of another member's record.
func (r *Repo) changed(subkeys []uint32) {
	for _, n := range subkeys {
		if slices.Contains(routeSubkeys, n) {
			r.g.d.Exchange.PeerMoved(r.g.id, r.peerID(n), r.rec.value(n))
		}
	}
	for _, n := range subkeys {
		if n != pointerSubkey && n != legacySubkey {
			r.g.emit(MemberChanged, r, "")
			return
		}
	}
}

// fetchPatience is how long a pass waits for a manifest; after that it arrives in the background.
const fetchPatience = 8 * time.Second

// errOnItsWay is a repo's problem while its list of files is fetched.
var errOnItsWay = errors.New("the list of files is on its way")

// listing is a manifest or legacy collection that is being fetched.
type listing struct {
	root   blobs.Hash
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done
}

// fetchFiles brings the list of files that the record names, unless it is shown already.
func (r *Repo) fetchFiles(ctx context.Context) error {
	root, fetch, err := r.wantedList()
	if err != nil || root == (blobs.Hash{}) || root == r.Root() {
		return err
	}
	l := r.startListing(root, fetch)
	select {
	case <-l.done:
		return l.err
	case <-time.After(fetchPatience):
		return nil // its end wakes the worker; there is nothing to retry
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wantedList is what the record names now, and how to bring it here.
func (r *Repo) wantedList() (blobs.Hash, func(context.Context) error, error) {
	if sealed := r.rec.value(pointerSubkey); len(sealed) > 0 {
		var p pointer
		if err := openValue(r.g.keys.Secret, pointerContext, r.id, sealed, &p); err != nil {
			return blobs.Hash{}, nil, fmt.Errorf("pointer: %w", err)
		}
		return p.Root, func(ctx context.Context) error { return r.fetchList(ctx, p) }, nil
	}
	b := r.rec.value(legacySubkey)
	if len(b) == 0 {
		return blobs.Hash{}, nil, nil
	}
	h, err := decodeLegacyHash(b)
	return h, func(ctx context.Context) error { return r.fetchLegacy(ctx, h) }, err
}

// startListing fetches a list in the background, instead of an older one that may still be on its way.
func (r *Repo) startListing(root blobs.Hash, fetch func(context.Context) error) *listing {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.listing; l != nil {
		if l.root == root {
			return l
		}
		l.cancel()
	}
	ctx, cancel := context.WithCancel(r.g.worker.ctx)
	l := &listing{root: root, cancel: cancel, done: make(chan struct{})}
	r.listing, r.problem = l, errOnItsWay
	r.g.worker.wg.Go(func() {
		defer cancel()
		l.err = fetch(ctx)
		replaced := false
		r.mu.Lock()
		if replaced = r.listing != l; !replaced {
			r.listing, r.problem = nil, l.err
		}
		r.mu.Unlock()
		if replaced {
			l.err = nil // what replaced it tells how it goes
		} else if l.err != nil && ctx.Err() == nil {
			r.g.d.Log.Debug("list of files", "repo", short(r.id), "err", l.err)
			r.g.touchLater(r.id)
		}
		close(l.done)
	})
	return l
}

// fetchList brings a manifest and shows its files.
func (r *Repo) fetchList(ctx context.Context, p pointer) error {
	tags, err := r.g.fetchManifest(ctx, p)
	if err != nil {
		return err
	}
	for _, t := range tags {
		defer t.Release()
	}
	entries, _, err := r.g.readRepo(ctx, r.id, p.Root)
	if err != nil {
		return err
	}
	return r.adopt(ctx, entries, p)
}

// fetchManifest brings the three blobs of a manifest to this device. It waits for members that are away.
func (g *Group) fetchManifest(ctx context.Context, p pointer) ([]*blobs.TempTag, error) {
	if p.Count > maxFiles || p.ManifestSize > maxManifest || p.MetaSize > maxManifest {
		return nil, fmt.Errorf("%w pointer: %d files in %d bytes is more than can be listed", ErrMalformed, p.Count, p.ManifestSize)
	}
	tags, err := g.d.Exchange.FetchSmall(ctx, g.request(),
		[]blobs.Hash{p.Root, p.Meta, p.Manifest}, []uint64{p.rootSize(), p.MetaSize, p.ManifestSize})
	if err != nil {
		return nil, fmt.Errorf("fetch manifest: %w", err)
	}
	return tags, nil
}

// adopt lists a manifest's files and keeps those that are here.
func (r *Repo) adopt(ctx context.Context, entries []entry, p pointer) error {
	if err := r.g.d.Store.SetTag(ctx, r.tagName(), blobs.HashAndFormat{Hash: p.Root, Format: blobs.SeqFormat}); err != nil {
		return err
	}
	lh := r.LegacyRoot()
	r.mu.Lock()
	r.entries, r.root, r.legacy = entries, p.Root, false
	r.reindex(p, lh)
	r.mu.Unlock()
	r.g.emit(FilesChanged, r, "")
	return nil
}

// fetchLegacy brings the collection of a member that uses the Rust app, and shows its files.
func (r *Repo) fetchLegacy(ctx context.Context, h blobs.Hash) error {
	req := r.g.request()
	req.Hash, req.MaxSize = h, maxLegacyCollection
	tag, err := r.g.d.Exchange.Fetch(ctx, req)
	if err != nil {
		return fmt.Errorf("fetch collection: %w", err)
	}
	defer tag.Release()
	data, err := r.g.readBlob(ctx, h, maxLegacyCollection)
	if err != nil {
		return err
	}
	entries, err := legacyEntries(data)
	if err != nil {
		return err
	}
	return r.adoptLegacy(ctx, h, entries)
}

// adoptLegacy lists the files of a collection. Its blobs name no children that a tag could keep, so a sequence of hashes
// made here does.
func (r *Repo) adoptLegacy(ctx context.Context, collection blobs.Hash, entries []entry) error {
	hashes := []blobs.Hash{collection}
	for _, e := range entries {
		hashes = append(hashes, e.Blob)
	}
	tag, _, err := r.g.d.Store.Add(ctx, bytes.NewReader(blobs.NewHashSeq(hashes...).Bytes()))
	if err != nil {
		return err
	}
	defer tag.Release()
	kept := blobs.HashAndFormat{Hash: tag.Hash, Format: blobs.SeqFormat}
	if err := r.g.d.Store.SetTag(ctx, r.tagName(), kept); err != nil {
		return err
	}
	r.mu.Lock()
	r.entries, r.root, r.legacy = entries, collection, true
	r.reindex(pointer{}, collection)
	r.mu.Unlock()
	r.g.emit(FilesChanged, r, "")
	return nil
}

// request is what all fetches of this group have in common.
func (g *Group) request() exchange.Request {
	return exchange.Request{Group: g.id, Peers: g.peers}
}

// peers are all other devices, those of this member too; who is away is among them, since it may come back.
func (g *Group) peers() []exchange.Peer {
	var ps []exchange.Peer
	for _, r := range g.Repos() {
		ps = append(ps, r.peers()...)
	}
	return ps
}

func (r *Repo) peers() []exchange.Peer {
	r.mu.Lock()
	gone, mine := r.gone, r.routeKey
	r.mu.Unlock()
	if gone {
		return nil
	}
	var ps []exchange.Peer
	for _, n := range routeSubkeys {
		switch known := len(r.rec.value(n)) > 0; {
		case r.CanWrite() && (n == mine || !known): // this device, or one that never was
		case known || n == routeSubkey:
			ps = append(ps, r.peer(n))
		}
	}
	return ps
}

// peerID names the device whose route is in a subkey.
func (r *Repo) peerID(n uint32) string { return fmt.Sprintf("%s/%d", r.id.Bare(), n) }

func (r *Repo) peer(n uint32) exchange.Peer {
	return exchange.Peer{
		ID: r.peerID(n),
		Route: func(ctx context.Context, again bool) ([]byte, error) {
			b := r.rec.value(n)
			if again && r.g.d.Ready() {
				ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
				defer cancel()
				var err error
				if b, err = r.rec.read(ctx, r.g.d.DHT, n); err != nil {
					return nil, err
				}
			}
			if len(b) == 0 {
				return nil, exchange.ErrAway
			}
			return b, nil
		},
	}
}

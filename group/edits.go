package group

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/group/seal"
)

// PutOptions say what is known of a file beside its bytes.
type PutOptions struct {
	MIME      string    // "": by the name's extension
	Created   time.Time // zero: unknown
	Modified  time.Time // zero: now
	NoReplace bool      // ErrFileExists rather than replace a file of that name
}

// Put seals what src yields, to its end, and adds it to the own repo under a name. When it returns the file is durable
// here and listed; it is published by the worker. The same bytes put twice share one blob.
func (r *Repo) Put(ctx context.Context, name string, src io.Reader, opts PutOptions) (File, error) {
	if err := r.writable(); err != nil {
		return File{}, err
	}
	if err := CheckFileName(name); err != nil {
		return File{}, err
	}
	if _, err := r.entry(name); err == nil && opts.NoReplace {
		return File{}, fmt.Errorf("%w: %q", ErrFileExists, name)
	}
	sealer := seal.NewSealer(r.g.keys.Secret, src)
	tag, stored, err := r.g.d.Store.Add(ctx, sealer)
	if err != nil {
		return File{}, fmt.Errorf("put %q: %w", name, err)
	}
	defer tag.Release()
	content := sealer.ContentHash()
	e := entry{
		Name: name, Size: uint64(sealer.PlainSize()), MIME: opts.MIME, Created: millis(opts.Created),
		Modified: millis(opts.Modified), Content: content[:], Blob: tag.Hash, Envelope: uint8(sealer.Envelope()), Stored: stored,
	}
	if e.MIME == "" {
		e.MIME = mime.TypeByExtension(path.Ext(name))
	}
	if e.Modified == 0 {
		e.Modified = millis(time.Now())
	}
	err = r.change(ctx, func(es []entry) ([]entry, error) {
		for _, have := range es {
			if have.Size == e.Size && have.Envelope == e.Envelope && bytes.Equal(have.Content, e.Content) {
				e.Blob, e.Stored = have.Blob, have.Stored // the new blob is not needed; nothing keeps it
				break
			}
		}
		i, found := findEntry(es, name)
		switch {
		case found && opts.NoReplace:
			return nil, fmt.Errorf("%w: %q", ErrFileExists, name)
		case found:
			es[i] = e
		case len(es) >= maxFiles:
			return nil, fmt.Errorf("put %q: the repo holds %d files, more than that cannot be listed", name, maxFiles)
		default:
			es = slices.Insert(es, i, e)
		}
		return es, nil
	})
	if err != nil {
		return File{}, err
	}
	return r.File(ctx, name)
}

// Delete takes a file out of the own repo. Copies that other members hold stay with them.
func (r *Repo) Delete(ctx context.Context, name string) error {
	if err := r.writable(); err != nil {
		return err
	}
	return r.change(ctx, func(es []entry) ([]entry, error) {
		i, found := findEntry(es, name)
		if !found {
			return nil, fmt.Errorf("%w: %q", ErrFileNotFound, name)
		}
		return slices.Delete(es, i, i+1), nil
	})
}

// edits collects changes of a repo so that those which arrive together become one manifest.
type edits struct {
	mu    sync.Mutex
	queue []*edit
	busy  bool
}

// edit changes the list of files; it gets a copy that it may alter.
type edit struct {
	apply func([]entry) ([]entry, error)
	done  chan error
}

// change applies an edit to the own repo and returns when it is durable.
func (r *Repo) change(ctx context.Context, apply func([]entry) ([]entry, error)) error {
	e := &edit{apply, make(chan error, 1)}
	r.edits.mu.Lock()
	r.edits.queue = append(r.edits.queue, e)
	lead := !r.edits.busy
	r.edits.busy = true
	r.edits.mu.Unlock()
	if lead {
		r.lead(context.WithoutCancel(ctx)) // the others' edits must not fail with this caller
	}
	select {
	case err := <-e.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lead commits what is queued until nothing is.
func (r *Repo) lead(ctx context.Context) {
	for {
		r.edits.mu.Lock()
		batch := r.edits.queue
		r.edits.queue = nil
		if len(batch) == 0 {
			r.edits.busy = false
			r.edits.mu.Unlock()
			return
		}
		r.edits.mu.Unlock()
		r.commit(ctx, batch)
	}
}

// commit makes a batch of edits durable: blobs, then tags, then the cache with what is to be published.
func (r *Repo) commit(ctx context.Context, batch []*edit) {
	r.mu.Lock()
	entries, version := slices.Clone(r.entries), r.version+1
	r.mu.Unlock()
	var ok []*edit
	for _, e := range batch {
		next, err := e.apply(slices.Clone(entries))
		if err != nil {
			e.done <- err
			continue
		}
		entries = next
		ok = append(ok, e)
	}
	if len(ok) == 0 {
		return
	}
	err := r.install(ctx, version, entries)
	for _, e := range ok {
		e.done <- err
	}
}

// recommit publishes the same files anew: for a new repo, or when what is to be published changed.
func (r *Repo) recommit(ctx context.Context) error {
	return r.change(ctx, func(es []entry) ([]entry, error) { return es, nil })
}

// install makes entries the repo's files.
func (r *Repo) install(ctx context.Context, version uint64, entries []entry) error {
	m, err := buildManifest(r.g.keys.Secret, r.id, version, entries)
	if err != nil {
		return err
	}
	add := [][]byte{m.sealed, m.meta, m.root}
	withLegacy := r.g.Legacy()
	var legacyHash blobs.Hash
	if withLegacy {
		c := LegacyCollection{}
		for _, e := range entries {
			c[e.Name] = e.Blob
		}
		b := c.Encode()
		add, legacyHash = append(add, b), blobs.Sum(b)
	}
	for _, b := range add {
		tag, _, err := r.g.d.Store.Add(ctx, bytes.NewReader(b))
		if err != nil {
			return fmt.Errorf("store manifest: %w", err)
		}
		defer tag.Release()
	}
	if withLegacy {
		err = r.g.d.Store.SetTag(ctx, r.legacyTag(), blobs.HashAndFormat{Hash: legacyHash})
	} else {
		err = r.g.d.Store.DeleteTag(ctx, r.legacyTag())
	}
	if err == nil {
		err = r.g.d.Store.SetTag(ctx, r.tagName(), blobs.HashAndFormat{Hash: m.pointer.Root, Format: blobs.SeqFormat})
	}
	if err != nil {
		return fmt.Errorf("tag manifest: %w", err)
	}
	sealed, err := sealValue(r.g.keys.Secret, pointerContext, r.id, m.pointer)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.entries, r.root, r.version = entries, m.pointer.Root, version
	r.pending[pointerSubkey] = sealed
	if withLegacy {
		r.pending[legacySubkey] = encodeLegacyHash(legacyHash)
	} else if r.rec.value(legacySubkey) != nil {
		r.pending[legacySubkey] = []byte{}
	}
	r.reindex(m.pointer, legacyHash)
	r.mu.Unlock()
	if err := r.g.save(); err != nil {
		return err
	}
	r.g.emit(FilesChanged, r, "")
	r.g.wake()
	return nil
}

// reindex lists the blobs that members may have: those of the present manifest, and of the own published one, which
// they may still be fetching. Callers hold mu.
func (r *Repo) reindex(p pointer, legacy blobs.Hash) {
	idx := make(map[blobs.Hash]struct{}, len(r.entries)+len(r.base)+4)
	for _, h := range []blobs.Hash{p.Root, p.Meta, p.Manifest, legacy, r.published} {
		if h != (blobs.Hash{}) {
			idx[h] = struct{}{}
		}
	}
	for _, es := range [][]entry{r.entries, r.base} {
		for _, e := range es {
			idx[e.Blob] = struct{}{}
		}
	}
	r.index = idx
}

// loadEntries reads the files of r.root, and of the own published manifest, from the store.
func (r *Repo) loadEntries(ctx context.Context) error {
	if r.root == (blobs.Hash{}) {
		return nil
	}
	legacyRoot := r.LegacyRoot()
	if r.legacy {
		b, err := r.g.readBlob(ctx, r.root, maxLegacyCollection)
		if err != nil {
			return err
		}
		entries, err := legacyEntries(b)
		if err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.entries = entries
		r.reindex(pointer{}, r.root)
		return nil
	}
	entries, p, err := r.g.readRepo(ctx, r.id, r.root)
	if err != nil {
		return err
	}
	var base []entry
	if r.published != (blobs.Hash{}) {
		if base, _, err = r.g.readRepo(ctx, r.id, r.published); err != nil {
			base = nil // only merges would miss it
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries, r.base = entries, base
	r.reindex(p, legacyRoot)
	return nil
}

// republish queues the present manifest for publication again, after a crash may have lost that.
func (r *Repo) republish(ctx context.Context) error {
	_, p, err := r.g.readRepo(ctx, r.id, r.root)
	if err != nil {
		return err
	}
	p.Version = r.version
	sealed, err := sealValue(r.g.keys.Secret, pointerContext, r.id, p)
	if err != nil {
		return err
	}
	tag, err := r.g.d.Store.Tag(ctx, r.legacyTag())
	if err != nil && !errors.Is(err, blobs.ErrNotFound) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending[pointerSubkey] = sealed
	if err == nil {
		r.pending[legacySubkey] = encodeLegacyHash(tag.Hash)
	}
	return nil
}

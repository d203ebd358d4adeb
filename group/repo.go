package group

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
	"github.com/OpenArchive/save-dweb-go/exchange"
	"github.com/OpenArchive/save-dweb-go/group/seal"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Repo is one member's files in a group. Only its owner's device can change it.
type Repo struct {
	g   *Group
	id  veilid.OpaqueRecordKey
	rec *record

	mu      sync.Mutex
	entries []entry    // sorted by name
	root    blobs.Hash // manifest, or legacy collection, that entries come from; zero: none
	legacy  bool       // root is a legacy collection
	index   map[blobs.Hash]struct{}
	problem error // why its files cannot be read; nil: they can
	gone    bool  // no slot of the group names it any more
	listing *listing

	// Of the own repo only:
	name       string
	version    uint64
	base       []entry      // files of the manifest that was last published
	published  blobs.Hash   // its root
	merged     []blobs.Hash // manifests of this member's other devices that are in ours already
	pending    map[uint32][]byte
	lastRoutes [][]byte // the last two that this device published, perhaps in an earlier run
	routeKey   uint32   // subkey of this device's route: another device of this member may have the first one
	edits      edits
}

func (g *Group) newRepo(key veilid.RecordKey, writer veilid.KeyPair) *Repo {
	r := &Repo{
		g:       g,
		id:      key.Opaque(),
		rec:     newRecord(key, writer, repoSubkeys),
		index:   map[blobs.Hash]struct{}{},
		pending: map[uint32][]byte{}, routeKey: routeSubkey,
	}
	return r
}

// ID names the repo: its record's key without the capability to read it.
func (r *Repo) ID() veilid.OpaqueRecordKey { return r.id }

// Key is the repo's record key with the capability to read it.
func (r *Repo) Key() veilid.RecordKey { return r.rec.key }

// CanWrite reports whether this is the member's own repo.
func (r *Repo) CanWrite() bool { return !r.rec.writer.Secret.IsZero() }

// Name is the repo's name, "" while it is not known yet.
func (r *Repo) Name() string {
	if r.CanWrite() {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.name
	}
	name, err := seal.OpenName(r.g.keys.Secret, r.rec.value(nameSubkey))
	if err != nil {
		return ""
	}
	return plainName(name)
}

// SetName renames the own repo.
func (r *Repo) SetName(name string) error {
	if err := r.writable(); err != nil {
		return err
	}
	if err := CheckTitle(name); err != nil {
		return fmt.Errorf("repo name: %w", err)
	}
	sealed, err := seal.SealName(r.g.keys.Secret, name)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.name, r.pending[nameSubkey] = name, sealed
	r.mu.Unlock()
	if err := r.g.save(); err != nil {
		return err
	}
	r.g.emit(MemberChanged, r, "")
	r.g.wake()
	return nil
}

func (r *Repo) writable() error {
	if !r.CanWrite() {
		return fmt.Errorf("repo %s belongs to another member: %w", short(r.id), ErrReadOnly)
	}
	return nil
}

// Published reports whether what others see of the own repo is its present state; of others' repos it is true.
func (r *Repo) Published() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pending) == 0
}

// Root is the hash of the repo's manifest, or of its collection if its member uses the Rust app; zero if none is known.
func (r *Repo) Root() blobs.Hash {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.root
}

// LegacyRoot is the collection hash in subkey 1, which readers of the Rust app use; zero if there is none.
func (r *Repo) LegacyRoot() blobs.Hash {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.legacyHash()
}

// Problem says why the repo's files cannot be listed or are not up to date; nil if they are.
func (r *Repo) Problem() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problem
}

// File is a file as its repo lists it.
type File struct {
	Repo      veilid.OpaqueRecordKey
	Name      string
	Size      int64 // of the plaintext, in bytes; -1 where only the Rust app listed it
	MIME      string
	Created   time.Time
	Modified  time.Time
	Blob      blobs.Hash // of the sealed bytes
	BlobSize  uint64     // 0 where only the Rust app listed it
	Held      uint64     // bytes of the blob that are on this device, as far as is known
	Local     bool       // all of it is on this device
	Published bool       // members can see it
}

// Files lists the repo's files in order of their names. It needs no network.
func (r *Repo) Files(ctx context.Context) ([]File, error) {
	r.mu.Lock()
	entries := r.entries
	r.mu.Unlock()
	out := make([]File, 0, len(entries))
	for _, e := range entries {
		f, err := r.file(ctx, e)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// File finds a file by its name.
func (r *Repo) File(ctx context.Context, name string) (File, error) {
	e, err := r.entry(name)
	if err != nil {
		return File{}, err
	}
	return r.file(ctx, e)
}

func (r *Repo) entry(name string) (entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i, ok := findEntry(r.entries, name); ok {
		return r.entries[i], nil
	}
	return entry{}, fmt.Errorf("%w: %q", ErrFileNotFound, name)
}

func (r *Repo) file(ctx context.Context, e entry) (File, error) {
	f := File{
		Repo: r.id, Name: e.Name, Size: int64(e.Size), MIME: e.MIME, Created: fromMillis(e.Created),
		Modified: fromMillis(e.Modified), Blob: e.Blob, BlobSize: e.Stored, Published: true,
	}
	if e.Stored == 0 {
		f.Size = -1
	}
	if r.CanWrite() {
		r.mu.Lock()
		i, ok := findEntry(r.base, e.Name)
		f.Published = ok && r.base[i].Blob == e.Blob
		r.mu.Unlock()
	}
	info, err := r.g.d.Store.Info(ctx, e.Blob)
	if err != nil && !errors.Is(err, blobs.ErrNotFound) {
		return File{}, fmt.Errorf("file %q: %w", e.Name, err)
	}
	f.Local = err == nil && info.Complete
	if f.Local {
		f.Held = info.Size
	} else if err == nil {
		f.Held = min(info.Have.Count((info.Size+bao.ChunkSize-1)/bao.ChunkSize)*bao.ChunkSize, info.Size)
	}
	if f.Local {
		f.BlobSize = info.Size
	}
	return f, nil
}

// Reader reads a file's plaintext at any offset.
type Reader struct {
	io.ReaderAt
	Size int64
	// Plaintext reports that the file was stored without encryption, by an old version of the Rust app.
	Plaintext bool
	blob      blobs.Blob
}

// Close ends the reading.
func (r *Reader) Close() error { return r.blob.Close() }

// Open reads a file that is on this device; [blobs.ErrNotFound] if it is not: Fetch it first.
func (r *Repo) Open(ctx context.Context, name string) (*Reader, error) {
	e, err := r.entry(name)
	if err != nil {
		return nil, err
	}
	b, err := r.g.d.Store.Open(ctx, e.Blob)
	if err != nil {
		return nil, fmt.Errorf("file %q: %w", name, err)
	}
	if !b.Info().Complete {
		return nil, errors.Join(fmt.Errorf("file %q is here only in part: %w", name, blobs.ErrNotFound), b.Close())
	}
	f, err := seal.OpenFile(r.g.keys.Secret, b, int64(b.Info().Size))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("file %q: %w", name, err), b.Close())
	}
	return &Reader{f, f.Size(), f.Plaintext(), b}, nil
}

// Fetch brings a file to this device, from every member that holds it; it returns at once if it is here. While nobody
// can be reached it waits, until ctx ends; what has arrived is kept for the next Fetch.
func (r *Repo) Fetch(ctx context.Context, name string, progress func(exchange.Progress)) error {
	e, err := r.entry(name)
	if err != nil {
		return err
	}
	info, err := r.g.d.Store.Info(ctx, e.Blob)
	if err == nil && info.Complete {
		return nil
	}
	req := r.g.request()
	req.Hash, req.MaxSize, req.Progress = e.Blob, e.Stored, progress
	tag, err := r.g.d.Exchange.Fetch(ctx, req)
	if err != nil {
		return fmt.Errorf("fetch %q: %w", name, err)
	}
	tag.Release() // from here on the repo's own tag keeps it
	r.g.emit(FileLocal, r, name)
	return nil
}

// Blob is what a file's name stands for.
func (r *Repo) Blob(name string) (blobs.Hash, error) {
	e, err := r.entry(name)
	return e.Blob, err
}

// holds reports whether a blob belongs to the repo.
func (r *Repo) holds(h blobs.Hash) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.index[h]
	return ok
}

// tagName keeps the manifest and, through its sequence of hashes, all files of the repo that are here.
func (r *Repo) tagName() string { return "repo/" + opaqueHex(r.id) }

// publishedTag keeps what members may still be fetching until they have seen the new manifest.
func (r *Repo) publishedTag() string { return "published/" + opaqueHex(r.id) }

// legacyTag is the tag that the Rust app gives to a repo's collection.
func (r *Repo) legacyTag() string { return "repo_" + opaqueHex(r.id) }

func (r *Repo) tagNames() []string {
	return []string{r.tagName(), r.publishedTag(), r.legacyTag()}
}

// Group is the group that the repo belongs to.
func (r *Repo) Group() *Group { return r.g }

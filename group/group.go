package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/exchange"
	"github.com/OpenArchive/save-dweb-go/group/invite"
	"github.com/OpenArchive/save-dweb-go/group/seal"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Exchange is what a group needs of package exchange.
type Exchange interface {
	AddGroup(g exchange.Group)
	RemoveGroup(id exchange.GroupID)
	Fetch(ctx context.Context, req exchange.Request) (*blobs.TempTag, error)
	FetchSmall(ctx context.Context, req exchange.Request, hashes []blobs.Hash, sizes []uint64) ([]*blobs.TempTag, error)
	Ping(ctx context.Context, g exchange.GroupID, p exchange.Peer) (time.Duration, error)
	Have(ctx context.Context, g exchange.GroupID, p exchange.Peer, hashes []blobs.Hash) ([]exchange.Held, error)
	Hello(ctx context.Context, g exchange.GroupID, p exchange.Peer) (exchange.Greeting, error)
	PeerMoved(g exchange.GroupID, peer string, blob []byte)
	SendNews(ctx context.Context, g exchange.GroupID, to []exchange.Peer, n exchange.News) error
}

// Deps are what every group of a backend shares.
type Deps struct {
	DHT      veilid.RoutingContext
	Store    blobs.Store
	Exchange Exchange
	Table    Table
	Ready    func() bool // whether the node can use routes and the DHT now
	Emit     func(Event) // must not block
	Device   string      // what other members see as this device's name
	Log      *slog.Logger
}

// Event is something that happened in a group. Repo and File are zero where they have no part in it.
type Event struct {
	Type  EventType
	Group veilid.OpaqueRecordKey
	Repo  veilid.OpaqueRecordKey
	File  string
}

// EventType says what happened.
type EventType string

// The types of events.
const (
	GroupRenamed  EventType = "group.renamed"
	MemberAdded   EventType = "member.added"
	MemberChanged EventType = "member.changed" // name, device, status or route
	FilesChanged  EventType = "files.changed"  // a repo has other files than before
	Published     EventType = "published"      // what was written here has reached the network
	FileLocal     EventType = "file.local"     // a file of another member has arrived
)

// Group is a group that this device is a member of. All methods may be called from any goroutine; those that read only
// need no network.
type Group struct {
	d    Deps
	id   veilid.OpaqueRecordKey
	keys Keys
	rec  *record

	mu      sync.Mutex
	repos   map[veilid.OpaqueRecordKey]*Repo // the own one, too
	own     *Repo                            // nil until there is one
	pending map[uint32][]byte                // subkeys of the group's record to publish
	noRust  bool
	route   []byte // this device's route; nil: none now

	ownMu  sync.Mutex // held while an own repo is made
	saveMu sync.Mutex
	worker worker
}

// Create makes a new group and this member's repo in it. It needs the node, but no network: the records are published
// when there is one.
func Create(ctx context.Context, d Deps, name, repoName string, owner veilid.KeyPair, secret veilid.SharedSecret) (*Group, error) {
	if err := CheckTitle(name); err != nil {
		return nil, fmt.Errorf("group name: %w", err)
	}
	desc, err := d.DHT.CreateDHTRecord(ctx, veilid.DFLTSchema(groupSubkeys), owner)
	if err != nil {
		return nil, fmt.Errorf("create group record: %w", err)
	}
	g := newGroup(d, Keys{desc.Key, secret, desc.OwnerKeyPair()})
	g.rec.open = true
	g.worker.fresh = true // nobody else can have written it
	if g.pending[nameSubkey], err = seal.SealName(secret, name); err != nil {
		return nil, err
	}
	if err := g.saveKeys(); err != nil {
		return nil, err
	}
	if _, err := g.EnsureRepo(ctx, repoName); err != nil {
		return nil, errors.Join(err, g.Forget())
	}
	return g, nil
}

// Join takes part in the group of these keys. Nothing is asked of the network yet: Refresh waits until it has answered.
func Join(d Deps, keys Keys) (*Group, error) {
	g := newGroup(d, keys)
	if err := g.saveKeys(); err != nil {
		return nil, err
	}
	return g, nil
}

// Probe asks the network whether the keys are those of the group: ErrWrongSecret, ErrWrongOwner, or the node's
// error, such as veilid.ErrKeyNotFound for a group that nobody holds and veilid.ErrTryAgain while it cannot tell.
func (g *Group) Probe(ctx context.Context) error {
	if err := g.rec.ensureOpen(ctx, g.d.DHT); err != nil {
		return err
	}
	g.rec.mu.Lock()
	owner := g.rec.owner
	g.rec.mu.Unlock()
	if owner != g.keys.Owner.Public {
		return ErrWrongOwner
	}
	if _, err := g.rec.read(ctx, g.d.DHT, nameSubkey); err != nil {
		return err
	}
	if len(g.rec.value(nameSubkey)) > 0 && g.Name() == "" {
		return ErrWrongSecret
	}
	return nil
}

// Load restores a group from its table and the store, without any network.
func Load(ctx context.Context, d Deps, keys Keys) (*Group, error) {
	g := newGroup(d, keys)
	if err := g.load(ctx); err != nil {
		return nil, err
	}
	return g, nil
}

func newGroup(d Deps, keys Keys) *Group {
	g := &Group{
		d:       d,
		id:      keys.Record.Opaque(),
		keys:    keys,
		repos:   map[veilid.OpaqueRecordKey]*Repo{},
		pending: map[uint32][]byte{},
	}
	g.d.Log = d.Log.With("group", short(g.id))
	writer := keys.Owner
	if !keys.CanWrite() {
		writer = veilid.KeyPair{}
	}
	g.rec = newRecord(keys.Record, writer, groupSubkeys)
	g.worker.init()
	return g
}

// saveKeys makes the group known: its keys and a first, empty cache, at once.
func (g *Group) saveKeys() error {
	k, err := EncodeKeys(g.keys)
	if err != nil {
		return err
	}
	b, err := sealedEncode.Marshal(g.saved())
	if err != nil {
		return fmt.Errorf("save group: %w", err)
	}
	if err := g.d.Table.Put(map[string][]byte{opaqueHex(g.id): k, cacheKey(g.id): b}); err != nil {
		return fmt.Errorf("save keys of group %s: %w", g.id, err)
	}
	return nil
}

func short(k veilid.OpaqueRecordKey) string { return k.Bare()[:8] }

// ID names the group: its record's key without the capability to read it.
func (g *Group) ID() veilid.OpaqueRecordKey { return g.id }

// Keys are the group's keys, secrets included.
func (g *Group) Keys() Keys { return g.keys }

// Link is the invitation to the group; who has it is a member. A group that was joined by a read-only link gives only
// such links.
func (g *Group) Link(readOnly bool) (invite.Link, error) {
	if !readOnly && !g.keys.CanWrite() {
		return invite.Link{}, fmt.Errorf("this device was invited to read only, and can invite others only so: %w", ErrReadOnly)
	}
	return g.keys.Link(readOnly), nil
}

// Name is the group's name, "" while it is not known yet.
func (g *Group) Name() string {
	g.mu.Lock()
	sealed := g.pending[nameSubkey]
	g.mu.Unlock()
	if sealed == nil {
		sealed = g.rec.value(nameSubkey)
	}
	name, err := seal.OpenName(g.keys.Secret, sealed)
	if err != nil {
		return ""
	}
	return plainName(name)
}

// SetName renames the group for all members.
func (g *Group) SetName(name string) error {
	if err := CheckTitle(name); err != nil {
		return fmt.Errorf("group name: %w", err)
	}
	if !g.keys.CanWrite() {
		return ErrReadOnly
	}
	sealed, err := seal.SealName(g.keys.Secret, name)
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.pending[nameSubkey] = sealed
	g.mu.Unlock()
	if err := g.save(); err != nil {
		return err
	}
	g.emit(GroupRenamed, nil, "")
	g.wake()
	return nil
}

// SetLegacy says whether to publish what only the Rust app's members need: collections in clear, by which whoever holds
// the blobs learns file names.
func (g *Group) SetLegacy(ctx context.Context, on bool) error {
	g.mu.Lock()
	g.noRust = !on
	own := g.own
	g.mu.Unlock()
	if own != nil {
		return own.recommit(ctx)
	}
	return g.save()
}

// Legacy reports whether collections for the Rust app's members are published.
func (g *Group) Legacy() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.noRust
}

// Own is this member's repo, nil if there is none.
func (g *Group) Own() *Repo {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.own
}

// Repos are the repos of all members, the own one first, the others in order of their names.
func (g *Group) Repos() []*Repo {
	g.mu.Lock()
	rs := make([]*Repo, 0, len(g.repos))
	for _, r := range g.repos {
		rs = append(rs, r)
	}
	g.mu.Unlock()
	sortRepos(rs)
	return rs
}

// Repo is the repo of this key.
func (g *Group) Repo(id veilid.OpaqueRecordKey) (*Repo, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.repos[id]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrRepoNotFound, id)
}

// Published reports whether everything that was written here has reached the network.
func (g *Group) Published() bool {
	g.mu.Lock()
	n, own := len(g.pending), g.own
	g.mu.Unlock()
	return n == 0 && (own == nil || own.Published())
}

// EnsureRepo is this member's repo, made now if there is none.
func (g *Group) EnsureRepo(ctx context.Context, name string) (*Repo, error) {
	if !g.keys.CanWrite() {
		return nil, ErrReadOnly
	}
	g.ownMu.Lock() // two callers must not make two repos
	defer g.ownMu.Unlock()
	if own := g.Own(); own != nil {
		return own, nil
	}
	if name != "" {
		if err := CheckTitle(name); err != nil {
			return nil, fmt.Errorf("repo name: %w", err)
		}
	}
	desc, err := g.d.DHT.CreateDHTRecord(ctx, veilid.DFLTSchema(repoSubkeys), veilid.KeyPair{})
	if err != nil {
		return nil, fmt.Errorf("create repo record: %w", err)
	}
	if name == "" {
		name = defaultName(desc.Key.Opaque())
	}
	keys, err := EncodeKeys(Keys{desc.Key, g.keys.Secret, desc.OwnerKeyPair()})
	if err != nil {
		return nil, err
	}
	r := g.newRepo(desc.Key, desc.OwnerKeyPair())
	r.rec.open = true
	r.name = name
	if r.pending[nameSubkey], err = seal.SealName(g.keys.Secret, name); err != nil {
		return nil, err
	}
	// Keys and pointer in one step: the pointer is never written again, so no second repo can take its place.
	err = g.d.Table.Put(map[string][]byte{opaqueHex(r.id): keys, ownKey(g.id): encodeSlot(desc.Key)})
	if err != nil {
		return nil, fmt.Errorf("save own repo: %w", err)
	}
	g.mu.Lock()
	g.own = r
	g.repos[r.id] = r
	if g.route != nil {
		r.pending[r.routeKey] = g.route
	}
	g.mu.Unlock()
	if err := r.recommit(ctx); err != nil { // members find an empty list rather than none
		return nil, err
	}
	return r, nil
}

// defaultName is a repo's name where its member gave none. It tells nothing about the member.
func defaultName(id veilid.OpaqueRecordKey) string { return "member " + short(id)[:4] }

// Encrypt seals a small value under the group secret, as the Rust app's Group does.
func (g *Group) Encrypt(plain []byte) ([]byte, error) { return seal.Encrypt(g.keys.Secret, plain) }

// Decrypt opens what Encrypt sealed.
func (g *Group) Decrypt(sealed []byte) ([]byte, error) { return seal.Decrypt(g.keys.Secret, sealed) }

// Subkeys is how many subkeys of the group's record were ever written, as far as this device knows.
func (g *Group) Subkeys() int { return len(g.rec.snapshot()) }

func (g *Group) emit(t EventType, r *Repo, file string) {
	e := Event{Type: t, Group: g.id, File: file}
	if r != nil {
		e.Repo = r.id
	}
	g.d.Emit(e)
}

// visible reports whether members may have a blob: it belongs to a repo of this group.
func (g *Group) visible(h blobs.Hash) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.repos {
		if r.holds(h) {
			return true
		}
	}
	return false
}

package group

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/group/seal"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Table is where a group keeps keys and caches: encrypted and authenticated at rest. A missing value is nil.
type Table interface {
	Get(key string) ([]byte, error)
	// Put stores all values at once or none; a nil value deletes.
	Put(values map[string][]byte) error
}

// savedGroup is what a group keeps over restarts beside its keys.
type savedGroup struct {
	Values  map[uint32]cached `cbor:"1,keyasint"`
	Pending map[uint32][]byte `cbor:"2,keyasint,omitempty"`
	Repos   []savedRepo       `cbor:"3,keyasint,omitempty"`
	Own     *savedOwn         `cbor:"4,keyasint,omitempty"`
	NoRust  bool              `cbor:"5,keyasint,omitempty"` // no legacy collections are published
}

// savedRepo is another member's repo.
type savedRepo struct {
	Key    string            `cbor:"1,keyasint"` // bare, with the encryption key
	Values map[uint32]cached `cbor:"2,keyasint"`
	Root   blobs.Hash        `cbor:"3,keyasint"` // manifest, or legacy collection, whose files are listed
	Legacy bool              `cbor:"4,keyasint,omitempty"`
}

// savedOwn is the own repo. Its key pair lies beside the group's.
type savedOwn struct {
	Values     map[uint32]cached `cbor:"1,keyasint"`
	Pending    map[uint32][]byte `cbor:"2,keyasint,omitempty"` // subkeys to publish
	Name       string            `cbor:"3,keyasint"`
	Version    uint64            `cbor:"4,keyasint"`
	Root       blobs.Hash        `cbor:"5,keyasint"` // current manifest
	Published  blobs.Hash        `cbor:"6,keyasint"` // manifest that was last published: the base of merges
	RouteKey   uint32            `cbor:"7,keyasint,omitempty"`
	LastRoutes [][]byte          `cbor:"8,keyasint,omitempty"`
}

func cacheKey(g veilid.OpaqueRecordKey) string { return "cache/" + opaqueHex(g) }

// save writes the group's present state. Callers hold no lock.
func (g *Group) save() error {
	g.saveMu.Lock() // a later state must not be overtaken by an earlier one
	defer g.saveMu.Unlock()
	s := g.saved()
	b, err := sealedEncode.Marshal(s)
	if err != nil {
		return fmt.Errorf("save group: %w", err)
	}
	if err := g.d.Table.Put(map[string][]byte{cacheKey(g.id): b}); err != nil {
		return fmt.Errorf("save group %s: %w", g.id, err)
	}
	return nil
}

func (g *Group) saved() savedGroup {
	s := savedGroup{Values: g.rec.snapshot()}
	g.mu.Lock()
	defer g.mu.Unlock()
	s.NoRust = g.noRust
	s.Pending = clone(g.pending)
	for _, r := range g.repos {
		if r == g.own {
			continue
		}
		r.mu.Lock()
		s.Repos = append(s.Repos, savedRepo{r.rec.key.RevealBare(), r.rec.snapshot(), r.root, r.legacy})
		r.mu.Unlock()
	}
	if o := g.own; o != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		s.Own = &savedOwn{o.rec.snapshot(), clone(o.pending), o.name, o.version, o.root, o.published, o.routeKey, o.lastRoutes}
	}
	return s
}

func clone(m map[uint32][]byte) map[uint32][]byte {
	c := make(map[uint32][]byte, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}

// load restores what save wrote.
func (g *Group) load(ctx context.Context) error {
	b, err := g.d.Table.Get(cacheKey(g.id))
	if err != nil {
		return fmt.Errorf("load group %s: %w", g.id, err)
	}
	var s savedGroup
	if b != nil {
		if err := sealedDecode.Unmarshal(b, &s); err != nil {
			return fmt.Errorf("load group %s: %w", g.id, err)
		}
	}
	if s.Values != nil {
		g.rec.values = s.Values
	}
	if s.Pending != nil {
		g.pending = s.Pending
	}
	g.noRust = s.NoRust
	if err := g.loadOwn(ctx, s.Own); err != nil {
		return err
	}
	for _, sr := range s.Repos {
		key, err := veilid.Parse[veilid.RecordKey](sr.Key)
		if err != nil || g.own != nil && key.Opaque() == g.own.id {
			continue
		}
		r := g.newRepo(key, veilid.KeyPair{})
		if sr.Values != nil {
			r.rec.values = sr.Values
		}
		r.root, r.legacy = sr.Root, sr.Legacy
		if err := r.loadEntries(ctx); err != nil {
			g.d.Log.Warn("manifest is not here: it will be fetched again", "repo", r.id, "err", err)
			r.root = blobs.Hash{}
		}
		g.repos[r.id] = r
	}
	return nil
}

// ownKey is where the Rust app, too, keeps which repo is the own one of a group.
func ownKey(g veilid.OpaqueRecordKey) string { return opaqueHex(g) + "-repo" }

// loadOwn restores the own repo. The pointer to it and its keys are the truth; the cache may lag or be gone.
func (g *Group) loadOwn(ctx context.Context, s *savedOwn) error {
	b, err := g.d.Table.Get(ownKey(g.id))
	if err != nil || b == nil {
		return err
	}
	key, err := decodeSlot(b) // the same two forms
	if err != nil {
		return fmt.Errorf("own repo of group %s: %w", g.id, err)
	}
	b, err = g.d.Table.Get(opaqueHex(key.Opaque()))
	if err != nil {
		return err
	}
	if b == nil {
		return fmt.Errorf("own repo %s of group %s: its keys are missing", key, g.id)
	}
	keys, err := DecodeKeys(b)
	if err != nil {
		return fmt.Errorf("own repo %s: %w", key, err)
	}
	r := g.newRepo(keys.Record, keys.Owner)
	if s == nil {
		s = &savedOwn{}
	}
	if s.Values != nil {
		r.rec.values = s.Values
	}
	r.pending, r.name, r.version, r.root, r.published = s.Pending, s.Name, s.Version, s.Root, s.Published
	if r.pending == nil {
		r.pending = map[uint32][]byte{}
	}
	if slices.Contains(routeSubkeys, s.RouteKey) {
		r.routeKey = s.RouteKey
	}
	r.lastRoutes = s.LastRoutes
	delete(r.pending, r.routeKey) // routes do not outlive the run that made them
	g.own = r
	g.repos[r.id] = r
	// A crash between tag and cache leaves the tag one step ahead: the tag is what was promised to the caller.
	tag, err := g.d.Store.Tag(ctx, r.tagName())
	switch {
	case err == nil && tag.Hash != r.root:
		r.root = tag.Hash
		r.version++
		err = r.loadEntries(ctx)
		if err == nil {
			err = r.republish(ctx)
		}
	case err == nil:
		err = r.loadEntries(ctx)
	case errors.Is(err, blobs.ErrNotFound) && r.root == blobs.Hash{}: // a crash while the repo was made
		if r.name == "" {
			r.name = defaultName(r.id)
			if r.pending[nameSubkey], err = seal.SealName(g.keys.Secret, r.name); err != nil {
				return err
			}
		}
		err = r.recommit(ctx)
	}
	if err != nil {
		return fmt.Errorf("own repo %s: %w", r.id, err)
	}
	return nil
}

package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/OpenArchive/save-dweb-go/group"
	"github.com/OpenArchive/save-dweb-go/group/invite"
	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/vld0"
)

// knownKey is where the list of known groups is kept, in the form of the Rust app.
const knownKey = "SAVE_BACKEND_KNOWN_GROUPS"

// A group that the network does not know is asked for again, so often and after so long.
const (
	probeTries = 2
	probeAgain = 2 * time.Second
)

// knownGroups is the CBOR form of the list: typed record keys.
type knownGroups struct {
	Groups []string `cbor:"groups"`
}

// loadGroups loads every known group. One that cannot be loaded is told of and kept in the list: its keys may be all
// that is left of it.
func (b *Backend) loadGroups(ctx context.Context) error {
	list, err := b.known()
	if err != nil {
		return err
	}
	var keys []veilid.RecordKey
	for _, s := range list.Groups {
		k, err := veilid.Parse[veilid.RecordKey](s)
		if err != nil {
			return fmt.Errorf("known groups: %w", err)
		}
		keys = append(keys, k)
	}
	for _, k := range keys {
		g, err := b.loadGroup(ctx, k.Opaque())
		if err != nil {
			b.log.Error("group is left out: it cannot be loaded", "group", k, "err", err)
			continue
		}
		b.groups[g.ID()] = &running{Group: g}
	}
	return nil
}

func (b *Backend) loadGroup(ctx context.Context, id veilid.OpaqueRecordKey) (*group.Group, error) {
	v, err := b.cfg.Table.Get(group.KeyName(id))
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, fmt.Errorf("%w: its keys are missing", ErrGroupNotFound)
	}
	keys, err := group.DecodeKeys(v)
	if err != nil {
		return nil, err
	}
	return group.Load(ctx, b.deps(), keys)
}

// known reads the list of groups.
func (b *Backend) known() (list knownGroups, err error) {
	v, err := b.cfg.Table.Get(knownKey)
	if err == nil && v != nil {
		err = cbor.Unmarshal(v, &list)
	}
	if err != nil {
		return knownGroups{}, fmt.Errorf("known groups: %w", err)
	}
	return list, nil
}

// setKnown adds a group to the list or takes it out. Entries of groups that could not be loaded stay.
func (b *Backend) setKnown(key veilid.RecordKey, in bool) error {
	list, err := b.known()
	if err != nil {
		return err
	}
	list.Groups = slices.DeleteFunc(list.Groups, func(s string) bool {
		k, err := veilid.Parse[veilid.RecordKey](s)
		return err == nil && k.Opaque() == key.Opaque()
	})
	if in {
		list.Groups = append(list.Groups, key.Reveal())
	}
	if list.Groups == nil {
		list.Groups = []string{}
	}
	v, err := cbor.Marshal(list)
	if err != nil {
		return fmt.Errorf("known groups: %w", err)
	}
	return b.cfg.Table.Put(map[string][]byte{knownKey: v})
}

// add makes a group known and lets it work.
func (b *Backend) add(g *group.Group) error {
	if err := b.setKnown(g.Keys().Record, true); err != nil {
		return err
	}
	r := &running{Group: g}
	b.mu.Lock()
	b.groups[g.ID()] = r
	started := b.started
	b.mu.Unlock()
	if started {
		b.run(r)
	}
	b.events.publish(Event{Type: EventGroupAdded, Group: g.ID().String()})
	return nil
}

// CreateGroup makes a group and this member's repo in it. The node must run; the network may be out of reach.
func (b *Backend) CreateGroup(ctx context.Context, name, repoName string) (*group.Group, error) {
	b.joinMu.Lock()
	defer b.joinMu.Unlock()
	g, err := group.Create(ctx, b.deps(), name, repoName, vld0.System{}.GenerateKeyPair(), vld0.System{}.RandomSharedSecret())
	if err != nil {
		return nil, err
	}
	return g, b.add(g)
}

// EnsureGroup is the group of this name, made now if this device is in none that is called so: what a first start needs.
func (b *Backend) EnsureGroup(ctx context.Context, name, repoName string) (*group.Group, error) {
	for _, g := range b.Groups() {
		if g.Name() == name {
			return g, nil
		}
	}
	return b.CreateGroup(ctx, name, repoName)
}

// Join takes part in the group of a link, and makes this member's repo in it unless the link is read-only. Joining again
// returns the group that is there. Where the network can be reached it is asked whether the link is right; where it
// cannot, the group is there and is filled when it can.
func (b *Backend) Join(ctx context.Context, link, repoName string) (*group.Group, error) {
	l, err := invite.Parse(link)
	if err != nil {
		return nil, err
	}
	keys := group.KeysOf(l)
	b.joinMu.Lock()
	defer b.joinMu.Unlock()
	if g, err := b.GroupByID(keys.Record.Opaque()); err == nil {
		if g.Keys().CanWrite() || !keys.CanWrite() {
			return g, nil
		}
		return b.upgrade(ctx, g, keys, repoName)
	}
	g, err := group.Join(b.deps(), keys)
	if err != nil {
		return nil, err
	}
	if err := b.admit(ctx, g, repoName); err != nil {
		return nil, errors.Join(err, g.Forget())
	}
	return g, b.add(g)
}

// admit checks a group's keys with the network, if it can be reached, and makes the own repo.
func (b *Backend) admit(ctx context.Context, g *group.Group, repoName string) error {
	if b.ready.Load() {
		err := g.Probe(ctx)
		for range probeTries {
			if !errors.Is(err, veilid.ErrKeyNotFound) {
				break
			}
			select { // its maker may be publishing it at this moment
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(probeAgain):
			}
			err = g.Probe(ctx)
		}
		switch {
		case errors.Is(err, veilid.ErrKeyNotFound):
			return fmt.Errorf("join: nobody holds this group: its dht is wrong, or its maker has not been online since: %w", err)
		case err != nil && !veilid.IsRetryable(err):
			return fmt.Errorf("join: %w", err)
		}
	}
	if !g.Keys().CanWrite() {
		return nil
	}
	_, err := g.EnsureRepo(ctx, repoName)
	return err
}

// upgrade replaces the keys of a group that was joined read-only by those of a full link.
func (b *Backend) upgrade(ctx context.Context, old *group.Group, keys group.Keys, repoName string) (*group.Group, error) {
	b.mu.Lock()
	r := b.groups[old.ID()]
	b.mu.Unlock()
	r.halt()
	g, err := group.Upgrade(ctx, b.deps(), keys)
	if err == nil {
		err = b.admit(ctx, g, repoName)
	}
	if err != nil {
		b.run(r)
		return nil, err
	}
	return g, b.add(g)
}

// Groups are the groups of this device, in order of their names.
func (b *Backend) Groups() []*group.Group {
	var gs []*group.Group
	for _, r := range b.all() {
		gs = append(gs, r.Group)
	}
	slices.SortFunc(gs, func(x, y *group.Group) int {
		if c := strings.Compare(x.Name(), y.Name()); c != 0 {
			return c
		}
		return strings.Compare(x.ID().String(), y.ID().String())
	})
	return gs
}

// GroupByID is the group of this key.
func (b *Backend) GroupByID(id veilid.OpaqueRecordKey) (*group.Group, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.groups[id]; r != nil {
		return r.Group, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrGroupNotFound, id)
}

// Group finds a group by what a person writes: its key, the key's first characters (at least 4), or its name.
func (b *Backend) Group(ref string) (*group.Group, error) {
	all := b.Groups()
	ref = strings.TrimSpace(ref)
	if k, err := veilid.Parse[veilid.RecordKey](ref); err == nil {
		return b.GroupByID(k.Opaque())
	}
	return pick(all, "group", ref, ErrGroupNotFound, func(g *group.Group) (veilid.OpaqueRecordKey, string) { return g.ID(), g.Name() })
}

// Repo finds a repo of a group by its key, the key's first characters or its name; "" and "me" are the own one.
func (b *Backend) Repo(g *group.Group, ref string) (*group.Repo, error) {
	if ref == "" || ref == "me" {
		if own := g.Own(); own != nil {
			return own, nil
		}
		return nil, fmt.Errorf("%w: this device has none in the group", group.ErrRepoNotFound)
	}
	if k, err := veilid.Parse[veilid.RecordKey](ref); err == nil {
		return g.Repo(k.Opaque())
	}
	return pick(g.Repos(), "repo", ref, group.ErrRepoNotFound, func(r *group.Repo) (veilid.OpaqueRecordKey, string) { return r.ID(), r.Name() })
}

// pick finds the one thing that ref names, by its name first.
func pick[T any](all []T, what, ref string, none error, of func(T) (veilid.OpaqueRecordKey, string)) (T, error) {
	var named, keyed []T
	for _, x := range all {
		id, name := of(x)
		if name == ref && ref != "" {
			named = append(named, x)
		}
		if matches(id, ref) {
			keyed = append(keyed, x)
		}
	}
	found := named
	if len(found) == 0 {
		found = keyed
	}
	var zero T
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return zero, fmt.Errorf("%w: %q", none, ref)
	}
	return zero, fmt.Errorf("%w: %d %ss match %q: give more of the key", ErrAmbiguous, len(found), what, ref)
}

// CloseGroup ends work for a group in this run; it is there again after the next New.
func (b *Backend) CloseGroup(id veilid.OpaqueRecordKey) error {
	b.mu.Lock()
	r := b.groups[id]
	delete(b.groups, id)
	b.mu.Unlock()
	if r == nil {
		return fmt.Errorf("%w: %s", ErrGroupNotFound, id)
	}
	r.halt()
	b.x.RemoveGroup(id)
	b.events.publish(Event{Type: EventGroupRemoved, Group: id.String()})
	return nil
}

// OpenGroup loads a known group that was closed in this run.
func (b *Backend) OpenGroup(ctx context.Context, id veilid.OpaqueRecordKey) (*group.Group, error) {
	b.joinMu.Lock()
	defer b.joinMu.Unlock()
	if g, err := b.GroupByID(id); err == nil {
		return g, nil
	}
	g, err := b.loadGroup(ctx, id)
	if err != nil {
		return nil, err
	}
	return g, b.add(g)
}

// Leave ends the membership in a group: slot and route are given back if the network can be reached, keys and caches are
// deleted here, and what no other group keeps is removed from the store.
func (b *Backend) Leave(ctx context.Context, id veilid.OpaqueRecordKey) error {
	b.joinMu.Lock()
	defer b.joinMu.Unlock()
	g, err := b.GroupByID(id)
	if err != nil {
		return err
	}
	if err := b.CloseGroup(id); err != nil {
		return err
	}
	// Out of the list first: a crash from here on leaves keys that nothing uses rather than a group without keys.
	if err := b.setKnown(g.Keys().Record, false); err != nil {
		return err
	}
	if err := g.Leave(ctx); err != nil {
		return err
	}
	if err := b.cfg.Table.Scrub(); err != nil {
		return fmt.Errorf("group is left, its keys could not be destroyed: %w", err)
	}
	if _, err := b.Collect(ctx); err != nil {
		return fmt.Errorf("group is left, its files could not be removed: %w", err)
	}
	return nil
}

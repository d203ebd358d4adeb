package group

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/OpenArchive/save-dweb-go/exchange"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Serve lets members reach this group's blobs through the exchange.
func (g *Group) Serve() {
	g.d.Exchange.AddGroup(exchange.Group{
		ID: g.id, Secret: g.keys.Secret, Visible: g.visible, OnNews: g.onNews, OnHello: g.onHello,
		Greet: func() exchange.Greeting {
			e := exchange.Greeting{Device: g.d.Device}
			if own := g.Own(); own != nil {
				e.Repo = own.id.Bare()
			}
			return e
		},
	})
}

// Leave ends the membership: the own slot and route are given back if the network can be reached, then keys, caches
// and tags are deleted here, whether or not. What nothing else keeps goes with the store's next Collect.
func (g *Group) Leave(ctx context.Context) error {
	g.d.Exchange.RemoveGroup(g.id)
	warn := g.giveBack(ctx)
	if warn != nil {
		g.d.Log.Warn("left without telling the other members", "err", warn)
	}
	var errs []error
	for _, r := range g.Repos() {
		for _, t := range r.tagNames() {
			errs = append(errs, g.d.Store.DeleteTag(ctx, t))
		}
	}
	return errors.Join(append(errs, g.Forget())...)
}

// giveBack frees the slot and withdraws the route.
func (g *Group) giveBack(ctx context.Context) error {
	own := g.Own()
	if own == nil {
		return nil
	}
	if !g.d.Ready() {
		return fmt.Errorf("not attached: %w", veilid.ErrTryAgain)
	}
	err := g.Withdraw(ctx)
	for n, v := range g.rec.snapshot() {
		if n >= firstSlot && bytes.Equal(v.Data, encodeSlot(own.rec.key)) {
			err = errors.Join(err, g.rec.writeOver(ctx, g.d.DHT, n, []byte{}))
		}
	}
	for _, rec := range []*record{g.rec, own.rec} {
		err = errors.Join(err, g.d.DHT.CloseDHTRecord(ctx, rec.key))
	}
	return err
}

// Forget deletes the group's keys and caches here, without a word to the network: for a join that failed.
func (g *Group) Forget() error {
	gone := map[string][]byte{opaqueHex(g.id): nil, cacheKey(g.id): nil, ownKey(g.id): nil}
	if own := g.Own(); own != nil {
		gone[opaqueHex(own.id)] = nil
	}
	if err := g.d.Table.Put(gone); err != nil {
		return fmt.Errorf("forget group %s: %w", g.id, err)
	}
	return nil
}

// Upgrade replaces the keys of a group that was joined to read only by those of a full link.
func Upgrade(ctx context.Context, d Deps, keys Keys) (*Group, error) {
	k, err := EncodeKeys(keys)
	if err != nil {
		return nil, err
	}
	if err := d.Table.Put(map[string][]byte{opaqueHex(keys.Record.Opaque()): k}); err != nil {
		return nil, err
	}
	return Load(ctx, d, keys)
}

// KeyName is where a group's keys are in the table.
func KeyName(id veilid.OpaqueRecordKey) string { return opaqueHex(id) }

package group

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/OpenArchive/save-dweb-go/group/seal"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// ErrConflict: the network holds another value, which is newer or was there first; ours was not written.
var ErrConflict = errors.New("the network holds another value")

// DHTGet reads a subkey of the group's record from the network; nil if it was never written. A value that opens under
// the group secret is returned opened, with sealed set; any other as it is, such as slots, which were never sealed.
func (g *Group) DHTGet(ctx context.Context, subkey uint32) (value []byte, sealed bool, err error) {
	return g.rec.readSealed(ctx, g.d.DHT, g.keys.Secret, subkey)
}

// DHTPut seals a value under the group secret and writes it into a subkey of the group's record; ErrConflict if the
// network has another one, which the next DHTGet shows. Subkeys 1 to 64 are members' slots and are refused.
func (g *Group) DHTPut(ctx context.Context, subkey uint32, value []byte) error {
	if subkey >= firstSlot && subkey <= lastSlot {
		return veilid.InvalidArgument("subkey is a member's slot", "subkey", fmt.Sprint(subkey))
	}
	if !g.keys.CanWrite() {
		return ErrReadOnly
	}
	return g.rec.writeSealed(ctx, g.d.DHT, g.keys.Secret, subkey, value)
}

// HasRepo asks the network whether a slot of the group names this repo.
func (g *Group) HasRepo(ctx context.Context, id veilid.OpaqueRecordKey) (bool, error) {
	if _, err := g.rec.refresh(ctx, g.d.DHT); err != nil {
		return false, err
	}
	for n, v := range g.rec.snapshot() {
		if n < firstSlot || len(v.Data) == 0 {
			continue
		}
		if key, err := decodeSlot(v.Data); err == nil && key.Opaque() == id {
			return true, nil
		}
	}
	return false, nil
}

// DHTGet reads a subkey of the repo's record, as [Group.DHTGet] does.
func (r *Repo) DHTGet(ctx context.Context, subkey uint32) (value []byte, sealed bool, err error) {
	return r.rec.readSealed(ctx, r.g.d.DHT, r.g.keys.Secret, subkey)
}

// Routes are the route blobs of the member's devices, as far as they are known.
func (r *Repo) Routes() [][]byte {
	var out [][]byte
	for _, n := range routeSubkeys {
		if b := r.rec.value(n); len(b) > 0 {
			out = append(out, bytes.Clone(b))
		}
	}
	return out
}

func (r *record) readSealed(ctx context.Context, dht veilid.RoutingContext, secret veilid.SharedSecret, subkey uint32) ([]byte, bool, error) {
	b, err := r.read(ctx, dht, subkey)
	if err != nil || b == nil {
		return nil, false, err
	}
	if plain, err := seal.Decrypt(secret, b); err == nil {
		return plain, true, nil
	}
	return b, false, nil
}

func (r *record) writeSealed(ctx context.Context, dht veilid.RoutingContext, secret veilid.SharedSecret, subkey uint32, value []byte) error {
	sealed, err := seal.Encrypt(secret, value)
	if err != nil {
		return err
	}
	other, err := r.write(ctx, dht, subkey, sealed)
	if err != nil {
		return err
	}
	if other != nil {
		return fmt.Errorf("write record %s subkey %d: %w", r.key, subkey, ErrConflict)
	}
	return nil
}

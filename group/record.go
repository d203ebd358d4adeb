package group

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// cached is what was last read of a subkey.
type cached struct {
	Seq  uint32 `cbor:"1,keyasint"`
	Data []byte `cbor:"2,keyasint"`
}

// record is a DHT record with the values that were last read from it, so that reads need no network. Whether it is
// open and watched belongs to the node's present run; the values are kept over restarts.
type record struct {
	key    veilid.RecordKey
	writer veilid.KeyPair // zero: read only
	count  uint32         // subkeys to look at

	mu      sync.Mutex
	values  map[uint32]cached
	open    bool
	watched bool
	owner   veilid.PublicKey // known once it was opened
}

func newRecord(key veilid.RecordKey, writer veilid.KeyPair, count uint32) *record {
	return &record{key: key, writer: writer, count: count, values: map[uint32]cached{}}
}

// value is what was last read of a subkey, nil if nothing.
func (r *record) value(subkey uint32) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.values[subkey].Data
}

// snapshot is a copy of all cached values.
func (r *record) snapshot() map[uint32]cached {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := make(map[uint32]cached, len(r.values))
	for k, v := range r.values {
		m[k] = v
	}
	return m
}

// store keeps a value unless a newer one is known, and reports whether it says anything new.
func (r *record) store(subkey uint32, v *veilid.ValueData) bool {
	if v == nil || len(v.Data) > veilid.MaxValueSize {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old, known := r.values[subkey]
	if known && v.Seq < old.Seq {
		return false
	}
	r.values[subkey] = cached{v.Seq, append([]byte{}, v.Data...)}
	return !known || string(old.Data) != string(v.Data)
}

// lost forgets that the record is open: the node began anew.
func (r *record) lost() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open, r.watched = false, false
}

// unwatched forgets the watch: the network ended it.
func (r *record) unwatched() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watched = false
}

// ensureOpen opens the record in this run of the node.
func (r *record) ensureOpen(ctx context.Context, dht veilid.RoutingContext) error {
	r.mu.Lock()
	open := r.open
	r.mu.Unlock()
	if open {
		return nil
	}
	d, err := dht.OpenDHTRecord(ctx, r.key, veilid.OpenOptions{Writer: r.writer, Rehydrate: true})
	if err != nil {
		return fmt.Errorf("open record %s: %w", r.key, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open, r.owner = true, d.Owner
	if n := uint32(d.Schema.Subkeys()); n > 0 && n < r.count {
		r.count = n // a repo of the Rust app has 3
	}
	return nil
}

// ensureWatched asks to be told of changes.
func (r *record) ensureWatched(ctx context.Context, dht veilid.RoutingContext) error {
	r.mu.Lock()
	watched := r.watched
	r.mu.Unlock()
	if watched {
		return nil
	}
	active, err := dht.WatchDHTValues(ctx, r.key, veilid.WatchOptions{})
	if err != nil {
		return fmt.Errorf("watch record %s: %w", r.key, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watched = active
	return nil
}

// refresh reads from the network what is newer there, and reports which subkeys say anything new. A report that did not
// reach everything is an error only if nothing could be read.
func (r *record) refresh(ctx context.Context, dht veilid.RoutingContext) (changed []uint32, err error) {
	if err := r.ensureOpen(ctx, dht); err != nil {
		return nil, err
	}
	want, err := r.newer(ctx, dht)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for _, n := range want {
		g.Go(func() error {
			v, err := dht.GetDHTValue(ctx, r.key, n, true)
			if err != nil {
				return fmt.Errorf("read record %s subkey %d: %w", r.key, n, err)
			}
			if r.store(n, v) {
				mu.Lock()
				defer mu.Unlock()
				changed = append(changed, n)
			}
			return nil
		})
	}
	return changed, g.Wait()
}

// newer lists the subkeys that the network holds in a newer version than the cache.
func (r *record) newer(ctx context.Context, dht veilid.RoutingContext) ([]uint32, error) {
	rep, err := dht.InspectDHTRecord(ctx, r.key, nil, veilid.ScopeSyncGet)
	if err != nil {
		return nil, fmt.Errorf("inspect record %s: %w", r.key, err)
	}
	values := r.snapshot()
	var want []uint32
	i := 0
	for n := range rep.Subkeys.All(groupSubkeys) {
		if i >= len(rep.NetworkSeqs) {
			break
		}
		seq := rep.NetworkSeqs[i]
		if i < len(rep.LocalSeqs) && rep.LocalSeqs[i] != nil && (seq == nil || *rep.LocalSeqs[i] > *seq) {
			seq = rep.LocalSeqs[i]
		}
		i++
		if have, known := values[n]; seq != nil && (!known || have.Seq < *seq) {
			want = append(want, n)
		}
	}
	return want, nil
}

// read fetches one subkey from the network.
func (r *record) read(ctx context.Context, dht veilid.RoutingContext, subkey uint32) ([]byte, error) {
	if err := r.ensureOpen(ctx, dht); err != nil {
		return nil, err
	}
	v, err := dht.GetDHTValue(ctx, r.key, subkey, true)
	if err != nil {
		return nil, fmt.Errorf("read record %s subkey %d: %w", r.key, subkey, err)
	}
	if v == nil {
		return nil, nil
	}
	r.store(subkey, v)
	return v.Data, nil
}

// write publishes a value. A value of the network's that stands in its place, since it is newer or was there first, is
// returned and cached: then ours did not take. Nothing is left to be sent later: an error means not published.
func (r *record) write(ctx context.Context, dht veilid.RoutingContext, subkey uint32, data []byte) (*veilid.ValueData, error) {
	if err := r.ensureOpen(ctx, dht); err != nil {
		return nil, err
	}
	other, err := dht.SetDHTValue(ctx, r.key, subkey, data, veilid.SetOptions{NoOffline: true})
	if err != nil {
		return nil, fmt.Errorf("write record %s subkey %d: %w", r.key, subkey, err)
	}
	if other != nil && string(other.Data) == string(data) {
		other = nil
	}
	if other != nil {
		r.store(subkey, other)
		return other, nil
	}
	v, err := dht.GetDHTValue(ctx, r.key, subkey, false) // the local copy, for its sequence number
	if err == nil && v != nil {
		r.store(subkey, v)
	}
	return nil, nil
}

// writeOver publishes a value of which this member is the only author: what stands in its place is replaced.
func (r *record) writeOver(ctx context.Context, dht veilid.RoutingContext, subkey uint32, data []byte) error {
	const tries = 5 // each one begins from the newest value seen, so a second is rarely needed
	for range tries {
		other, err := r.write(ctx, dht, subkey, data)
		if err != nil {
			return err
		}
		if other == nil {
			return nil
		}
	}
	return fmt.Errorf("write record %s subkey %d: others keep writing it: %w", r.key, subkey, veilid.ErrTryAgain)
}

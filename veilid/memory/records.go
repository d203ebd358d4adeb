package memory

import (
	"context"
	"slices"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/vld0"
)

// CreateDHTRecord makes and opens a record. The network hears of it with the first write.
func (rc *routing) CreateDHTRecord(ctx context.Context, schema veilid.Schema, owner veilid.KeyPair) (veilid.RecordDescriptor, error) {
	n := rc.node
	if err := rc.check(ctx); err != nil {
		return veilid.RecordDescriptor{}, err
	}
	if err := schema.Check(); err != nil {
		return veilid.RecordDescriptor{}, err
	}
	if owner.IsZero() {
		owner = crypto.GenerateKeyPair()
	} else if err := crypto.ValidateKeyPair(owner); err != nil {
		return veilid.RecordDescriptor{}, err
	}
	schema.Members = slices.Clone(schema.Members)
	key := vld0.RecordKey(owner.Public, schema)
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if n.disk.records[key] != nil {
		return veilid.RecordDescriptor{}, veilid.Errorf(veilid.ErrInternal, "record already exists")
	}
	n.disk.records[key] = newLocalRecord(key, schema, owner.Public)
	n.opened[key] = &openRecord{writer: owner}
	return veilid.RecordDescriptor{
		Key: veilid.NewRecordKey(key, crypto.RandomSharedSecret()), Owner: owner.Public, OwnerSecret: owner.Secret, Schema: schema,
	}, nil
}

// OpenDHTRecord opens a record, from the local copy or from the network.
func (rc *routing) OpenDHTRecord(ctx context.Context, key veilid.RecordKey, opts veilid.OpenOptions) (veilid.RecordDescriptor, error) {
	n := rc.node
	if err := rc.check(ctx); err != nil {
		return veilid.RecordDescriptor{}, err
	}
	n.net.mu.Lock()
	rec := n.disk.records[key.Opaque()]
	n.net.mu.Unlock()
	if rec == nil {
		if err := n.reach(ctx, 0, 0); err != nil {
			return veilid.RecordDescriptor{}, err
		}
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if rec = n.disk.records[key.Opaque()]; rec == nil {
		r := n.net.records[key.Opaque()]
		if r == nil {
			return veilid.RecordDescriptor{}, &veilid.Error{Kind: veilid.ErrKeyNotFound, Value: key.String()}
		}
		rec = newLocalRecord(key.Opaque(), r.schema, r.owner)
		n.disk.records[key.Opaque()] = rec
	}
	if o := n.opened[key.Opaque()]; o != nil {
		o.writer = opts.Writer
	} else {
		n.opened[key.Opaque()] = &openRecord{writer: opts.Writer}
	}
	if opts.Rehydrate {
		n.rehydrateSoon(rec)
	}
	d := veilid.RecordDescriptor{Key: key, Owner: rec.owner, Schema: rec.schema}
	d.Schema.Members = slices.Clone(rec.schema.Members)
	if opts.Writer.Public == rec.owner {
		d.OwnerSecret = opts.Writer.Secret
	}
	return d, nil
}

// CloseDHTRecord ends the use of a record.
func (rc *routing) CloseDHTRecord(ctx context.Context, key veilid.RecordKey) error {
	if err := rc.check(ctx); err != nil {
		return err
	}
	rc.node.net.mu.Lock()
	defer rc.node.net.mu.Unlock()
	rc.node.closeRecord(key.Opaque())
	return nil
}

func (n *Node) closeRecord(key veilid.OpaqueRecordKey) {
	delete(n.opened, key)
	for tx := range n.txs {
		if tx.parts[key] != nil {
			tx.finish()
		}
	}
}

// DeleteDHTRecord removes the local copy, and writes that are not published.
func (rc *routing) DeleteDHTRecord(ctx context.Context, key veilid.RecordKey) error {
	n := rc.node
	if err := rc.check(ctx); err != nil {
		return err
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if n.disk.records[key.Opaque()] == nil {
		return &veilid.Error{Kind: veilid.ErrKeyNotFound, Value: key.String()}
	}
	n.closeRecord(key.Opaque())
	delete(n.disk.records, key.Opaque())
	return nil
}

// held is an open record that one operation works on.
type held struct {
	*localRecord
	writer  veilid.KeyPair
	release func()
}

func notOpen(key veilid.RecordKey) error {
	return veilid.InvalidArgument(veilid.ErrNotOpen.Error(), "record_key", key.String())
}

// hold waits until no other operation works on the record.
func (rc *routing) hold(ctx context.Context, key veilid.RecordKey) (held, error) {
	n := rc.node
	if err := rc.check(ctx); err != nil {
		return held{}, err
	}
	n.net.mu.Lock()
	rec, o := n.disk.records[key.Opaque()], n.opened[key.Opaque()]
	n.net.mu.Unlock()
	if o == nil || rec == nil {
		return held{}, notOpen(key)
	}
	select {
	case rec.busy <- struct{}{}:
	case <-ctx.Done():
		return held{}, ctx.Err()
	case <-n.done:
		return held{}, errClosed
	}
	release := func() { <-rec.busy }
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if o = n.opened[key.Opaque()]; o == nil || n.disk.records[key.Opaque()] != rec {
		release()
		return held{}, notOpen(key)
	}
	return held{rec, o.writer, release}, nil
}

func (r *localRecord) checkSubkey(subkey uint32) error {
	if int64(subkey) >= int64(r.schema.Subkeys()) {
		return veilid.InvalidArgument("subkey out of range", "subkey", itoa(subkey))
	}
	return nil
}

// GetDHTValue reads a subkey.
func (rc *routing) GetDHTValue(ctx context.Context, key veilid.RecordKey, subkey uint32, force bool) (*veilid.ValueData, error) {
	n := rc.node
	rec, err := rc.hold(ctx, key)
	if err != nil {
		return nil, err
	}
	defer rec.release()
	if err := rec.checkSubkey(subkey); err != nil {
		return nil, err
	}
	n.net.mu.Lock()
	v, theirs := rec.values[subkey], n.net.read(key.Opaque(), subkey)
	n.net.mu.Unlock()
	if v == nil || force {
		down := 0
		if theirs != nil {
			down = len(theirs.data)
		}
		if err := n.reach(ctx, 0, down); err != nil {
			return nil, err
		}
		n.net.mu.Lock()
		v = n.take(rec.localRecord, subkey, n.net.read(key.Opaque(), subkey))
		n.net.mu.Unlock()
	}
	if v == nil {
		return nil, nil
	}
	return v.open(key.Encryption())
}

// take stores what the network holds, unless the local value is newer or waits to be published, and gives the result.
// The caller holds the lock.
func (n *Node) take(rec *localRecord, subkey uint32, theirs *value) *value {
	ours := rec.values[subkey]
	if theirs != nil && (ours == nil || theirs.seq > ours.seq || theirs.seq == ours.seq && !rec.offline[subkey]) {
		rec.values[subkey] = theirs
		delete(rec.offline, subkey)
		return theirs
	}
	return ours
}

// checkWrite says what is wrong with a write.
func (r *localRecord) checkWrite(subkey uint32, data []byte, writer veilid.KeyPair) error {
	if err := r.checkSubkey(subkey); err != nil {
		return err
	}
	switch {
	case len(data) > veilid.MaxValueSize:
		return veilid.Errorf(veilid.ErrGeneric, "invalid size: %d bytes, at most %d", len(data), veilid.MaxValueSize)
	case writer.IsZero():
		return veilid.Errorf(veilid.ErrGeneric, "value is not writable")
	case len(data) > r.schema.MaxValueSize() || !mayWrite(r.schema, r.owner, writer.Public, subkey) || crypto.ValidateKeyPair(writer) != nil:
		return veilid.Errorf(veilid.ErrGeneric, "failed schema validation: %s:%d", r.key, subkey)
	}
	return nil
}

// SetDHTValue writes a subkey.
func (rc *routing) SetDHTValue(ctx context.Context, key veilid.RecordKey, subkey uint32, data []byte, opts veilid.SetOptions) (*veilid.ValueData, error) {
	n := rc.node
	rec, err := rc.hold(ctx, key)
	if err != nil {
		return nil, err
	}
	defer rec.release()
	writer := opts.Writer
	if writer.IsZero() {
		writer = rec.writer
	}
	if err := rec.checkWrite(subkey, data, writer); err != nil {
		return nil, err
	}
	n.net.mu.Lock()
	old := rec.values[subkey]
	n.net.mu.Unlock()
	v, err := next(old, key.Encryption(), writer.Public, data, opts.MinSeq)
	if err != nil {
		return nil, err
	}
	err = n.reach(ctx, len(data), 0)
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	switch {
	case err == errOffline && !opts.NoOffline:
		rec.values[subkey] = v
		rec.offline[subkey] = true
		n.flushSoon()
		return nil, nil
	case err != nil:
		return nil, err
	}
	delete(rec.offline, subkey)
	if theirs := n.net.write(n, rec.localRecord, subkey, v); theirs != nil {
		rec.values[subkey] = theirs
		return theirs.open(key.Encryption())
	}
	rec.values[subkey] = v
	return nil, nil
}

// InspectDHTRecord compares sequence numbers.
func (rc *routing) InspectDHTRecord(ctx context.Context, key veilid.RecordKey, subkeys veilid.SubkeyRanges, scope veilid.ReportScope) (veilid.Report, error) {
	n := rc.node
	rec, err := rc.hold(ctx, key)
	if err != nil {
		return veilid.Report{}, err
	}
	defer rec.release()
	switch scope {
	case veilid.ScopeLocal, veilid.ScopeSyncGet, veilid.ScopeSyncSet, veilid.ScopeUpdateGet, veilid.ScopeUpdateSet:
	default:
		return veilid.Report{}, veilid.InvalidArgument("unknown report scope", "scope", string(scope))
	}
	set := subkeySet(subkeys, rec.schema.Subkeys())
	if !slices.Contains(set, true) {
		return veilid.Report{}, veilid.InvalidArgument("subkeys range should not be empty", "subkeys", "")
	}
	if scope != veilid.ScopeLocal {
		if err := n.reach(ctx, 0, 4*len(set)); err != nil {
			return veilid.Report{}, err
		}
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	return rec.report(set, scope, func(subkey uint32) *value { return n.net.read(rec.key, subkey) }), nil
}

// report compares a local copy with what the network holds.
func (r *localRecord) report(set []bool, scope veilid.ReportScope, network func(uint32) *value) veilid.Report {
	rep := veilid.Report{Subkeys: ranges(set)}
	offline := make([]bool, len(set))
	for i, in := range set {
		if !in {
			continue
		}
		subkey := uint32(i)
		offline[i] = r.offline[subkey]
		local := seqOf(r.values[subkey])
		theirs := seqOf(network(subkey))
		floor := local
		switch scope {
		case veilid.ScopeLocal:
			theirs, floor = nil, nil
		case veilid.ScopeSyncGet, veilid.ScopeSyncSet:
			floor = nil
		case veilid.ScopeUpdateSet:
			if local != nil {
				floor = new(*local + 1)
			}
		}
		if floor != nil && (theirs == nil || *theirs < *floor) {
			theirs = floor
		}
		rep.LocalSeqs = append(rep.LocalSeqs, local)
		rep.NetworkSeqs = append(rep.NetworkSeqs, theirs)
	}
	rep.OfflineSubkeys = ranges(offline)
	return rep
}

func seqOf(v *value) *uint32 {
	if v == nil {
		return nil
	}
	return new(v.seq)
}

// subkeySet marks the subkeys of a set below n. An empty set, or one of nothing but reversed ranges, is all.
func subkeySet(r veilid.SubkeyRanges, n int) []bool {
	set := make([]bool, n)
	empty := true
	for _, x := range r {
		empty = empty && x.First > x.Last
	}
	if empty {
		r = veilid.SubkeyRanges{{First: 0, Last: uint32(n - 1)}}
	}
	for subkey := range r.All(uint32(n)) {
		set[subkey] = true
	}
	return set
}

// ranges is the set as ranges in order.
func ranges(set []bool) (r veilid.SubkeyRanges) {
	for i, in := range set {
		switch n := uint32(i); {
		case !in:
		case len(r) > 0 && r[len(r)-1].Last+1 == n:
			r[len(r)-1].Last = n
		default:
			r = append(r, veilid.SubkeyRange{First: n, Last: n})
		}
	}
	return r
}

// FlushDHTRecord waits until the record has no queued writes.
func (rc *routing) FlushDHTRecord(ctx context.Context, key veilid.RecordKey, timeout time.Duration) (bool, error) {
	n := rc.node
	if err := rc.check(ctx); err != nil {
		return false, err
	}
	late := time.NewTimer(timeout)
	defer late.Stop()
	for {
		n.net.mu.Lock()
		rec := n.disk.records[key.Opaque()]
		clean := rec == nil || len(rec.offline) == 0
		flushed := n.flushed
		n.net.mu.Unlock()
		if clean {
			return true, nil
		}
		select {
		case <-flushed:
		case <-late.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		case <-n.done:
			return false, errClosed
		}
	}
}

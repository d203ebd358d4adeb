package remote

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/jsonapi"
)

// openRecord is what it takes to open a record again at a node that began anew.
type openRecord struct {
	key    veilid.RecordKey
	writer veilid.KeyPair
}

func (n *Node) remember(key veilid.RecordKey, writer veilid.KeyPair) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.records[key.Opaque()] = openRecord{key, writer}
}

// DHTRecordKey computes a record's key.
func (n *Node) DHTRecordKey(ctx context.Context, schema veilid.Schema, owner veilid.PublicKey, enc veilid.SharedSecret) (veilid.RecordKey, error) {
	if err := schema.Check(); err != nil {
		return veilid.RecordKey{}, err
	}
	if err := checkKind("owner", owner.Key32); err != nil {
		return veilid.RecordKey{}, err
	}
	req := jsonapi.GetDHTRecordKey{Schema: jsonapi.Schema(schema), Owner: owner}
	if !enc.IsZero() {
		if enc.Kind() != veilid.VLD0 {
			return veilid.RecordKey{}, veilid.InvalidArgument("unsupported cryptosystem", "encryption_key", "")
		}
		req.EncryptionKey = &jsonapi.SharedSecret{SharedSecret: enc}
	}
	var key jsonapi.RecordKey
	err := n.do(ctx, req, &key)
	return key.RecordKey, err
}

// op does one operation with the handle of the context.
func (rc *routing) op(ctx context.Context, name string, out any, undo func(jsonapi.RC, jsonapi.Response) jsonapi.Request, build func(jsonapi.RC) jsonapi.Request) error {
	return rc.with(ctx, name, func(s *session, h jsonapi.RC) error {
		if undo == nil {
			return s.request(ctx, build(h), out, nil)
		}
		return s.request(ctx, build(h), out, func(r jsonapi.Response) jsonapi.Request { return undo(h, r) })
	})
}

// onRecord does an operation on a record, and once more after opening the record again where the node no longer has
// it open but we do: it began anew.
func (rc *routing) onRecord(ctx context.Context, name string, key veilid.RecordKey, out any, build func(jsonapi.RC) jsonapi.Request) error {
	if err := checkKey(key); err != nil {
		return err
	}
	err := rc.op(ctx, name, out, nil, build)
	if !errors.Is(err, veilid.ErrNotOpen) {
		return err
	}
	known, err2 := rc.openAgain(ctx, key)
	switch {
	case !known:
		return err
	case err2 != nil:
		return err2
	}
	return rc.op(ctx, name, out, nil, build)
}

// openAgain opens a record that was open before the node began anew. It reports whether there is such a record.
func (rc *routing) openAgain(ctx context.Context, key veilid.RecordKey) (known bool, err error) {
	rc.node.mu.Lock()
	r, known := rc.node.records[key.Opaque()]
	rc.node.mu.Unlock()
	if !known {
		return false, nil
	}
	var d jsonapi.RecordDescriptor
	err = rc.op(ctx, "OpenDhtRecord", &d, nil, func(h jsonapi.RC) jsonapi.Request {
		return jsonapi.OpenDHTRecord{
			RC: h, Key: jsonapi.RecordKey{RecordKey: r.key}, Writer: jsonapi.OptionalKeyPair(r.writer), Options: &jsonapi.OpenOptions{},
		}
	})
	if err != nil {
		return true, fmt.Errorf("open the record again: %w", err)
	}
	return true, nil
}

// CreateDHTRecord makes a record and opens it.
func (rc *routing) CreateDHTRecord(ctx context.Context, schema veilid.Schema, owner veilid.KeyPair) (veilid.RecordDescriptor, error) {
	if err := schema.Check(); err != nil {
		return veilid.RecordDescriptor{}, err
	}
	if err := checkPair("owner", owner); err != nil {
		return veilid.RecordDescriptor{}, err
	}
	var d jsonapi.RecordDescriptor
	drop := func(h jsonapi.RC, r jsonapi.Response) jsonapi.Request { // nobody will ever know its key
		var d jsonapi.RecordDescriptor
		if r.Decode(&d) != nil || d.Key.IsZero() {
			return nil
		}
		return jsonapi.DeleteDHTRecord{RC: h, Key: d.Key}
	}
	if !owner.IsZero() {
		drop = nil // the record may have been there, and may be made again
	}
	err := rc.op(ctx, "CreateDhtRecord", &d, drop, func(h jsonapi.RC) jsonapi.Request {
		return jsonapi.CreateDHTRecord{RC: h, Kind: veilid.VLD0, Schema: jsonapi.Schema(schema), Owner: jsonapi.OptionalKeyPair(owner)}
	})
	if err != nil {
		return veilid.RecordDescriptor{}, err
	}
	v := d.Veilid()
	rc.node.remember(v.Key, v.OwnerKeyPair())
	return v, nil
}

// OpenDHTRecord opens a record.
func (rc *routing) OpenDHTRecord(ctx context.Context, key veilid.RecordKey, opts veilid.OpenOptions) (veilid.RecordDescriptor, error) {
	if err := checkKey(key); err != nil {
		return veilid.RecordDescriptor{}, err
	}
	if err := checkPair("writer", opts.Writer); err != nil {
		return veilid.RecordDescriptor{}, err
	}
	var d jsonapi.RecordDescriptor
	err := rc.op(ctx, "OpenDhtRecord", &d, nil, func(h jsonapi.RC) jsonapi.Request {
		return jsonapi.OpenDHTRecord{
			RC: h, Key: jsonapi.RecordKey{RecordKey: key}, Writer: jsonapi.OptionalKeyPair(opts.Writer),
			Options: &jsonapi.OpenOptions{Rehydrate: &opts.Rehydrate},
		}
	})
	if err != nil {
		return veilid.RecordDescriptor{}, err
	}
	rc.node.remember(key, opts.Writer)
	return d.Veilid(), nil
}

// CloseDHTRecord ends use of the record and its watch.
func (rc *routing) CloseDHTRecord(ctx context.Context, key veilid.RecordKey) error {
	if err := checkKey(key); err != nil {
		return err
	}
	rc.node.forget(key)
	err := rc.op(ctx, "CloseDhtRecord", nil, nil, func(h jsonapi.RC) jsonapi.Request {
		return jsonapi.CloseDHTRecord{RC: h, Key: jsonapi.RecordKey{RecordKey: key}}
	})
	if errors.Is(err, veilid.ErrKeyNotFound) { // not open because it is not there at all
		return nil
	}
	return err
}

// DeleteDHTRecord removes the local copy.
func (rc *routing) DeleteDHTRecord(ctx context.Context, key veilid.RecordKey) error {
	if err := checkKey(key); err != nil {
		return err
	}
	rc.node.forget(key)
	return rc.op(ctx, "DeleteDhtRecord", nil, nil, func(h jsonapi.RC) jsonapi.Request {
		return jsonapi.DeleteDHTRecord{RC: h, Key: jsonapi.RecordKey{RecordKey: key}}
	})
}

func (n *Node) forget(key veilid.RecordKey) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.records, key.Opaque())
}

// GetDHTValue reads a subkey.
func (rc *routing) GetDHTValue(ctx context.Context, key veilid.RecordKey, subkey uint32, force bool) (*veilid.ValueData, error) {
	var v *jsonapi.ValueData
	err := rc.onRecord(ctx, "GetDhtValue", key, &v, func(h jsonapi.RC) jsonapi.Request {
		return jsonapi.GetDHTValue{RC: h, Key: jsonapi.RecordKey{RecordKey: key}, Subkey: subkey, ForceRefresh: force}
	})
	return v.Veilid(), err
}

// SetDHTValue writes a subkey.
func (rc *routing) SetDHTValue(ctx context.Context, key veilid.RecordKey, subkey uint32, data []byte, opts veilid.SetOptions) (*veilid.ValueData, error) {
	if err := checkValue(data, opts); err != nil {
		return nil, err
	}
	offline := !opts.NoOffline
	var v *jsonapi.ValueData
	err := rc.onRecord(ctx, "SetDhtValue", key, &v, func(h jsonapi.RC) jsonapi.Request {
		return jsonapi.SetDHTValue{
			RC: h, Key: jsonapi.RecordKey{RecordKey: key}, Subkey: subkey, Data: data,
			Options: &jsonapi.SetOptions{Writer: jsonapi.OptionalKeyPair(opts.Writer), AllowOffline: &offline, MinSeq: opts.MinSeq},
		}
	})
	return v.Veilid(), err
}

func checkValue(data []byte, opts veilid.SetOptions) error {
	if len(data) > veilid.MaxRecordSize { // less is the server's to judge: it knows the schema
		return veilid.Errorf(veilid.ErrGeneric, "value of %d bytes is too long: at most %d", len(data), veilid.MaxValueSize)
	}
	return checkPair("writer", opts.Writer)
}

// WatchDHTValues asks for ValueChange updates.
func (rc *routing) WatchDHTValues(ctx context.Context, key veilid.RecordKey, opts veilid.WatchOptions) (active bool, err error) {
	if err := checkRanges(opts.Subkeys); err != nil {
		return false, err
	}
	var expiration *jsonapi.U64
	if !opts.Expiration.IsZero() {
		us := opts.Expiration.UnixMicro()
		if us < 0 {
			return false, veilid.InvalidArgument("expiration is before 1970", "expiration", strconv.FormatInt(us, 10))
		}
		expiration = new(jsonapi.U64)
		*expiration = jsonapi.U64(us)
	}
	err = rc.onRecord(ctx, "WatchDhtValues", key, &active, func(h jsonapi.RC) jsonapi.Request {
		return jsonapi.WatchDHTValues{
			RC: h, Key: jsonapi.RecordKey{RecordKey: key}, Subkeys: jsonapi.Ranges(opts.Subkeys), Expiration: expiration, Count: opts.Count,
		}
	})
	return active, err
}

// CancelDHTWatch takes subkeys out of the watch.
func (rc *routing) CancelDHTWatch(ctx context.Context, key veilid.RecordKey, subkeys veilid.SubkeyRanges) (active bool, err error) {
	if err := checkRanges(subkeys); err != nil {
		return false, err
	}
	err = rc.onRecord(ctx, "CancelDhtWatch", key, &active, func(h jsonapi.RC) jsonapi.Request {
		return jsonapi.CancelDHTWatch{RC: h, Key: jsonapi.RecordKey{RecordKey: key}, Subkeys: jsonapi.Ranges(subkeys)}
	})
	return active, err
}

// InspectDHTRecord compares sequence numbers.
func (rc *routing) InspectDHTRecord(ctx context.Context, key veilid.RecordKey, subkeys veilid.SubkeyRanges, scope veilid.ReportScope) (veilid.Report, error) {
	if err := errors.Join(checkRanges(subkeys), checkScope(scope)); err != nil {
		return veilid.Report{}, err
	}
	var r jsonapi.Report
	err := rc.onRecord(ctx, "InspectDhtRecord", key, &r, func(h jsonapi.RC) jsonapi.Request {
		return jsonapi.InspectDHTRecord{RC: h, Key: jsonapi.RecordKey{RecordKey: key}, Subkeys: jsonapi.Ranges(subkeys), Scope: scope}
	})
	return r.Veilid(), err
}

// flushAsk is how long the server waits for a flush at once: nothing ends a request whose caller gave up.
const flushAsk = 10 * time.Second

// FlushDHTRecord waits until no write to the record is pending.
func (rc *routing) FlushDHTRecord(ctx context.Context, key veilid.RecordKey, timeout time.Duration) (clean bool, err error) {
	for end := time.Now().Add(timeout); ; {
		left := max(0, time.Until(end))
		ms := uint64((min(left, flushAsk) + time.Millisecond - 1) / time.Millisecond)
		err = rc.onRecord(ctx, "FlushDhtRecord", key, &clean, func(h jsonapi.RC) jsonapi.Request {
			return jsonapi.FlushDHTRecord{RC: h, Key: jsonapi.RecordKey{RecordKey: key}, TimeoutMS: &ms}
		})
		if err != nil || clean || left <= flushAsk {
			return clean, err
		}
	}
}

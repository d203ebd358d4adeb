package memory

import (
	"bytes"
	"context"
	"math"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// value is one version of a subkey as it is stored and sent. It never changes.
type value struct {
	seq    uint32
	writer veilid.PublicKey
	data   []byte
	nonce  *veilid.Nonce // nil: data is in clear
}

// seal encrypts a value under a record's encryption key, if there is one.
func seal(enc veilid.SharedSecret, seq uint32, writer veilid.PublicKey, data []byte) *value {
	v := &value{seq: seq, writer: writer}
	if enc.IsZero() {
		v.data = bytes.Clone(data)
		return v
	}
	nonce := crypto.RandomNonce()
	v.nonce = &nonce
	v.data = crypto.CryptNoAuth(enc, nonce, data)
	return v
}

// open decrypts. A wrong key is not noticed: it yields rubbish.
func (v *value) open(enc veilid.SharedSecret) (*veilid.ValueData, error) {
	d := &veilid.ValueData{Seq: v.seq, Writer: v.writer, Data: []byte{}}
	switch {
	case v.nonce == nil && enc.IsZero():
		d.Data = append(d.Data, v.data...)
	case v.nonce == nil:
		return nil, veilid.Errorf(veilid.ErrGeneric, "cannot decrypt value data: missing nonce")
	case enc.IsZero():
		return nil, veilid.Errorf(veilid.ErrGeneric, "cannot decrypt value data: missing encryption key")
	default:
		d.Data = crypto.CryptNoAuth(enc, *v.nonce, v.data)
	}
	return d, nil
}

func (v *value) equal(w *value) bool {
	return v == w || v.seq == w.seq && v.writer == w.writer && bytes.Equal(v.data, w.data) &&
		(v.nonce == nil) == (w.nonce == nil) && (v.nonce == nil || *v.nonce == *w.nonce)
}

// next is what a write stores after old: the same again if nothing changes, else one version later.
func next(old *value, enc veilid.SharedSecret, writer veilid.PublicKey, data []byte, minSeq *uint32) (*value, error) {
	var seq uint32
	if old != nil {
		plain, err := old.open(enc)
		if err == nil && old.writer == writer && bytes.Equal(plain.Data, data) && (minSeq == nil || *minSeq <= old.seq) {
			return old, nil
		}
		if old.seq >= math.MaxUint32-1 {
			return nil, veilid.Errorf(veilid.ErrGeneric, "the subkey has had its last version")
		}
		seq = old.seq + 1
	}
	if minSeq != nil {
		seq = max(seq, *minSeq)
	}
	return seal(enc, seq, writer, data), nil
}

// netRecord is a record as the network holds it.
type netRecord struct {
	schema veilid.Schema
	owner  veilid.PublicKey
	values map[uint32]*value
}

// localRecord is a node's copy of a record.
type localRecord struct {
	key     veilid.OpaqueRecordKey
	schema  veilid.Schema
	owner   veilid.PublicKey
	busy    chan struct{} // holds a token while an operation works on the record
	values  map[uint32]*value
	offline map[uint32]bool // written here, not yet published
}

func newLocalRecord(key veilid.OpaqueRecordKey, schema veilid.Schema, owner veilid.PublicKey) *localRecord {
	return &localRecord{
		key: key, schema: schema, owner: owner, busy: make(chan struct{}, 1), values: map[uint32]*value{}, offline: map[uint32]bool{},
	}
}

// openRecord is a node's use of a record.
type openRecord struct {
	writer veilid.KeyPair
	watch  *watch
}

// mayWrite reports whether a schema gives a subkey to a writer.
func mayWrite(s veilid.Schema, owner, writer veilid.PublicKey, subkey uint32) bool {
	n := uint32(s.OwnerCount)
	if subkey < n {
		return writer == owner
	}
	for _, m := range s.Members {
		n += uint32(m.Count)
		if subkey < n {
			return writer.Kind == veilid.VLD0 && writer.Value == m.ID
		}
	}
	return false
}

// write offers a value to the network as a storage node takes it: nil if it is the current one then, else what the
// network holds. The caller holds the lock.
func (n *Network) write(from *Node, rec *localRecord, subkey uint32, v *value) *value {
	r := n.records[rec.key]
	if r == nil {
		r = &netRecord{schema: rec.schema, owner: rec.owner, values: map[uint32]*value{}}
		n.records[rec.key] = r
	}
	old := r.values[subkey]
	switch {
	case old == nil || old.seq < v.seq:
		r.values[subkey] = v
		n.changed(from, rec.key, subkey)
		return nil
	case old.equal(v):
		return nil
	}
	return old
}

// read is what the network holds, nil if nothing. The caller holds the lock.
func (n *Network) read(key veilid.OpaqueRecordKey, subkey uint32) *value {
	if r := n.records[key]; r != nil {
		return r.values[subkey]
	}
	return nil
}

// backOnline resumes what waited for the network. The caller holds the lock.
func (n *Node) backOnline() {
	n.flushSoon()
	for key, o := range n.opened {
		if o.watch != nil {
			n.pushSoon(key, o.watch, n.net.tick)
		}
	}
}

// wentOffline lets transactions die unless the node is back in time. The caller holds the lock.
func (n *Node) wentOffline() {
	for tx := range n.txs {
		n.net.events.after(transactionLife, func() {
			n.net.mu.Lock()
			defer n.net.mu.Unlock()
			if !n.ready() {
				tx.finish()
			}
		})
	}
}

// flushSoon publishes queued writes a tick from now. The caller holds the lock.
func (n *Node) flushSoon() {
	if n.flushing || !n.ready() {
		return
	}
	pending := false
	for _, rec := range n.disk.records {
		pending = pending || len(rec.offline) > 0
	}
	if !pending {
		return
	}
	d, _ := n.net.ask(n, 0, 0)
	n.flushing = true
	n.net.events.after(n.net.tick+d, n.flush)
}

func (n *Node) flush() {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	n.flushing = false
	if !n.ready() {
		return // backOnline begins again
	}
	if _, dead := n.net.ask(n, 0, 0); !dead {
		for _, rec := range n.disk.records {
			n.flushRecord(rec)
		}
		close(n.flushed)
		n.flushed = make(chan struct{})
	}
	n.flushSoon()
}

// flushRecord publishes a record's queued writes, unless an operation works on it: the next tick tries again. Where
// the network has a newer value, that one wins.
func (n *Node) flushRecord(rec *localRecord) {
	if len(rec.offline) == 0 {
		return
	}
	select {
	case rec.busy <- struct{}{}:
	default:
		return
	}
	defer func() { <-rec.busy }()
	for subkey := range rec.offline {
		if theirs := n.net.write(n, rec, subkey, rec.values[subkey]); theirs != nil {
			rec.values[subkey] = theirs
		}
	}
	clear(rec.offline)
}

// rehydrateSoon brings back to the network what only this node still has. The caller holds the lock.
func (n *Node) rehydrateSoon(rec *localRecord) {
	n.net.events.after(n.net.tick, func() {
		n.net.mu.Lock()
		defer n.net.mu.Unlock()
		if !n.ready() {
			return
		}
		for subkey, v := range rec.values {
			if !rec.offline[subkey] {
				n.net.write(n, rec, subkey, v)
			}
		}
	})
}

// reach waits as long as an exchange with the storage nodes takes: errOffline where they are out of reach.
func (n *Node) reach(ctx context.Context, up, down int) error {
	n.net.mu.Lock()
	ready := n.ready()
	d, dead := n.net.ask(n, up, down)
	n.net.mu.Unlock()
	if !ready {
		return errOffline
	}
	if dead {
		d = dhtTimeout
	}
	if err := n.wait(ctx, d); err != nil {
		return err
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if dead || !n.ready() {
		return errOffline
	}
	return nil
}

package memory

import (
	"context"
	"maps"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// transactionLife is how long the storage nodes keep a transaction whose owner they do not hear.
const transactionLife = 10 * time.Second

// transaction is a DHT transaction. It is used under the network's lock.
type transaction struct {
	node  *Node
	parts map[veilid.OpaqueRecordKey]*txRecord
}

// txRecord is a record in a transaction: what the network held at the beginning, and what shall change.
type txRecord struct {
	rec    *localRecord
	writer veilid.KeyPair
	before map[uint32]*value
	sets   map[uint32]*value
}

// TransactDHTRecords begins a transaction.
func (n *Node) TransactDHTRecords(ctx context.Context, keys []veilid.RecordKey, opts veilid.TransactOptions) (veilid.DHTTransaction, error) {
	if err := n.check(ctx); err != nil {
		return nil, err
	}
	switch {
	case len(keys) == 0:
		return nil, &veilid.Error{
			Kind: veilid.ErrMissingArgument, Context: "begin_transaction requires one or more records", Argument: "record_keys",
		}
	case len(keys) > veilid.MaxTransaction:
		return nil, veilid.InvalidArgument("begin_transaction has more than 32 records", "record_keys", itoa(len(keys)))
	}
	if err := n.reach(ctx, 0, 0); err != nil {
		return nil, err
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	tx := &transaction{node: n, parts: map[veilid.OpaqueRecordKey]*txRecord{}}
	for _, key := range keys {
		o, rec := n.opened[key.Opaque()], n.disk.records[key.Opaque()]
		switch {
		case o == nil || rec == nil:
			return nil, notOpen(key)
		case len(rec.offline) > 0:
			return nil, veilid.Errorf(veilid.ErrTryAgain, "record %s has writes that are not published yet", key)
		}
		part := &txRecord{rec: rec, writer: o.writer, before: map[uint32]*value{}, sets: map[uint32]*value{}}
		if r := n.net.records[key.Opaque()]; r != nil {
			maps.Copy(part.before, r.values)
		}
		tx.parts[key.Opaque()] = part
	}
	n.txs[tx] = struct{}{}
	return tx, nil
}

// finish ends the transaction without a trace. The caller holds the lock.
func (tx *transaction) finish() { delete(tx.node.txs, tx) }

// command waits as long as a command takes. Unless it fails it returns with the lock held.
func (tx *transaction) command(ctx context.Context, up int) error {
	n := tx.node
	if err := n.check(ctx); err != nil {
		return err
	}
	if err := n.reach(ctx, up, 0); err != nil {
		return err
	}
	n.net.mu.Lock()
	if _, alive := n.txs[tx]; !alive {
		n.net.mu.Unlock()
		return errTxNotFound
	}
	return nil
}

var errTxNotFound = veilid.Errorf(veilid.ErrTransactionNotFound, "the transaction has ended")

// part is a command on one record.
func (tx *transaction) part(ctx context.Context, key veilid.RecordKey, up int) (*txRecord, error) {
	if err := tx.command(ctx, up); err != nil {
		return nil, err
	}
	p := tx.parts[key.Opaque()]
	if p == nil {
		tx.node.net.mu.Unlock()
		return nil, veilid.InvalidArgument("record is not in the transaction", "record_key", key.String())
	}
	return p, nil
}

// now is a subkey as the transaction sees it.
func (p *txRecord) now(subkey uint32) *value {
	if v := p.sets[subkey]; v != nil {
		return v
	}
	return p.before[subkey]
}

// Get reads a subkey as it was at the beginning, or as the transaction changed it.
func (tx *transaction) Get(ctx context.Context, key veilid.RecordKey, subkey uint32) (*veilid.ValueData, error) {
	p, err := tx.part(ctx, key, 0)
	if err != nil {
		return nil, err
	}
	defer tx.node.net.mu.Unlock()
	if err := p.rec.checkSubkey(subkey); err != nil {
		return nil, err
	}
	v := p.now(subkey)
	if v == nil {
		return nil, nil
	}
	return v.open(key.Encryption())
}

// Set changes a subkey within the transaction.
func (tx *transaction) Set(ctx context.Context, key veilid.RecordKey, subkey uint32, data []byte, opts veilid.SetOptions) (*veilid.ValueData, error) {
	p, err := tx.part(ctx, key, len(data))
	if err != nil {
		return nil, err
	}
	defer tx.node.net.mu.Unlock()
	writer := opts.Writer
	if writer.IsZero() {
		writer = p.writer
	}
	if err := p.rec.checkWrite(subkey, data, writer); err != nil {
		return nil, err
	}
	v, err := next(p.before[subkey], key.Encryption(), writer.Public, data, opts.MinSeq)
	if err != nil {
		return nil, err
	}
	if v == p.before[subkey] {
		delete(p.sets, subkey)
	} else {
		p.sets[subkey] = v
	}
	return nil, nil
}

// Inspect compares the local copy with the transaction's view.
func (tx *transaction) Inspect(ctx context.Context, key veilid.RecordKey, subkeys veilid.SubkeyRanges, scope veilid.ReportScope) (veilid.Report, error) {
	p, err := tx.part(ctx, key, 0)
	if err != nil {
		return veilid.Report{}, err
	}
	defer tx.node.net.mu.Unlock()
	return p.rec.report(subkeySet(subkeys, p.rec.schema.Subkeys()), scope, p.now), nil
}

// Commit makes all changes, unless one of the records was changed by somebody else: then ErrTryAgain and no change.
func (tx *transaction) Commit(ctx context.Context) error {
	if err := tx.command(ctx, 0); err != nil {
		return err
	}
	n := tx.node
	defer n.net.mu.Unlock()
	tx.finish()
	for key, p := range tx.parts {
		current := map[uint32]*value{}
		if r := n.net.records[key]; r != nil {
			current = r.values
		}
		if !maps.EqualFunc(p.before, current, (*value).equal) {
			return veilid.Errorf(veilid.ErrTryAgain, "record %s was changed during the transaction", key)
		}
	}
	for _, p := range tx.parts {
		for subkey, v := range p.sets {
			n.net.write(n, p.rec, subkey, v)
			p.rec.values[subkey] = v
		}
	}
	return nil
}

// Rollback ends the transaction without changes.
func (tx *transaction) Rollback(ctx context.Context) error {
	n := tx.node
	if err := n.check(ctx); err != nil {
		return err
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if _, alive := n.txs[tx]; !alive {
		return errTxNotFound
	}
	tx.finish()
	return nil
}

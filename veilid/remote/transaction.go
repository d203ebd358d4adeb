package remote

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/jsonapi"
)

// transaction is what the two sorts of transactions have in common. It belongs to one connection and is lost with it.
type transaction struct{ h *handle }

// do does one operation within the transaction.
func (x *transaction) do(ctx context.Context, out any, req jsonapi.Request) error {
	if x.h.s.isDead() {
		return x.lost()
	}
	if !x.h.enter() {
		return errTxEnded
	}
	defer x.h.leave()
	return x.h.s.request(ctx, req, out, nil)
}

// lost is the error of a transaction whose connection is gone, for whatever reason.
func (x *transaction) lost() error {
	if err := x.h.s.reason(); errors.Is(err, veilid.ErrShutdown) {
		return err
	}
	return errTxLost
}

// commit ends the transaction if it succeeds; otherwise it may be tried again or rolled back. If ctx ends before the
// answer, the outcome is not known, and drop frees what a commit that fails would leave.
func (x *transaction) commit(ctx context.Context, req, drop jsonapi.Request) error {
	err := x.finish(ctx, req, drop)
	var e *veilid.Error
	switch {
	case !errors.As(err, &e), errors.Is(err, errTxEnded), x.h.s.isDead():
	case e.Kind == veilid.ErrTransactionNotFound:
		x.h.s.tell(drop)
	default:
		x.h.revive()
	}
	return err
}

// finish ends the transaction at the server.
func (x *transaction) finish(ctx context.Context, req, drop jsonapi.Request) error {
	if x.h.s.isDead() {
		return x.lost()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	mine, err := x.h.end(ctx)
	if err != nil {
		return fmt.Errorf("wait for the transaction's operations: %w", err)
	}
	if !mine {
		return errTxEnded
	}
	var undo func(jsonapi.Response) jsonapi.Request
	if drop != nil {
		undo = func(r jsonapi.Response) jsonapi.Request {
			if r.Err == nil {
				return nil
			}
			return drop
		}
	}
	return x.h.s.request(ctx, req, nil, undo)
}

// TransactDHTRecords begins a transaction over open records.
func (n *Node) TransactDHTRecords(ctx context.Context, keys []veilid.RecordKey, opts veilid.TransactOptions) (veilid.DHTTransaction, error) {
	switch {
	case len(keys) == 0:
		return nil, &veilid.Error{Kind: veilid.ErrMissingArgument, Context: "a transaction needs one or more records", Argument: "record_keys"}
	case len(keys) > veilid.MaxTransaction:
		return nil, veilid.InvalidArgument("a transaction has at most 32 records", "record_keys", strconv.Itoa(len(keys)))
	}
	if err := checkPair("signer", opts.Signer); err != nil {
		return nil, err
	}
	req := jsonapi.TransactDHTRecords{Options: &jsonapi.TransactOptions{Signer: jsonapi.OptionalKeyPair(opts.Signer)}}
	for _, k := range keys {
		if err := checkKey(k); err != nil {
			return nil, err
		}
		req.RecordKeys = append(req.RecordKeys, jsonapi.RecordKey{RecordKey: k})
	}
	tx, err := n.transact(ctx, req)
	if !errors.Is(err, veilid.ErrNotOpen) {
		return tx, err
	}
	rc := n.Context(veilid.SafetySelection{}).(*routing)
	for _, k := range keys {
		if known, errOpen := rc.openAgain(ctx, k); !known {
			return nil, err
		} else if errOpen != nil {
			return nil, errOpen
		}
	}
	return n.transact(ctx, req)
}

func (n *Node) transact(ctx context.Context, req jsonapi.TransactDHTRecords) (veilid.DHTTransaction, error) {
	s, err := n.session()
	if err != nil {
		return nil, fmt.Errorf("veilid TransactDhtRecords: %w", err)
	}
	var id uint32
	err = s.request(ctx, req, &id, func(r jsonapi.Response) jsonapi.Request {
		if r.Decode(&id) != nil {
			return nil
		}
		return jsonapi.ReleaseDHTTx{DHTTx: jsonapi.DHTTx{ID: id}}
	})
	if err != nil {
		return nil, err
	}
	return &dhtTx{transaction{newHandle(s, id)}}, nil
}

// dhtTx is a DHT transaction.
type dhtTx struct{ transaction }

func (x *dhtTx) tx() jsonapi.DHTTx { return jsonapi.DHTTx{ID: x.h.id} }

// Get reads a subkey as it was at the beginning, or as the transaction changed it.
func (x *dhtTx) Get(ctx context.Context, key veilid.RecordKey, subkey uint32) (*veilid.ValueData, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	var v *jsonapi.ValueData
	err := x.do(ctx, &v, jsonapi.GetInDHTTx{DHTTx: x.tx(), Key: jsonapi.RecordKey{RecordKey: key}, Subkey: subkey})
	return v.Veilid(), err
}

// Set changes a subkey within the transaction.
func (x *dhtTx) Set(ctx context.Context, key veilid.RecordKey, subkey uint32, data []byte, opts veilid.SetOptions) (*veilid.ValueData, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if err := checkValue(data, opts); err != nil {
		return nil, err
	}
	var v *jsonapi.ValueData
	err := x.do(ctx, &v, jsonapi.SetInDHTTx{
		DHTTx: x.tx(), Key: jsonapi.RecordKey{RecordKey: key}, Subkey: subkey, Data: data,
		Options: &jsonapi.SetInTxOptions{Writer: jsonapi.OptionalKeyPair(opts.Writer), MinSeq: opts.MinSeq},
	})
	return v.Veilid(), err
}

// Inspect compares sequence numbers within the transaction.
func (x *dhtTx) Inspect(ctx context.Context, key veilid.RecordKey, subkeys veilid.SubkeyRanges, scope veilid.ReportScope) (veilid.Report, error) {
	if err := errors.Join(checkKey(key), checkRanges(subkeys), checkScope(scope)); err != nil {
		return veilid.Report{}, err
	}
	var r jsonapi.Report
	err := x.do(ctx, &r, jsonapi.InspectInDHTTx{
		DHTTx: x.tx(), Key: jsonapi.RecordKey{RecordKey: key}, Subkeys: jsonapi.Ranges(subkeys), Scope: scope,
	})
	return r.Veilid(), err
}

// Commit makes all changes.
func (x *dhtTx) Commit(ctx context.Context) error {
	return x.commit(ctx, jsonapi.CommitDHTTx{DHTTx: x.tx()}, jsonapi.ReleaseDHTTx{DHTTx: x.tx()})
}

// Rollback ends the transaction without changes. The server rolls back what is released, so that counts too.
func (x *dhtTx) Rollback(ctx context.Context) error {
	err := x.finish(ctx, jsonapi.RollbackDHTTx{DHTTx: x.tx()}, jsonapi.ReleaseDHTTx{DHTTx: x.tx()})
	var e *veilid.Error
	if errors.As(err, &e) && !errors.Is(err, errTxEnded) && !x.h.s.isDead() {
		x.h.s.tell(jsonapi.ReleaseDHTTx{DHTTx: x.tx()})
	}
	return err
}

package memory

import (
	"context"
	"strconv"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/vld0"
)

// routing is a routing context.
type routing struct {
	node *Node
	sel  veilid.SafetySelection
	err  error // the selection is refused
}

var _ veilid.RoutingContext = (*routing)(nil)

// Context is a routing context with this safety selection.
func (n *Node) Context(sel veilid.SafetySelection) veilid.RoutingContext {
	rc := &routing{node: n, sel: sel}
	spec := &rc.sel.Spec
	switch {
	case sel.Unsafe:
		rc.err = veilid.Errorf(veilid.ErrGeneric, "Unsafe routing mode is not allowed without the 'footgun-nodeid-target' feature enabled")
		return rc
	case spec.HopCount < 0 || spec.HopCount > maxHops:
		rc.err = veilid.Errorf(veilid.ErrGeneric, "hop count must be less than or equal to configured max route hop count")
		return rc
	}
	if spec.HopCount == 0 {
		spec.HopCount = 1
	}
	if spec.Stability == "" {
		spec.Stability = veilid.Reliable
	}
	if spec.Sequencing == "" {
		spec.Sequencing = veilid.PreferOrdered
	}
	return rc
}

// Safety is the selection, with the defaults filled in.
func (rc *routing) Safety() veilid.SafetySelection { return rc.sel }

func (rc *routing) check(ctx context.Context) error {
	if err := rc.node.check(ctx); err != nil {
		return err
	}
	return rc.err
}

// DHTRecordKey computes a record's key.
func (n *Node) DHTRecordKey(ctx context.Context, schema veilid.Schema, owner veilid.PublicKey, enc veilid.SharedSecret) (veilid.RecordKey, error) {
	if err := n.check(ctx); err != nil {
		return veilid.RecordKey{}, err
	}
	if err := schema.Check(); err != nil {
		return veilid.RecordKey{}, err
	}
	return veilid.NewRecordKey(vld0.RecordKey(owner, schema), enc), nil
}

func itoa[T int | uint32](n T) string { return strconv.FormatInt(int64(n), 10) }

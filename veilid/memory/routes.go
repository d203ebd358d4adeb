package memory

import (
	"bytes"
	"context"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/vld0"
)

// The real node's cache of imported routes.
const (
	maxImported  = 1024
	importedLife = 5 * time.Minute // without use
)

// blobSize is that of a real route blob of one hop.
const blobSize = 749

// blobHead begins a route blob: one key, and what tells it from a real one, which this network cannot use.
var blobHead = []byte("\x01memory-route")

// route is a private route.
type route struct {
	id     veilid.RouteID
	owner  *Node
	hops   int
	silent bool
}

// NewPrivateRoute makes a route to this node.
func (n *Node) NewPrivateRoute(ctx context.Context, spec veilid.PrivateSpec) (veilid.RouteBlob, error) {
	if err := n.check(ctx); err != nil {
		return veilid.RouteBlob{}, err
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if !n.ready() {
		return veilid.RouteBlob{}, veilid.Errorf(veilid.ErrTryAgain, "unable to allocate route until we have a valid PublicInternet network class")
	}
	if spec.HopCount < 0 || spec.HopCount > maxHops {
		return veilid.RouteBlob{}, veilid.InvalidArgument("Not allocating route longer than max route hop count", "hop_count", itoa(spec.HopCount))
	}
	key := crypto.GenerateKeyPair().Public
	r := &route{id: vld0.RouteID(key), owner: n, hops: max(1, spec.HopCount)}
	n.net.routes[r.id] = r
	blob := append(bytes.Clone(blobHead), key.Value[:]...)
	for sum := key.Value; len(blob) < blobSize; { // filled with something that depends on the key, like the real one
		sum = crypto.GenerateHash(sum[:]).Value
		blob = append(blob, sum[:min(len(sum), blobSize-len(blob))]...)
	}
	return veilid.RouteBlob{ID: r.id, Blob: blob}, nil
}

// ImportRemotePrivateRoute makes a route a target. Whether it is alive is not asked.
func (n *Node) ImportRemotePrivateRoute(ctx context.Context, blob []byte) (veilid.RouteID, error) {
	if err := n.check(ctx); err != nil {
		return veilid.RouteID{}, err
	}
	key, ok := bytes.CutPrefix(blob, blobHead)
	switch {
	case len(blob) == 0:
		return veilid.RouteID{}, veilid.InvalidArgument("not deserializing empty private route blob", "blob", "")
	case blob[0] == 0:
		return veilid.RouteID{}, veilid.Errorf(veilid.ErrInternal, "no compatible crypto kinds in route")
	case !ok || len(blob) < blobSize:
		return veilid.RouteID{}, veilid.Errorf(veilid.ErrParse, "route blob of %d bytes is none of this network", len(blob))
	}
	id := vld0.RouteID(veilid.PublicKey{Key32: veilid.Key32{Kind: veilid.VLD0, Value: [32]byte(key[:32])}})
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	n.imported[id] = time.Now()
	if len(n.imported) > maxImported {
		var oldest veilid.RouteID
		for id, used := range n.imported {
			if oldest.IsZero() || used.Before(n.imported[oldest]) {
				oldest = id
			}
		}
		delete(n.imported, oldest)
	}
	return id, nil
}

// ReleasePrivateRoute forgets a route. Whoever imported it is not told.
func (n *Node) ReleasePrivateRoute(ctx context.Context, id veilid.RouteID) error {
	if err := n.check(ctx); err != nil {
		return err
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	_, imported := n.imported[id]
	r := n.net.routes[id]
	switch {
	case r != nil && r.owner == n:
		delete(n.net.routes, id)
	case imported:
		delete(n.imported, id)
	default:
		return veilid.InvalidArgument("release_private_route", "key", id.String())
	}
	return nil
}

// target finds the imported route that a message goes to. The caller holds the lock.
func (n *Node) target(to veilid.Target) error {
	if to.Route.IsZero() {
		return veilid.Errorf(veilid.ErrInvalidTarget, "Only PrivateRoute targets are allowed without the footgun feature")
	}
	used, ok := n.imported[to.Route]
	now := time.Now()
	if !ok || now.Sub(used) > importedLife {
		delete(n.imported, to.Route)
		return veilid.Errorf(veilid.ErrNoConnection, "could not get remote private route")
	}
	n.imported[to.Route] = now
	if !n.ready() {
		return errOffline
	}
	return nil
}

// dropImported forgets an imported route that died, and says so. The caller holds the lock.
func (n *Node) dropImported(id veilid.RouteID) {
	if _, ok := n.imported[id]; ok {
		delete(n.imported, id)
		n.publish(&veilid.RouteChange{DeadRemoteRoutes: []veilid.RouteID{id}})
	}
}

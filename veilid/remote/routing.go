package remote

import (
	"context"
	"fmt"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/jsonapi"
)

// routing is a routing context. Its counterpart at the server is made when it is first needed.
type routing struct {
	node *Node
	sel  veilid.SafetySelection // as it goes to the server
	err  error                  // the selection has no valid form
}

var _ veilid.RoutingContext = (*routing)(nil)

// Context is a routing context with this safety selection.
func (n *Node) Context(sel veilid.SafetySelection) veilid.RoutingContext {
	rc := &routing{node: n, sel: sel, err: checkSelection(sel)}
	if sel.Unsafe {
		rc.sel.Spec = veilid.SafetySpec{}
		if sel.Sequencing == "" {
			rc.sel.Sequencing = veilid.PreferOrdered
		}
		return rc
	}
	rc.sel.Sequencing = ""
	spec := &rc.sel.Spec
	if spec.Stability == "" {
		spec.Stability = veilid.Reliable
	}
	if spec.Sequencing == "" {
		spec.Sequencing = veilid.PreferOrdered
	}
	return rc
}

// Safety is the selection, with the defaults filled in.
func (rc *routing) Safety() veilid.SafetySelection {
	sel := rc.sel
	if !sel.Unsafe && sel.Spec.HopCount == 0 {
		sel.Spec.HopCount = 1
	}
	return sel
}

// with calls f with the handle at the server.
func (rc *routing) with(ctx context.Context, op string, f func(*session, jsonapi.RC) error) error {
	s, h, err := rc.acquire(ctx)
	if err != nil {
		return fmt.Errorf("veilid %s: %w", op, err)
	}
	defer s.done(h)
	return f(s, jsonapi.RC{ID: h.id})
}

func (rc *routing) acquire(ctx context.Context) (*session, *contextHandle, error) {
	if rc.err != nil {
		return nil, nil, rc.err
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	s, err := rc.node.session()
	if err != nil {
		return nil, nil, err
	}
	h, err := s.context(ctx, rc.sel)
	return s, h, err
}

// AppCall asks and waits for the answer.
func (rc *routing) AppCall(ctx context.Context, to veilid.Target, question []byte) ([]byte, error) {
	answer, err := rc.send(ctx, to, question, true)
	if err != nil {
		return nil, fmt.Errorf("veilid AppCall: %w", err)
	}
	if answer == nil {
		return nil, veilid.Errorf(veilid.ErrParse, "the node's answer to AppCall holds no bytes")
	}
	return answer, nil
}

// AppMessage sends without an answer.
func (rc *routing) AppMessage(ctx context.Context, to veilid.Target, message []byte) error {
	if _, err := rc.send(ctx, to, message, false); err != nil {
		return fmt.Errorf("veilid AppMessage: %w", err)
	}
	return nil
}

func (rc *routing) send(ctx context.Context, to veilid.Target, message []byte, answer bool) ([]byte, error) {
	if err := checkTarget(to); err != nil {
		return nil, err
	}
	if err := checkMessage("message", message); err != nil {
		return nil, err
	}
	s, h, err := rc.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer s.done(h)
	id, w, err := s.register(true, nil)
	if err != nil {
		return nil, err
	}
	line := getLine()
	*line = jsonapi.AppendAppCall(*line, id, h.id, to, message, answer)
	r, err := s.roundTrip(ctx, id, w, line)
	if err != nil {
		return nil, err
	}
	return bytesOf(r)
}

// AppCallReply answers an AppCall.
func (n *Node) AppCallReply(ctx context.Context, callID uint64, answer []byte) error {
	if err := n.reply(ctx, callID, answer); err != nil {
		return fmt.Errorf("veilid AppCallReply: %w", err)
	}
	return nil
}

func (n *Node) reply(ctx context.Context, callID uint64, answer []byte) error {
	if err := checkMessage("answer", answer); err != nil {
		return err
	}
	s, err := n.session()
	if err != nil {
		return err
	}
	id, w, err := s.register(true, nil)
	if err != nil {
		return err
	}
	line := getLine()
	*line = jsonapi.AppendAppCallReply(*line, id, callID, answer)
	r, err := s.roundTrip(ctx, id, w, line)
	if err != nil {
		return err
	}
	_, err = bytesOf(r)
	return err
}

// NewPrivateRoute allocates a route by which others reach us.
func (n *Node) NewPrivateRoute(ctx context.Context, spec veilid.PrivateSpec) (veilid.RouteBlob, error) {
	if err := checkRoute(spec.HopCount, spec.Stability, spec.Sequencing); err != nil {
		return veilid.RouteBlob{}, err
	}
	s, err := n.session()
	if err != nil {
		return veilid.RouteBlob{}, fmt.Errorf("veilid NewPrivateRoute: %w", err)
	}
	var b jsonapi.RouteBlob
	err = s.request(ctx, jsonapi.NewCustomPrivateRoute{Spec: jsonapi.NewPrivateSpec(spec)}, &b, func(r jsonapi.Response) jsonapi.Request {
		var b jsonapi.RouteBlob
		if r.Decode(&b) != nil || b.RouteID.IsZero() {
			return nil
		}
		return jsonapi.ReleasePrivateRoute{RouteID: b.RouteID}
	})
	if err != nil {
		return veilid.RouteBlob{}, err
	}
	n.mu.Lock()
	n.own[b.RouteID] = struct{}{}
	n.mu.Unlock()
	return veilid.RouteBlob{ID: b.RouteID, Blob: b.Blob}, nil
}

// ImportRemotePrivateRoute makes another's route usable as a target.
func (n *Node) ImportRemotePrivateRoute(ctx context.Context, blob []byte) (id veilid.RouteID, err error) {
	if err := checkMessage("route blob", blob); err != nil {
		return id, err
	}
	if err := n.do(ctx, jsonapi.ImportRemotePrivateRoute{Blob: blob}, &id); err != nil {
		return veilid.RouteID{}, err
	}
	n.mu.Lock()
	n.imported[id] = struct{}{}
	n.mu.Unlock()
	return id, nil
}

// ReleasePrivateRoute forgets a route.
func (n *Node) ReleasePrivateRoute(ctx context.Context, id veilid.RouteID) error {
	if err := checkKind("route_id", id.Key32); err != nil {
		return err
	}
	n.mu.Lock()
	delete(n.own, id)
	delete(n.imported, id)
	n.mu.Unlock()
	return n.do(ctx, jsonapi.ReleasePrivateRoute{RouteID: id}, nil)
}

// forgetRoutes is the update that tells of all routes as dead, because their node began again.
func (n *Node) forgetRoutes() *veilid.RouteChange {
	n.mu.Lock()
	defer n.mu.Unlock()
	u := &veilid.RouteChange{}
	for r := range n.own {
		u.DeadRoutes = append(u.DeadRoutes, r)
	}
	for r := range n.imported {
		u.DeadRemoteRoutes = append(u.DeadRemoteRoutes, r)
	}
	clear(n.own)
	clear(n.imported)
	return u
}

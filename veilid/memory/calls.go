package memory

import (
	"bytes"
	"context"
	"math/rand/v2"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// call is a question that waits for its answer.
type call struct {
	id     uint64
	asker  *Node
	answer chan []byte // room for one; nobody reads it once the asker gave up
	until  time.Time
}

// inbox holds the questions that a node was asked and has not answered.
type inbox struct {
	byID  map[uint64]*call
	order []*call // as they came: the first to expire first
}

func (in *inbox) add(c *call, now time.Time) {
	for len(in.order) > 0 && in.order[0].until.Before(now) {
		delete(in.byID, in.order[0].id)
		in.order[0] = nil
		in.order = in.order[1:]
	}
	in.byID[c.id] = c
	in.order = append(in.order, c)
}

// AppCall asks and waits for the answer.
func (rc *routing) AppCall(ctx context.Context, to veilid.Target, question []byte) ([]byte, error) {
	n := rc.node
	if err := rc.check(ctx); err != nil {
		return nil, err
	}
	c := &call{asker: n, answer: make(chan []byte, 1)}
	timeout := time.NewTimer(rc.timeout())
	defer timeout.Stop()
	if err := n.ship(to, question, c); err != nil {
		return nil, err
	}
	select {
	case answer := <-c.answer:
		return answer, nil
	case <-timeout.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-n.done:
		return nil, errClosed
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if n.net.routes[to.Route] == nil {
		n.dropImported(to.Route)
	}
	return nil, veilid.Errorf(veilid.ErrTimeout, "no answer over route %s", to.Route)
}

// AppMessage sends without an answer.
func (rc *routing) AppMessage(ctx context.Context, to veilid.Target, message []byte) error {
	if err := rc.check(ctx); err != nil {
		return err
	}
	return rc.node.ship(to, message, nil)
}

// timeout is that of a call: five seconds, and a tenth more for each hop beyond four out and back.
func (rc *routing) timeout() time.Duration {
	return callTimeout + callTimeout/10*time.Duration(max(0, 2*rc.sel.Spec.HopCount-4))
}

// ship sends a message or, with c, a question.
func (n *Node) ship(to veilid.Target, payload []byte, c *call) error {
	n.net.mu.Lock()
	if err := n.target(to); err != nil {
		n.net.mu.Unlock()
		return err
	}
	if len(payload) > veilid.MaxMessageSize {
		n.net.mu.Unlock()
		return veilid.Errorf(veilid.ErrInternal, "message of %d bytes is too long: at most %d", len(payload), veilid.MaxMessageSize)
	}
	var d time.Duration
	r := n.net.routes[to.Route]
	lost := r == nil
	if !lost {
		d, lost = n.net.path(n, r.owner, len(payload))
	}
	n.net.mu.Unlock()
	if lost {
		return nil
	}
	m := veilid.AppMessage{Route: to.Route, Message: bytes.Clone(payload)}
	if m.Message == nil {
		m.Message = []byte{}
	}
	if d <= 0 {
		n.net.arrive(m, c)
	} else {
		n.net.events.after(d, func() { n.net.arrive(m, c) })
	}
	return nil
}

// arrive hands a message to the owner of its route.
func (n *Network) arrive(m veilid.AppMessage, c *call) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.routes[m.Route]
	if r == nil || r.silent || !r.owner.ready() {
		return
	}
	if c == nil {
		r.owner.publish(&m)
		return
	}
	c.id = rand.Uint64()
	now := time.Now()
	c.until = now.Add(callTimeout)
	r.owner.calls.add(c, now)
	r.owner.publish(&veilid.AppCall{AppMessage: m, CallID: c.id})
}

// AppCallReply answers a call.
func (n *Node) AppCallReply(ctx context.Context, callID uint64, answer []byte) error {
	if err := n.check(ctx); err != nil {
		return err
	}
	n.net.mu.Lock()
	c := n.calls.byID[callID]
	var err error
	switch {
	case !n.attached:
		err = veilid.Errorf(veilid.ErrTryAgain, "not started up: Not started")
	case c == nil || c.until.Before(time.Now()):
		err = veilid.Errorf(veilid.ErrGeneric, "no call with id %d waits for an answer", callID)
	case len(answer) > veilid.MaxMessageSize:
		err = veilid.Errorf(veilid.ErrInternal, "answer of %d bytes is too long: at most %d", len(answer), veilid.MaxMessageSize)
	}
	if err != nil {
		n.net.mu.Unlock()
		return err
	}
	delete(n.calls.byID, callID)
	d, lost := n.net.path(n, c.asker, len(answer))
	lost = lost || !n.ready()
	n.net.mu.Unlock()
	if lost {
		return nil
	}
	answer = append(make([]byte, 0, len(answer)), answer...)
	deliver := func() {
		n.net.mu.Lock()
		ready := c.asker.ready()
		n.net.mu.Unlock()
		if ready {
			c.answer <- answer // never waits: there is room, and only one answer
		}
	}
	if d <= 0 {
		deliver()
	} else {
		n.net.events.after(d, deliver)
	}
	return nil
}

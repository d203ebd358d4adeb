package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/internal/updates"
	"github.com/OpenArchive/save-dweb-go/veilid/jsonapi"
)

// DefaultMaxLine is the most bytes that one message of the server may have, unless Options says otherwise.
const DefaultMaxLine = 16 << 20

// Options are the choices of [Dial]. The zero value serves.
type Options struct {
	// MaxLine is the most bytes that one message of the server may have; DefaultMaxLine if zero. It limits a value in a
	// table to three quarters of it.
	MaxLine int
	// Log is where the connection's ups and downs go; slog.Default if nil.
	Log *slog.Logger
}

// Node is a veilid-server's node.
type Node struct {
	addr    dialer
	maxLine int
	log     *slog.Logger
	updates *updates.Broadcaster
	proc    *process // nil unless it is ours
	ctx     context.Context
	cancel  context.CancelFunc
	ended   chan struct{} // closed when the keeper of the connection has ended

	mu       sync.Mutex
	current  *session      // nil while the connection is lost
	changed  chan struct{} // closed, and replaced, with every change of current
	closed   bool
	own      map[veilid.RouteID]struct{}
	imported map[veilid.RouteID]struct{}
	records  map[veilid.OpaqueRecordKey]openRecord
}

var _ veilid.Node = (*Node)(nil)

var errClosed = veilid.Errorf(veilid.ErrShutdown, "the node was closed")

// Dial connects to a server at "unix:/path", "/path", "tcp:host:port" or "host:port". ctx bounds only the connecting.
func Dial(ctx context.Context, addr string, opts Options) (*Node, error) {
	a, err := parseAddress(addr)
	if err != nil {
		return nil, err
	}
	return connect(ctx, a, opts)
}

func connect(ctx context.Context, a dialer, opts Options) (*Node, error) {
	n := newNode(a, opts)
	s, err := n.open(ctx)
	if err != nil {
		n.cancel()
		return nil, err
	}
	n.run(s)
	return n, nil
}

func newNode(a dialer, opts Options) *Node {
	if opts.MaxLine <= 0 {
		opts.MaxLine = DefaultMaxLine
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	n := &Node{
		addr: a, maxLine: opts.MaxLine, log: opts.Log.With("node", a.String()), updates: updates.New(),
		ended: make(chan struct{}), changed: make(chan struct{}),
		own: map[veilid.RouteID]struct{}{}, imported: map[veilid.RouteID]struct{}{},
		records: map[veilid.OpaqueRecordKey]openRecord{},
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}

func (n *Node) open(ctx context.Context) (*session, error) {
	starts := 0
	if n.proc != nil {
		starts = n.proc.starts()
	}
	s, err := open(ctx, n.addr, n.maxLine, n.log)
	if err != nil {
		return nil, err
	}
	s.spawned = starts
	return s, nil
}

// run uses the first session and starts the goroutine that replaces it when it is lost.
func (n *Node) run(s *session) {
	n.set(s)
	s.begin(n.onUpdate)
	go func() { // ends with Close, which waits for it
		defer close(n.ended)
		n.keep(s)
	}()
}

// keep replaces lost sessions until the node is closed.
func (n *Node) keep(s *session) {
	for {
		select {
		case <-s.dead:
		case <-n.ctx.Done():
		}
		n.set(nil)
		s.close(errClosed) // or for the reason that it has already
		if n.ctx.Err() != nil {
			return
		}
		n.log.Warn("the connection to the Veilid node is lost", "error", s.reason())
		next := n.reopen()
		if next == nil {
			return
		}
		restarted := next.restartedSince(s)
		n.log.Info("the connection to the Veilid node is there again", "restarted", restarted)
		n.set(next)
		n.updates.Publish(&veilid.Reconnected{Restarted: restarted})
		if restarted {
			n.updates.Publish(n.forgetRoutes())
		}
		next.begin(n.onUpdate)
		s = next
	}
}

// The pauses between attempts to connect again.
const (
	firstPause = 50 * time.Millisecond
	maxPause   = 10 * time.Second
)

// reopen connects again, however long it takes; nil when the node is closed.
func (n *Node) reopen() *session {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		s, err := n.open(n.ctx)
		if err == nil {
			return s
		}
		n.log.Debug("no connection to the Veilid node yet", "error", err)
		if !sleep(n.ctx, jitter(pause)) {
			return nil
		}
	}
}

// jitter is between half of a pause and all of it, so that many clients do not come at once.
func jitter(pause time.Duration) time.Duration { return pause/2 + rand.N(pause/2) }

// sleep reports whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (n *Node) set(s *session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.current = s
	close(n.changed)
	n.changed = make(chan struct{})
}

// session is the connection of the moment.
func (n *Node) session() (*session, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		return nil, errClosed
	case n.current == nil:
		return nil, veilid.Errorf(veilid.ErrNoConnection, "no connection to the Veilid node at %s; trying again", n.addr)
	}
	return n.current, nil
}

// Close ends the use of the node; where it was started by Spawn, the node as well.
func (n *Node) Close() error {
	n.mu.Lock()
	first := !n.closed
	n.closed = true
	n.mu.Unlock()
	n.cancel()
	<-n.ended
	if n.proc != nil {
		n.proc.stop()
	}
	if first {
		n.updates.Publish(&veilid.Shutdown{})
		n.updates.Close()
	}
	return nil
}

// onUpdate hands an update of the server on. It runs in the reader, so it does not wait.
func (n *Node) onUpdate(u veilid.Update) {
	switch u := u.(type) {
	case *veilid.AppCall:
		if !n.isOwn(u.Route) {
			return
		}
	case *veilid.AppMessage:
		if !n.isOwn(u.Route) {
			return
		}
	case *veilid.RouteChange:
		n.mu.Lock()
		for _, r := range u.DeadRoutes {
			delete(n.own, r)
		}
		for _, r := range u.DeadRemoteRoutes {
			delete(n.imported, r)
		}
		n.mu.Unlock()
	case *veilid.Shutdown:
		n.log.Info("the Veilid node says that it shuts down") // it may come back: ours is the last word
		return
	}
	n.updates.Publish(u)
}

// isOwn reports whether a message is ours. The server tells every client of messages to all of them.
func (n *Node) isOwn(r veilid.RouteID) bool {
	if r.IsZero() {
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.own[r]
	return ok
}

// Subscribe starts to deliver the updates of these kinds.
func (n *Node) Subscribe(kinds veilid.UpdateKinds) veilid.Subscription {
	return n.updates.Subscribe(kinds)
}

// do asks the server of the moment.
func (n *Node) do(ctx context.Context, req jsonapi.Request, out any) error {
	s, err := n.session()
	if err != nil {
		return fmt.Errorf("veilid %s: %w", jsonapi.Name(req), err)
	}
	return s.request(ctx, req, out, nil)
}

// Version is that of the server's veilid-core.
func (n *Node) Version(ctx context.Context) ([3]uint32, error) {
	s, err := n.session()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return [3]uint32{}, fmt.Errorf("veilid version: %w", err)
	}
	return s.version, nil
}

// Debug runs one of veilid-core's debug commands.
func (n *Node) Debug(ctx context.Context, command string) (answer string, err error) {
	if err := jsonapi.CheckText("command", command); err != nil {
		return "", err
	}
	err = n.do(ctx, jsonapi.Debug{Command: command}, &answer)
	return answer, err
}

// Attach connects the node to its network.
func (n *Node) Attach(ctx context.Context) error { return n.do(ctx, jsonapi.Attach{}, nil) }

// Detach disconnects the node from its network.
func (n *Node) Detach(ctx context.Context) error { return n.do(ctx, jsonapi.Detach{}, nil) }

// AttachmentState is the latest state.
func (n *Node) AttachmentState(ctx context.Context) (veilid.Attachment, error) {
	var s jsonapi.State
	err := n.do(ctx, jsonapi.GetState{}, &s)
	return s.Attachment.Veilid(), err
}

// readyAsk is how long the server waits for readiness at once: nothing ends a request whose caller gave up.
const readyAsk = 5 * time.Second

// WaitReady waits until routes and the DHT can be used. It stays patient while the connection is lost.
func (n *Node) WaitReady(ctx context.Context) error {
	for {
		n.mu.Lock()
		changed := n.changed
		n.mu.Unlock()
		ms := uint64(readyAsk.Milliseconds())
		err := n.do(ctx, jsonapi.WaitForAttachmentCondition{TimeoutMS: &ms}, nil)
		switch {
		case errors.Is(err, veilid.ErrTimeout):
		case errors.Is(err, veilid.ErrNoConnection):
			select {
			case <-changed:
			case <-n.ctx.Done():
			case <-ctx.Done():
				return ctx.Err()
			}
		default:
			return err
		}
	}
}

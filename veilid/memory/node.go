package memory

import (
	"context"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/internal/updates"
	"github.com/OpenArchive/save-dweb-go/veilid/vld0"
)

// What the real node's times are.
const (
	callTimeout = 5 * time.Second
	dhtTimeout  = 10 * time.Second
	dhtRounds   = 2 // round trips of an exchange with the nodes that store records
	maxHops     = veilid.MaxRouteHops
)

var crypto vld0.System

// Node is a node of a [Network].
type Node struct {
	net     *Network
	name    string
	updates *updates.Broadcaster
	done    chan struct{} // closed when the node is
	disk    *disk

	// Under net.mu.
	closed   bool
	attached bool
	online   bool
	readyAt  time.Time
	last     veilid.Attachment // as last published
	changed  chan struct{}     // closed, and replaced, with every change of the attachment
	started  time.Time
	since    time.Time // attached since
	own      Conditions
	up, down pipe
	imported map[veilid.RouteID]time.Time // last use
	calls    inbox
	opened   map[veilid.OpaqueRecordKey]*openRecord
	flushing bool          // the next publication of queued writes is due
	flushed  chan struct{} // closed, and replaced, when queued writes are published
	txs      map[*transaction]struct{}
}

var _ veilid.Node = (*Node)(nil)

// disk is what a node keeps while it is closed.
type disk struct {
	records map[veilid.OpaqueRecordKey]*localRecord
	tables  tables
	secrets secrets
}

func newDisk() *disk {
	return &disk{
		records: map[veilid.OpaqueRecordKey]*localRecord{},
		tables:  tables{byName: map[string]*table{}},
		secrets: secrets{values: map[string][]byte{}},
	}
}

// open starts the node of this name. The caller holds the network's lock.
func (n *Network) open(name string) *Node {
	node := &Node{
		net: n, name: name, updates: updates.New(), done: make(chan struct{}), disk: n.disks[name],
		attached: true, online: true, changed: make(chan struct{}), started: time.Now(), since: time.Now(),
		last:     veilid.Attachment{State: veilid.Detached},
		imported: map[veilid.RouteID]time.Time{},
		calls:    inbox{byID: map[uint64]*call{}},
		opened:   map[veilid.OpaqueRecordKey]*openRecord{},
		flushed:  make(chan struct{}),
		txs:      map[*transaction]struct{}{},
	}
	n.nodes[name] = node
	node.connectivityChanged()
	return node
}

// Name is the name the node was made with.
func (n *Node) Name() string { return n.name }

// Close ends the node. What it holds stays for [Network.Reopen].
func (n *Node) Close() error {
	n.close()
	return nil
}

func (n *Node) close() {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if n.closed {
		return
	}
	n.closed = true
	close(n.done)
	for id, r := range n.net.routes {
		if r.owner == n {
			delete(n.net.routes, id)
		}
	}
	for tx := range n.txs {
		tx.finish()
	}
	n.disk.tables.closeAll()
	delete(n.net.nodes, n.name)
	n.publish(&veilid.Shutdown{})
	n.updates.Close()
}

// publish tells the node's subscribers.
func (n *Node) publish(u veilid.Update) { n.updates.Publish(u) }

// Subscribe starts to deliver the updates of these kinds.
func (n *Node) Subscribe(kinds veilid.UpdateKinds) veilid.Subscription {
	return n.updates.Subscribe(kinds)
}

// Version is that of the veilid-core whose behaviour this is.
func (n *Node) Version(ctx context.Context) ([3]uint32, error) {
	return [3]uint32{0, 5, 8}, n.check(ctx)
}

// Debug is not available.
func (n *Node) Debug(ctx context.Context, _ string) (string, error) {
	if err := n.check(ctx); err != nil {
		return "", err
	}
	return "", veilid.Errorf(veilid.ErrUnimplemented, "the memory network has no debug commands")
}

// check is the common beginning of all calls.
func (n *Node) check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-n.done:
		return errClosed
	default:
		return nil
	}
}

var (
	errClosed  = veilid.Errorf(veilid.ErrShutdown, "the node is closed")
	errOffline = veilid.Errorf(veilid.ErrTryAgain, "offline, try again later")
)

// wait waits for a time, unless the context or the node ends.
func (n *Node) wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return n.check(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-n.done:
		return errClosed
	}
}

// ready reports whether the node reaches the network. The caller holds the lock.
func (n *Node) ready() bool { return n.last.Ready() && !n.closed }

// Attach connects the node. Attaching again is no error.
func (n *Node) Attach(ctx context.Context) error { return n.setAttached(ctx, true) }

// Detach disconnects the node.
func (n *Node) Detach(ctx context.Context) error { return n.setAttached(ctx, false) }

func (n *Node) setAttached(ctx context.Context, attached bool) error {
	if err := n.check(ctx); err != nil {
		return err
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	switch {
	case attached == n.attached && !attached:
		return veilid.Errorf(veilid.ErrGeneric, "Not attached")
	case attached != n.attached && !n.closed:
		n.attached = attached
		n.since = time.Now()
		n.connectivityChanged()
	}
	return nil
}

// connectivityChanged starts the way to being ready where the node is attached and online. The caller holds the lock.
func (n *Node) connectivityChanged() {
	n.readyAt = time.Now().Add(n.net.attachTime)
	if n.attached && n.online && n.net.attachTime > 0 {
		n.net.events.after(n.net.attachTime, func() {
			n.net.mu.Lock()
			defer n.net.mu.Unlock()
			n.refresh()
		})
	}
	n.refresh()
}

// refresh publishes the attachment where it is another than before. The caller holds the lock.
func (n *Node) refresh() {
	a := n.attachment()
	if n.closed || a.State == n.last.State {
		return
	}
	n.last = a
	close(n.changed)
	n.changed = make(chan struct{})
	n.publish(&a)
	if a.Ready() {
		n.backOnline()
	} else {
		n.wentOffline()
	}
}

func (n *Node) attachment() veilid.Attachment {
	now := time.Now()
	a := veilid.Attachment{State: veilid.Detached, Uptime: now.Sub(n.started)}
	if !n.attached {
		return a
	}
	a.State, a.AttachedUptime = veilid.Attaching, now.Sub(n.since)
	if n.online && !now.Before(n.readyAt) {
		peers := uint64(len(n.net.nodes))
		a.State, a.PublicInternetReady = veilid.AttachedGood, true
		a.ReliablePeers, a.LivePeers, a.EstimatedNetwork = peers, peers, peers
	}
	return a
}

// AttachmentState is the latest state.
func (n *Node) AttachmentState(ctx context.Context) (veilid.Attachment, error) {
	if err := n.check(ctx); err != nil {
		return veilid.Attachment{}, err
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	return n.attachment(), nil
}

// WaitReady waits until the node is ready.
func (n *Node) WaitReady(ctx context.Context) error {
	for {
		if err := n.check(ctx); err != nil {
			return err
		}
		n.net.mu.Lock()
		ready, changed := n.ready(), n.changed
		n.net.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-n.done:
		}
	}
}

package memory

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Network joins nodes. It must be closed.
type Network struct {
	tick       time.Duration
	attachTime time.Duration
	events     *schedule

	mu      sync.Mutex // guards everything below and the nodes' states
	rand    *rand.Rand
	nodes   map[string]*Node // open ones
	disks   map[string]*disk // of all nodes that ever were
	routes  map[veilid.RouteID]*route
	records map[veilid.OpaqueRecordKey]*netRecord
	all     Conditions
	links   map[[2]string]Conditions
}

// Option is a choice of [NewNetwork].
type Option func(*Network)

// WithSeed chooses the course of loss and jitter; without it, it is always the same one.
func WithSeed(seed uint64) Option {
	return func(n *Network) { n.rand = rand.New(rand.NewPCG(seed, seed)) }
}

// WithTick sets the pace of the background: how long changes gather before a watch reports them, and how long after
// going online queued writes are published. The default is the real one second.
func WithTick(d time.Duration) Option { return func(n *Network) { n.tick = d } }

// WithAttachTime sets the time from attaching, or from being online again, to being ready. The default is none.
func WithAttachTime(d time.Duration) Option { return func(n *Network) { n.attachTime = d } }

// NewNetwork is a network without nodes.
func NewNetwork(opts ...Option) *Network {
	n := &Network{
		tick:    time.Second,
		events:  newSchedule(),
		rand:    rand.New(rand.NewPCG(1, 1)),
		nodes:   map[string]*Node{},
		disks:   map[string]*disk{},
		routes:  map[veilid.RouteID]*route{},
		records: map[veilid.OpaqueRecordKey]*netRecord{},
		links:   map[[2]string]Conditions{},
	}
	for _, o := range opts {
		o(n)
	}
	return n
}

// NewNode is a new node, attached and, but for [WithAttachTime], ready. It panics if there was one of this name.
func (n *Network) NewNode(name string) *Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.disks[name] != nil {
		panic(fmt.Sprintf("memory: node %q exists: use Reopen", name))
	}
	n.disks[name] = newDisk()
	return n.open(name)
}

// Reopen starts a closed node again. Its records, tables and secrets are there; its routes and watches are not, and
// records must be opened anew. It panics if the node is unknown or not closed.
func (n *Network) Reopen(name string) *Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.disks[name] == nil || n.nodes[name] != nil {
		panic(fmt.Sprintf("memory: node %q is unknown or still open", name))
	}
	return n.open(name)
}

// Restart closes a node and opens it again.
func (n *Network) Restart(node *Node) *Node {
	node.close()
	return n.Reopen(node.name)
}

// Close closes all nodes and ends the network.
func (n *Network) Close() error {
	n.mu.Lock()
	nodes := make([]*Node, 0, len(n.nodes))
	for _, node := range n.nodes {
		nodes = append(nodes, node)
	}
	n.mu.Unlock()
	for _, node := range nodes {
		node.close()
	}
	n.events.close()
	return nil
}

// Conditions say what happens to messages. The zero value is a perfect network.
type Conditions struct {
	Delay      time.Duration // one way
	Jitter     time.Duration // up to so much more
	Loss       float64       // share of the messages that are lost, 0 to 1
	LossPerKiB float64       // share that is lost for each KiB of a message, on top
}

// SetConditions sets what every message meets.
func (n *Network) SetConditions(c Conditions) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = c
}

// SetLink sets what messages of app calls meet from one node to another, in this direction, beside what they meet
// everywhere and at each of the nodes.
func (n *Network) SetLink(from, to *Node, c Conditions) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[[2]string{from.name, to.name}] = c
}

// SetConditions sets what every message to or from the node meets, beside the network's own conditions.
func (n *Node) SetConditions(c Conditions) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	n.own = c
}

// SetRate limits what the node sends and receives, in bytes of payload per second; 0 is no limit. What would wait
// longer than the time-out of a call is lost.
func (n *Node) SetRate(up, down int) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	n.up, n.down = pipe{rate: up}, pipe{rate: down}
}

// SetOnline takes the node off the network, or brings it back.
func (n *Node) SetOnline(online bool) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if n.online != online && !n.closed {
		n.online = online
		n.connectivityChanged()
	}
}

// KillRoute ends a route: its owner and all who imported it are told. It reports whether there was one.
func (n *Network) KillRoute(id veilid.RouteID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.routes[id]
	if r == nil {
		return false
	}
	delete(n.routes, id)
	r.owner.publish(&veilid.RouteChange{DeadRoutes: []veilid.RouteID{id}})
	for _, node := range n.nodes {
		node.dropImported(id)
	}
	return true
}

// SilenceRoute makes a route lose everything, with nobody told, or ends that.
func (n *Network) SilenceRoute(id veilid.RouteID, silent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r := n.routes[id]; r != nil {
		r.silent = silent
	}
}

// Forget removes a record from the network, as if all nodes that stored it were gone. Local copies stay.
func (n *Network) Forget(key veilid.OpaqueRecordKey) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.records, key)
}

// KillWatches ends all watches of a record; the watchers are told.
func (n *Network) KillWatches(key veilid.OpaqueRecordKey) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, node := range n.nodes {
		if o := node.opened[key]; o != nil && o.watch != nil {
			node.endWatch(key, o.watch)
		}
	}
}

// pipe is a rate limit: what is sent stands in line.
type pipe struct {
	rate int // bytes per second; 0: none
	free time.Time
}

// pass is when a message that is there at a given time has gone through.
func (p *pipe) pass(at time.Time, size int) time.Time {
	if p.rate <= 0 {
		return at
	}
	if p.free.Before(at) {
		p.free = at
	}
	done := p.free.Add(time.Duration(float64(size) / float64(p.rate) * float64(time.Second)))
	if done.Sub(at) > callTimeout {
		return done // too late: it is dropped, and keeps nobody else waiting
	}
	p.free = done
	return done
}

// path is how long a message of a size takes from one node to another, and whether it is lost.
func (n *Network) path(from, to *Node, size int) (time.Duration, bool) {
	now := time.Now()
	sent := from.up.pass(now, size)
	at, lost := n.cross(sent, size, n.all, from.own, to.own, n.links[[2]string{from.name, to.name}])
	lost = lost || sent.Sub(now) > callTimeout
	if lost {
		return 0, true
	}
	arrived := to.down.pass(at, size)
	return arrived.Sub(now), arrived.Sub(at) > callTimeout
}

// ask is how long a node's exchange with the nodes that store records takes, and whether they are out of reach. Such
// an exchange repeats what is lost, so only total loss ends it.
func (n *Network) ask(node *Node, up, down int) (time.Duration, bool) {
	now := time.Now()
	at := node.up.pass(now, up)
	var dead bool
	for range 2 * dhtRounds {
		c, own := n.all, node.own
		dead = dead || c.Loss >= 1 || own.Loss >= 1
		c.Loss, own.Loss, c.LossPerKiB, own.LossPerKiB = 0, 0, 0, 0
		at, _ = n.cross(at, 0, c, own)
	}
	return node.down.pass(at, down).Sub(now), dead
}

// cross adds up what a message meets.
func (n *Network) cross(at time.Time, size int, cs ...Conditions) (time.Time, bool) {
	lost := false
	for _, c := range cs {
		at = at.Add(c.Delay)
		if c.Jitter > 0 {
			at = at.Add(time.Duration(n.rand.Int64N(int64(c.Jitter))))
		}
		if c.Loss > 0 && n.rand.Float64() < c.Loss {
			lost = true
		}
		if p := c.LossPerKiB * float64(size) / 1024; p > 0 && n.rand.Float64() < p {
			lost = true
		}
	}
	return at, lost
}

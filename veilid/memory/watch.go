package memory

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// The real node's times of a watch.
const (
	minWatch  = 5 * time.Second  // it refuses a shorter one
	pollWatch = 60 * time.Second // it looks itself, after so long, whether a report was lost
)

// watch is a node's wish to hear of changes.
type watch struct {
	subkeys []bool
	count   *uint32 // reports to come; nil: unlimited
	enc     veilid.SharedSecret
	changed []bool
	due     bool // a report is on its way
}

// WatchDHTValues asks for ValueChange updates.
func (rc *routing) WatchDHTValues(ctx context.Context, key veilid.RecordKey, opts veilid.WatchOptions) (bool, error) {
	n := rc.node
	rec, err := rc.hold(ctx, key)
	if err != nil {
		return false, err
	}
	defer rec.release()
	life := time.Until(opts.Expiration)
	if !opts.Expiration.IsZero() && life < minWatch {
		return false, veilid.InvalidArgument("expiration is too soon", "expiration", opts.Expiration.String())
	}
	size := rec.schema.Subkeys()
	w := &watch{subkeys: subkeySet(opts.Subkeys, size), enc: key.Encryption(), changed: make([]bool, size)}
	if opts.Count != nil {
		w.count = new(*opts.Count)
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	o := n.opened[key.Opaque()]
	if o == nil {
		return false, notOpen(key)
	}
	if w.count != nil && *w.count == 0 {
		o.watch = nil
		return false, nil
	}
	o.watch = w
	if !opts.Expiration.IsZero() {
		n.net.events.after(life, func() {
			n.net.mu.Lock()
			defer n.net.mu.Unlock()
			n.endWatch(key.Opaque(), w)
		})
	}
	return true, nil
}

// CancelDHTWatch takes subkeys out of the watch.
func (rc *routing) CancelDHTWatch(ctx context.Context, key veilid.RecordKey, subkeys veilid.SubkeyRanges) (bool, error) {
	n := rc.node
	rec, err := rc.hold(ctx, key)
	if err != nil {
		return false, err
	}
	defer rec.release()
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	o := n.opened[key.Opaque()]
	if o == nil {
		return false, notOpen(key)
	}
	if o.watch == nil {
		return false, nil
	}
	for i, in := range subkeySet(subkeys, rec.schema.Subkeys()) {
		if in {
			o.watch.subkeys[i], o.watch.changed[i] = false, false
		}
	}
	if !slices.Contains(o.watch.subkeys, true) {
		o.watch = nil
	}
	return o.watch != nil, nil
}

// endWatch ends a watch that may be another one by now, and tells. The caller holds the lock.
func (n *Node) endWatch(key veilid.OpaqueRecordKey, w *watch) {
	if o := n.opened[key]; o != nil && o.watch == w && !n.closed {
		o.watch = nil
		n.publish(&veilid.ValueChange{Key: veilid.NewRecordKey(key, veilid.SharedSecret{})})
	}
}

// changed notes a change for all who watch, but who made it. The caller holds the lock.
func (n *Network) changed(by *Node, key veilid.OpaqueRecordKey, subkey uint32) {
	for _, node := range n.nodes {
		if o := node.opened[key]; node != by && o != nil && o.watch != nil && o.watch.subkeys[subkey] {
			o.watch.changed[subkey] = true
			node.pushSoon(key, o.watch, n.tick)
		}
	}
}

// pushSoon reports what changes within d together. The caller holds the lock.
func (n *Node) pushSoon(key veilid.OpaqueRecordKey, w *watch, d time.Duration) {
	if w.due || !slices.Contains(w.changed, true) {
		return
	}
	w.due = true
	c, _ := n.net.cross(time.Now(), 0, n.net.all, n.own)
	n.net.events.after(d+time.Until(c), func() { n.push(key, w) })
}

// push reports what changed, once.
func (n *Node) push(key veilid.OpaqueRecordKey, w *watch) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	w.due = false
	o, rec := n.opened[key], n.disk.records[key]
	if o == nil || o.watch != w || rec == nil || !n.ready() || !slices.Contains(w.changed, true) {
		return // ended, or backOnline begins again
	}
	if _, lost := n.net.cross(time.Now(), 0, n.net.all, n.own); lost {
		n.pushSoon(key, w, pollWatch)
		return
	}
	up := &veilid.ValueChange{Key: veilid.NewRecordKey(key, veilid.SharedSecret{}), Subkeys: ranges(w.changed), Count: math.MaxUint32}
	clear(w.changed)
	if s := up.Subkeys; len(s) == 1 && s[0].First == s[0].Last {
		theirs, ours := n.net.read(key, s[0].First), rec.values[s[0].First]
		if theirs == nil || ours != nil && ours.seq >= theirs.seq {
			return // known already
		}
		n.take(rec, s[0].First, theirs)
		if v, err := theirs.open(w.enc); err == nil {
			up.Value = v
		}
	}
	if w.count != nil {
		*w.count--
		up.Count = *w.count
		if up.Count == 0 {
			o.watch = nil
		}
	}
	n.publish(up)
}

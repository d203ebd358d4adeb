// Package veilidtest is the conformance suite of veilid.Node. It asks for what veilid-core 0.5.8 does, as far as a
// program can see it, so that one product runs on every engine.
package veilidtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/vld0"
)

// Feature is something that an engine may be unable to do.
type Feature string

// The features that [Peers.Without] may name.
const (
	Transactions   Feature = "DHT transactions"
	Watches        Feature = "DHT watches"
	ProtectedStore Feature = "protected store"
	Detaching      Feature = "detaching and attaching the node"
)

// Peers is what an engine lends to one test.
type Peers struct {
	// Nodes are two or more nodes of one network, attached and ready. The test closes some of them; whoever made them
	// closes the others.
	Nodes []veilid.Node
	// Without names what the engine cannot do, each with the reason.
	Without map[Feature]string
	// Timeout bounds each wait; 60 s if it is zero. Becoming ready again may take three times as long.
	Timeout time.Duration
}

// Option is a choice of [Test].
type Option func(*options)

type options struct{ bubble bool }

// InBubble runs each case in a bubble of testing/synctest: for engines whose every wait is in this process.
func InBubble() Option { return func(o *options) { o.bubble = true } }

type testCase struct {
	name  string
	needs Feature
	run   func(*env)
}

// Test runs the suite. It calls peers for each case, with that case's t, whose Cleanup may close the nodes.
func Test(t *testing.T, peers func(t *testing.T) Peers, opts ...Option) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	var cases []testCase
	for _, group := range [][]testCase{attachmentCases, tableCases, secretCases, recordCases, conflictCases, routeCases, callCases, watchCases, transactionCases, lifeCases} {
		cases = append(cases, group...)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			run := func(t *testing.T) {
				p := peers(t)
				if len(p.Nodes) < 2 {
					t.Fatalf("the suite needs two nodes, got %d", len(p.Nodes))
				}
				if reason, ok := p.Without[c.needs]; ok && c.needs != "" {
					t.Skipf("this engine has no %s: %s", c.needs, reason)
				}
				if p.Timeout == 0 {
					p.Timeout = time.Minute
				}
				c.run(&env{T: t, Peers: p, a: p.Nodes[0], b: p.Nodes[1]})
			}
			if o.bubble {
				synctest.Test(t, run)
			} else {
				run(t)
			}
		})
	}
}

// env is what one case works with.
type env struct {
	*testing.T
	Peers
	a, b veilid.Node
}

var sys vld0.System

// within is a context for one wait.
func (e *env) within() context.Context {
	ctx, cancel := context.WithTimeout(e.Context(), e.Timeout)
	e.Cleanup(cancel)
	return ctx
}

// ok fails the test on an error.
func (e *env) ok(what string, err error) {
	e.Helper()
	if err != nil {
		e.Fatalf("%s: %v", what, err)
	}
}

// is demands an error that matches one of these.
func (e *env) is(what string, err error, want ...error) {
	e.Helper()
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	e.Errorf("%s: got %v, want one of %v", what, err, want)
}

// try repeats f while the network is merely not able to do it now.
func (e *env) try(what string, f func(ctx context.Context) error) {
	e.Helper()
	var err error
	if !e.poll(func(ctx context.Context) bool {
		err = f(ctx)
		return !veilid.IsRetryable(err) && !errors.Is(err, context.DeadlineExceeded)
	}) {
		e.Fatalf("%s: after %v still %v", what, e.Timeout, err)
	}
	e.ok(what, err)
}

// until waits for a condition that nothing announces.
func (e *env) until(what string, f func(ctx context.Context) bool) {
	e.Helper()
	if !e.poll(f) {
		e.Fatalf("after %v not yet: %s", e.Timeout, what)
	}
}

func (e *env) poll(f func(ctx context.Context) bool) bool {
	ctx := e.within()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		if f(ctx) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

// name is a name that no earlier run used, because nodes may outlive the suite.
func (e *env) name(prefix string) string { return fmt.Sprintf("%s-%016x", prefix, rand.Uint64()) }

// pattern is size bytes that no other call gives.
func pattern(size int) []byte {
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(rand.Uint64(), 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// rc is the default routing context.
func rc(n veilid.Node) veilid.RoutingContext { return n.Context(veilid.SafetySelection{}) }

// link makes a private route to one node and imports it at another.
func (e *env) link(from, to veilid.Node) (veilid.Target, veilid.RouteBlob) {
	e.Helper()
	var blob veilid.RouteBlob
	e.try("NewPrivateRoute", func(ctx context.Context) (err error) {
		blob, err = to.NewPrivateRoute(ctx, veilid.PrivateSpec{})
		return err
	})
	// Nodes may outlive the test: leave no routes there. It fails for those that the test ended itself.
	e.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(e.Context()), e.Timeout)
		defer cancel()
		_ = to.ReleasePrivateRoute(ctx, blob.ID)
	})
	id, err := from.ImportRemotePrivateRoute(e.within(), blob.Blob)
	e.ok("ImportRemotePrivateRoute", err)
	return veilid.RouteTarget(id), blob
}

// serve answers the calls that come on a route until the test ends. A nil answer is none.
func (e *env) serve(n veilid.Node, route veilid.RouteID, answer func(*veilid.AppCall) []byte) {
	sub := n.Subscribe(veilid.AppCalls)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			u, err := sub.Next(e.Context())
			if err != nil {
				return
			}
			c, ok := u.(*veilid.AppCall)
			if !ok || c.Route != route {
				continue
			}
			if b := answer(c); b != nil {
				// The asker sees where it fails.
				_ = n.AppCallReply(e.Context(), c.CallID, b)
			}
		}
	})
	e.Cleanup(func() { sub.Close(); wg.Wait() })
}

// echo answers with the question.
func echo(c *veilid.AppCall) []byte { return append([]byte{}, c.Message...) }

// listen subscribes until the test ends.
func (e *env) listen(n veilid.Node, kinds veilid.UpdateKinds) veilid.Subscription {
	sub := n.Subscribe(kinds)
	e.Cleanup(sub.Close)
	return sub
}

// await reads updates until one matches.
func await[U veilid.Update](e *env, sub veilid.Subscription, what string, match func(U) bool) U {
	e.Helper()
	ctx := e.within()
	for {
		u, err := sub.Next(ctx)
		if err != nil {
			e.Fatalf("waiting for %s: %v", what, err)
		}
		if m, ok := u.(U); ok && match(m) {
			return m
		}
	}
}

// create makes a record at a node and writes these subkeys, so that others can open it.
func (e *env) create(n veilid.Node, schema veilid.Schema, values ...string) veilid.RecordDescriptor {
	e.Helper()
	d, err := rc(n).CreateDHTRecord(e.within(), schema, veilid.KeyPair{})
	e.ok("CreateDHTRecord", err)
	for i, v := range values {
		e.set(n, d.Key, uint32(i), v)
	}
	return d
}

// set writes a subkey with the writer of the open record, and demands that it takes.
func (e *env) set(n veilid.Node, key veilid.RecordKey, subkey uint32, value string) {
	e.Helper()
	e.try("SetDHTValue", func(ctx context.Context) error {
		theirs, err := rc(n).SetDHTValue(ctx, key, subkey, []byte(value), veilid.SetOptions{NoOffline: true})
		if err == nil && theirs != nil {
			e.Fatalf("setting %q: the network has %q with seq %d", value, theirs.Data, theirs.Seq)
		}
		return err
	})
}

// open opens a record.
func (e *env) open(n veilid.Node, key veilid.RecordKey, writer veilid.KeyPair) (d veilid.RecordDescriptor) {
	e.Helper()
	e.try("OpenDHTRecord", func(ctx context.Context) (err error) {
		d, err = rc(n).OpenDHTRecord(ctx, key, veilid.OpenOptions{Writer: writer})
		return err
	})
	return d
}

// get reads a subkey.
func (e *env) get(n veilid.Node, key veilid.RecordKey, subkey uint32, force bool) (v *veilid.ValueData) {
	e.Helper()
	e.try("GetDHTValue", func(ctx context.Context) (err error) {
		v, err = rc(n).GetDHTValue(ctx, key, subkey, force)
		return err
	})
	return v
}

// sees waits until a node reads this value from the network.
func (e *env) sees(n veilid.Node, key veilid.RecordKey, subkey uint32, seq uint32, value string) {
	e.Helper()
	e.until(fmt.Sprintf("subkey %d is %q with seq %d", subkey, value, seq), func(ctx context.Context) bool {
		v, err := rc(n).GetDHTValue(ctx, key, subkey, true)
		if err != nil && !veilid.IsRetryable(err) && !errors.Is(err, context.DeadlineExceeded) {
			e.Fatalf("GetDHTValue: %v", err)
		}
		return v != nil && v.Seq == seq && bytes.Equal(v.Data, []byte(value))
	})
}

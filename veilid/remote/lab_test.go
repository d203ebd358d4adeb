package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/interop/lab"
	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/veilidtest"
)

// labNodes is the size of a network in which every DHT operation finds the nodes that it wants.
const labNodes = 10

// dialLab connects to a node of the lab and waits until it is ready.
func dialLab(t *testing.T, l *lab.Lab, k int) *Node {
	t.Helper()
	n, err := Dial(t.Context(), l.Socket(k), Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := n.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLabConformance runs the suite of all engines on real nodes.
func TestLabConformance(t *testing.T) {
	l := lab.Start(t, labNodes)
	veilidtest.Test(t, func(t *testing.T) veilidtest.Peers {
		return veilidtest.Peers{Nodes: []veilid.Node{dialLab(t, l, 2), dialLab(t, l, 3), dialLab(t, l, 4)}, Timeout: time.Minute}
	})
}

// retry repeats what a node cannot do yet.
func retry(t *testing.T, what string, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if !veilid.IsRetryable(err) || !sleep(ctx, 200*time.Millisecond) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// TestLabRestart kills a node under its client, which hears of it and works on with what it holds.
func TestLabRestart(t *testing.T) {
	l := lab.Start(t, labNodes)
	a, b := dialLab(t, l, 2), dialLab(t, l, 3)
	ctx := t.Context()
	rc := a.Context(veilid.SafetySelection{})
	d, err := rc.CreateDHTRecord(ctx, veilid.DFLTSchema(2), veilid.KeyPair{})
	if err != nil {
		t.Fatal(err)
	}
	set := func(value string) {
		t.Helper()
		retry(t, "set", func(ctx context.Context) error {
			theirs, err := rc.SetDHTValue(ctx, d.Key, 0, []byte(value), veilid.SetOptions{NoOffline: true})
			if err == nil && theirs != nil {
				err = fmt.Errorf("the network has %q", theirs.Data)
			}
			return err
		})
	}
	set("before")
	db, err := a.OpenTable(ctx, "kept", 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Store(ctx, 0, []byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	own, err := a.NewPrivateRoute(ctx, veilid.PrivateSpec{})
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := b.NewPrivateRoute(ctx, veilid.PrivateSpec{})
	if err != nil {
		t.Fatal(err)
	}
	imported, err := a.ImportRemotePrivateRoute(ctx, theirs.Blob)
	if err != nil {
		t.Fatal(err)
	}

	sub := a.Subscribe(veilid.RouteChanges)
	if err := l.Restart(2); err != nil {
		t.Fatal(err)
	}
	if r, ok := next(t, sub).(*veilid.Reconnected); !ok || !r.Restarted {
		t.Fatalf("the first word is %+v, want a restarted node", r)
	}
	if c, ok := next(t, sub).(*veilid.RouteChange); !ok || len(c.DeadRoutes) != 1 || c.DeadRoutes[0] != own.ID ||
		len(c.DeadRemoteRoutes) != 1 || c.DeadRemoteRoutes[0] != imported {
		t.Fatalf("then %+v, want both routes as dead", c)
	}
	if v, err := db.Load(ctx, 0, []byte("k")); err != nil || string(v) != "v" {
		t.Errorf("the table: %q, %v", v, err)
	}
	wait, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := a.WaitReady(wait); err != nil {
		t.Fatal(err)
	}
	set("after")
	retry(t, "read elsewhere", func(ctx context.Context) error {
		rb := b.Context(veilid.SafetySelection{})
		if _, err := rb.OpenDHTRecord(ctx, d.Key, veilid.OpenOptions{}); err != nil {
			return err
		}
		v, err := rb.GetDHTValue(ctx, d.Key, 0, true)
		if err == nil && (v == nil || string(v.Data) != "after") {
			err = veilid.Errorf(veilid.ErrTryAgain, "read %v", v)
		}
		return err
	})
}

// TestLabThroughput measures plain app calls over a safety route and a private route of one hop each.
func TestLabThroughput(t *testing.T) {
	l := lab.Start(t, labNodes)
	a, b := dialLab(t, l, 2), dialLab(t, l, 3)
	const size = veilid.MaxMessageSize
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(rand.Uint32())
	}
	sub := b.Subscribe(veilid.AppCalls)
	var answering sync.WaitGroup
	defer answering.Wait()
	defer sub.Close()
	answering.Go(func() { // four bytes for a large question, a large answer for a small one
		for {
			u, err := sub.Next(context.Background())
			if err != nil {
				return
			}
			c, ok := u.(*veilid.AppCall)
			if !ok {
				continue
			}
			answer := payload
			if len(c.Message) == size {
				answer = c.Message[:4]
			}
			answering.Go(func() {
				if err := b.AppCallReply(context.Background(), c.CallID, answer); err != nil && !errors.Is(err, veilid.ErrShutdown) {
					t.Logf("reply: %v", err)
				}
			})
		}
	})
	spec := veilid.SafetySpec{HopCount: 1, Stability: veilid.LowLatency, Sequencing: veilid.PreferOrdered}
	var to veilid.Target
	retry(t, "route", func(ctx context.Context) error {
		r, err := b.NewPrivateRoute(ctx, veilid.PrivateSpec{HopCount: 1, Stability: veilid.LowLatency, Sequencing: veilid.PreferOrdered})
		if err != nil {
			return err
		}
		id, err := a.ImportRemotePrivateRoute(ctx, r.Blob)
		to = veilid.RouteTarget(id)
		return err
	})
	rc := a.Context(veilid.Safe(spec))
	retry(t, "first call", func(ctx context.Context) error {
		_, err := rc.AppCall(ctx, to, payload[:4])
		return err
	})
	for _, way := range []struct {
		name             string
		question, answer []byte
	}{{"question", payload, payload[:4]}, {"answer", payload[:4], payload}} {
		for _, flight := range []int{1, 4, 8, 16, 32} {
			const calls = 256
			todo := make(chan struct{}, calls)
			for range calls {
				todo <- struct{}{}
			}
			close(todo)
			var mu sync.Mutex
			failed := 0
			began := time.Now()
			var wg sync.WaitGroup
			for range flight {
				wg.Go(func() {
					for range todo {
						got, err := rc.AppCall(t.Context(), to, way.question)
						if err == nil && !bytes.Equal(got, way.answer) {
							err = fmt.Errorf("another answer, of %d bytes", len(got))
						}
						if err != nil {
							mu.Lock()
							failed++
							mu.Unlock()
							t.Logf("call: %v", err)
						}
					}
				})
			}
			wg.Wait()
			d := time.Since(began)
			t.Logf("32 KiB %s, %2d in flight: %5.2f MB/s, %d of %d failed", way.name, flight, float64((calls-failed)*size)/1e6/d.Seconds(), failed, calls)
			if failed > calls/20 {
				t.Errorf("%d of %d calls failed", failed, calls)
			}
		}
	}
}

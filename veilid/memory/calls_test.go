package memory

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// echo answers every call to a node with the question, until the node is closed.
func echo(t testing.TB, n *Node) {
	t.Helper()
	sub := n.Subscribe(veilid.AppCalls)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			u, err := sub.Next(t.Context())
			if err != nil {
				return
			}
			if c, ok := u.(*veilid.AppCall); ok {
				// An answer may fail because the node is going away.
				_ = n.AppCallReply(t.Context(), c.CallID, c.Message)
			}
		}
	})
	t.Cleanup(func() { sub.Close(); wg.Wait() })
}

// link makes a route to one node and imports it at another.
func link(t testing.TB, from, to *Node) veilid.Target {
	t.Helper()
	blob, err := to.NewPrivateRoute(t.Context(), veilid.PrivateSpec{})
	if err != nil {
		t.Fatal(err)
	}
	id, err := from.ImportRemotePrivateRoute(t.Context(), blob.Blob)
	if err != nil {
		t.Fatal(err)
	}
	if id != blob.ID {
		t.Fatalf("imported as %s what is %s", id, blob.ID)
	}
	return veilid.RouteTarget(id)
}

func BenchmarkAppCall(b *testing.B) {
	net := NewNetwork()
	defer net.Close()
	from, to := net.NewNode("from"), net.NewNode("to")
	echo(b, to)
	target := link(b, from, to)
	rc := from.Context(veilid.SafetySelection{})
	question := bytes.Repeat([]byte{7}, veilid.MaxMessageSize)
	b.SetBytes(int64(len(question)))
	for b.Loop() {
		if _, err := rc.AppCall(b.Context(), target, question); err != nil {
			b.Fatal(err)
		}
	}
}

// TestCallTakesTime checks that distance, size and rate cost what they say, and a loss the time-out.
func TestCallTakesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := NewNetwork()
		from, to := net.NewNode("from"), net.NewNode("to")
		echo(t, to)
		t.Cleanup(func() { net.Close() })
		target := link(t, from, to)
		rc := from.Context(veilid.SafetySelection{})
		const ms = time.Millisecond
		tests := []struct {
			name string
			set  func()
			size int
			want time.Duration
			err  error
		}{
			{"nothing", func() {}, 32768, 0, nil},
			{"network", func() { net.SetConditions(Conditions{Delay: 40 * ms}) }, 1, 80 * ms, nil},
			{"and sender", func() { from.SetConditions(Conditions{Delay: 5 * ms}) }, 1, 90 * ms, nil},
			{"and receiver", func() { to.SetConditions(Conditions{Delay: 10 * ms}) }, 1, 110 * ms, nil},
			{"and link, one direction", func() { net.SetLink(to, from, Conditions{Delay: 7 * ms}) }, 1, 117 * ms, nil},
			{"and upward rate", func() { from.SetRate(10_000, 0) }, 1000, 217 * ms, nil},
			{"and downward rate", func() { from.SetRate(10_000, 10_000) }, 1000, 317 * ms, nil},
			{"too much for the rate", func() { from.SetRate(1000, 0) }, 6000, 5 * time.Second, veilid.ErrTimeout},
			{"small goes through", func() {}, 100, 217 * ms, nil},
			{"lost question", func() { net.SetLink(from, to, Conditions{Loss: 1}) }, 1, 5 * time.Second, veilid.ErrTimeout},
			{"lost answer", func() {
				net.SetLink(from, to, Conditions{})
				net.SetLink(to, from, Conditions{Loss: 1})
			}, 1, 5 * time.Second, veilid.ErrTimeout},
			{"loss that grows with size", func() { net.SetLink(to, from, Conditions{LossPerKiB: 1}) }, 2048, 5 * time.Second, veilid.ErrTimeout},
		}
		for _, tt := range tests {
			tt.set()
			question := bytes.Repeat([]byte{9}, tt.size)
			start := time.Now()
			answer, err := rc.AppCall(t.Context(), target, question)
			if took := time.Since(start); took != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%s: %v after %v, want %v after %v", tt.name, err, took, tt.err, tt.want)
			}
			if err == nil && !bytes.Equal(answer, question) {
				t.Errorf("%s: the answer is another one", tt.name)
			}
			<-time.After(time.Minute) // virtual: lets the line empty and calls expire
		}
	})
}

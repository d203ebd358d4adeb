package veilidtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// The cases about private routes, app calls and messages.

var routeCases = []testCase{
	{"RouteImport", "", testRouteImport},
	{"RouteArguments", "", testRouteArguments},
	{"RouteRelease", "", testRouteRelease},
}

var callCases = []testCase{
	{"CallSizes", "", testCallSizes},
	{"CallTooLarge", "", testCallTooLarge},
	{"CallConcurrent", "", testCallConcurrent},
	{"CallUnanswered", "", testCallUnanswered},
	{"CallReplyUnknown", "", testCallReplyUnknown},
	{"CallTargets", "", testCallTargets},
	{"Message", "", testMessage},
}

// call asks and repeats what was lost.
func (e *env) call(from veilid.Node, to veilid.Target, question []byte) (answer []byte) {
	e.Helper()
	e.try("AppCall", func(ctx context.Context) (err error) {
		answer, err = rc(from).AppCall(ctx, to, question)
		return err
	})
	return answer
}

func testRouteImport(e *env) {
	target, blob := e.link(e.b, e.a)
	if len(blob.Blob) == 0 || blob.ID.IsZero() {
		e.Fatalf("a route of %d bytes with id %s", len(blob.Blob), blob.ID)
	}
	if target.Route != blob.ID {
		e.Errorf("imported as %s what its owner calls %s", target.Route, blob.ID)
	}
	again, err := e.b.ImportRemotePrivateRoute(e.within(), blob.Blob)
	if err != nil || again != target.Route {
		e.Errorf("imported again as %s, %v, want %s", again, err, target.Route)
	}
	_, other := e.link(e.b, e.a)
	if other.ID == blob.ID || bytes.Equal(other.Blob, blob.Blob) {
		e.Error("two routes are the same")
	}
	e.serve(e.a, blob.ID, echo)
	if got := e.call(e.b, target, []byte("hello")); string(got) != "hello" {
		e.Errorf("the answer is %q", got)
	}
	// A node may use its own route.
	own, err := e.a.ImportRemotePrivateRoute(e.within(), blob.Blob)
	e.ok("ImportRemotePrivateRoute of one's own", err)
	if got := e.call(e.a, veilid.RouteTarget(own), []byte("myself")); string(got) != "myself" {
		e.Errorf("the answer is %q", got)
	}
}

func testRouteArguments(e *env) {
	ctx := e.within()
	_, err := e.a.ImportRemotePrivateRoute(ctx, nil)
	e.is("import of nothing", err, veilid.ErrInvalidArgument)
	_, err = e.a.ImportRemotePrivateRoute(ctx, []byte{0})
	e.is("import of no keys", err, veilid.ErrInternal)
	_, err = e.a.ImportRemotePrivateRoute(ctx, []byte("\x01garbagegarbage"))
	e.is("import of garbage", err, veilid.ErrParse)
	e.is("release of an unknown route", e.a.ReleasePrivateRoute(ctx, veilid.RouteID(sys.GenerateHash(pattern(32)))), veilid.ErrInvalidArgument)
	_, err = e.a.NewPrivateRoute(ctx, veilid.PrivateSpec{HopCount: 5})
	e.is("route of 5 hops", err, veilid.ErrInvalidArgument)

	target, blob := e.link(e.b, e.a)
	e.serve(e.a, blob.ID, echo)
	_, err = e.b.Context(veilid.Safe(veilid.SafetySpec{HopCount: 5})).AppCall(ctx, target, nil)
	e.is("call over 5 hops", err, veilid.ErrGeneric)
	_, err = e.b.Context(veilid.SafetySelection{Unsafe: true, Sequencing: veilid.PreferOrdered}).AppCall(ctx, target, nil)
	e.is("unsafe call", err, veilid.ErrGeneric)
	for _, spec := range []veilid.SafetySpec{{}, {HopCount: 1, Stability: veilid.LowLatency, Sequencing: veilid.EnsureOrdered}} {
		e.try("AppCall", func(ctx context.Context) error {
			got, err := e.b.Context(veilid.Safe(spec)).AppCall(ctx, target, []byte("x"))
			if err == nil && string(got) != "x" {
				e.Errorf("the answer is %q", got)
			}
			return err
		})
	}
}

func testRouteRelease(e *env) {
	target, blob := e.link(e.b, e.a)
	e.serve(e.a, blob.ID, echo)
	e.call(e.b, target, nil)
	e.ok("release of the import", e.b.ReleasePrivateRoute(e.within(), target.Route))
	_, err := rc(e.b).AppCall(e.within(), target, nil)
	e.is("call over a released import", err, veilid.ErrNoConnection, veilid.ErrInvalidTarget)
	_, err = e.b.ImportRemotePrivateRoute(e.within(), blob.Blob)
	e.ok("import after release", err)
	e.call(e.b, target, nil)

	e.ok("release by the owner", e.a.ReleasePrivateRoute(e.within(), blob.ID))
	_, err = rc(e.b).AppCall(e.within(), target, nil)
	e.is("call over a dead route", err, veilid.ErrTimeout, veilid.ErrNoConnection, veilid.ErrInvalidTarget, veilid.ErrTryAgain)
	e.is("second release by the owner", e.a.ReleasePrivateRoute(e.within(), blob.ID), veilid.ErrInvalidArgument)
}

// testCallSizes asks and answers with every interesting size: the first two bytes of the question say how much to
// answer.
func testCallSizes(e *env) {
	target, blob := e.link(e.b, e.a)
	const most = veilid.MaxMessageSize
	answers := map[int][]byte{}
	for _, n := range []int{0, 1, 1000, 28 << 10, most - 1, most} {
		answers[n] = pattern(n)
	}
	e.serve(e.a, blob.ID, func(c *veilid.AppCall) []byte {
		if !c.Sender.IsZero() {
			e.Errorf("a call over a private route shows its sender %s", c.Sender)
		}
		if len(c.Message) < 2 {
			return append([]byte("short:"), c.Message...)
		}
		return answers[int(c.Message[0])<<8|int(c.Message[1])]
	})
	if got := e.call(e.b, target, nil); string(got) != "short:" {
		e.Errorf("the answer to nothing is %q", got)
	}
	if got := e.call(e.b, target, []byte{7}); string(got) != "short:\x07" {
		e.Errorf("the answer to one byte is %q", got)
	}
	for asked, want := range answers {
		for _, size := range []int{2, 3, 1000, most - 1, most} {
			question := pattern(size)
			question[0], question[1] = byte(asked>>8), byte(asked)
			if got := e.call(e.b, target, question); !bytes.Equal(got, want) {
				e.Errorf("question of %d bytes: %d bytes of answer, want %d", size, len(got), asked)
			}
		}
	}
}

func testCallTooLarge(e *env) {
	target, blob := e.link(e.b, e.a)
	large := make([]byte, veilid.MaxMessageSize+1)
	refused := make(chan error, 100)
	e.serve(e.a, blob.ID, func(c *veilid.AppCall) []byte {
		if string(c.Message) == "large" {
			refused <- e.a.AppCallReply(e.Context(), c.CallID, large)
			return nil
		}
		return echo(c)
	})
	_, err := rc(e.b).AppCall(e.within(), target, large)
	if err == nil || veilid.IsRetryable(err) || errors.Is(err, context.DeadlineExceeded) {
		e.Errorf("a question too large: %v, want an error for good", err)
	}
	err = rc(e.b).AppMessage(e.within(), target, large)
	if err == nil || veilid.IsRetryable(err) || errors.Is(err, context.DeadlineExceeded) {
		e.Errorf("a message too large: %v, want an error for good", err)
	}
	if _, err = rc(e.b).AppCall(e.within(), target, []byte("large")); err == nil {
		e.Error("an answer too large arrived")
	}
	select {
	case err := <-refused:
		if err == nil || veilid.IsRetryable(err) {
			e.Errorf("an answer too large: %v, want an error for good", err)
		}
	case <-e.within().Done():
		e.Error("the call for a large answer did not arrive")
	}
	if got := e.call(e.b, target, []byte("fine")); string(got) != "fine" {
		e.Errorf("after all that the answer is %q", got)
	}
}

func testCallConcurrent(e *env) {
	there, blobA := e.link(e.b, e.a)
	back, blobB := e.link(e.a, e.b)
	answer := func(c *veilid.AppCall) []byte { return append([]byte("re:"), c.Message...) }
	e.serve(e.a, blobA.ID, answer)
	e.serve(e.b, blobB.ID, answer)
	var wg sync.WaitGroup
	for i := range 16 {
		for _, d := range []struct {
			from veilid.Node
			to   veilid.Target
		}{{e.b, there}, {e.a, back}} {
			wg.Go(func() {
				question := append(fmt.Appendf(nil, "%d:", i), pattern(i*2000)...)
				want := append([]byte("re:"), question...)
				var got []byte
				var err error
				if !e.poll(func(ctx context.Context) bool {
					got, err = rc(d.from).AppCall(ctx, d.to, question)
					return !veilid.IsRetryable(err)
				}) || err != nil {
					e.Errorf("call %d: %v", i, err)
				} else if !bytes.Equal(got, want) {
					e.Errorf("call %d got the answer %.20q of %d bytes", i, got, len(got))
				}
			})
		}
	}
	wg.Wait()
}

// testCallUnanswered checks the time-out, which is the real node's, and a caller that gives up before.
func testCallUnanswered(e *env) {
	target, blob := e.link(e.b, e.a)
	arrived := make(chan struct{}, 100)
	e.serve(e.a, blob.ID, func(*veilid.AppCall) []byte {
		arrived <- struct{}{}
		return nil
	})
	start := time.Now()
	_, err := rc(e.b).AppCall(e.within(), target, []byte("?"))
	e.is("a call without an answer", err, veilid.ErrTimeout)
	if took := time.Since(start); took < 4*time.Second || took > 20*time.Second {
		e.Errorf("it timed out after %v, want about 5 s", took)
	}
	for len(arrived) > 0 {
		<-arrived
	}
	ctx, cancel := context.WithCancel(e.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := rc(e.b).AppCall(ctx, target, []byte("?"))
		done <- err
	}()
	select {
	case <-arrived:
	case <-done:
		e.Fatal("the call ended before it arrived")
	}
	start = time.Now()
	cancel()
	e.is("a cancelled call", <-done, context.Canceled)
	if took := time.Since(start); took > 2*time.Second {
		e.Errorf("cancelling took %v", took)
	}
}

func testCallReplyUnknown(e *env) {
	e.is("reply to no call", e.a.AppCallReply(e.within(), 123456789, []byte("x")), veilid.ErrGeneric)
	target, blob := e.link(e.b, e.a)
	replies := make(chan [2]error, 100)
	e.serve(e.a, blob.ID, func(c *veilid.AppCall) []byte {
		first := e.a.AppCallReply(e.Context(), c.CallID, []byte("1"))
		replies <- [2]error{first, e.a.AppCallReply(e.Context(), c.CallID, []byte("2"))}
		return nil
	})
	if got := e.call(e.b, target, nil); string(got) != "1" {
		e.Errorf("the answer is %q, want the first one", got)
	}
	select {
	case r := <-replies:
		e.ok("first reply", r[0])
		e.is("second reply", r[1], veilid.ErrGeneric)
	case <-e.within().Done():
		e.Error("the second reply did not end")
	}
}

func testCallTargets(e *env) {
	unknown := veilid.RouteTarget(veilid.RouteID(sys.GenerateHash(pattern(32))))
	_, err := rc(e.a).AppCall(e.within(), unknown, nil)
	e.is("call to an unknown route", err, veilid.ErrNoConnection, veilid.ErrInvalidTarget)
	e.is("message to an unknown route", rc(e.a).AppMessage(e.within(), unknown, nil), veilid.ErrNoConnection, veilid.ErrInvalidTarget)
	node := veilid.Target{Node: veilid.NodeID(sys.GenerateKeyPair().Public)}
	_, err = rc(e.a).AppCall(e.within(), node, nil)
	e.is("call to a node", err, veilid.ErrInvalidTarget)
	e.is("message to a node", rc(e.a).AppMessage(e.within(), node, nil), veilid.ErrInvalidTarget)
}

func testMessage(e *env) {
	target, blob := e.link(e.b, e.a)
	sub := e.listen(e.a, veilid.AppMessages)
	for _, size := range []int{0, 1, 1000, veilid.MaxMessageSize} {
		payload := pattern(size)
		e.until(fmt.Sprintf("a message of %d bytes arrives", size), func(ctx context.Context) bool {
			if err := rc(e.b).AppMessage(ctx, target, payload); err != nil {
				if !veilid.IsRetryable(err) {
					e.Fatalf("AppMessage: %v", err)
				}
				return false
			}
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // nobody confirms it: send it again then
			defer cancel()
			for {
				u, err := sub.Next(ctx)
				if err != nil {
					return false
				}
				if m, ok := u.(*veilid.AppMessage); ok && m.Route == blob.ID && bytes.Equal(m.Message, payload) {
					if !m.Sender.IsZero() {
						e.Errorf("a message over a private route shows its sender %s", m.Sender)
					}
					return true
				}
			}
		})
	}
}

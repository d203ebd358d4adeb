package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/jsonapi"
	"github.com/google/go-cmp/cmp"
)

// TestManyCalls has 500 calls of different sizes in flight whose answers come in another order.
func TestManyCalls(t *testing.T) {
	const calls = 500
	var mu sync.Mutex
	var held []func()
	serve := func(c *fakeConn, id uint32, r jsonapi.Request) {
		mu.Lock()
		defer mu.Unlock()
		held = append(held, func() { echo(c, id, r) })
	}
	bubble(t, serve, Options{}, func(t *testing.T, n *Node, f *fake) {
		rc := n.Context(veilid.SafetySelection{})
		var wg sync.WaitGroup
		for i := range calls {
			wg.Go(func() {
				q := bytes.Repeat([]byte{byte(i)}, i*i%(veilid.MaxMessageSize+1))
				got, err := rc.AppCall(t.Context(), target(t), q)
				if err != nil || !bytes.Equal(got, q) {
					t.Errorf("call %d of %d bytes: %d bytes, %v", i, len(q), len(got), err)
				}
			})
		}
		synctest.Wait()
		mu.Lock()
		if len(held) != calls {
			t.Errorf("%d calls are in flight, want %d", len(held), calls)
		}
		rand.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
		for _, answer := range held {
			answer()
		}
		mu.Unlock()
		wg.Wait()
		if k := f.count("NewRoutingContext"); k != 1 {
			t.Errorf("%d routing contexts were made for one selection", k)
		}
	})
}

func TestGarbage(t *testing.T) {
	bubble(t, echo, Options{}, func(t *testing.T, n *Node, f *fake) {
		rc := n.Context(veilid.SafetySelection{})
		sub := n.Subscribe(0)
		c := f.last()
		for _, line := range []string{"", "  ", "Hello", `{"type":"Response"`, `{"type":"Invented"}`, `{"type":"Response","id":77,"op":"X","value":null}`,
			`{"type":"Update","kind":"Network","peers":7}`, `[]`, `{"type":"Update","kind":"Config"}`} {
			c.send("%s", line)
		}
		if got, err := rc.AppCall(t.Context(), target(t), []byte("q")); err != nil || string(got) != "q" {
			t.Fatalf("after garbage: %q, %v", got, err)
		}
		for range maxGarbage {
			c.send("HTTP/1.1 400 Bad Request")
		}
		if u := next(t, sub); !cmp.Equal(u, veilid.Update(&veilid.Reconnected{})) {
			t.Errorf("after nothing but garbage: %T, want a new connection", u)
		}
	})
}

// TestAnswersAreChecked has answers of another shape than expected.
func TestAnswersAreChecked(t *testing.T) {
	answers := map[string]struct {
		line string
		want error
	}{
		"garbage":        {`{"type":"Response","id":%d,"op"`, veilid.ErrParse},
		"number":         {`{"type":"Response","id":%d,"op":"X","value":5}`, veilid.ErrParse},
		"null":           {`{"type":"Response","id":%d,"op":"X","value":null}`, veilid.ErrParse},
		"padded":         {`{"type":"Response","id":%d,"op":"X","value":"AA=="}`, veilid.ErrParse},
		"unknown handle": {`{"type":"Response","id":%d,"op":"RoutingContext","rc_id":1,"rc_op":"InvalidId"}`, veilid.ErrInvalidArgument},
		"timeout":        {`{"type":"Response","id":%d,"op":"X","error":{"kind":"Timeout"}}`, veilid.ErrTimeout},
		"other order":    {`{"value":"AAEC","id":%d,"op":"X", "type":"Response"}`, nil},
	}
	var line string
	serve := func(c *fakeConn, id uint32, r jsonapi.Request) { c.send(line, id) }
	bubble(t, serve, Options{}, func(t *testing.T, n *Node, f *fake) {
		for name, a := range answers {
			line = a.line
			got, err := n.Context(veilid.SafetySelection{}).AppCall(t.Context(), target(t), nil)
			if !errors.Is(err, a.want) || (err == nil) != (a.want == nil) || err == nil && !bytes.Equal(got, []byte{0, 1, 2}) {
				t.Errorf("%s: %v, %v; want %v", name, got, err, a.want)
			}
		}
	})
}

func TestLongLine(t *testing.T) {
	const most = 4096
	size := most
	serve := func(c *fakeConn, id uint32, r jsonapi.Request) {
		if _, ok := r.(jsonapi.Debug); ok {
			c.value(id, `"%s"`, strings.Repeat("x", size))
			return
		}
		echo(c, id, r)
	}
	bubble(t, serve, Options{MaxLine: most}, func(t *testing.T, n *Node, f *fake) {
		for _, size = range []int{most, readBuffer, readBuffer * 3, most - 100} {
			got, err := n.Debug(t.Context(), "x")
			if size < most {
				if err != nil || len(got) != size {
					t.Errorf("%d bytes: got %d, %v", size, len(got), err)
				}
			} else if !errors.Is(err, veilid.ErrInternal) {
				t.Errorf("%d bytes: %v, want Internal", size, err)
			}
		}
		f.last().send("%s", strings.Repeat("y", 10*most))
		if _, err := n.Context(veilid.SafetySelection{}).AppCall(t.Context(), target(t), nil); err != nil {
			t.Errorf("the connection did not survive: %v", err)
		}
		if f.attempts != 1 {
			t.Errorf("%d connections, want 1", f.attempts)
		}
		table := &table{node: n}
		if err := table.Store(t.Context(), 0, nil, make([]byte, most)); !errors.Is(err, veilid.ErrGeneric) {
			t.Errorf("storing what cannot be read back: %v, want Generic", err)
		}
	})
}

// TestLateAnswers cancels calls whose answers come later: they are dropped, and what they made is released.
func TestLateAnswers(t *testing.T) {
	var ids []uint32
	serve := func(c *fakeConn, id uint32, r jsonapi.Request) {
		switch r.(type) {
		case jsonapi.ReleaseDB, jsonapi.ReleasePrivateRoute:
		default:
			ids = append(ids, id)
		}
	}
	bubble(t, serve, Options{}, func(t *testing.T, n *Node, f *fake) {
		cancelled := func(what string, call func(context.Context) error) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v, want DeadlineExceeded", what, err)
			}
		}
		rc := n.Context(veilid.SafetySelection{})
		cancelled("AppCall", func(ctx context.Context) error { _, err := rc.AppCall(ctx, target(t), nil); return err })
		cancelled("Attach", n.Attach)
		cancelled("OpenTable", func(ctx context.Context) error { _, err := n.OpenTable(ctx, "t", 1); return err })
		cancelled("NewPrivateRoute", func(ctx context.Context) error {
			_, err := n.NewPrivateRoute(ctx, veilid.PrivateSpec{})
			return err
		})
		synctest.Wait()
		s, _ := n.session()
		s.mu.Lock()
		left := len(s.waiting)
		s.mu.Unlock()
		if left != 2 {
			t.Errorf("%d waiters are left, want the 2 whose answers hold something to release", left)
		}
		c := f.last()
		c.bytes(ids[0], []byte("late"))
		c.value(ids[1], "null")
		c.value(ids[2], "7")
		c.value(ids[3], `{"route_id":"%s","blob":"AA"}`, routeID)
		synctest.Wait()
		if f.count("ReleaseDB") != 1 || f.count("ReleasePrivateRoute") != 1 {
			t.Errorf("requests %v: want the late table and route released", f.seen)
		}
		s.mu.Lock()
		left = len(s.waiting)
		s.mu.Unlock()
		if left != 0 {
			t.Errorf("%d waiters are left", left)
		}

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		before := len(f.seen)
		if _, err := rc.AppCall(ctx, target(t), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("a call with an ended context: %v", err)
		}
		synctest.Wait()
		if len(f.seen) != before {
			t.Error("a call with an ended context was sent")
		}
	})
}

// TestSlowSubscriber floods a subscriber that does not read: calls go on.
func TestSlowSubscriber(t *testing.T) {
	bubble(t, echo, Options{}, func(t *testing.T, n *Node, f *fake) {
		if _, err := n.NewPrivateRoute(t.Context(), veilid.PrivateSpec{}); err != nil {
			t.Fatal(err)
		}
		slow := n.Subscribe(veilid.AllUpdates)
		const flood = 20000
		for i := range flood {
			f.last().send(`{"type":"Update","kind":"AppCall","sender":null,"route_id":"%s","message":"AA","call_id":"%d"}`, routeID, i)
		}
		if _, err := n.Context(veilid.SafetySelection{}).AppCall(t.Context(), target(t), nil); err != nil {
			t.Errorf("a call behind a slow subscriber: %v", err)
		}
		lost, ok := next(t, slow).(*veilid.Lagged)
		if !ok {
			t.Fatal("the slow subscriber is not told")
		}
		for i := lost.Count; i < flood; i++ {
			if c, ok := next(t, slow).(*veilid.AppCall); !ok || c.CallID != uint64(i) {
				t.Fatalf("update %d is %+v", i, c)
			}
		}
	})
}

// TestBackpressure has a server that does not read: callers wait, and give up with their contexts.
func TestBackpressure(t *testing.T) {
	var hold chan struct{}
	serve := func(c *fakeConn, id uint32, r jsonapi.Request) {
		<-hold
		echo(c, id, r)
	}
	bubble(t, serve, Options{}, func(t *testing.T, n *Node, f *fake) {
		hold = make(chan struct{})
		rc := n.Context(veilid.SafetySelection{})
		msg := make([]byte, veilid.MaxMessageSize)
		const calls = 2 * maxQueued / veilid.MaxMessageSize
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for range calls {
			wg.Go(func() {
				if _, err := rc.AppCall(ctx, target(t), msg); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v, want DeadlineExceeded", err)
				}
			})
		}
		synctest.Wait()
		s, _ := n.session()
		s.out.mu.Lock()
		queued := s.out.queued
		s.out.mu.Unlock()
		if queued > maxQueued+50000 {
			t.Errorf("%d bytes are queued, want about %d", queued, maxQueued)
		}
		wg.Wait()
		close(hold)
		if _, err := rc.AppCall(t.Context(), target(t), msg); err != nil {
			t.Errorf("when the server reads again: %v", err)
		}
	})
}

// TestContextsAreShared checks that handles are made once for a selection, that few are kept, and that none is used
// after its release, which the fake checks with each request.
func TestContextsAreShared(t *testing.T) {
	bubble(t, echo, Options{}, func(t *testing.T, n *Node, f *fake) {
		call := func(hops int, st veilid.Stability) error {
			rc := n.Context(veilid.Safe(veilid.SafetySpec{HopCount: hops, Stability: st}))
			_, err := rc.AppCall(t.Context(), target(t), nil)
			return err
		}
		for range 3 {
			for _, st := range []veilid.Stability{"", veilid.Reliable, veilid.LowLatency} {
				if err := call(1, st); err != nil {
					t.Fatal(err)
				}
			}
		}
		if k := f.count("WithSafety"); k != 2 {
			t.Errorf("%d contexts for two selections", k)
		}
		var wg sync.WaitGroup
		for i := range 3 * maxContexts {
			wg.Go(func() {
				if err := call(i+2, ""); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for i := range 2 * maxContexts {
			if err := call(1000+i, ""); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		made, released := f.count("WithSafety")+f.count("NewRoutingContext"), f.count("ReleaseRC")
		if kept := made - released; kept != len(f.last().contexts) || kept > 3*maxContexts+2 {
			t.Errorf("%d contexts made, %d released, the server has %d", made, released, len(f.last().contexts))
		}
	})
}

func TestContextRefused(t *testing.T) {
	refuse := true
	serve := func(c *fakeConn, id uint32, r jsonapi.Request) { c.bytes(id, nil) }
	bubble(t, serve, Options{}, func(t *testing.T, n *Node, f *fake) {
		f.refuse = func(jsonapi.SafetySelection) bool { return refuse }
		rc := n.Context(veilid.SafetySelection{Unsafe: true})
		for range 2 {
			if _, err := rc.AppCall(t.Context(), target(t), nil); !errors.Is(err, veilid.ErrGeneric) {
				t.Errorf("%v, want Generic", err)
			}
		}
		refuse = false
		if _, err := rc.AppCall(t.Context(), target(t), nil); err != nil {
			t.Errorf("allowed: %v", err)
		}
	})
}

// TestNeverSent checks that what the server could not parse is refused here. The fake fails the test where it comes.
func TestNeverSent(t *testing.T) {
	bubble(t, echo, Options{}, func(t *testing.T, n *Node, f *fake) {
		ctx := t.Context()
		rc := n.Context(veilid.SafetySelection{})
		key := must[veilid.RecordKey](t, otherID+":"+secret)
		pair := must[veilid.KeyPair](t, nodeID+":"+secret)
		half := veilid.KeyPair{Public: pair.Public}
		var foreign veilid.RouteID
		foreign.Kind = veilid.CryptoKind{'V', 'L', 'D', '1'}
		reversed := veilid.SubkeyRanges{{First: 2, Last: 1}}
		long := make([]byte, veilid.MaxMessageSize+1)
		bad := "\xff"
		spec := func(s veilid.SafetySpec) error {
			return n.Context(veilid.Safe(s)).AppMessage(ctx, target(t), nil)
		}
		e1 := func(_ any, err error) error { return err }
		inv := veilid.ErrInvalidArgument
		for i, c := range []struct {
			err  error
			want error
		}{
			{rc.AppMessage(ctx, veilid.Target{}, nil), veilid.ErrInvalidTarget},
			{rc.AppMessage(ctx, veilid.RouteTarget(foreign), nil), inv},
			{rc.AppMessage(ctx, target(t), long), veilid.ErrInternal},
			{n.AppCallReply(ctx, 1, long), veilid.ErrInternal},
			{e1(n.ImportRemotePrivateRoute(ctx, long)), veilid.ErrInternal},
			{n.ReleasePrivateRoute(ctx, veilid.RouteID{}), inv},
			{e1(n.NewPrivateRoute(ctx, veilid.PrivateSpec{Stability: "x"})), inv},
			{e1(n.NewPrivateRoute(ctx, veilid.PrivateSpec{Sequencing: "x"})), inv},
			{e1(n.NewPrivateRoute(ctx, veilid.PrivateSpec{HopCount: -1})), inv},
			{spec(veilid.SafetySpec{PreferredRoute: foreign}), inv},
			{spec(veilid.SafetySpec{Sequencing: "x"}), inv},
			{n.Context(veilid.SafetySelection{Unsafe: true, Sequencing: "x"}).AppMessage(ctx, target(t), nil), inv},
			{e1(rc.CreateDHTRecord(ctx, veilid.Schema{}, veilid.KeyPair{})), inv},
			{e1(rc.CreateDHTRecord(ctx, veilid.DFLTSchema(1), half)), inv},
			{e1(rc.OpenDHTRecord(ctx, veilid.RecordKey{}, veilid.OpenOptions{})), inv},
			{e1(rc.OpenDHTRecord(ctx, key, veilid.OpenOptions{Writer: half})), inv},
			{rc.CloseDHTRecord(ctx, veilid.RecordKey{}), inv},
			{rc.DeleteDHTRecord(ctx, veilid.RecordKey{}), inv},
			{e1(rc.GetDHTValue(ctx, veilid.RecordKey{}, 0, false)), inv},
			{e1(rc.SetDHTValue(ctx, key, 0, nil, veilid.SetOptions{Writer: half})), inv},
			{e1(rc.SetDHTValue(ctx, key, 0, make([]byte, veilid.MaxRecordSize+1), veilid.SetOptions{})), veilid.ErrGeneric},
			{e1(rc.WatchDHTValues(ctx, key, veilid.WatchOptions{Subkeys: reversed})), inv},
			{e1(rc.WatchDHTValues(ctx, key, veilid.WatchOptions{Expiration: time.Unix(-1, 0)})), inv},
			{e1(rc.CancelDHTWatch(ctx, key, reversed)), inv},
			{e1(rc.InspectDHTRecord(ctx, key, reversed, veilid.ScopeLocal)), inv},
			{e1(rc.InspectDHTRecord(ctx, key, nil, "")), inv},
			{e1(n.DHTRecordKey(ctx, veilid.Schema{}, pair.Public, veilid.SharedSecret{})), inv},
			{e1(n.DHTRecordKey(ctx, veilid.DFLTSchema(1), veilid.PublicKey{}, veilid.SharedSecret{})), inv},
			{e1(n.TransactDHTRecords(ctx, nil, veilid.TransactOptions{})), veilid.ErrMissingArgument},
			{e1(n.TransactDHTRecords(ctx, make([]veilid.RecordKey, 33), veilid.TransactOptions{})), inv},
			{e1(n.TransactDHTRecords(ctx, make([]veilid.RecordKey, 1), veilid.TransactOptions{})), inv},
			{e1(n.TransactDHTRecords(ctx, []veilid.RecordKey{key}, veilid.TransactOptions{Signer: half})), inv},
			{e1(n.OpenTable(ctx, bad, 1)), inv},
			{e1(n.DeleteTable(ctx, bad)), inv},
			{n.RenameTable(ctx, "a", bad), inv},
			{e1(n.SaveUserSecret(ctx, bad, nil)), inv},
			{e1(n.LoadUserSecret(ctx, bad)), inv},
			{e1(n.RemoveUserSecret(ctx, bad)), inv},
			{e1(n.Debug(ctx, bad)), inv},
		} {
			if !errors.Is(c.err, c.want) {
				t.Errorf("case %d: %v, want %v", i, c.err, c.want)
			}
		}
		synctest.Wait()
		if len(f.seen) != 0 {
			t.Errorf("sent nevertheless: %v", f.seen)
		}
	})
}

// TestOtherClients checks that messages on routes of other clients of the same server do not reach us.
func TestOtherClients(t *testing.T) {
	bubble(t, echo, Options{}, func(t *testing.T, n *Node, f *fake) {
		sub := n.Subscribe(veilid.AllUpdates)
		say := func(route, text string) {
			f.last().send(`{"type":"Update","kind":"AppMessage","sender":null,"route_id":%s,"message":"%s"}`, route, text)
		}
		b, err := n.NewPrivateRoute(t.Context(), veilid.PrivateSpec{})
		if err != nil {
			t.Fatal(err)
		}
		say(`"`+otherID+`"`, "AAAA")
		say(`"`+routeID+`"`, "AAAB")
		say("null", "AAAC")
		if err := n.ReleasePrivateRoute(t.Context(), b.ID); err != nil {
			t.Fatal(err)
		}
		say(`"`+routeID+`"`, "AAAD")
		say("null", "AAAE")
		var got []byte
		for range 3 {
			got = append(got, next(t, sub).(*veilid.AppMessage).Message[2])
		}
		if d := cmp.Diff([]byte{1, 2, 4}, got); d != "" {
			t.Error(d)
		}
	})
}

func TestErrorsNameTheOperation(t *testing.T) {
	serve := func(c *fakeConn, id uint32, r jsonapi.Request) { c.fail(id, veilid.ErrTryAgain, "") }
	bubble(t, serve, Options{}, func(t *testing.T, n *Node, f *fake) {
		want := "veilid %s: TryAgain: m"
		for name, err := range map[string]error{
			"Attach":         n.Attach(t.Context()),
			"AppCallReply":   n.AppCallReply(t.Context(), 1, nil),
			"AppMessage":     n.Context(veilid.SafetySelection{}).AppMessage(t.Context(), target(t), nil),
			"LoadUserSecret": func() error { _, err := n.LoadUserSecret(t.Context(), "k"); return err }(),
		} {
			if err == nil || err.Error() != fmt.Sprintf(want, name) || !veilid.IsRetryable(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

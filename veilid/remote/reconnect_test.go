package remote

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/jsonapi"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// lose ends the connection from the server's side and waits until the client noticed. The server is down afterwards.
func (f *fake) lose() {
	f.set(func() { f.down = true })
	_ = f.last().raw.Close()
	synctest.Wait()
}

// TestReconnect loses the connection in the middle of a call, and works on.
func TestReconnect(t *testing.T) {
	silent := false
	serve := func(c *fakeConn, id uint32, r jsonapi.Request) {
		if !silent {
			echo(c, id, r)
		}
	}
	bubble(t, serve, Options{}, func(t *testing.T, n *Node, f *fake) {
		sub := n.Subscribe(veilid.RouteChanges)
		rc := n.Context(veilid.SafetySelection{})
		if _, err := rc.AppCall(t.Context(), target(t), nil); err != nil {
			t.Fatal(err)
		}
		silent = true
		errs := make(chan error)
		for range 3 {
			go func() {
				_, err := rc.AppCall(t.Context(), target(t), nil)
				errs <- err
			}()
		}
		synctest.Wait()
		f.lose()
		for range 3 {
			if err := <-errs; !errors.Is(err, veilid.ErrNoConnection) || !veilid.IsRetryable(err) {
				t.Errorf("a call on its way: %v, want NoConnection", err)
			}
		}
		silent = false
		if _, err := rc.AppCall(t.Context(), target(t), nil); !errors.Is(err, veilid.ErrNoConnection) {
			t.Errorf("a call without a connection: %v, want NoConnection", err)
		}
		began := time.Now()
		<-time.After(time.Minute)
		f.mu.Lock()
		attempts := f.attempts
		f.down = false
		f.mu.Unlock()
		if attempts < 8 || attempts > 20 {
			t.Errorf("%d attempts to connect in a minute: want 8 to 20, ever rarer", attempts)
		}
		if d := cmp.Diff(veilid.Update(&veilid.Reconnected{}), next(t, sub)); d != "" {
			t.Errorf("update (-want +got)\n%s", d)
		}
		if d := time.Since(began); d > time.Minute+maxPause {
			t.Errorf("connected after %v", d)
		}
		if _, err := rc.AppCall(t.Context(), target(t), nil); err != nil {
			t.Errorf("after the reconnection: %v", err)
		}
		if k := f.count("NewRoutingContext"); k != 2 {
			t.Errorf("%d routing contexts were made, want one for each connection", k)
		}
	})
}

// TestRestart has a node that began again behind our back: its routes are dead, and records are opened again.
func TestRestart(t *testing.T) {
	open := map[string]string{} // the writer, by key
	serve := func(c *fakeConn, id uint32, r jsonapi.Request) {
		writer := func(p *jsonapi.KeyPair) string {
			if p == nil {
				return "none"
			}
			return p.Reveal()
		}
		switch r := r.(type) {
		case jsonapi.OpenDHTRecord:
			open[r.Key.Reveal()] = writer(r.Writer)
			c.value(id, `{"key":"%s","owner":"%s","owner_secret":null,"schema":{"kind":"DFLT","o_cnt":1}}`, r.Key.Reveal(), nodeID)
		case jsonapi.CloseDHTRecord:
			delete(open, r.Key.Reveal())
			c.value(id, "null")
		case jsonapi.SetDHTValue:
			if _, ok := open[r.Key.Reveal()]; !ok {
				c.fail(id, veilid.ErrInvalidArgument, "record not open")
				return
			}
			c.value(id, "null")
		default:
			echo(c, id, r)
		}
	}
	bubble(t, serve, Options{}, func(t *testing.T, n *Node, f *fake) {
		ctx := t.Context()
		rc := n.Context(veilid.SafetySelection{})
		key, closed := must[veilid.RecordKey](t, otherID+":"+secret), must[veilid.RecordKey](t, routeID)
		pair := must[veilid.KeyPair](t, nodeID+":"+secret)
		for _, k := range []veilid.RecordKey{key, closed} {
			if _, err := rc.OpenDHTRecord(ctx, k, veilid.OpenOptions{Writer: pair}); err != nil {
				t.Fatal(err)
			}
		}
		if err := rc.CloseDHTRecord(ctx, closed); err != nil {
			t.Fatal(err)
		}
		if _, err := n.NewPrivateRoute(ctx, veilid.PrivateSpec{}); err != nil {
			t.Fatal(err)
		}
		if _, err := n.ImportRemotePrivateRoute(ctx, []byte{1}); err != nil {
			t.Fatal(err)
		}
		sub := n.Subscribe(veilid.RouteChanges)
		f.lose()
		f.set(func() { f.down, f.boot = false, time.Now() })
		clear(open)
		want := []veilid.Update{&veilid.Reconnected{Restarted: true}, &veilid.RouteChange{
			DeadRoutes:       []veilid.RouteID{must[veilid.RouteID](t, routeID)},
			DeadRemoteRoutes: []veilid.RouteID{must[veilid.RouteID](t, otherID)},
		}}
		if d := cmp.Diff(want, []veilid.Update{next(t, sub), next(t, sub)}); d != "" {
			t.Errorf("updates (-want +got)\n%s", d)
		}
		if _, err := rc.SetDHTValue(ctx, key, 0, nil, veilid.SetOptions{}); err != nil {
			t.Errorf("a record that was open: %v", err)
		}
		if open[key.Reveal()] != pair.Reveal() {
			t.Error("the record is open again, but without its writer")
		}
		if _, err := rc.SetDHTValue(ctx, closed, 0, nil, veilid.SetOptions{}); !errors.Is(err, veilid.ErrNotOpen) {
			t.Errorf("a record that was closed: %v, want %v", err, veilid.ErrNotOpen)
		}
		if k := f.count("OpenDHTRecord"); k != 3 {
			t.Errorf("%d times opened, want 3", k)
		}
	})
}

func TestBootTime(t *testing.T) {
	base := time.Now()
	at := func(up, later time.Duration) bootTime { return bootTime{up, base.Add(later)} }
	for _, tt := range []struct {
		name          string
		first, second bootTime
		want          bool
	}{
		{"the same", at(time.Hour, 0), at(time.Hour+time.Minute, time.Minute), false},
		{"inexact", at(time.Hour, 0), at(time.Hour+59*time.Second, time.Minute), false},
		{"uptime went back", at(time.Hour, 0), at(time.Second, time.Minute), true},
		{"began while we were away, and is older now", at(time.Second, 0), at(30*time.Second, time.Minute), true},
		{
			"our clock was set forward", at(time.Hour, 0),
			bootTime{time.Hour + time.Minute, base.Add(time.Hour).Round(0)}, true, // without the other clock nothing tells it from a new beginning
		},
	} {
		if got := tt.first.before(tt.second); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
	a, b := veilid.NodeID{Key32: must[veilid.Key32](t, nodeID)}, veilid.NodeID{Key32: must[veilid.Key32](t, otherID)}
	s := func(ids ...veilid.NodeID) *session { return &session{nodeIDs: ids, start: at(time.Hour, 0)} }
	if !s(b).restartedSince(s(a)) || s(a).restartedSince(s(a)) || s().restartedSince(s(a)) {
		t.Error("another node id is another node, no id tells nothing")
	}
	again := s(a)
	again.spawned = 2
	if !again.restartedSince(s(a)) {
		t.Error("a process that was started again is another node")
	}
}

func TestClose(t *testing.T) {
	bubble(t, func(*fakeConn, uint32, jsonapi.Request) {}, Options{}, func(t *testing.T, n *Node, f *fake) {
		rc := n.Context(veilid.SafetySelection{})
		sub := n.Subscribe(0)
		errs := make(chan error)
		go func() {
			_, err := rc.AppCall(t.Context(), target(t), nil)
			errs <- err
		}()
		go func() { errs <- n.WaitReady(t.Context()) }()
		synctest.Wait()
		for range 2 {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
		for range 2 {
			if err := <-errs; !errors.Is(err, veilid.ErrShutdown) {
				t.Errorf("a call on its way: %v, want Shutdown", err)
			}
		}
		_, errVersion := n.Version(t.Context())
		_, errTable := n.OpenTable(t.Context(), "t", 1)
		for _, err := range []error{n.Attach(t.Context()), n.WaitReady(t.Context()), n.AppCallReply(t.Context(), 1, nil), errVersion, errTable} {
			if !errors.Is(err, veilid.ErrShutdown) {
				t.Errorf("after Close: %v, want Shutdown", err)
			}
		}
		if d := cmp.Diff(veilid.Update(&veilid.Shutdown{}), next(t, sub)); d != "" {
			t.Error(d)
		}
		if _, err := sub.Next(t.Context()); !errors.Is(err, veilid.ErrShutdown) {
			t.Errorf("the end of the updates: %v", err)
		}
	})
	bubble(t, echo, Options{}, func(t *testing.T, n *Node, f *fake) { // while the connection is lost
		f.lose()
		ready := make(chan error)
		go func() { ready <- n.WaitReady(t.Context()) }()
		synctest.Wait()
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ready; !errors.Is(err, veilid.ErrShutdown) {
			t.Errorf("WaitReady: %v, want Shutdown", err)
		}
	})
}

// TestWaitReady is ready in the end, over a server that answers Timeout and a lost connection.
func TestWaitReady(t *testing.T) {
	asked := 0
	var late sync.WaitGroup
	serve := func(c *fakeConn, id uint32, r jsonapi.Request) {
		w, ok := r.(jsonapi.WaitForAttachmentCondition)
		if !ok || w.Condition != nil || w.TimeoutMS == nil {
			c.f.t.Errorf("unexpected %T", r)
			return
		}
		asked++
		if asked > 3 {
			c.value(id, `{"state":"AttachedGood","public_internet_ready":true,"uptime":"0"}`)
			return
		}
		late.Go(func() {
			<-time.After(time.Duration(*w.TimeoutMS) * time.Millisecond)
			c.fail(id, veilid.ErrTimeout, "")
		})
	}
	bubble(t, serve, Options{}, func(t *testing.T, n *Node, f *fake) {
		defer late.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := n.WaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want DeadlineExceeded", err)
		}
		done := make(chan error)
		go func() { done <- n.WaitReady(t.Context()) }()
		<-time.After(readyAsk + time.Second)
		f.lose()
		f.set(func() { f.down = false })
		if err := <-done; err != nil || asked != 4 {
			t.Errorf("%v after %d questions, want ready after 4", err, asked)
		}
	})
}

// TestGreeting has servers that are none.
func TestGreeting(t *testing.T) {
	for name, tt := range map[string]struct {
		say  func(*fakeConn)
		want error
	}{
		"garbage": {func(c *fakeConn) {
			for range maxGarbage {
				c.send("HTTP/1.1 400 Bad Request")
			}
		}, veilid.ErrNoConnection},
		"silence": {func(*fakeConn) {}, veilid.ErrNoConnection},
		"gone":    {func(c *fakeConn) { c.raw.Close() }, veilid.ErrNoConnection},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{t: t, greet: tt.say}
				n, err := connect(t.Context(), f, Options{})
				if !errors.Is(err, tt.want) {
					t.Errorf("%v, want %v", err, tt.want)
				}
				if err == nil {
					n.Close()
				}
			})
		})
	}
}

// TestEarlyUpdates checks that updates that come with the greeting are not lost.
func TestEarlyUpdates(t *testing.T) {
	bubble(t, echo, Options{}, func(t *testing.T, n *Node, f *fake) {
		sub := n.Subscribe(veilid.Attachments)
		f.lose()
		f.set(func() {
			f.down = false
			f.greet = func(c *fakeConn) {
				c.send(`{"type":"Update","kind":"Attachment","state":"Detaching","uptime":"1"}`)
				c.f.set(func() { c.f.greet = nil })
				c.request(1, jsonapi.VeilidVersion{})
			}
		})
		got := []veilid.Update{next(t, sub), next(t, sub)}
		want := []veilid.Update{&veilid.Reconnected{}, &veilid.Attachment{State: veilid.Detaching}}
		if d := cmp.Diff(want, got, cmpopts.IgnoreFields(veilid.Attachment{}, "Uptime")); d != "" {
			t.Errorf("updates (-want +got)\n%s", d)
		}
	})
}

package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/google/go-cmp/cmp"
)

// world runs a test in virtual time with a network and two nodes.
func world(t *testing.T, f func(t *testing.T, net *Network, a, b *Node), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		net := NewNetwork(opts...)
		t.Cleanup(func() { net.Close() })
		f(t, net, net.NewNode("a"), net.NewNode("b"))
	})
}

// elapse lets virtual time pass, and all that is due by then happen.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func ctxOf(n *Node) veilid.RoutingContext { return n.Context(veilid.SafetySelection{}) }

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// create makes a record at a node and writes subkey 0.
func create(t *testing.T, n *Node, subkeys uint16, value string) veilid.RecordDescriptor {
	t.Helper()
	d, err := ctxOf(n).CreateDHTRecord(t.Context(), veilid.DFLTSchema(subkeys), veilid.KeyPair{})
	ok(t, err)
	set(t, n, d, 0, value, "")
	return d
}

// set writes and checks what the network had instead.
func set(t *testing.T, n *Node, d veilid.RecordDescriptor, subkey uint32, value, theirs string) {
	t.Helper()
	v, err := ctxOf(n).SetDHTValue(t.Context(), d.Key, subkey, []byte(value), veilid.SetOptions{Writer: d.OwnerKeyPair()})
	ok(t, err)
	if got := text(v); got != theirs {
		t.Errorf("setting %q: the network has %q, want %q", value, got, theirs)
	}
}

func text(v *veilid.ValueData) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%d %s", v.Seq, v.Data)
}

func get(t *testing.T, n *Node, d veilid.RecordDescriptor, subkey uint32, force bool, want string) {
	t.Helper()
	v, err := ctxOf(n).GetDHTValue(t.Context(), d.Key, subkey, force)
	ok(t, err)
	if got := text(v); got != want {
		t.Errorf("%s reads subkey %d (force %v) as %q, want %q", n.Name(), subkey, force, got, want)
	}
}

func openAt(t *testing.T, n *Node, d veilid.RecordDescriptor) {
	t.Helper()
	_, err := ctxOf(n).OpenDHTRecord(t.Context(), d.Key, veilid.OpenOptions{})
	ok(t, err)
}

// pending reads what a subscription holds by now.
func pending(t *testing.T, sub veilid.Subscription) (all []veilid.Update) {
	t.Helper()
	for {
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
		u, err := sub.Next(ctx)
		cancel()
		if err != nil {
			return all
		}
		all = append(all, u)
	}
}

func TestOffline(t *testing.T) {
	world(t, func(t *testing.T, net *Network, a, b *Node) {
		d := create(t, a, 4, "x")
		openAt(t, b, d)
		to, from := link(t, b, a), link(t, a, b)
		echo(t, a)
		sub := a.Subscribe(veilid.Attachments)
		a.SetOnline(false)
		a.SetOnline(false)
		if u := pending(t, sub); len(u) != 1 || u[0].(*veilid.Attachment).State != veilid.Attaching || u[0].(*veilid.Attachment).Ready() {
			t.Errorf("going offline gives %v", u)
		}
		_, err := ctxOf(b).AppCall(t.Context(), to, nil)
		is(t, "call to an offline node", err, veilid.ErrTimeout)
		_, err = ctxOf(a).AppCall(t.Context(), from, nil)
		is(t, "call from an offline node", err, veilid.ErrTryAgain)
		_, err = a.TransactDHTRecords(t.Context(), []veilid.RecordKey{d.Key}, veilid.TransactOptions{})
		is(t, "transaction while offline", err, veilid.ErrTryAgain)
		get(t, a, d, 0, false, "0 x")
		set(t, a, d, 0, "queued", "")
		set(t, a, d, 2, "lost to b", "")
		set(t, b, d, 2, "b's", "") // b may: it gives the owner's key
		set(t, b, d, 2, "b's again", "")
		r, err := ctxOf(a).InspectDHTRecord(t.Context(), d.Key, nil, veilid.ScopeLocal)
		ok(t, err)
		if diff := cmp.Diff(veilid.SubkeyRanges{{First: 0, Last: 0}, {First: 2, Last: 2}}, r.OfflineSubkeys); diff != "" {
			t.Errorf("offline subkeys (-want +got)\n%s", diff)
		}
		get(t, b, d, 0, true, "0 x")
		a.SetOnline(true)
		if u := pending(t, sub); len(u) != 1 || !u[0].(*veilid.Attachment).Ready() {
			t.Errorf("coming back gives %v", u)
		}
		clean, err := ctxOf(a).FlushDHTRecord(t.Context(), d.Key, 900*time.Millisecond)
		if err != nil || clean {
			t.Errorf("flushed before the tick: %v, %v", clean, err)
		}
		clean, err = ctxOf(a).FlushDHTRecord(t.Context(), d.Key, 200*time.Millisecond)
		if err != nil || !clean {
			t.Errorf("not flushed after the tick: %v, %v", clean, err)
		}
		get(t, b, d, 0, true, "1 queued")
		get(t, a, d, 2, false, "1 b's again")
		if _, err = ctxOf(b).AppCall(t.Context(), to, nil); err != nil {
			t.Errorf("call after coming back: %v", err)
		}
	})
}

func TestKillAndSilence(t *testing.T) {
	world(t, func(t *testing.T, net *Network, a, b *Node) {
		c := net.NewNode("c")
		echo(t, a)
		to := link(t, b, a)
		subA, subB, subC := a.Subscribe(veilid.RouteChanges), b.Subscribe(veilid.RouteChanges), c.Subscribe(veilid.RouteChanges)
		net.SilenceRoute(to.Route, true)
		_, err := ctxOf(b).AppCall(t.Context(), to, nil)
		is(t, "call over a silent route", err, veilid.ErrTimeout)
		net.SilenceRoute(to.Route, false)
		_, err = ctxOf(b).AppCall(t.Context(), to, nil)
		ok(t, err)
		if got := append(pending(t, subA), pending(t, subB)...); len(got) > 0 {
			t.Errorf("silence told %v", got)
		}
		if !net.KillRoute(to.Route) || net.KillRoute(to.Route) {
			t.Error("KillRoute does not tell whether there was one")
		}
		ids := []veilid.RouteID{to.Route}
		for _, tt := range []struct {
			who  string
			sub  veilid.Subscription
			want []veilid.Update
		}{
			{"owner", subA, []veilid.Update{&veilid.RouteChange{DeadRoutes: ids}}},
			{"importer", subB, []veilid.Update{&veilid.RouteChange{DeadRemoteRoutes: ids}}},
			{"other", subC, nil},
		} {
			if diff := cmp.Diff(tt.want, pending(t, tt.sub)); diff != "" {
				t.Errorf("%s is told (-want +got)\n%s", tt.who, diff)
			}
		}
		start := time.Now()
		_, err = ctxOf(b).AppCall(t.Context(), to, nil)
		is(t, "call over a dead route", err, veilid.ErrNoConnection)
		if d := time.Since(start); d != 0 {
			t.Errorf("it took %v", d)
		}
		is(t, "release of a dead route", a.ReleasePrivateRoute(t.Context(), to.Route), veilid.ErrInvalidArgument)
	})
}

func TestRestart(t *testing.T) {
	world(t, func(t *testing.T, net *Network, a, b *Node) {
		d := create(t, a, 2, "x")
		openAt(t, b, d)
		to := link(t, b, a)
		sub := b.Subscribe(veilid.RouteChanges)
		db, err := a.OpenTable(t.Context(), "t", 1)
		ok(t, err)
		ok(t, db.Store(t.Context(), 0, []byte("k"), []byte("v")))
		_, err = a.SaveUserSecret(t.Context(), "s", []byte("secret"))
		ok(t, err)
		a.SetOnline(false)
		set(t, a, d, 1, "queued", "")
		own := a.Subscribe(0)

		again := net.Restart(a)
		if u := pending(t, own); len(u) != 1 || word(u[0]) != "*veilid.Shutdown" {
			t.Errorf("the old node's last words: %v", u)
		}
		_, err = ctxOf(a).GetDHTValue(t.Context(), d.Key, 0, false)
		is(t, "the old node", err, veilid.ErrShutdown)
		_, err = ctxOf(again).GetDHTValue(t.Context(), d.Key, 0, false)
		is(t, "a record after the restart", err, veilid.ErrNotOpen)
		openAt(t, again, d)
		get(t, again, d, 1, false, "0 queued")
		db, err = again.OpenTable(t.Context(), "t", 1)
		ok(t, err)
		if v, err := db.Load(t.Context(), 0, []byte("k")); err != nil || string(v) != "v" {
			t.Errorf("table after the restart: %q, %v", v, err)
		}
		if v, err := again.LoadUserSecret(t.Context(), "s"); err != nil || string(v) != "secret" {
			t.Errorf("secret after the restart: %q, %v", v, err)
		}
		clean, err := ctxOf(again).FlushDHTRecord(t.Context(), d.Key, time.Minute)
		if err != nil || !clean {
			t.Errorf("queued writes after the restart: %v, %v", clean, err)
		}
		get(t, b, d, 1, true, "0 queued")

		// Nobody told b that the route is gone: it finds out.
		_, err = ctxOf(b).AppCall(t.Context(), to, nil)
		is(t, "first call over the lost route", err, veilid.ErrTimeout)
		if diff := cmp.Diff([]veilid.Update{&veilid.RouteChange{DeadRemoteRoutes: []veilid.RouteID{to.Route}}}, pending(t, sub)); diff != "" {
			t.Errorf("then it is told (-want +got)\n%s", diff)
		}
		_, err = ctxOf(b).AppCall(t.Context(), to, nil)
		is(t, "second call", err, veilid.ErrNoConnection)
	})
}

func word(u veilid.Update) string { return fmt.Sprintf("%T", u) }

func TestNamesPanic(t *testing.T) {
	net := NewNetwork()
	defer net.Close()
	net.NewNode("a")
	for name, f := range map[string]func(){
		"NewNode twice":        func() { net.NewNode("a") },
		"Reopen what is open":  func() { net.Reopen("a") },
		"Reopen what is unmet": func() { net.Reopen("b") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s did not panic", name)
				}
			}()
			f()
		}()
	}
}

func TestImportsExpire(t *testing.T) {
	world(t, func(t *testing.T, net *Network, a, b *Node) {
		echo(t, a)
		to := link(t, b, a)
		for _, idle := range []time.Duration{importedLife - 1, importedLife} { // each use begins the time anew
			elapse(idle)
			_, err := ctxOf(b).AppCall(t.Context(), to, nil)
			ok(t, err)
		}
		elapse(importedLife + 1)
		_, err := ctxOf(b).AppCall(t.Context(), to, nil)
		is(t, "call over a route not used for long", err, veilid.ErrNoConnection)

		to = link(t, b, a)
		elapse(time.Second)
		other := link(t, b, a)
		for i := range maxImported {
			if i == maxImported/2 {
				_, err = ctxOf(b).AppCall(t.Context(), other, nil)
				ok(t, err)
			}
			elapse(time.Millisecond)
			link(t, b, a)
		}
		_, err = ctxOf(b).AppCall(t.Context(), other, nil)
		ok(t, err)
		_, err = ctxOf(b).AppCall(t.Context(), to, nil)
		is(t, "call over the oldest of too many imports", err, veilid.ErrNoConnection)
	})
}

// TestLateAnswer checks that a call's id ends with its time.
func TestLateAnswer(t *testing.T) {
	world(t, func(t *testing.T, net *Network, a, b *Node) {
		to := link(t, b, a)
		sub := a.Subscribe(veilid.AppCalls)
		done := make(chan error)
		go func() {
			_, err := ctxOf(b).AppCall(t.Context(), to, []byte("?"))
			done <- err
		}()
		u, err := sub.Next(t.Context())
		ok(t, err)
		is(t, "the call", <-done, veilid.ErrTimeout)
		elapse(time.Nanosecond)
		is(t, "the late answer", a.AppCallReply(t.Context(), u.(*veilid.AppCall).CallID, nil), veilid.ErrGeneric)
		for range 3 { // calls nobody answers leave nothing behind
			_, err := ctxOf(b).AppCall(t.Context(), to, nil)
			is(t, "a call", err, veilid.ErrTimeout)
			elapse(time.Second)
		}
		net.mu.Lock()
		defer net.mu.Unlock()
		if n, m := len(a.calls.byID), len(a.calls.order); n > 1 || m > 1 {
			t.Errorf("%d calls and %d places are kept", n, m)
		}
	})
}

// TestSeed checks that loss and jitter are those of the seed.
func TestSeed(t *testing.T) {
	course := func(opts ...Option) (s string) {
		world(t, func(t *testing.T, net *Network, a, b *Node) {
			net.SetConditions(Conditions{Loss: 0.3, Jitter: time.Second})
			echo(t, a)
			to := link(t, b, a)
			for range 40 {
				start := time.Now()
				_, err := ctxOf(b).AppCall(t.Context(), to, nil)
				s += fmt.Sprint(time.Since(start), err == nil, " ")
			}
		}, opts...)
		return s
	}
	first := course()
	if course() != first || course(WithSeed(1)) != first {
		t.Error("the same seed gives another course")
	}
	if course(WithSeed(2)) == first {
		t.Error("another seed gives the same course")
	}
	lost := bytes.Count([]byte(first), []byte("false"))
	if lost < 12 || lost > 32 { // each call survives two times 0.7: 20 of 40 are expected to be lost
		t.Errorf("%d of 40 calls were lost", lost)
	}
}

func TestAttachTime(t *testing.T) {
	world(t, func(t *testing.T, net *Network, a, _ *Node) {
		start := time.Now()
		_, err := a.NewPrivateRoute(t.Context(), veilid.PrivateSpec{})
		is(t, "route before being ready", err, veilid.ErrTryAgain)
		ok(t, a.WaitReady(t.Context()))
		if d := time.Since(start); d != 7*time.Second {
			t.Errorf("ready after %v", d)
		}
		a.SetOnline(false)
		elapse(time.Second)
		a.SetOnline(true)
		elapse(6 * time.Second)
		if s, err := a.AttachmentState(t.Context()); err != nil || s.Ready() {
			t.Errorf("ready too early: %+v, %v", s, err)
		}
		elapse(time.Second)
		ok(t, a.WaitReady(t.Context()))
	}, WithAttachTime(7*time.Second))
}

func TestDefaults(t *testing.T) {
	world(t, func(t *testing.T, net *Network, a, _ *Node) {
		want := veilid.Safe(veilid.SafetySpec{HopCount: 1, Stability: veilid.Reliable, Sequencing: veilid.PreferOrdered})
		if got := ctxOf(a).Safety(); got != want {
			t.Errorf("the default selection is %+v", got)
		}
		_, err := a.Debug(t.Context(), "help")
		is(t, "Debug", err, veilid.ErrUnimplemented)
	})
}

// TestLongRouteTimeout checks the longer time-out of many hops.
func TestLongRouteTimeout(t *testing.T) {
	world(t, func(t *testing.T, net *Network, a, b *Node) {
		to := link(t, b, a)
		for hops, want := range map[int]time.Duration{0: 5 * time.Second, 2: 5 * time.Second, 3: 6 * time.Second, 4: 7 * time.Second} {
			start := time.Now()
			_, err := b.Context(veilid.Safe(veilid.SafetySpec{HopCount: hops})).AppCall(t.Context(), to, nil)
			if d := time.Since(start); !errors.Is(err, veilid.ErrTimeout) || d != want {
				t.Errorf("%d hops: %v after %v, want %v", hops, err, d, want)
			}
		}
	})
}

func FuzzImport(f *testing.F) {
	net := NewNetwork()
	f.Cleanup(func() { net.Close() })
	n := net.NewNode("n")
	blob, err := n.NewPrivateRoute(f.Context(), veilid.PrivateSpec{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blob.Blob)
	f.Add([]byte{})
	f.Add([]byte{0})
	f.Add(blob.Blob[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := n.ImportRemotePrivateRoute(t.Context(), b)
		if (err == nil) == id.IsZero() {
			t.Errorf("%x gives %v, %v", b, id, err)
		}
	})
}

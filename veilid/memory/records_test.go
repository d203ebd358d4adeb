package memory

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/google/go-cmp/cmp"
)

// changes reads the changes that a subscription holds, as text.
func changes(t *testing.T, sub veilid.Subscription) (s []string) {
	t.Helper()
	for _, u := range pending(t, sub) {
		c := u.(*veilid.ValueChange)
		s = append(s, fmt.Sprintf("%v left %d: %s", c.Subkeys, int32(c.Count), text(c.Value)))
	}
	return s
}

func watchAt(t *testing.T, n *Node, d veilid.RecordDescriptor, opts veilid.WatchOptions) {
	t.Helper()
	active, err := ctxOf(n).WatchDHTValues(t.Context(), d.Key, opts)
	if err != nil || !active {
		t.Fatalf("WatchDHTValues = %v, %v", active, err)
	}
}

func TestWatch(t *testing.T) {
	const tick = time.Second
	world(t, func(t *testing.T, net *Network, a, b *Node) {
		d := create(t, a, 4, "x")
		openAt(t, b, d)
		sub := b.Subscribe(veilid.ValueChanges)
		expect := func(what string, want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, changes(t, sub)); diff != "" {
				t.Errorf("%s (-want +got)\n%s", what, diff)
			}
		}
		watchAt(t, b, d, veilid.WatchOptions{Subkeys: veilid.SubkeyRanges{{First: 0, Last: 2}}})
		set(t, a, d, 1, "one", "")
		expect("before the tick")
		elapse(tick)
		expect("one change", "[{1 1}] left -1: 0 one")
		get(t, b, d, 1, false, "0 one") // it came with the report

		set(t, a, d, 0, "y", "")
		set(t, a, d, 2, "two", "")
		set(t, a, d, 0, "z", "")
		set(t, a, d, 3, "not watched", "")
		elapse(tick)
		expect("several changes together", "[{0 0} {2 2}] left -1: ")
		get(t, b, d, 0, false, "2 z") // never read before: from the network

		set(t, a, d, 1, "read at once", "")
		get(t, b, d, 1, true, "1 read at once")
		elapse(tick)
		expect("what is known already")

		set(t, b, d, 1, "mine", "")
		elapse(tick)
		expect("an own write")
		get(t, a, d, 1, true, "2 mine")

		net.SetConditions(Conditions{Loss: 0.999999})
		set(t, a, d, 1, "lost", "")
		elapse(pollWatch)
		net.SetConditions(Conditions{})
		expect("a lost report")
		elapse(pollWatch + tick)
		expect("a lost report, later", "[{1 1}] left -1: 3 lost")

		b.SetOnline(false)
		set(t, a, d, 1, "away", "")
		elapse(time.Hour)
		expect("while offline")
		b.SetOnline(true)
		elapse(tick)
		expect("after coming back", "[{1 1}] left -1: 4 away")

		left, err := ctxOf(b).CancelDHTWatch(t.Context(), d.Key, veilid.Subkey(0))
		if err != nil || !left {
			t.Errorf("CancelDHTWatch = %v, %v", left, err)
		}
		set(t, a, d, 0, "cancelled", "")
		elapse(tick)
		expect("a cancelled subkey")

		count := uint32(2)
		watchAt(t, b, d, veilid.WatchOptions{Count: &count})
		for i := range 3 {
			set(t, a, d, 2, fmt.Sprint("count", i), "")
			elapse(tick)
		}
		expect("no more than asked for", "[{2 2}] left 1: 1 count0", "[{2 2}] left 0: 2 count1")

		watchAt(t, b, d, veilid.WatchOptions{Expiration: time.Now().Add(10 * time.Second)})
		watchAt(t, b, d, veilid.WatchOptions{Expiration: time.Now().Add(20 * time.Second)})
		elapse(10 * time.Second)
		expect("the replaced watch ends silently")
		elapse(10 * time.Second)
		expect("the watch expires", "[] left 0: ")

		watchAt(t, b, d, veilid.WatchOptions{})
		net.KillWatches(d.Key.Opaque())
		expect("the watch dies", "[] left 0: ")

		watchAt(t, b, d, veilid.WatchOptions{})
		ok(t, ctxOf(b).CloseDHTRecord(t.Context(), d.Key))
		set(t, a, d, 2, "closed", "")
		elapse(tick)
		expect("after the close")
	})
}

func TestTick(t *testing.T) {
	world(t, func(t *testing.T, net *Network, a, b *Node) {
		d := create(t, a, 1, "x")
		openAt(t, b, d)
		watchAt(t, b, d, veilid.WatchOptions{})
		sub := b.Subscribe(veilid.ValueChanges)
		set(t, a, d, 0, "y", "")
		start := time.Now()
		_, err := sub.Next(t.Context())
		if took := time.Since(start); err != nil || took != 3*time.Millisecond {
			t.Errorf("reported after %v, %v", took, err)
		}
	}, WithTick(3*time.Millisecond))
}

func TestForgetAndRehydrate(t *testing.T) {
	world(t, func(t *testing.T, net *Network, a, b *Node) {
		d := create(t, a, 2, "x")
		net.Forget(d.Key.Opaque())
		_, err := ctxOf(b).OpenDHTRecord(t.Context(), d.Key, veilid.OpenOptions{})
		is(t, "opening what the network forgot", err, veilid.ErrKeyNotFound)
		_, err = ctxOf(a).OpenDHTRecord(t.Context(), d.Key, veilid.OpenOptions{Writer: d.OwnerKeyPair(), Rehydrate: true})
		ok(t, err)
		elapse(time.Second)
		openAt(t, b, d)
		get(t, b, d, 0, true, "0 x")
	})
}

// TestDistantRecords checks what the network costs, and what happens where it is out of reach without being offline.
func TestDistantRecords(t *testing.T) {
	world(t, func(t *testing.T, net *Network, a, b *Node) {
		d := create(t, a, 2, "x")
		net.SetConditions(Conditions{Delay: 20 * time.Millisecond})
		a.SetRate(1000, 0)
		start := time.Now()
		took := func(what string, want time.Duration) {
			t.Helper()
			if got := time.Since(start); got != want {
				t.Errorf("%s took %v, want %v", what, got, want)
			}
			start = time.Now()
		}
		openAt(t, b, d)
		took("open", 80*time.Millisecond)
		get(t, b, d, 0, false, "0 x")
		took("first get", 80*time.Millisecond)
		get(t, b, d, 0, false, "0 x")
		took("local get", 0)
		set(t, a, d, 1, "0123456789", "")
		took("set of 10 bytes at 1000 B/s", 90*time.Millisecond)

		a.SetConditions(Conditions{Loss: 1})
		_, err := ctxOf(a).GetDHTValue(t.Context(), d.Key, 0, true)
		is(t, "get out of reach", err, veilid.ErrTryAgain)
		took("get out of reach", dhtTimeout)
		set(t, a, d, 1, "queued", "")
		took("set out of reach", dhtTimeout)
		elapse(time.Minute)
		get(t, b, d, 1, true, "0 0123456789")
		a.SetConditions(Conditions{})
		clean, err := ctxOf(a).FlushDHTRecord(t.Context(), d.Key, 2*time.Second)
		if err != nil || !clean {
			t.Errorf("flush = %v, %v", clean, err)
		}
		get(t, b, d, 1, true, "1 queued")
	})
}

func TestTransactionEnds(t *testing.T) {
	world(t, func(t *testing.T, net *Network, a, b *Node) {
		d := create(t, a, 2, "x")
		begin := func() veilid.DHTTransaction {
			t.Helper()
			tx, err := a.TransactDHTRecords(t.Context(), []veilid.RecordKey{d.Key}, veilid.TransactOptions{})
			ok(t, err)
			return tx
		}
		tx := begin()
		elapse(time.Hour) // kept alive
		_, err := tx.Get(t.Context(), d.Key, 0)
		ok(t, err)
		a.SetOnline(false)
		elapse(transactionLife / 2)
		_, err = tx.Get(t.Context(), d.Key, 0)
		is(t, "command while offline", err, veilid.ErrTryAgain)
		a.SetOnline(true)
		_, err = tx.Get(t.Context(), d.Key, 0)
		ok(t, err)
		a.SetOnline(false)
		elapse(transactionLife)
		a.SetOnline(true)
		_, err = tx.Get(t.Context(), d.Key, 0)
		is(t, "command after being offline for long", err, veilid.ErrTransactionNotFound)
		is(t, "rollback then", tx.Rollback(t.Context()), veilid.ErrTransactionNotFound)

		tx = begin()
		_, err = tx.Set(t.Context(), d.Key, 1, []byte("no"), veilid.SetOptions{})
		ok(t, err)
		ok(t, ctxOf(a).CloseDHTRecord(t.Context(), d.Key))
		is(t, "commit after the close", tx.Commit(t.Context()), veilid.ErrTransactionNotFound)
		openAt(t, a, d)
		get(t, a, d, 1, true, "")
		a.SetOnline(false)
		set(t, a, d, 1, "queued", "")
		a.SetOnline(true)
		_, err = a.TransactDHTRecords(t.Context(), []veilid.RecordKey{d.Key}, veilid.TransactOptions{})
		is(t, "transaction with a queued write", err, veilid.ErrTryAgain)
	})
}

// TestLegacyRecord works on a record without an encryption key.
func TestLegacyRecord(t *testing.T) {
	world(t, func(t *testing.T, net *Network, a, b *Node) {
		d := create(t, a, 2, "sealed")
		clear := d
		clear.Key = veilid.NewRecordKey(d.Key.Opaque(), veilid.SharedSecret{})
		set(t, a, clear, 1, "clear", "")
		openAt(t, b, clear)
		get(t, b, clear, 1, true, "0 clear")
		_, err := ctxOf(b).GetDHTValue(t.Context(), d.Key, 1, true)
		is(t, "reading what is clear with a key", err, veilid.ErrGeneric)
	})
}

// TestLastVersion writes at the end of the sequence numbers.
func TestLastVersion(t *testing.T) {
	world(t, func(t *testing.T, net *Network, a, _ *Node) {
		d := create(t, a, 1, "x")
		last := ^uint32(0) - 1
		_, err := ctxOf(a).SetDHTValue(t.Context(), d.Key, 0, []byte("last"), veilid.SetOptions{MinSeq: &last})
		ok(t, err)
		get(t, a, d, 0, true, fmt.Sprint(last, " last"))
		_, err = ctxOf(a).SetDHTValue(t.Context(), d.Key, 0, []byte("more"), veilid.SetOptions{})
		is(t, "a write after the last one", err, veilid.ErrGeneric)
	})
}

// TestStorm lets everything happen at once, in real time, for the race detector; then all nodes must agree.
func TestStorm(t *testing.T) {
	net := NewNetwork(WithTick(time.Millisecond))
	defer net.Close()
	net.SetConditions(Conditions{Jitter: 200 * time.Microsecond})
	nodes := []*Node{net.NewNode("a"), net.NewNode("b"), net.NewNode("c")}
	d := create(t, nodes[0], 4, "x")
	var wg sync.WaitGroup
	for i, n := range nodes {
		_, err := ctxOf(n).OpenDHTRecord(t.Context(), d.Key, veilid.OpenOptions{Writer: d.OwnerKeyPair()})
		ok(t, err)
		watchAt(t, n, d, veilid.WatchOptions{})
		echo(t, n)
		to := link(t, nodes[(i+1)%3], n)
		for range 3 {
			wg.Go(func() {
				for j := range 100 {
					var err error
					switch r := ctxOf(n); rand.IntN(8) {
					case 0, 1:
						_, err = r.SetDHTValue(t.Context(), d.Key, uint32(j%4), fmt.Append(nil, i, j), veilid.SetOptions{})
					case 2:
						_, err = r.GetDHTValue(t.Context(), d.Key, uint32(j%4), true)
					case 3:
						_, err = r.InspectDHTRecord(t.Context(), d.Key, nil, veilid.ScopeUpdateGet)
					case 4:
						n.SetOnline(j%2 == 0)
					case 5:
						err = ctxOf(nodes[(i+1)%3]).AppMessage(t.Context(), to, []byte("hi"))
					case 6:
						var tx veilid.DHTTransaction
						if tx, err = n.TransactDHTRecords(t.Context(), []veilid.RecordKey{d.Key}, veilid.TransactOptions{}); err == nil {
							_, err = tx.Set(t.Context(), d.Key, uint32(j%4), fmt.Append(nil, "tx", i, j), veilid.SetOptions{})
							err = errors.Join(err, tx.Commit(t.Context()))
						}
					case 7:
						watchAt(t, n, d, veilid.WatchOptions{})
					}
					if err != nil && !errors.Is(err, veilid.ErrTryAgain) {
						t.Errorf("node %d: %v", i, err)
					}
				}
			})
		}
	}
	wg.Wait()
	for _, n := range nodes {
		n.SetOnline(true)
		if clean, err := ctxOf(n).FlushDHTRecord(t.Context(), d.Key, 10*time.Second); err != nil || !clean {
			t.Errorf("flush = %v, %v", clean, err)
		}
	}
	for subkey := range uint32(4) {
		v, err := ctxOf(nodes[0]).GetDHTValue(t.Context(), d.Key, subkey, true)
		ok(t, err)
		for _, n := range nodes[1:] {
			get(t, n, d, subkey, true, text(v))
		}
	}
}

// TestQueuedMeetsOnline checks what happens to queued writes between coming back and the tick that publishes them.
func TestQueuedMeetsOnline(t *testing.T) {
	world(t, func(t *testing.T, net *Network, a, b *Node) {
		d := create(t, a, 2, "x")
		openAt(t, b, d)
		offline := func() int {
			t.Helper()
			r, err := ctxOf(a).InspectDHTRecord(t.Context(), d.Key, nil, veilid.ScopeLocal)
			ok(t, err)
			return len(r.OfflineSubkeys)
		}
		a.SetOnline(false)
		set(t, a, d, 0, "queued", "")
		a.SetOnline(true)
		set(t, a, d, 0, "direct", "")
		if n := offline(); n != 0 {
			t.Errorf("%d subkeys wait after a later write was published", n)
		}
		get(t, b, d, 0, true, "2 direct")

		a.SetOnline(false)
		set(t, a, d, 0, "mine", "")
		set(t, b, d, 0, "b's", "")
		a.SetOnline(true)
		get(t, a, d, 0, true, "3 mine") // it waits to be published: a get does not undo it
		if n := offline(); n != 1 {
			t.Errorf("%d subkeys wait, want 1", n)
		}
		elapse(time.Second)
		get(t, a, d, 0, false, "3 b's") // the network had another version 3
		if n := offline(); n != 0 {
			t.Errorf("%d subkeys wait after the tick", n)
		}

		a.SetOnline(false)
		set(t, a, d, 0, "old", "")
		set(t, b, d, 0, "newer", "")
		set(t, b, d, 0, "newest", "")
		a.SetOnline(true)
		get(t, a, d, 0, true, "5 newest") // newer than what waits, which is lost
		if n := offline(); n != 0 {
			t.Errorf("%d subkeys wait after a newer value came", n)
		}
	})
}

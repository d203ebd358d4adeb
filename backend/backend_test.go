package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/exchange"
	"github.com/OpenArchive/save-dweb-go/group"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

func TestShareFiles(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, ga, gb := w.pair()
		defer a.stop()
		defer b.stop()
		sizes := []int{0, 1, 1000, 16384, 1 << 20, 1<<20 + 1, 3<<20 + 17}
		for _, n := range sizes {
			a.put(ga, fmt.Sprintf("%d.bin", n), bytesOf(n))
		}
		ra := b.peerRepo(gb, ga)
		for _, n := range sizes {
			b.get(ra, fmt.Sprintf("%d.bin", n), bytesOf(n))
		}
		if gb.Name() != "Group" || ra.Name() != "repo of a" || ra.CanWrite() {
			t.Errorf("group %q, repo %q, can write %v", gb.Name(), ra.Name(), ra.CanWrite())
		}
		b.put(gb, "back.txt", []byte("hello back"))
		a.get(a.peerRepo(ga, gb), "back.txt", []byte("hello back"))
		if _, err := ra.Put(w.ctx(), "x", strings.NewReader("x"), group.PutOptions{}); !errors.Is(err, group.ErrReadOnly) {
			t.Errorf("put into another member's repo: %v", err)
		}
		if err := ra.Delete(w.ctx(), "1.bin"); !errors.Is(err, group.ErrReadOnly) {
			t.Errorf("delete from another member's repo: %v", err)
		}
	})
}

// TestLive: what one member does the others see without asking.
func TestLive(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, ga, gb := w.pair()
		defer a.stop()
		defer b.stop()
		ra := b.peerRepo(gb, ga)
		a.put(ga, "one", []byte("1"))
		a.put(ga, "two", []byte("2"))
		w.eventually("both are listed", func() bool { return b.names(ra) == "one two" })
		if err := ga.Own().Delete(w.ctx(), "one"); err != nil {
			t.Fatal(err)
		}
		w.eventually("one is gone", func() bool { return b.names(ra) == "two" })
		if err := ga.SetName("Renamed"); err != nil {
			t.Fatal(err)
		}
		if err := ga.Own().SetName("new name"); err != nil {
			t.Fatal(err)
		}
		w.eventually("the names are there", func() bool { return gb.Name() == "Renamed" && ra.Name() == "new name" })
	})
}

// TestWatchDies: the network ends a watch; it is set up again and what happened meanwhile is seen.
func TestWatchDies(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, ga, gb := w.pair()
		defer a.stop()
		defer b.stop()
		w.eventually("quiet", func() bool { return len(ga.Members()) == 2 && ga.Published() && gb.Published() })
		for i := range 3 {
			w.net.KillWatches(ga.ID())
			name := fmt.Sprint("Name ", i) // no news tell of a group's name
			if err := ga.SetName(name); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			w.eventually("b sees the name", func() bool { return gb.Name() == name })
			if d := time.Since(began); d > time.Minute {
				t.Errorf("the name was seen after %v: by reconciliation only", d)
			}
		}
	})
}

func TestOffline(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, ga, gb := w.pair()
		defer a.stop()
		defer b.stop()
		a.put(ga, "before", []byte("0"))
		w.eventually("published", ga.Published)
		w.eventually("a sees b", func() bool { return len(ga.Members()) == 2 })
		a.node.SetOnline(false)
		w.eventually("a is offline", func() bool { return !a.State().Ready })
		f := a.put(ga, "meanwhile", []byte("1"))
		if f.Published || ga.Published() || ga.Own().Published() {
			t.Error("a file that was put while offline must be pending")
		}
		if got := a.names(ga.Own()); got != "before meanwhile" {
			t.Errorf("offline list %q", got)
		}
		a.same(ga.Own(), "meanwhile", []byte("1"))
		if ga.Name() != "Group" || len(ga.Members()) != 2 {
			t.Errorf("offline: name %q, %d members", ga.Name(), len(ga.Members()))
		}
		ctx, cancel := context.WithTimeout(w.ctx(), time.Minute)
		defer cancel()
		if err := ga.Refresh(ctx); !errors.Is(err, veilid.ErrTryAgain) {
			t.Errorf("refresh while offline: %v", err)
		}
		a.node.SetOnline(true)
		b.get(b.peerRepo(gb, ga), "meanwhile", []byte("1"))
		w.eventually("published", ga.Published)
		if f, err := ga.Own().File(w.ctx(), "meanwhile"); err != nil || !f.Published {
			t.Errorf("after publication: %+v, %v", f, err)
		}
	})
}

// TestOfflineCreate: a group can be made and filled while there is no network.
func TestOfflineCreate(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.device("a"), w.device("b")
		defer a.stop()
		defer b.stop()
		a.node.SetOnline(false)
		w.eventually("a is offline", func() bool { return !a.State().Ready })
		ga, err := a.CreateGroup(w.ctx(), "Made offline", "")
		if err != nil {
			t.Fatal(err)
		}
		a.put(ga, "f", []byte("data"))
		if ga.Published() {
			t.Error("nothing can be published yet")
		}
		a.node.SetOnline(true)
		w.eventually("published", ga.Published)
		gb := b.join(ga)
		b.get(b.peerRepo(gb, ga), "f", []byte("data"))
	})
}

func TestRestart(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, ga, gb := w.pair()
		defer b.stop()
		a.put(ga, "kept", bytesOf(5000))
		b.get(b.peerRepo(gb, ga), "kept", bytesOf(5000))
		id, repo := ga.ID(), ga.Own().ID()
		w.eventually("published", ga.Published)
		for range 2 {
			a.stop()
			a.load()
			a.node.SetOnline(false) // everything below needs no network
			gs := a.Groups()
			if len(gs) != 1 || gs[0].ID() != id || gs[0].Name() != "Group" {
				t.Fatalf("groups after restart: %v", gs)
			}
			ga = gs[0]
			if ga.Own() == nil || ga.Own().ID() != repo || ga.Own().Name() != "repo of a" || len(ga.Repos()) != 2 {
				t.Fatalf("repos after restart: %v", ga.Repos())
			}
			a.same(ga.Own(), "kept", bytesOf(5000))
			if err := a.Start(); err != nil {
				t.Fatal(err)
			}
			a.node.SetOnline(true)
			if err := ga.Refresh(w.ctx()); err != nil {
				t.Fatal(err)
			}
			if n := len(ga.Repos()); n != 2 {
				t.Fatalf("%d repos after restart: a second own one was made", n)
			}
		}
		a.put(ga, "later", []byte("x"))
		b.get(b.peerRepo(gb, ga), "later", []byte("x"))
		a.stop()
	})
}

func TestAway(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, ga, gb := w.pair()
		defer b.stop()
		a.put(ga, "f", bytesOf(100_000))
		ra := b.peerRepo(gb, ga)
		b.seen(ra, "f")
		a.stop()
		w.eventually("a is away", func() bool {
			for _, m := range gb.Members() {
				if !m.Own {
					return m.Away
				}
			}
			return false
		})
		job, err := b.Fetch(ra, "f")
		if err != nil {
			t.Fatal(err)
		}
		w.eventually("the fetch says why it waits", func() bool {
			j, err := b.Job(job.ID)
			return err == nil && j.State == JobRunning && j.Waiting != ""
		})
		a.start()
		j, err := b.WaitJob(w.ctx(), job.ID)
		if err != nil || j.State != JobDone {
			t.Fatalf("job %+v, %v", j, err)
		}
		b.same(ra, "f", bytesOf(100_000))
		a.stop()
	})
}

// TestJobsGoOn: a fetch that a restart of the receiver interrupts goes on by itself.
func TestJobsGoOn(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, ga, gb := w.pair()
		a.put(ga, "f", bytesOf(300_000))
		ra := b.peerRepo(gb, ga)
		b.seen(ra, "f")
		a.stop()
		if _, err := b.Fetch(ra, "f"); err != nil {
			t.Fatal(err)
		}
		b.stop()
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		ra = b.peerRepo(gb, ga)
		w.eventually("the file is here", func() bool {
			f, err := ra.File(w.ctx(), "f")
			return err == nil && f.Local
		})
		b.same(ra, "f", bytesOf(300_000))
	})
}

func TestConcurrentPuts(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, ga, gb := w.pair()
		defer a.stop()
		defer b.stop()
		const n = 60
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				if _, err := ga.Own().Put(w.ctx(), fmt.Sprintf("%02d", i), bytes.NewReader(bytesOf(i)), group.PutOptions{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if files, err := ga.Own().Files(w.ctx()); err != nil || len(files) != n {
			t.Fatalf("%d files, %v: want %d", len(files), err, n)
		}
		ra := b.peerRepo(gb, ga)
		w.eventually("b lists all", func() bool { return len(strings.Fields(b.names(ra))) == n })
		job, err := b.Sync(gb, nil)
		if err != nil {
			t.Fatal(err)
		}
		if j, err := b.WaitJob(w.ctx(), job.ID); err != nil || j.State != JobDone || j.FilesDone != n {
			t.Fatalf("sync %+v, %v", j, err)
		}
		for i := range n {
			b.same(ra, fmt.Sprintf("%02d", i), bytesOf(i))
		}
	})
}

func TestDeleteFreesSpace(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, ga, gb := w.pair()
		defer a.stop()
		defer b.stop()
		f := a.put(ga, "f", bytesOf(70_000))
		again := a.put(ga, "same bytes", bytesOf(70_000))
		if again.Blob != f.Blob {
			t.Error("the same bytes put twice must share a blob")
		}
		ra := b.peerRepo(gb, ga)
		b.get(ra, "f", bytesOf(70_000))
		held := func(d *device) bool {
			if _, err := d.Collect(w.ctx()); err != nil {
				t.Fatal(err)
			}
			_, err := d.store.Info(w.ctx(), f.Blob)
			return err == nil
		}
		if err := ga.Own().Delete(w.ctx(), "f"); err != nil {
			t.Fatal(err)
		}
		w.eventually("published", ga.Published)
		if !held(a) {
			t.Fatal("a blob that another name stands for is gone")
		}
		if err := ga.Own().Delete(w.ctx(), "same bytes"); err != nil {
			t.Fatal(err)
		}
		if err := ga.Own().Delete(w.ctx(), "same bytes"); !errors.Is(err, group.ErrFileNotFound) {
			t.Errorf("second delete: %v", err)
		}
		w.eventually("published", ga.Published)
		w.eventually("b lists nothing", func() bool { return b.names(ra) == "" })
		if held(a) || held(b) {
			t.Error("a blob that no repo lists is kept")
		}
	})
}

// TestRouteIsRepaired: a route that the network has lost is published again without anybody's doing.
func TestRouteIsRepaired(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, ga, gb := w.pair()
		defer a.stop()
		defer b.stop()
		ra := b.peerRepo(gb, ga)
		route := func() []byte {
			v, err := b.Node().Context(veilid.SafetySelection{}).GetDHTValue(w.ctx(), ra.Key(), 2, true)
			if err != nil || v == nil {
				return nil
			}
			return v.Data
		}
		w.eventually("a's route is published", func() bool { return len(route()) > 0 })
		before := route()
		_, err := a.Node().Context(veilid.SafetySelection{}).SetDHTValue(w.ctx(), ga.Own().Key(), 2, []byte{}, veilid.SetOptions{})
		if err != nil || len(route()) != 0 {
			t.Fatalf("the route is still there: %v", err)
		}
		<-time.After(2 * 5 * time.Minute) // at least one reconciliation
		w.eventually("it is published again", func() bool { return bytes.Equal(route(), before) })
	})
}

// TestTwoDevicesOfOneMember: the same repo key on two devices; neither's files are lost.
func TestTwoDevicesOfOneMember(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, ga, gb := w.pair()
		defer b.stop()
		a.put(ga, "old", []byte("0"))
		w.eventually("published", ga.Published)
		a.stop()
		twin := &device{w: w, name: "twin", table: &memTable{m: map[string][]byte{}}, store: &keptStore{Store: a.store.Store}}
		if err := twin.table.Put(a.table.m); err != nil {
			t.Fatal(err)
		}
		a.start()
		ga = mustGroup(a, ga)
		a.put(ga, "from a", []byte("1"))
		w.eventually("published", ga.Published)
		twin.start()
		defer a.stop()
		defer twin.stop()
		gt := mustGroup(twin, ga)
		twin.put(gt, "from twin", []byte("2"))
		ra := b.peerRepo(gb, ga)
		w.eventually("b sees all", func() bool { return b.names(ra) == "from a from twin old" })
	})
}

// TestStranger: who is not in the group gets nothing, not even the news that a blob exists.
func TestStranger(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, ga, _ := w.pair()
		s := w.device("stranger")
		defer a.stop()
		defer b.stop()
		defer s.stop()
		f := a.put(ga, "f", []byte("secret"))
		gs := s.create("Elsewhere")
		w.eventually("a has a route", func() bool { return a.State().Route != "" })
		peer := exchange.Peer{ID: "a", Route: func(context.Context, bool) ([]byte, error) {
			r, _ := a.x.Route()
			return r.Blob, nil
		}}
		_, err1 := s.x.Have(w.ctx(), gs.ID(), peer, []blobs.Hash{f.Blob})
		_, err2 := s.x.Have(w.ctx(), gs.ID(), peer, []blobs.Hash{blobs.Sum([]byte("no such blob"))})
		if !errors.Is(err1, exchange.ErrDenied) || !errors.Is(err2, exchange.ErrDenied) {
			t.Errorf("stranger: %v, %v: want ErrDenied for both", err1, err2)
		}
	})
}

func TestPing(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, ga, gb := w.pair()
		defer a.stop()
		w.eventually("b has a route", func() bool { return !a.peerRepo(ga, gb).Group().Members()[1].Away })
		pongs, err := a.Ping(w.ctx(), ga)
		if err != nil || len(pongs) != 1 || pongs[0].Err != nil {
			t.Fatalf("%+v, %v", pongs, err)
		}
		b.stop()
		pongs, err = a.Ping(w.ctx(), ga)
		if err != nil || len(pongs) != 1 || pongs[0].Err == nil {
			t.Fatalf("after b has gone: %+v, %v", pongs, err)
		}
	})
}

func TestEvents(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.device("a")
		w.eventually("ready", func() bool { return a.State().Ready })
		g := a.create("Group")
		a.put(g, "f", []byte("x"))
		w.eventually("published", g.Published)
		evs, err := a.Events(w.ctx(), 0)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for i, e := range evs {
			seen[e.Type] = true
			if i > 0 && e.Seq != evs[i-1].Seq+1 {
				t.Errorf("event %d follows %d", e.Seq, evs[i-1].Seq)
			}
		}
		for _, want := range []string{EventAttachment, EventGroupAdded, string(group.FilesChanged), string(group.Published)} {
			if !seen[want] {
				t.Errorf("no event %q", want)
			}
		}
		a.stop()
		if _, err := a.Events(w.ctx(), a.LastEvent()); !errors.Is(err, ErrClosed) {
			t.Errorf("events after close: %v", err)
		}
	})
}

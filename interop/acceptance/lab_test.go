package acceptance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/disk"
	"github.com/OpenArchive/save-dweb-go/exchange"
	"github.com/OpenArchive/save-dweb-go/group"
	"github.com/OpenArchive/save-dweb-go/group/invite"
	"github.com/OpenArchive/save-dweb-go/interop/lab"
	"github.com/OpenArchive/save-dweb-go/vault"
	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/remote"
)

// bench is a lab with backends on its nodes.
type bench struct {
	*testing.T
	ctx context.Context
	lab *lab.Lab
}

// device is a backend that can be stopped and started on the same data.
type device struct {
	*backend.Backend
	b   *bench
	dir string
	k   int
}

func (b *bench) check(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) device(k int) *device {
	b.Helper()
	d := &device{b: b, dir: b.TempDir(), k: k}
	d.start()
	b.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return d
}

func (d *device) start() {
	d.b.Helper()
	ctx := d.b.ctx
	v, err := vault.Open(ctx, filepath.Join(d.dir, "vault"), vault.Options{})
	d.b.check(err)
	store, err := disk.Open(ctx, filepath.Join(d.dir, "blobs"), disk.Options{})
	d.b.check(err)
	node, err := remote.Dial(ctx, d.b.lab.Socket(d.k), remote.Options{})
	d.b.check(err)
	d.Backend, err = backend.New(ctx, backend.Config{
		Node: node, Store: store, Table: backend.VaultTable(v), Device: fmt.Sprint("device ", d.k), Log: slog.New(slog.DiscardHandler),
	})
	d.b.check(err)
	d.b.check(d.Start())
	d.b.check(d.WaitReady(ctx))
}

func (d *device) restart() {
	d.b.Helper()
	d.b.check(d.Close(d.b.ctx))
	d.start()
}

func (b *bench) eventually(what string, ok func() bool) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 90*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			b.Fatalf("never came true: %s", what)
		case <-tick.C:
		}
	}
}

func (d *device) create(name string) *group.Group {
	d.b.Helper()
	g, err := d.CreateGroup(d.b.ctx, name, "repo")
	d.b.check(err)
	d.b.eventually("group is published", g.Published)
	return g
}

func (d *device) join(g *group.Group) *group.Group {
	d.b.Helper()
	l, err := g.Link(false)
	d.b.check(err)
	j, err := d.Join(d.b.ctx, l.Reveal(), "")
	d.b.check(err)
	d.b.check(j.Refresh(d.b.ctx))
	return j
}

func (b *bench) put(g *group.Group, name string, data []byte) group.File {
	b.Helper()
	f, err := g.Own().Put(b.ctx, name, bytes.NewReader(data), group.PutOptions{})
	b.check(err)
	return f
}

func (b *bench) read(r *group.Repo, name string) []byte {
	b.Helper()
	f, err := r.Open(b.ctx, name)
	b.check(err)
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size))
	b.check(err)
	return data
}

func (b *bench) repo(g *group.Group, of *group.Group) *group.Repo {
	b.Helper()
	var r *group.Repo
	b.eventually("member is seen", func() bool {
		var err error
		r, err = g.Repo(of.Own().ID())
		return err == nil
	})
	return r
}

// one finds the group after a restart.
func (d *device) one() *group.Group {
	d.b.Helper()
	if gs := d.Groups(); len(gs) == 1 {
		return gs[0]
	}
	d.b.Fatalf("%d groups, want one", len(d.Groups()))
	return nil
}

// record reads a subkey of a repo's record from the network, past all caches.
func (b *bench) record(d *device, r *group.Repo, subkey uint32) []byte {
	b.Helper()
	dht := d.Node().Context(veilid.SafetySelection{})
	_, err := dht.OpenDHTRecord(b.ctx, r.Key(), veilid.OpenOptions{})
	b.check(err)
	v, err := dht.GetDHTValue(b.ctx, r.Key(), subkey, true)
	b.check(err)
	if v == nil {
		return nil
	}
	return v.Data
}

// TestLabAcceptance: each subtest is named after the row of the reference's list that it stands for.
func TestLabAcceptance(t *testing.T) {
	l := lab.Start(t, 10)
	for _, c := range []struct {
		name string
		run  func(b *bench)
	}{
		{"08 refresh reloads a group", refreshReloads},
		{"09 close removes a group from the list", closeRemoves},
		{"41 message via private route", messageViaRoute},
		{"42 value change of a watched record", valueChange},
		{"43 44 45 groups, names and repos persist", persistence},
		{"46 47 48 blobs and the published collection", uploadBlob},
		{"49 link parses back", linkParses},
		{"51 short ciphertexts are refused", shortCiphertext},
		{"52 53 repos are listed", reposListed},
		{"54 55 59 download from peers who hold it", downloadFromPeers},
		{"56 57 58 files are added, found and deleted", files},
		{"62 100 joining makes one own repo", joinMakesRepo},
		{"73 a dead route is replaced", routeReset},
		{"83 85 a file is streamed and replaced", replaceFile},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			t.Cleanup(cancel)
			c.run(&bench{t, ctx, l})
		})
	}
}

func refreshReloads(b *bench) {
	a := b.device(2)
	g := a.create("Refresh")
	id := g.ID()
	b.check(g.Refresh(b.ctx))
	if g.ID() != id || g.Name() != "Refresh" {
		b.Errorf("after refresh: %v %q", g.ID(), g.Name())
	}
}

func closeRemoves(b *bench) {
	a := b.device(2)
	g := a.create("Close")
	b.check(a.CloseGroup(g.ID()))
	if n := len(a.Groups()); n != 0 {
		b.Errorf("%d groups after close", n)
	}
	if err := a.CloseGroup(g.ID()); !errors.Is(err, backend.ErrGroupNotFound) {
		b.Errorf("second close: %v", err)
	}
}

func messageViaRoute(b *bench) {
	a := b.device(2)
	g := a.create("Route")
	b.eventually("route is in the record", func() bool { return len(b.record(a, g.Own(), 2)) > 0 })
	sub := a.Node().Subscribe(veilid.AppMessages)
	defer sub.Close()
	id, err := a.Node().ImportRemotePrivateRoute(b.ctx, b.record(a, g.Own(), 2))
	b.check(err)
	b.check(a.Node().Context(veilid.SafetySelection{}).AppMessage(b.ctx, veilid.RouteTarget(id), []byte("hello")))
	for {
		u, err := sub.Next(b.ctx)
		b.check(err)
		if m, ok := u.(*veilid.AppMessage); ok && string(m.Message) == "hello" {
			return
		}
	}
}

func valueChange(b *bench) {
	a, c := b.device(2), b.device(3)
	g := a.create("Watch")
	j := c.join(g)
	r := b.repo(j, g)
	b.put(g, "new", []byte("x"))
	b.eventually("the change is seen without asking", func() bool { _, err := r.File(b.ctx, "new"); return err == nil })
}

func persistence(b *bench) {
	a := b.device(2)
	g := a.create("Persist")
	repo := g.Own().ID()
	b.check(g.Own().SetName("my repo"))
	for range 2 {
		a.restart()
		g = a.one()
		if g.Name() != "Persist" || g.Own() == nil || g.Own().ID() != repo || g.Own().Name() != "my repo" || len(g.Repos()) != 1 {
			b.Fatalf("after restart: %q, %d repos", g.Name(), len(g.Repos()))
		}
		b.check(g.Refresh(b.ctx))
		if len(g.Repos()) != 1 {
			b.Fatalf("%d repos after refresh", len(g.Repos()))
		}
	}
}

func uploadBlob(b *bench) {
	a := b.device(2)
	g := a.create("Blobs")
	data := bytes.Repeat([]byte("photo "), 200_000)
	f := b.put(g, "big", data)
	b.eventually("published", g.Published)
	if got := string(b.record(a, g.Own(), 1)); got != g.Own().LegacyRoot().String() || len(got) != 64 {
		b.Errorf("subkey 1 holds %q", got)
	}
	if !bytes.Equal(b.read(g.Own(), "big"), data) {
		b.Error("the file reads back otherwise")
	}
	info, err := a.Store().Info(b.ctx, f.Blob)
	if err != nil || !info.Complete {
		b.Errorf("blob: %+v, %v", info, err)
	}
}

func linkParses(b *bench) {
	a := b.device(2)
	g := a.create("Link")
	l, err := g.Link(false)
	b.check(err)
	p, err := invite.Parse(l.Reveal())
	if err != nil || !p.Group.Equal(g.Keys().Record) {
		b.Errorf("link: %v", err)
	}
}

func shortCiphertext(b *bench) {
	a := b.device(2)
	g := a.create("Short")
	for _, n := range []int{10, 24} {
		if _, err := g.Decrypt(make([]byte, n)); err == nil {
			b.Errorf("%d bytes decrypt", n)
		}
	}
	sealed, err := g.Encrypt([]byte("x"))
	b.check(err)
	if got, err := g.Decrypt(sealed); err != nil || string(got) != "x" {
		b.Errorf("round trip: %q, %v", got, err)
	}
}

func reposListed(b *bench) {
	a := b.device(2)
	g := a.create("Repos")
	rs := g.Repos()
	if len(rs) != 1 || rs[0] != g.Own() || !rs[0].CanWrite() {
		b.Errorf("repos %v", rs)
	}
}

func downloadFromPeers(b *bench) {
	a, c, e := b.device(2), b.device(3), b.device(4)
	g := a.create("Peers")
	data := bytes.Repeat([]byte{7}, 400_000)
	before := g.Own().LegacyRoot()
	f := b.put(g, "f", data)
	if g.Own().LegacyRoot() == before {
		b.Error("the collection's hash did not change")
	}
	j := c.join(g)
	r := b.repo(j, g)
	b.eventually("f is listed", func() bool { _, err := r.File(b.ctx, "f"); return err == nil })
	var held []group.Member
	b.eventually("a says that it holds f", func() bool {
		var err error
		held, err = j.Holders(b.ctx, r, "f")
		return err == nil && len(held) == 1
	})
	b.check(r.Fetch(b.ctx, "f", func(exchange.Progress) {}))
	if !bytes.Equal(b.read(r, "f"), data) {
		b.Error("f differs")
	}
	// Now two hold it: the third device gets it while its owner is gone.
	je := e.join(g)
	re := b.repo(je, g)
	b.eventually("f is listed", func() bool { _, err := re.File(b.ctx, "f"); return err == nil })
	b.eventually("c is seen", func() bool { return len(je.Members()) == 3 })
	b.check(a.CloseGroup(g.ID()))
	b.check(re.Fetch(b.ctx, "f", nil))
	if info, err := e.Store().Info(b.ctx, f.Blob); err != nil || !info.Complete {
		b.Errorf("blob at the third device: %v", err)
	}
}

func files(b *bench) {
	a := b.device(2)
	g := a.create("Files")
	empty := g.Own().Root()
	f := b.put(g, "a.txt", []byte("content"))
	if list, err := g.Own().Files(b.ctx); err != nil || len(list) != 1 || list[0].Name != "a.txt" {
		b.Errorf("list %v, %v", list, err)
	}
	if h, err := g.Own().Blob("a.txt"); err != nil || h != f.Blob {
		b.Errorf("hash %v, %v", h, err)
	}
	if _, err := g.Own().Blob("missing"); !errors.Is(err, group.ErrFileNotFound) {
		b.Errorf("missing: %v", err)
	}
	full := g.Own().Root()
	b.check(g.Own().Delete(b.ctx, "a.txt"))
	if list, err := g.Own().Files(b.ctx); err != nil || len(list) != 0 {
		b.Errorf("list after delete %v, %v", list, err)
	}
	if full == empty || g.Own().Root() == full {
		b.Error("the root must change with every change")
	}
	b.eventually("published", g.Published)
}

func joinMakesRepo(b *bench) {
	a, c := b.device(2), b.device(3)
	g := a.create("Join")
	j := c.join(g)
	own := j.Own()
	if own == nil || !own.CanWrite() {
		b.Fatal("no own repo after joining")
	}
	b.put(j, "mine", []byte("data"))
	if string(b.read(own, "mine")) != "data" {
		b.Error("own file differs")
	}
	again, err := j.EnsureRepo(b.ctx, "other")
	if err != nil || again != own {
		b.Errorf("a second repo was made: %v", err)
	}
	b.eventually("two repos", func() bool { return len(j.Repos()) == 2 && len(g.Repos()) == 2 })
	for _, r := range g.Repos() {
		if r.CanWrite() != (r == g.Own()) {
			b.Error("only the own repo can be written")
		}
	}
}

func routeReset(b *bench) {
	a, c := b.device(2), b.device(3)
	g := a.create("Reset")
	j := c.join(g)
	r := b.repo(j, g)
	before := a.State().Route
	id, err := veilid.Parse[veilid.RouteID](before)
	b.check(err)
	b.put(g, "f", bytes.Repeat([]byte{1}, 100_000))
	b.eventually("published", g.Published)
	_, err = a.Node().Debug(b.ctx, "route release "+id.String())
	if err != nil {
		b.check(a.Node().ReleasePrivateRoute(b.ctx, id))
	}
	b.eventually("there is another route", func() bool { s := a.State().Route; return s != "" && s != before })
	b.eventually("f is listed", func() bool { _, err := r.File(b.ctx, "f"); return err == nil })
	b.check(r.Fetch(b.ctx, "f", nil))
}

func replaceFile(b *bench) {
	a := b.device(2)
	g := a.create("Replace")
	f := b.put(g, "f", []byte("one"))
	n := b.put(g, "f", []byte("two"))
	if f.Blob == n.Blob || string(b.read(g.Own(), "f")) != "two" {
		b.Error("the file was not replaced")
	}
	if _, err := g.Own().Put(b.ctx, "f", bytes.NewReader(nil), group.PutOptions{NoReplace: true}); !errors.Is(err, group.ErrFileExists) {
		b.Errorf("put without replacing: %v", err)
	}
	if _, err := a.Store().Info(b.ctx, blobs.EmptyHash); err != nil {
		b.Errorf("the empty blob: %v", err)
	}
}

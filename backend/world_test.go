package backend

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	blobmem "github.com/OpenArchive/save-dweb-go/blobs/memory"
	"github.com/OpenArchive/save-dweb-go/group"
	"github.com/OpenArchive/save-dweb-go/veilid/memory"
)

// world is a Veilid network in memory with some devices, in virtual time.
type world struct {
	t   *testing.T
	net *memory.Network
}

// inWorld runs a test in virtual time.
func inWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t, memory.NewNetwork()}
		defer w.net.Close()
		test(w)
	})
}

// device is a person's device: what stays when its backend stops, and the backend that runs now.
type device struct {
	*Backend
	w     *world
	name  string
	table *memTable
	store *keptStore
	node  *memory.Node
}

func (w *world) device(name string) *device {
	w.t.Helper()
	d := &device{w: w, name: name, table: &memTable{m: map[string][]byte{}}, store: &keptStore{Store: blobmem.New()}}
	d.start()
	return d
}

// start runs a backend on what the device keeps.
func (d *device) start() {
	d.w.t.Helper()
	d.load()
	if err := d.Start(); err != nil {
		d.w.t.Fatal(err)
	}
}

// load makes the backend without any work in the network.
func (d *device) load() {
	d.w.t.Helper()
	if d.node == nil {
		d.node = d.w.net.NewNode(d.name)
	} else {
		d.node = d.w.net.Reopen(d.name)
	}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(d.w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("device", d.name)
	}
	var err error
	d.Backend, err = New(d.w.ctx(), Config{Node: d.node, Store: d.store, Table: d.table, Device: d.name, Log: log})
	if err != nil {
		d.w.t.Fatal(err)
	}
}

func (d *device) stop() {
	d.w.t.Helper()
	if err := d.Close(d.w.ctx()); err != nil {
		d.w.t.Fatal(err)
	}
}

func (w *world) ctx() context.Context { return w.t.Context() }

// eventually waits, in virtual time, until ok holds.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for range 600 {
		if ok() {
			return
		}
		<-time.After(500 * time.Millisecond)
	}
	w.t.Fatalf("never came true: %s", what)
}

// pair is a group of two devices, a created it and b joined.
func (w *world) pair() (a, b *device, ga, gb *group.Group) {
	w.t.Helper()
	a, b = w.device("a"), w.device("b")
	ga = a.create("Group")
	gb = b.join(ga)
	return a, b, ga, gb
}

func (d *device) create(name string) *group.Group {
	d.w.t.Helper()
	d.w.eventually("node is ready", func() bool { return d.State().Ready })
	g, err := d.CreateGroup(d.w.ctx(), name, "repo of "+d.name)
	if err != nil {
		d.w.t.Fatal(err)
	}
	d.w.eventually("group is published", g.Published)
	return g
}

func (d *device) join(other *group.Group) *group.Group {
	d.w.t.Helper()
	link, err := other.Link(false)
	if err != nil {
		d.w.t.Fatal(err)
	}
	d.w.eventually("node is ready", func() bool { return d.State().Ready })
	g, err := d.Join(d.w.ctx(), link.Reveal(), "repo of "+d.name)
	if err != nil {
		d.w.t.Fatal(err)
	}
	if err := g.Refresh(d.w.ctx()); err != nil {
		d.w.t.Fatal(err)
	}
	return g
}

// bytesOf is test data: the same for the same size.
func bytesOf(size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)})
	r.Read(b)
	return b
}

func (d *device) put(g *group.Group, name string, data []byte) group.File {
	d.w.t.Helper()
	f, err := g.Own().Put(d.w.ctx(), name, bytes.NewReader(data), group.PutOptions{})
	if err != nil {
		d.w.t.Fatal(err)
	}
	return f
}

// peerRepo is the repo of another device as d sees it.
func (d *device) peerRepo(g *group.Group, of *group.Group) *group.Repo {
	d.w.t.Helper()
	id := of.Own().ID()
	var r *group.Repo
	d.w.eventually("member is seen", func() bool {
		var err error
		r, err = mustGroup(d, g).Repo(id)
		return err == nil
	})
	return r
}

func mustGroup(d *device, g *group.Group) *group.Group {
	got, err := d.GroupByID(g.ID())
	if err != nil {
		d.w.t.Fatal(err)
	}
	return got
}

// seen waits until d lists a file of another member.
func (d *device) seen(r *group.Repo, name string) {
	d.w.t.Helper()
	d.w.eventually(fmt.Sprintf("%s sees %s", d.name, name), func() bool {
		_, err := r.File(d.w.ctx(), name)
		return err == nil
	})
}

// get fetches a file and compares it.
func (d *device) get(r *group.Repo, name string, want []byte) {
	d.w.t.Helper()
	d.seen(r, name)
	if err := r.Fetch(d.w.ctx(), name, nil); err != nil {
		d.w.t.Fatal(err)
	}
	d.same(r, name, want)
}

// same compares a file that is here.
func (d *device) same(r *group.Repo, name string, want []byte) {
	d.w.t.Helper()
	f, err := r.Open(d.w.ctx(), name)
	if err != nil {
		d.w.t.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size))
	if err != nil || !bytes.Equal(got, want) {
		d.w.t.Fatalf("%s: %d bytes, %v: want %d bytes that are equal", name, len(got), err, len(want))
	}
}

func (d *device) names(r *group.Repo) string {
	d.w.t.Helper()
	files, err := r.Files(d.w.ctx())
	if err != nil {
		d.w.t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		out = append(out, f.Name)
	}
	return strings.Join(out, " ")
}

// memTable is a Table that outlives the backend.
type memTable struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (t *memTable) Get(key string) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.m[key]), nil
}

func (t *memTable) Put(values map[string][]byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, v := range values {
		if v == nil {
			delete(t.m, k)
		} else {
			t.m[k] = bytes.Clone(v)
		}
	}
	return nil
}

func (t *memTable) Each(prefix string, f func(string, []byte) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, v := range t.m {
		if strings.HasPrefix(k, prefix) {
			if err := f(k, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *memTable) Scrub() error { return nil }
func (t *memTable) Close() error { return nil }

// keptStore is a store that outlives the backend, which closes it.
type keptStore struct{ blobs.Store }

func (keptStore) Close() error { return nil }

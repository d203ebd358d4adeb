package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
	"github.com/OpenArchive/save-dweb-go/blobs/storetest"
)

// fullDisk is a file of temp on a disk that has room for so many bytes.
type fullDisk struct {
	tempFile
	room *int
	sync error
}

func (f fullDisk) Write(p []byte) (int, error) {
	if *f.room -= len(p); *f.room < 0 {
		return 0, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
	}
	return f.tempFile.Write(p)
}

func (f fullDisk) Sync() error { return errors.Join(f.sync, f.tempFile.Sync()) }

func TestAddNoSpace(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	data := storetest.Data(17<<20, 80)
	outboard := int(bao.OutboardSize(uint64(len(data))))
	for name, c := range map[string]struct {
		room int
		sync error
	}{
		"at once":     {0, nil},
		"in the data": {5 << 20, nil},
		"in outboard": {len(data) + outboard - 1, nil},
		"at the sync": {1 << 30, syscall.EDQUOT},
	} {
		room := c.room
		s.newTemp = func() (tempFile, error) {
			f, err := s.createTemp()
			return fullDisk{f, &room, c.sync}, err
		}
		if _, _, err := s.Add(t.Context(), bytes.NewReader(data)); !errors.Is(err, blobs.ErrNoSpace) {
			t.Errorf("disk full %s: %v, want ErrNoSpace", name, err)
		}
		if got := files(t, dir); got != nil {
			t.Errorf("disk full %s: left are %v", name, got)
		}
		if _, err := s.Info(t.Context(), blobs.Sum(data)); !errors.Is(err, blobs.ErrNotFound) {
			t.Errorf("disk full %s: %v", name, err)
		}
	}
	s.newTemp = s.createTemp
	storetest.Add(t, s, data)
	storetest.Check(t, s, data)
}

// faultyTables fail when told to, and record what is there when changes are made.
type faultyTables struct {
	Tables
	mu    sync.Mutex
	fail  error
	apply func([]Change)
	calls int
}

func (f *faultyTables) Apply(ctx context.Context, changes []Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.apply != nil {
		f.apply(changes)
	}
	if f.fail != nil {
		return f.fail
	}
	return f.Tables.Apply(ctx, changes)
}

func (f *faultyTables) set(fail error, apply func([]Change)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail, f.apply = fail, apply
}

func faulty(t *testing.T, s *Store) *faultyTables {
	f := &faultyTables{Tables: s.tables}
	s.tables, s.commits.tables = f, f
	return f
}

func TestMetadataFails(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	tables := faulty(t, s)
	full := fmt.Errorf("tables: %w", syscall.ENOSPC)
	for _, size := range []int{100, 50_000, 17 << 20} {
		tables.set(full, nil)
		data := storetest.Data(size, 81)
		if _, _, err := s.Add(t.Context(), bytes.NewReader(data)); !errors.Is(err, blobs.ErrNoSpace) {
			t.Errorf("add of %d bytes: %v, want ErrNoSpace", size, err)
		}
		if got := files(t, dir); got != nil {
			t.Errorf("add of %d bytes left %v", size, got)
		}
		tables.set(nil, nil)
		storetest.Add(t, s, data)
		storetest.Check(t, s, data)
		if err := s.Delete(t.Context(), blobs.Sum(data)); err != nil {
			t.Fatal(err)
		}
		if size > syncBytes {
			continue // every group would wait for the disk
		}

		// The same for a partial blob, and it goes on afterwards.
		f := storetest.NewFeed(data)
		p, err := f.Start(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		tables.set(full, nil)
		for i := range f.Groups() {
			if err := f.Write(p, i); err != nil && !errors.Is(err, blobs.ErrNoSpace) {
				t.Fatal(err)
			}
		}
		if done, err := p.Complete(t.Context()); done || !errors.Is(err, blobs.ErrNoSpace) {
			t.Errorf("complete: %t, %v, want ErrNoSpace", done, err)
		}
		tables.set(nil, nil)
		if n, err := f.CheckServed(t.Context(), s); n != f.Groups() || err != nil {
			t.Errorf("%d groups of %d are served: %v", n, f.Groups(), err)
		}
		if done, err := p.Complete(t.Context()); !done || err != nil {
			t.Errorf("complete: %t, %v", done, err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		storetest.Check(t, s, data)
		if err := s.Delete(t.Context(), f.Hash); err != nil {
			t.Fatal(err)
		}
	}
}

// A full disk may have no room for the metadata of a removal, which is what would make some.
func TestDeleteNoSpace(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	tables := faulty(t, s)
	h := storetest.Add(t, s, storetest.Data(50_000, 84))
	tables.set(syscall.ENOSPC, func([]Change) {
		if len(files(t, dir)) == 0 {
			tables.fail = nil
		}
	})
	if err := s.Delete(t.Context(), h); err != nil {
		t.Error(err)
	}
	if _, err := s.Info(t.Context(), h); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("info: %v", err)
	}
}

// The metadata must not speak of files before they are in place and on stable storage.
func TestOrder(t *testing.T) {
	s := openStore(t, t.TempDir())
	tables := faulty(t, s)
	data := storetest.Data(17<<20, 82)
	h := blobs.Sum(data)
	synced := map[string]bool{}
	s.newTemp = func() (tempFile, error) {
		f, err := s.createTemp()
		return recorder{f, synced}, err
	}
	checked := 0
	tables.set(nil, func(changes []Change) {
		if checked++; len(synced) != 2 {
			t.Errorf("%d files are synced before the metadata, want data and outboard", len(synced))
		}
		got, err := os.ReadFile(s.path(h, dataSuffix))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("data is not in place before the metadata: %v", err)
		}
		if _, err := os.Stat(s.path(h, pairsSuffix)); err != nil {
			t.Error(err)
		}
	})
	storetest.Add(t, s, data)
	if checked != 1 {
		t.Errorf("%d commits for one blob, want 1", checked)
	}
	tables.set(nil, func([]Change) {
		checked++
		if _, err := os.Stat(s.path(h, dataSuffix)); err != nil {
			t.Error("the file is gone before the metadata:", err)
		}
	})
	if err := s.Delete(t.Context(), h); err != nil || checked != 2 {
		t.Error("delete:", err)
	}
}

type recorder struct {
	tempFile
	synced map[string]bool
}

func (r recorder) Sync() error {
	r.synced[r.Name()] = true
	return r.tempFile.Sync()
}

// A partial blob that is about to write its state when the whole blob is added must not make it partial again.
func TestSyncWhileAdded(t *testing.T) {
	s := openStore(t, t.TempDir())
	tables := faulty(t, s)
	f := storetest.NewFeed(storetest.Data(50_000, 87))
	w, err := f.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := f.Write(w, 1); err != nil {
		t.Fatal(err)
	}
	synced := make(chan error, 1)
	p := s.partial(f.Hash)
	tables.set(nil, func([]Change) {
		tables.apply = nil
		go func() { synced <- p.sync() }()
	})
	storetest.Add(t, s, f.Data)
	if err := <-synced; err != nil {
		t.Fatal(err)
	}
	storetest.Check(t, s, f.Data)
}

// Close waits for a removal that is under way, so that it cannot meet the files of the next process.
func TestCloseWaits(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	tables := faulty(t, s)
	h := storetest.Add(t, s, storetest.Data(50_000, 88))
	inside, release := make(chan struct{}), make(chan struct{})
	tables.set(nil, func([]Change) { close(inside); <-release })
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Delete(t.Context(), h); err != nil {
			t.Error(err)
		}
	})
	<-inside
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	for s.alive(t.Context()) == nil {
		runtime.Gosched()
	}
	select {
	case <-closed:
		t.Error("Close did not wait")
	default:
	}
	close(release)
	wg.Wait()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := s.SetTag(t.Context(), "late", blobs.HashAndFormat{}); !errors.Is(err, blobs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if got := files(t, dir); got != nil {
		t.Errorf("left are %v", got)
	}
}

// What comes at the same time goes into one commit, and who fails does so alone.
func TestCommitsTogether(t *testing.T) {
	s := openStore(t, t.TempDir())
	tables := faulty(t, s)
	inside, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	bad := errors.New("bad change")
	tables.set(nil, func(changes []Change) {
		once.Do(func() { close(inside); <-release })
	})
	apply := tables.Tables
	tables.Tables = choosy{apply, bad}
	var wg sync.WaitGroup
	wg.Go(func() { setTag(t, s, "first", nil) })
	<-inside
	const n = 40
	for i := range n {
		wg.Go(func() { setTag(t, s, fmt.Sprint("tag ", i), nil) })
	}
	wg.Go(func() { setTag(t, s, "bad", bad) })
	for waiting := 0; waiting < n+1; {
		s.commits.mu.Lock()
		waiting = len(s.commits.waiting)
		s.commits.mu.Unlock()
		runtime.Gosched()
	}
	close(release)
	wg.Wait()
	if tables.calls != 1+1+n+1 { // the first, all together, and then each by itself
		t.Errorf("%d commits, want %d", tables.calls, n+3)
	}
	tags, err := s.Tags(t.Context(), "tag ")
	if err != nil || len(tags) != n {
		t.Errorf("%d tags, %v, want %d", len(tags), err, n)
	}
}

func setTag(t *testing.T, s *Store, name string, want error) {
	if err := s.SetTag(t.Context(), name, blobs.HashAndFormat{}); !errors.Is(err, want) {
		t.Errorf("tag %s: %v, want %v", name, err, want)
	}
}

// choosy tables do not take a tag named "bad".
type choosy struct {
	Tables
	err error
}

func (c choosy) Apply(ctx context.Context, changes []Change) error {
	if slices.ContainsFunc(changes, func(c Change) bool { return string(c.Key) == "tbad" }) {
		return c.err
	}
	return c.Tables.Apply(ctx, changes)
}

// The state of a partial blob is written two seconds after the first group, or after 8 MiB.
func TestPartialSyncs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(t.Context(), dir, Options{LockWait: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		f := storetest.NewFeed(storetest.Data(10<<20, 83))
		p, err := f.Start(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		stored := func() uint64 {
			t.Helper()
			e, err := s.load(t.Context(), f.Hash)
			if err != nil && !errors.Is(err, blobs.ErrNotFound) {
				t.Fatal(err)
			}
			return e.have.count
		}
		write := func(first, end uint64) {
			t.Helper()
			for i := first; i < end; i++ {
				if err := f.Write(p, i); err != nil {
					t.Fatal(err)
				}
			}
		}
		write(0, 1)
		<-time.After(syncAfter - time.Millisecond)
		synctest.Wait()
		if n := stored(); n != 0 {
			t.Errorf("%d groups are stored before their time", n)
		}
		<-time.After(2 * time.Millisecond)
		synctest.Wait()
		if n := stored(); n != 1 {
			t.Errorf("%d groups are stored after two seconds, want 1", n)
		}
		write(1, 520)
		if n := stored(); n != 513 {
			t.Errorf("%d groups are stored, want 513: the first and 8 MiB", n)
		}
		<-time.After(syncAfter)
		synctest.Wait()
		if n := stored(); n != 520 {
			t.Errorf("%d groups are stored after two seconds more, want 520", n)
		}
	})
}

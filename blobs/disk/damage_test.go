package disk

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
	"github.com/OpenArchive/save-dweb-go/blobs/storetest"
)

// flip changes one bit of a file in place.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func flipTable(t *testing.T, s *Store, table string, h blobs.Hash, at int) {
	t.Helper()
	v, err := s.tables.Get(t.Context(), table, h[:])
	if err != nil || v == nil {
		t.Fatalf("nothing in %s: %v", table, err)
	}
	v[at] ^= 0x10
	if err := s.tables.Apply(t.Context(), []Change{set(table, h[:], v)}); err != nil {
		t.Fatal(err)
	}
}

func TestDamage(t *testing.T) {
	const big = 17 << 20 // its outboard is a file
	for _, c := range []struct {
		name   string
		size   int
		damage func(t *testing.T, s *Store, h blobs.Hash)
		bad    func(group uint64) bool
		opens  bool
	}{
		{"data", 100_000, func(t *testing.T, s *Store, h blobs.Hash) { flip(t, s.path(h, dataSuffix), 2*bao.GroupSize+5) },
			func(g uint64) bool { return g == 2 }, true},
		{"short data", 100_000, func(t *testing.T, s *Store, h blobs.Hash) {
			if err := os.Truncate(s.path(h, dataSuffix), 3*bao.GroupSize+1); err != nil {
				t.Fatal(err)
			}
		}, func(g uint64) bool { return g >= 3 }, true},
		{"no data", 100_000, func(t *testing.T, s *Store, h blobs.Hash) { os.Remove(s.path(h, dataSuffix)) }, nil, false},
		{"data in table", 10_000, func(t *testing.T, s *Store, h blobs.Hash) { flipTable(t, s, tableData, h, 77) },
			func(uint64) bool { return true }, true},
		{"no data in table", 10_000, func(t *testing.T, s *Store, h blobs.Hash) {
			if err := s.tables.Apply(t.Context(), []Change{unset(tableData, h[:])}); err != nil {
				t.Fatal(err)
			}
		}, nil, false},
		{"outboard in table", 100_000, func(t *testing.T, s *Store, h blobs.Hash) { flipTable(t, s, tableOutboards, h, 0) },
			func(uint64) bool { return true }, true},
		{"short outboard in table", 100_000, func(t *testing.T, s *Store, h blobs.Hash) {
			if err := s.tables.Apply(t.Context(), []Change{set(tableOutboards, h[:], []byte("short"))}); err != nil {
				t.Fatal(err)
			}
		}, nil, false},
		{"outboard file", big, func(t *testing.T, s *Store, h blobs.Hash) {
			flip(t, s.path(h, pairsSuffix), int64(bao.OutboardSize(big))-1)
		}, func(g uint64) bool { return g >= 1086 }, true},
		{"no outboard file", big, func(t *testing.T, s *Store, h blobs.Hash) { os.Remove(s.path(h, pairsSuffix)) }, nil, false},
		{"metadata", 100_000, func(t *testing.T, s *Store, h blobs.Hash) { flipTable(t, s, tableBlobs, h, 3) }, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			data := storetest.Data(c.size, 60)
			h := storetest.Add(t, s, data)
			c.damage(t, s, h)
			if err := s.Verify(t.Context(), h); !errors.Is(err, blobs.ErrCorrupt) {
				t.Errorf("verify: %v, want ErrCorrupt", err)
			}
			b, err := s.Open(t.Context(), h)
			if !c.opens {
				if !errors.Is(err, blobs.ErrCorrupt) {
					t.Errorf("open: %v, want ErrCorrupt", err)
				}
			} else if err != nil {
				t.Fatal(err)
			} else {
				checkDamaged(t, b, data, c.bad)
				b.Close()
			}
			storetest.Add(t, s, data) // repairs
			storetest.Check(t, s, data)
		})
	}
}

// checkDamaged wants ErrCorrupt, and not one byte, of the groups that are bad, and the others as they should be.
func checkDamaged(t *testing.T, b blobs.Blob, data []byte, bad func(uint64) bool) {
	t.Helper()
	size := uint64(len(data))
	buf := make([]byte, bao.GroupSize)
	good := uint64(0) // up to the first bad one
	for i := range bao.Groups(size) {
		n, err := b.ReadAt(buf[:bao.GroupLen(size, i)], int64(i*bao.GroupSize))
		var encoded bytes.Buffer
		encodeErr := b.Encode(&encoded, bao.GroupSpan(i, i+1))
		if bad(i) {
			if n != 0 || !errors.Is(err, blobs.ErrCorrupt) || encoded.Len() != 0 || !errors.Is(encodeErr, blobs.ErrCorrupt) {
				t.Errorf("bad group %d: read %d bytes, %v; encoded %d, %v", i, n, err, encoded.Len(), encodeErr)
			}
			continue
		}
		if good == i {
			good++
		}
		if err != nil || encodeErr != nil || !bytes.Equal(buf[:n], data[i*bao.GroupSize:][:n]) {
			t.Errorf("good group %d: %v, %v, or wrong bytes", i, err, encodeErr)
		}
	}
	all := make([]byte, size)
	n, err := b.ReadAt(all, 0)
	if uint64(n) != good*bao.GroupSize || !errors.Is(err, blobs.ErrCorrupt) || !bytes.Equal(all[:n], data[:n]) {
		t.Errorf("read all: %d bytes, %v, want the %d groups before the bad one", n, err, good)
	}
	if len(bytes.Trim(all[n:], "\x00")) > 0 {
		t.Error("bytes that failed verification are in the reader's buffer")
	}
	if err := b.Encode(io.Discard, bao.All()); !errors.Is(err, blobs.ErrCorrupt) {
		t.Errorf("encode all: %v, want ErrCorrupt", err)
	}
}

// partialOf leaves a partial blob of these groups and closes the store.
func partialOf(t *testing.T, dir string, f *storetest.Feed, groups ...uint64) {
	t.Helper()
	s := openStore(t, dir)
	p, err := f.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range groups {
		if err := f.Write(p, i); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(p.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// finish writes what is missing and completes the blob.
func finish(t *testing.T, s *Store, f *storetest.Feed) {
	t.Helper()
	p, err := f.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	have := p.Info().Have
	for i := range f.Groups() {
		if have.Contains(i * bao.GroupChunks) {
			continue
		}
		if err := f.Write(p, i); err != nil {
			t.Fatal(err)
		}
	}
	if done, err := p.Complete(t.Context()); !done || err != nil {
		t.Fatalf("complete: %t, %v", done, err)
	}
	storetest.Check(t, s, f.Data)
}

// A group of a partial blob that proves corrupt is not here any more, and is fetched again.
func TestDamagedPartial(t *testing.T) {
	for name, c := range map[string]struct {
		suffix string
		at     int64
		left   bao.Ranges
	}{
		"data": {partSuffix, 3*bao.GroupSize + 1, bao.GroupSpan(0, 3).Union(bao.GroupSpan(4, 5))},
		// the pairs of 7 groups: 0 root, 1 of 0..3, 2 of 0..1, 3 of 2..3, 4 of 4..6, ...
		"outboard": {pairsSuffix, 3 * bao.PairSize, bao.GroupSpan(0, 2).Union(bao.GroupSpan(4, 5))},
	} {
		t.Run(name, func(t *testing.T) {
			dir, f := t.TempDir(), storetest.NewFeed(storetest.Data(100_000, 61))
			partialOf(t, dir, f, 0, 1, 2, 3, 4)
			s := openStore(t, dir)
			flip(t, s.path(f.Hash, c.suffix), c.at)
			if err := s.Verify(t.Context(), f.Hash); !errors.Is(err, blobs.ErrCorrupt) {
				t.Errorf("verify: %v", err)
			}
			info, err := f.CheckPartial(t.Context(), s)
			if err != nil || !info.Have.Equal(c.left) {
				t.Errorf("here are %v (%v), want %v", info.Have, err, c.left)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openStore(t, dir) // it is remembered
			if info, err := s.Info(t.Context(), f.Hash); err != nil || !info.Have.Equal(c.left) {
				t.Errorf("after reopening %v (%v), want %v", info.Have, err, c.left)
			}
			finish(t, s, f)
		})
	}
}

func TestPartialFilesGone(t *testing.T) {
	for _, suffix := range []string{partSuffix, pairsSuffix} {
		dir, f := t.TempDir(), storetest.NewFeed(storetest.Data(100_000, 62))
		partialOf(t, dir, f, 0, 6)
		s := openStore(t, dir)
		if err := os.Remove(s.path(f.Hash, suffix)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Open(t.Context(), f.Hash); !errors.Is(err, blobs.ErrNotFound) {
			t.Errorf("open without %s: %v", suffix, err)
		}
		finish(t, s, f)
	}
}

// A crash in the middle of a completion leaves the bytes under their final name and the metadata of a partial blob.
func TestCrashBeforeCompletion(t *testing.T) {
	dir, f := t.TempDir(), storetest.NewFeed(storetest.Data(100_000, 63))
	partialOf(t, dir, f, 0, 1, 2, 3, 4, 5, 6)
	s := openStore(t, dir)
	if err := os.Rename(s.path(f.Hash, partSuffix), s.path(f.Hash, dataSuffix)); err != nil {
		t.Fatal(err)
	}
	if err := s.SetTag(t.Context(), "t", blobs.HashAndFormat{Hash: f.Hash}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if info, err := f.CheckPartial(t.Context(), s); err != nil || !info.Have.IsAll() {
		t.Errorf("here are %v, %v", info.Have, err)
	}
	finish(t, s, f)
}

// files are the store's files of blobs and in temp.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	for _, sub := range []string{dataDir, tempDir} {
		err := filepath.WalkDir(filepath.Join(dir, sub), func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				names = append(names, filepath.Base(path))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

func TestWaste(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	data := storetest.Data(17<<20, 64)
	h := storetest.Add(t, s, data)
	if err := s.SetTag(t.Context(), "keep", blobs.HashAndFormat{Hash: h}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	orphan := blobs.Sum([]byte("orphan"))
	if err := os.MkdirAll(s.hashDir(orphan), 0o700); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, dataDir, "README.txt")
	for _, path := range []string{
		filepath.Join(dir, tempDir, "add-123"), s.path(orphan, dataSuffix), s.path(orphan, pairsSuffix), s.path(orphan, partSuffix),
		s.path(h, partSuffix), foreign,
	} {
		if err := os.WriteFile(path, []byte("waste"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = openStore(t, dir)
	if got := files(t, dir); len(got) != 7 {
		t.Errorf("after opening there are %v, want all but the one in temp", got)
	}
	if _, err := s.Info(t.Context(), orphan); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("a file without metadata is a blob: %v", err)
	}
	if _, err := s.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(files(t, dir), " "); got != "README.txt "+h.String()+".data "+h.String()+".obao4" &&
		got != h.String()+".data "+h.String()+".obao4 README.txt" {
		t.Errorf("after Collect there are %s", got)
	}
	storetest.Check(t, s, data)
	if err := s.Delete(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("after Delete there are %v", got)
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	if _, err := Open(t.Context(), dir, Options{LockWait: -1}); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openStore(t, dir)
}

func TestDatabaseTorn(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	storetest.Add(t, s, []byte("x"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, tablesFile), 5000); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, blobs.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
}

func TestCorruptMetadata(t *testing.T) {
	s := openStore(t, t.TempDir())
	h := storetest.Add(t, s, storetest.Data(50_000, 65))
	storetest.Add(t, s, []byte("good"))
	flipTable(t, s, tableBlobs, h, 2)
	if _, err := s.Info(t.Context(), h); !errors.Is(err, blobs.ErrCorrupt) {
		t.Errorf("info: %v", err)
	}
	if list, err := s.List(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%d are listed, %v, want the good one", len(list), err)
	}
	if count, err := s.Collect(t.Context(), nil); err != nil || count.Removed != 2 {
		t.Errorf("collect: %+v, %v", count, err)
	}
	if _, err := s.Info(t.Context(), h); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("info after Collect: %v", err)
	}
}

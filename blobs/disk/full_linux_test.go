package disk

import (
	"bytes"
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/storetest"
)

// TestLabDiskFull fills a real file system of 24 MiB.
func TestLabDiskFull(t *testing.T) {
	if os.Getenv("DWEB_LAB") == "" {
		t.Skip("mounts a file system: needs DWEB_LAB=1 and root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Skip("cannot mount a small file system:", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := openStore(t, dir)
	kept := storetest.Data(8<<20, 85)
	storetest.Add(t, s, kept)

	f := storetest.NewFeed(storetest.Data(18<<20, 86))
	if _, _, err := s.Add(t.Context(), bytes.NewReader(f.Data)); !errors.Is(err, blobs.ErrNoSpace) {
		t.Fatalf("add: %v, want ErrNoSpace", err)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("left are %v", got)
	}
	p, err := f.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	var full error
	written := uint64(0)
	for ; written < f.Groups() && full == nil; written++ {
		full = f.Write(p, written)
	}
	if !errors.Is(full, blobs.ErrNoSpace) {
		t.Fatalf("write of group %d: %v, want ErrNoSpace", written, full)
	}
	// Small ones take what is left until the metadata has no room either.
	small := 0
	for full = nil; full == nil; small++ {
		_, _, full = s.Add(t.Context(), bytes.NewReader(storetest.Data(10_000, uint64(small))))
	}
	if !errors.Is(full, blobs.ErrNoSpace) {
		t.Fatalf("small blob %d: %v, want ErrNoSpace", small, full)
	}
	for i := range small - 1 {
		storetest.Check(t, s, storetest.Data(10_000, uint64(i)))
	}
	if n, err := f.CheckServed(t.Context(), s); n == 0 || err != nil {
		t.Errorf("%d groups are served: %v", n, err)
	}
	storetest.Check(t, s, kept)
	p.Close() // cannot write what is pending

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	storetest.Check(t, s, kept)
	if err := s.Delete(t.Context(), blobs.Sum(kept)); err != nil {
		t.Fatal(err)
	}
	finish(t, s, f)
}

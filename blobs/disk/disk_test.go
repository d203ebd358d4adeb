package disk

import (
	"log/slog"
	"testing"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/storetest"
)

func openStore(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir, Options{LockWait: -1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T) {
	storetest.Test(t, func(t *testing.T) blobs.Store { return openStore(t, t.TempDir()) })
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	storetest.TestReopen(t, func(t *testing.T) blobs.Store { return openStore(t, dir) })
}

// The outboards of such blobs are files.
func TestBig(t *testing.T) {
	dir := t.TempDir()
	const size = 16<<20 + 16385
	storetest.TestBig(t, size, func(t *testing.T) blobs.Store { return openStore(t, dir) })

	f := storetest.NewFeed(storetest.Data(size, 3))
	partialOf(t, dir, f, 0, 1025)
	s := openStore(t, dir)
	finish(t, s, f)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	storetest.Check(t, openStore(t, dir), f.Data)
}

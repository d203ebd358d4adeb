package tablestore_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/disk"
	"github.com/OpenArchive/save-dweb-go/blobs/storetest"
	"github.com/OpenArchive/save-dweb-go/blobs/tablestore"
	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/memory"
)

func node(t *testing.T) *memory.Node {
	network := memory.NewNetwork()
	t.Cleanup(func() { network.Close() })
	return network.NewNode("a")
}

func tables(t *testing.T, ts veilid.TableStore) *tablestore.Tables {
	t.Helper()
	tb, err := tablestore.Open(t.Context(), ts, "blobs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tb.Close() })
	return tb
}

func open(t *testing.T, dir string, tb disk.Tables) *disk.Store {
	t.Helper()
	s, err := disk.Open(t.Context(), dir, disk.Options{Tables: tb, LockWait: -1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T) {
	storetest.Test(t, func(t *testing.T) blobs.Store { return open(t, t.TempDir(), tables(t, node(t))) })
}

func TestReopen(t *testing.T) {
	dir, n := t.TempDir(), node(t)
	storetest.TestReopen(t, func(t *testing.T) blobs.Store { return open(t, dir, tables(t, n)) })
}

func TestLocked(t *testing.T) {
	dir, tb := t.TempDir(), tables(t, node(t))
	open(t, dir, tb)
	if _, err := disk.Open(t.Context(), dir, disk.Options{Tables: tb, LockWait: -1}); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
}

func TestTables(t *testing.T) {
	ctx, tb := t.Context(), tables(t, node(t))
	var changes []disk.Change
	var want []string
	for i := range 100 {
		key := fmt.Sprintf("k%03d", 99-i)
		changes = append(changes, disk.Change{Table: "tags", Key: []byte(key), Value: []byte("v" + key)})
		want = append(want, fmt.Sprintf("k%03d=vk%03d", i, i))
	}
	changes = append(changes, disk.Change{Table: "tags", Key: []byte("other"), Value: []byte{}})
	if err := tb.Apply(ctx, changes); err != nil {
		t.Fatal(err)
	}
	each := func(prefix string) (got []string) {
		t.Helper()
		err := tb.Each(ctx, "tags", []byte(prefix), func(key, value []byte) error {
			got = append(got, fmt.Sprintf("%s=%s", key, value))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if diff := cmp.Diff(want, each("k")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"other="}, each("o")); diff != "" {
		t.Error(diff)
	}
	stop := errors.New("stop")
	if err := tb.Each(ctx, "tags", nil, func(_, _ []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the function's error", err)
	}

	err := tb.Apply(ctx, []disk.Change{
		{Table: "tags", Key: []byte("other"), Delete: true},
		{Table: "nonsense", Key: []byte("k")},
	})
	if err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("an unknown table: %v", err)
	}
	if v, err := tb.Get(ctx, "tags", []byte("other")); v == nil || err != nil {
		t.Errorf("half of a failed batch was made (%v)", err)
	}
	if v, err := tb.Get(ctx, "blobs", []byte("other")); v != nil || err != nil {
		t.Errorf("get from another table: %q, %v", v, err)
	}
	if err := tb.Apply(ctx, []disk.Change{{Table: "tags", Key: []byte("other"), Delete: true}}); err != nil {
		t.Fatal(err)
	}
	if v, err := tb.Get(ctx, "tags", []byte("other")); v != nil || err != nil {
		t.Errorf("a deleted key: %q, %v", v, err)
	}
}

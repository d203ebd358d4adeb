package kv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T, path string) *DB {
	t.Helper()
	db, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func put(t *testing.T, db *DB, table string, pairs ...string) {
	t.Helper()
	err := db.Update(func(tx *Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Put(table, []byte(pairs[i]), []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func all(t *testing.T, db *DB, table, prefix string) (pairs []string) {
	t.Helper()
	err := db.View(func(tx *Tx) error {
		return tx.Each(table, []byte(prefix), func(k, v []byte) error {
			pairs = append(pairs, string(k), string(v))
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return pairs
}

func TestTables(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "sub", "test.db"))
	put(t, db, "a", "k2", "two", "k1", "one", "j", "", "l", "x")
	put(t, db, "b", "k1", "other")

	if diff := cmp.Diff([]string{"k1", "one", "k2", "two"}, all(t, db, "a", "k")); diff != "" {
		t.Error("prefix k:", diff)
	}
	if diff := cmp.Diff([]string{"j", "", "k1", "one", "k2", "two", "l", "x"}, all(t, db, "a", "")); diff != "" {
		t.Error("all:", diff)
	}
	if got := all(t, db, "none", ""); got != nil {
		t.Errorf("a table that is not there holds %q", got)
	}
	err := db.View(func(tx *Tx) error {
		for _, c := range []struct {
			table, key string
			want       []byte
		}{
			{"a", "k1", []byte("one")}, {"b", "k1", []byte("other")}, {"a", "j", []byte{}},
			{"a", "k", nil}, {"none", "k1", nil},
		} {
			got, err := tx.Get(c.table, []byte(c.key))
			if err != nil || !bytes.Equal(got, c.want) || (got == nil) != (c.want == nil) {
				t.Errorf("get %s/%s: %q, %v, want %q", c.table, c.key, got, err, c.want)
			}
		}
		names, err := tx.Tables()
		if diff := cmp.Diff([]string{"a", "b"}, names); diff != "" {
			t.Error("tables:", diff)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	err = db.Update(func(tx *Tx) error {
		return errors.Join(tx.Delete("a", []byte("k1")), tx.Delete("a", []byte("k1")), tx.Delete("none", []byte("k")),
			tx.DeleteTable("b"), tx.DeleteTable("none"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"k2", "two"}, all(t, db, "a", "k")); diff != "" {
		t.Error("after delete:", diff)
	}
	if got := all(t, db, "b", ""); got != nil {
		t.Errorf("a deleted table holds %q", got)
	}
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "test.db"))
	put(t, db, "a", "k", "old")
	boom := errors.New("boom")
	err := db.Update(func(tx *Tx) error {
		if err := tx.Put("a", []byte("k"), []byte("new")); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("got %v, want the function's error", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a panic of the caller was swallowed")
			}
		}()
		db.Update(func(tx *Tx) error {
			tx.Put("a", []byte("k"), []byte("new"))
			panic("caller")
		})
	}()
	if diff := cmp.Diff([]string{"k", "old"}, all(t, db, "a", "")); diff != "" {
		t.Error(diff)
	}
	put(t, db, "a", "k", "works on")
}

func TestMisuse(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "test.db"))
	var kept *Tx
	err := db.Update(func(tx *Tx) error {
		kept = tx
		return tx.Put("a", nil, nil)
	})
	if err == nil {
		t.Error("an empty key was taken")
	}
	if _, err := kept.Get("a", []byte("k")); !errors.Is(err, ErrClosed) {
		t.Errorf("ended transaction: %v", err)
	}
	if err := db.View(func(tx *Tx) error { return tx.Put("a", []byte("k"), nil) }); err == nil || errors.Is(err, ErrCorrupt) {
		t.Errorf("write inside View: %v", err)
	}
	put(t, db, "a", "k", "v")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Error("second Close:", err)
	}
	for name, err := range map[string]error{
		"View":   db.View(func(*Tx) error { return nil }),
		"Update": db.Update(func(*Tx) error { return nil }),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s of a closed database: %v", name, err)
		}
	}
}

func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	db := open(t, path)
	if _, err := Open(path, Options{Wait: -1}); !errors.Is(err, ErrLocked) {
		t.Fatalf("got %v, want ErrLocked", err)
	}
	opened := make(chan error)
	go func() {
		second, err := Open(path, Options{})
		if err == nil {
			err = second.Close()
		}
		opened <- err
	}()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error("after the first user let go:", err)
	}
}

func TestOpenTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			db, err := Open(path, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			put(t, db, "a", fmt.Sprint(i), "v")
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := all(t, open(t, path), "a", ""); len(got) != 16 {
		t.Errorf("%d of 8 writes are there: they went to different files", len(got)/2)
	}
}

func TestMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes")
	}
	path := filepath.Join(t.TempDir(), "new", "test.db")
	open(t, path)
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s: mode %v, want %v", filepath.Base(name), info.Mode(), want)
		}
	}
	names, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(names) != 1 {
		t.Errorf("the folder holds %v (%v), want the database only", names, err)
	}
}

func TestCompaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "te*st[1].db")
	db := open(t, path)
	big := make([]byte, 64<<10)
	for i := range 64 {
		err := db.Update(func(tx *Tx) error { return tx.Put("big", binary.BigEndian.AppendUint32(nil, uint32(i)), big) })
		if err != nil {
			t.Fatal(err)
		}
	}
	put(t, db, "keep", "k", "v")
	if err := db.Update(func(tx *Tx) error { return tx.DeleteTable("big") }); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	leftover := path + compactSuffix + "123"
	if err := errors.Join(db.Close(), os.WriteFile(leftover, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}

	db = open(t, path)
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if after.Size()*4 > before.Size() {
		t.Errorf("%d bytes are still %d after compaction", before.Size(), after.Size())
	}
	if diff := cmp.Diff([]string{"k", "v"}, all(t, db, "keep", "")); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(leftover); err == nil {
		t.Error("a crashed compaction's file is still there")
	}
	put(t, db, "keep", "k", "new")
	if _, err := Open(path, Options{Wait: -1}); !errors.Is(err, ErrLocked) {
		t.Errorf("compacted database: got %v, want ErrLocked", err)
	}
}

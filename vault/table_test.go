package vault

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/OpenArchive/save-dweb-go/internal/kv"
)

func TestTable(t *testing.T) {
	v := open(t, t.TempDir(), cheap("p"))
	a := v.Table("a")
	if got, err := a.Get("k"); got != nil || err != nil {
		t.Errorf("Get of a table that is not there = %q, %v", got, err)
	}
	put(t, v, "a", "job/1", "x", "job/2", "y", "jo", "z")
	put(t, v, "b", "job/1", "other table")
	for key, want := range map[string][]byte{"job/1": []byte("x"), "job": nil, "jo": []byte("z")} {
		if got, err := a.Get(key); err != nil || !bytes.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("Get(%q) = %q, %v, want %q", key, got, err, want)
		}
	}
	seen := map[string]string{}
	err := a.Each("job/", func(k string, val []byte) error {
		seen[k] = string(val)
		return a.Delete(k) // a function may use the table
	})
	if diff := cmp.Diff(map[string]string{"job/1": "x", "job/2": "y"}, seen); err != nil || diff != "" {
		t.Error(err, diff)
	}
	want(t, v, "a", map[string]string{"jo": "z"})
	want(t, v, "b", map[string]string{"job/1": "other table"})
	boom := errors.New("boom")
	if err := v.Table("b").Each("", func(string, []byte) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("Each = %v, want the function's error", err)
	}
	if err := a.Put(map[string][]byte{"": {}, strings.Repeat("k", MaxKeySize+1): {}}); err == nil {
		t.Error("a key that is too long was taken")
	}
	want(t, v, "a", map[string]string{"jo": "z"})
}

func TestUpdate(t *testing.T) {
	v := open(t, t.TempDir(), cheap("p"))
	a := v.Table("a")
	put(t, v, "a", "n", "0", "gone", "x")
	boom := errors.New("boom")
	err := a.Update(func(b *Batch) error {
		return errors.Join(b.Put("n", []byte("9")), b.Delete("gone"), boom)
	})
	if !errors.Is(err, boom) {
		t.Errorf("Update = %v, want the function's error", err)
	}
	want(t, v, "a", map[string]string{"n": "0", "gone": "x"})

	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			err := a.Update(func(b *Batch) error {
				old, err := b.Get("n")
				if err != nil {
					return err
				}
				return b.Put("n", append(old, 'x'))
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	want(t, v, "a", map[string]string{"n": "0xxxxxxxx", "gone": "x"})
}

// Entries that are moved, changed or cut by who can write the database are found.
func TestTamperedEntries(t *testing.T) {
	type pair struct{ hidden, sealed []byte }
	read := func(t *testing.T, v *Vault, tx *kv.Tx, table, key string) (string, pair) {
		k := v.tables[table]
		hidden := k.hidden(key)
		sealed, err := tx.Get(k.id, hidden)
		if err != nil || sealed == nil {
			t.Fatal("no entry:", err)
		}
		return k.id, pair{hidden, sealed}
	}
	for name, change := range map[string]func(id string, x, y pair, otherID string, o pair, tx *kv.Tx) error{
		"swapped":            func(id string, x, y pair, _ string, _ pair, tx *kv.Tx) error { return tx.Put(id, x.hidden, y.sealed) },
		"from another table": func(id string, x, _ pair, _ string, o pair, tx *kv.Tx) error { return tx.Put(id, x.hidden, o.sealed) },
		"key and value from another table": func(id string, x, _ pair, _ string, o pair, tx *kv.Tx) error {
			return errors.Join(tx.Put(id, o.hidden, o.sealed), tx.Put(id, x.hidden, o.sealed))
		},
		"changed": func(id string, x, _ pair, _ string, _ pair, tx *kv.Tx) error {
			x.sealed[len(x.sealed)-1] ^= 1
			return tx.Put(id, x.hidden, x.sealed)
		},
		"cut": func(id string, x, _ pair, _ string, _ pair, tx *kv.Tx) error {
			return tx.Put(id, x.hidden, x.sealed[:20])
		},
		"empty": func(id string, x, _ pair, _ string, _ pair, tx *kv.Tx) error { return tx.Put(id, x.hidden, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			v := open(t, t.TempDir(), cheap("p"))
			put(t, v, "a", "x", "1", "y", "2")
			put(t, v, "b", "x", "3")
			err := v.db.Update(func(tx *kv.Tx) error {
				id, x := read(t, v, tx, "a", "x")
				_, y := read(t, v, tx, "a", "y")
				otherID, o := read(t, v, tx, "b", "x")
				return change(id, x, y, otherID, o, tx)
			})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := v.Table("a").Get("x"); !errors.Is(err, ErrTampered) {
				t.Errorf("Get = %q, %v, want ErrTampered", got, err)
			}
			if err := v.Table("a").Each("", func(string, []byte) error { return nil }); !errors.Is(err, ErrTampered) {
				t.Errorf("Each: %v, want ErrTampered", err)
			}
			want(t, v, "b", map[string]string{"x": "3"})
		})
	}
	v := open(t, t.TempDir(), cheap("p"))
	put(t, v, "a", "x", "1")
	err := v.db.Update(func(tx *kv.Tx) error {
		id, x := read(t, v, tx, "a", "x")
		x.sealed[0] = 2
		return tx.Put(id, x.hidden, x.sealed)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Table("a").Get("x"); !errors.Is(err, ErrVersion) {
		t.Errorf("newer entry: %v, want ErrVersion", err)
	}
}

// An entry as its description says opens; one that is bound to less does not.
func TestEntryFormat(t *testing.T) {
	s := storedTable{ID: strings.Repeat("0a", idSize), Key: [keySize]byte{1}}
	k, err := newTableKey(s)
	if err != nil {
		t.Fatal(err)
	}
	id, hidden := bytes.Repeat([]byte{0x0a}, idSize), k.hidden("key")
	nonce := bytes.Repeat([]byte{9}, chacha20poly1305.NonceSizeX)
	for name, tt := range map[string]struct {
		ad, plain []byte
		want      error
	}{
		"as described":          {slices.Concat([]byte{1}, id, hidden), []byte("\x03keyvalue"), nil},
		"without version":       {slices.Concat(id, hidden), []byte("\x03keyvalue"), ErrTampered},
		"without table":         {slices.Concat([]byte{1}, hidden), []byte("\x03keyvalue"), ErrTampered},
		"without key":           {slices.Concat([]byte{1}, id), []byte("\x03keyvalue"), ErrTampered},
		"of another key":        {slices.Concat([]byte{1}, id, hidden), []byte("\x03kevvalue"), ErrTampered},
		"key longer than entry": {slices.Concat([]byte{1}, id, hidden), []byte("\x10keyvalue"), ErrCorrupt},
		"nothing inside":        {slices.Concat([]byte{1}, id, hidden), nil, ErrCorrupt},
	} {
		sealed := slices.Concat([]byte{1}, nonce, k.aead.Seal(nil, nonce, tt.plain, tt.ad))
		key, value, err := k.open(hidden, sealed)
		if !errors.Is(err, tt.want) || tt.want == nil && (err != nil || key != "key" || string(value) != "value") {
			t.Errorf("%s: %q, %q, %v, want %v", name, key, value, err, tt.want)
		}
	}
}

// keysOf are the keys of a table as the key file has them.
func keysOf(v *Vault, name string) (keys [][keySize]byte) {
	for _, k := range v.keys.inner.Tables {
		if k.Name == name {
			keys = append(keys, k.Key)
		}
	}
	return keys
}

// readable reports whether any sealed entry in the vault's files opens with this key: entries begin with their version
// and are found by trying every offset, which is what an investigator would do.
func readable(t *testing.T, dir string, s storedTable, key string, size int) bool {
	t.Helper()
	k, err := newTableKey(s)
	if err != nil {
		t.Fatal(err)
	}
	hidden := k.hidden(key)
	for _, b := range files(t, dir) {
		for i := range max(0, len(b)-size+1) {
			if b[i] != entryVersion {
				continue
			}
			if _, _, err := k.open(hidden, b[i:i+size]); err == nil {
				return true
			}
		}
	}
	return false
}

func TestShred(t *testing.T) {
	v := open(t, t.TempDir(), cheap("p"))
	put(t, v, "gone", "k", "the secret of a group")
	put(t, v, "stays", "k", "v")
	stored := v.keys.inner.Tables[0]
	size := minEntry + 1 + len("k") + len("the secret of a group")
	if !readable(t, v.dir, stored, "k", size) {
		t.Fatal("the search does not find what is there")
	}
	before, err := os.ReadFile(v.keys.path)
	if err != nil {
		t.Fatal(err)
	}
	text := []byte(base64.StdEncoding.EncodeToString(v.keys.header.Inner)[:64])
	if !bytes.Contains(before, text) {
		t.Fatal("the search does not find the sealed keys")
	}
	link := filepath.Join(t.TempDir(), "inode")
	linked := os.Link(v.keys.path, link) == nil
	if err := v.Shred("gone"); err != nil {
		t.Fatal(err)
	}
	if err := v.Shred("gone"); err != nil {
		t.Error("shredding again:", err)
	}
	check := func() {
		t.Helper()
		if holds(t, v.dir, text) || holds(t, v.dir, stored.Key[:]) {
			t.Error("the sealed key lingers")
		}
		if got := keysOf(v, "gone"); got != nil {
			t.Error("the key is still in the key file")
		}
		want(t, v, "gone", map[string]string{})
		want(t, v, "stays", map[string]string{"k": "v"})
	}
	check()
	if linked {
		if b, err := os.ReadFile(link); err != nil || len(bytes.Trim(b, "\x00")) > 0 {
			t.Errorf("the former key file still holds %d bytes, %v", len(bytes.Trim(b, "\x00")), err)
		}
	}
	v = reopen(t, v, cheap("p"))
	check()
	put(t, v, "gone", "k", "a new life")
	if k := keysOf(v, "gone"); len(k) != 1 || k[0] == stored.Key {
		t.Error("the key came back")
	}
	want(t, v, "gone", map[string]string{"k": "a new life"})
}

func TestScrub(t *testing.T) {
	v := open(t, t.TempDir(), cheap("p"))
	put(t, v, "a", "k1", "one", "k2", "two")
	old := v.keys.inner.Tables[0]
	if err := v.Table("a").Delete("k1"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(v.Table("a").Scrub(), v.Table("none").Scrub()); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		want(t, v, "a", map[string]string{"k2": "two"})
		if k := keysOf(v, "a"); len(k) != 1 || k[0] == old.Key {
			t.Errorf("%d keys, or the old one", len(k))
		}
	}
	check()
	v = reopen(t, v, cheap("p"))
	check()
}

// What was deleted is out of reach after the next Open, without anybody asking for it.
func TestOpenScrubsWhereDeleted(t *testing.T) {
	v := open(t, t.TempDir(), cheap("p"))
	put(t, v, "a", "k1", "one", "k2", "two")
	put(t, v, "b", "k", "v")
	a, b := keysOf(v, "a")[0], keysOf(v, "b")[0]
	if err := errors.Join(v.Table("a").Put(map[string][]byte{"k1": nil}), v.Table("b").Delete("not there")); err != nil {
		t.Fatal(err)
	}
	v = reopen(t, v, cheap("p"))
	if k := keysOf(v, "a"); len(k) != 1 || k[0] == a {
		t.Error("the key of a table with deletions is still there")
	}
	if k := keysOf(v, "b"); len(k) != 1 || k[0] != b {
		t.Error("a table without deletions has another key")
	}
	want(t, v, "a", map[string]string{"k2": "two"})
	a = keysOf(v, "a")[0]
	v = reopen(t, v, cheap("p"))
	if keysOf(v, "a")[0] != a {
		t.Error("a table is scrubbed at every Open")
	}
}

func TestConcurrentUse(t *testing.T) {
	v := open(t, t.TempDir(), cheap("p"))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			table := v.Table(fmt.Sprint(i % 2))
			for j := range 5 {
				key := fmt.Sprint(i, j)
				if err := table.Put(map[string][]byte{key: []byte(key)}); err != nil {
					t.Error(err)
				}
				if j == 2 {
					if err := table.Scrub(); err != nil {
						t.Error(err)
					}
				}
				if got, err := table.Get(key); err != nil || string(got) != key {
					t.Errorf("Get(%s) = %q, %v", key, got, err)
				}
			}
		})
	}
	wg.Go(func() {
		put(t, v, "extra", "k", "v")
		if err := errors.Join(v.Shred("extra"), v.Rekey(t.Context(), cheap("q"))); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	v = reopen(t, v, cheap("q"))
	if n := len(all(t, v, "0")) + len(all(t, v, "1")); n != 20 {
		t.Errorf("%d of 20 entries", n)
	}
}

func FuzzEntry(f *testing.F) {
	s := storedTable{ID: strings.Repeat("0a", idSize), Key: [keySize]byte{1}}
	k, err := newTableKey(s)
	if err != nil {
		f.Fatal(err)
	}
	hidden, sealed, err := k.seal("key", []byte("value"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(hidden, sealed)
	f.Add([]byte{}, []byte{entryVersion})
	f.Add(hidden, []byte{3, 'k', 'e', 'y', 'v'})
	f.Add(hidden, bytes.Repeat([]byte{0xff}, 12))
	f.Fuzz(func(t *testing.T, h, b []byte) {
		if key, value, err := k.open(h, b); err == nil && (key != "key" || string(value) != "value") {
			t.Fatalf("forged entry %q: %q", key, value)
		}
		// What stands behind the authentication must not crash on what an older or broken program wrote.
		key, value, err := splitEntry(b)
		if err == nil && len(key)+len(value) >= len(b) {
			t.Fatalf("%d bytes yield %d", len(b), len(key)+len(value))
		}
	})
}

func FuzzKeyFile(f *testing.F) {
	v, err := Open(f.Context(), f.TempDir(), Options{Key: cheap("p")})
	if err != nil {
		f.Fatal(err)
	}
	defer v.Close()
	b, err := os.ReadFile(v.keys.path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"format":1}`))
	f.Add([]byte(`{"format":9}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeader(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
				t.Fatalf("error %v has no kind", err)
			}
			return
		}
		k := keyFile{header: h}
		if err := k.open([keySize]byte{1}); err == nil {
			t.Fatal("a forged key file opens")
		}
		parseArgon(h.Params)
	})
}

package kv

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

const crashEnv = "KV_TEST_CRASH_PATH"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		writeUntilKilled(path)
	}
	os.Exit(m.Run())
}

func number(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }

// writeUntilKilled commits 1, 2, 3 ... to two tables and prints each number once Update has returned.
func writeUntilKilled(path string) {
	db, err := Open(path, Options{})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	next := 1
	err = db.View(func(tx *Tx) error {
		return tx.Each("a", nil, func(k, _ []byte) error {
			next = int(binary.BigEndian.Uint64(k)) + 1
			return nil
		})
	})
	filler := make([]byte, 3000) // so that pages are split and freed
	for i := next; err == nil; i++ {
		err = db.Update(func(tx *Tx) error {
			return errors.Join(
				tx.Put("a", number(i), append(number(i), filler...)),
				tx.Put("b", number(i), number(i)),
				tx.Delete("b", number(i-5)))
		})
		if err == nil {
			fmt.Println(i)
		}
	}
	fmt.Println("error", err)
	os.Exit(1)
}

func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	last := 0
	for round := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashEnv+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// What the child printed before it died counts, however late we read it.
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if last, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal("child:", lines.Text())
			}
			if n == 3+round*7 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait()

		db := open(t, path)
		count := 0
		err = db.View(func(tx *Tx) error {
			err := tx.Each("a", nil, func(k, v []byte) error {
				if count++; binary.BigEndian.Uint64(k) != uint64(count) || string(v[:8]) != string(k) {
					return fmt.Errorf("entry %d has key %x and value %x", count, k, v[:8])
				}
				return nil
			})
			if err != nil {
				return err
			}
			for i := max(1, count-4); i <= count; i++ {
				if v, err := tx.Get("b", number(i)); string(v) != string(number(i)) {
					return fmt.Errorf("entry %d is only in one of the tables (%v)", i, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if count < last || count > last+1 {
			t.Errorf("round %d: %d entries after %d were acknowledged", round, count, last)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// sample is the file of a database of a few hundred pages.
var sample = sync.OnceValue(func() []byte {
	dir, err := os.MkdirTemp("", "kv")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "test.db")
	db, err := Open(path, Options{})
	if err != nil {
		panic(err)
	}
	for i := range 4 {
		err := db.Update(func(tx *Tx) error {
			for j := range 100 {
				if err := tx.Put("a", number(i*100+j), make([]byte, 2000)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			panic(err)
		}
	}
	if err := db.Close(); err != nil {
		panic(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	return b
})

// damaged lets change work on the bytes of a good database and opens it.
func damaged(t *testing.T, change func([]byte) []byte) (*DB, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.db")
	if err := os.WriteFile(path, change(bytes.Clone(sample())), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := Open(path, Options{Wait: -1})
	if err == nil {
		t.Cleanup(func() { db.Close() })
	}
	return db, err
}

func TestDamageAtOpen(t *testing.T) {
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   error
	}{
		"torn tail":      {func(b []byte) []byte { return b[:len(b)/2] }, ErrCorrupt},
		"only its head":  {func(b []byte) []byte { return b[:100] }, ErrCorrupt},
		"zeros":          {func(b []byte) []byte { clear(b); return b }, ErrCorrupt},
		"not a database": {func([]byte) []byte { return []byte("hello, world\n") }, ErrCorrupt},
		"longer":         {func(b []byte) []byte { return append(b, b[:5000]...) }, nil},
		"empty":          {func([]byte) []byte { return nil }, nil},
		"one meta page":  {func(b []byte) []byte { clear(b[:1024]); return b }, nil},
	} {
		db, err := damaged(t, c.change)
		if !errors.Is(err, c.want) || (err != nil && c.want == nil) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		if err == nil {
			put(t, db, "b", "k", "v")
			if err := db.Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// A page full of nonsense must end in an error, not in the end of the program, and Close must not hang.
func TestDamagedPages(t *testing.T) {
	page := os.Getpagesize()
	found := 0
	for at := 2 * page; at < len(sample()); at += 5 * page {
		db, err := damaged(t, func(b []byte) []byte {
			for i := range page {
				b[at+i] = byte(0xa5 + i*7)
			}
			return b
		})
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			found++
			continue
		}
		seen := 0
		err = db.View(func(tx *Tx) error {
			return tx.Each("a", nil, func(_, _ []byte) error { seen++; return nil })
		})
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if err != nil {
			found++
		}
		err2 := db.Update(func(tx *Tx) error { return tx.Put("a", number(1), number(1)) })
		if err != nil && !errors.Is(err2, ErrCorrupt) {
			t.Errorf("a database known as corrupt took a write: %v", err2)
		}
		if err := db.Close(); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Error(err)
		}
	}
	if found == 0 {
		t.Error("no damage was noticed")
	}
}

package vault

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/OpenArchive/save-dweb-go/internal/kv"
)

const crashEnv = "VAULT_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashEnv); dir != "" {
		workUntilKilled(dir)
	}
	os.Exit(m.Run())
}

// workUntilKilled writes 1, 2, 3 ... and prints each number once it is safe, with everything going on that replaces
// keys: scrubbing, shredding, new tables, new device keys.
func workUntilKilled(dir string) {
	ctx := context.Background()
	key := DeviceFile(filepath.Join(dir, "keys"))
	v, err := Open(ctx, filepath.Join(dir, "vault"), Options{Key: key})
	fail := func(err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	fail(err)
	main := v.Table("main")
	last, err := main.Get("last")
	fail(err)
	n, _ := strconv.Atoi(string(last))
	for n++; ; n++ {
		s := strconv.Itoa(n)
		fail(main.Put(map[string][]byte{"last": []byte(s), "entry " + s: []byte(s), "entry " + strconv.Itoa(n-3): nil}))
		fmt.Println(n)
		extra := "extra " + s
		fail(v.Table(extra).Put(map[string][]byte{"k": []byte(s)}))
		switch n % 3 {
		case 0:
			fail(main.Scrub())
		case 1:
			fail(v.Rekey(ctx, key))
		}
		fail(v.Shred(extra))
	}
}

func TestKill(t *testing.T) {
	dir := t.TempDir()
	last := 0
	for round := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if last, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal("child:", lines.Text())
			}
			if n == 1+round*2 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait()

		v := open(t, filepath.Join(dir, "vault"), DeviceFile(filepath.Join(dir, "keys")))
		got := all(t, v, "main")
		n, err := strconv.Atoi(got["last"])
		if err != nil || n < last || n > last+1 {
			t.Fatalf("round %d: last is %q, %d was acknowledged", round, got["last"], last)
		}
		for i := max(1, n-2); i <= n; i++ {
			if s := strconv.Itoa(i); got["entry "+s] != s {
				t.Errorf("round %d: entry %d of %d is missing: %v", round, i, n, got)
			}
		}
		if len(got) != 1+min(n, 3) {
			t.Errorf("round %d: %v", round, got)
		}
		if len(v.keys.inner.Tables) != len(v.tables) || len(v.tables) > 2 {
			t.Errorf("round %d: %d keys for tables %v", round, len(v.keys.inner.Tables), v.Tables())
		}
		for _, name := range v.Tables() {
			if name != "main" { // of the number that was being worked on
				if err := v.Shred(name); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The states that a crash can leave between the two files, one by one.
func TestCrashBetweenFiles(t *testing.T) {
	// A state is what the database holds after and the key file before or in the middle of an operation.
	withKeyFile := func(t *testing.T, v *Vault, b []byte) *Vault {
		t.Helper()
		if err := errors.Join(v.Close(), os.WriteFile(v.keys.path, b, 0o600)); err != nil {
			t.Fatal(err)
		}
		return open(t, v.dir, cheap("p"))
	}
	keyFile := func(t *testing.T, v *Vault) []byte {
		t.Helper()
		b, err := os.ReadFile(v.keys.path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, crash := range map[string]func(t *testing.T, v *Vault) (after *Vault, main map[string]string){
		"new table, before the database knows it": func(t *testing.T, v *Vault) (*Vault, map[string]string) {
			if _, err := v.newKey("new"); err != nil {
				t.Fatal(err)
			}
			return reopen(t, v, cheap("p")), map[string]string{"k": "v"}
		},
		"scrub, before the database has changed": func(t *testing.T, v *Vault) (*Vault, map[string]string) {
			if _, err := v.newKey("main"); err != nil {
				t.Fatal(err)
			}
			return reopen(t, v, cheap("p")), map[string]string{"k": "v"}
		},
		"scrub, before the former key is gone": func(t *testing.T, v *Vault) (*Vault, map[string]string) {
			old := v.keys.inner.Tables[0]
			if err := v.Table("main").Scrub(); err != nil {
				t.Fatal(err)
			}
			v.keys.inner.Tables = append(v.keys.inner.Tables, old)
			if err := v.keys.write(); err != nil {
				t.Fatal(err)
			}
			v = reopen(t, v, cheap("p"))
			if keysOf(v, "main")[0] == old.Key {
				t.Error("the former key is in use")
			}
			return v, map[string]string{"k": "v"}
		},
		"shred, before the key is gone": func(t *testing.T, v *Vault) (*Vault, map[string]string) {
			b := keyFile(t, v)
			if err := v.Shred("main"); err != nil {
				t.Fatal(err)
			}
			return withKeyFile(t, v, b), map[string]string{}
		},
		"new device key, before the former is forgotten": func(t *testing.T, v *Vault) (*Vault, map[string]string) {
			file := DeviceFile(v.dir)
			if err := errors.Join(v.Rekey(t.Context(), file)); err != nil {
				t.Fatal(err)
			}
			stale := v.keys.header.keyName()
			if err := v.Rekey(t.Context(), cheap("p")); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file.(deviceFile).path(stale), []byte("key"), 0o600); err != nil {
				t.Fatal(err)
			}
			v.keys.inner.Stale = &staleKey{KindDeviceFile, stale}
			if err := v.keys.write(); err != nil {
				t.Fatal(err)
			}
			v = reopen(t, v, cheap("p"))
			if _, err := os.Stat(file.(deviceFile).path(stale)); err == nil || v.keys.inner.Stale != nil {
				t.Error("the former device key is still there")
			}
			return v, map[string]string{"k": "v"}
		},
		"creation, before the database has its id": func(t *testing.T, v *Vault) (*Vault, map[string]string) {
			if err := errors.Join(v.Shred("main"), v.Close()); err != nil {
				t.Fatal(err)
			}
			raw(t, v.dir, func(tx *kv.Tx) error { return tx.DeleteTable(metaTable) })
			return open(t, v.dir, cheap("p")), map[string]string{}
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := open(t, t.TempDir(), cheap("p"))
			put(t, v, "main", "k", "v")
			v, main := crash(t, v)
			want(t, v, "main", main)
			if len(v.keys.inner.Tables) != len(v.tables) {
				t.Errorf("%d keys for tables %v", len(v.keys.inner.Tables), v.Tables())
			}
			put(t, v, "main", "later", "x")
			main["later"] = "x"
			want(t, reopen(t, v, cheap("p")), "main", main)
		})
	}
	// A key file that is too old for the database is no crash, and nothing is thrown away for it.
	v := open(t, t.TempDir(), cheap("p"))
	put(t, v, "main", "k", "v")
	old := keyFile(t, v)
	put(t, v, "second", "k", "v")
	now := keyFile(t, v)
	if err := errors.Join(v.Close(), os.WriteFile(v.keys.path, old, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), v.dir, Options{Key: cheap("p")}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("old key file: %v, want ErrCorrupt", err)
	}
	if err := os.WriteFile(v.keys.path, now, 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, open(t, v.dir, cheap("p")), "second", map[string]string{"k": "v"})
}

// ownSource is a platform's key store, which may be out of order.
type ownSource struct {
	keys   map[string][32]byte
	broken bool
}

func (*ownSource) Kind() string { return "own" }

func (s *ownSource) Create(_ context.Context, name string) (key [32]byte, _ []byte, err error) {
	key[0] = byte(len(s.keys) + 1)
	s.keys[name] = key
	return key, nil, nil
}

func (s *ownSource) Load(_ context.Context, name string, _ []byte) (key [32]byte, err error) {
	key, ok := s.keys[name]
	if !ok {
		return key, ErrWrongKey
	}
	return key, nil
}

func (s *ownSource) Forget(_ context.Context, name string) error {
	if s.broken {
		return errors.New("out of order")
	}
	delete(s.keys, name)
	return nil
}

// A former device key that its source cannot delete at once is deleted when the vault is opened again.
func TestFormerKeyIsForgottenLater(t *testing.T) {
	source := &ownSource{keys: map[string][32]byte{}, broken: true}
	v := open(t, t.TempDir(), source)
	put(t, v, "main", "k", "v")
	if err := v.Rekey(t.Context(), source); err != nil {
		t.Fatal(err)
	}
	if len(source.keys) != 2 {
		t.Fatalf("%d keys, want the new and the former one", len(source.keys))
	}
	source.broken = false
	v = reopen(t, v, source)
	if _, ok := source.keys[v.keys.header.keyName()]; len(source.keys) != 1 || !ok {
		t.Errorf("%d keys left, the vault's among them: %v", len(source.keys), ok)
	}
	want(t, v, "main", map[string]string{"k": "v"})
	if _, err := Open(t.Context(), v.dir, Options{Wait: -1}); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open: %v", err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), v.dir, Options{}); !errors.Is(err, ErrWrongKey) {
		t.Errorf("without the program's source: %v, want ErrWrongKey", err)
	}
}

package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zalando/go-keyring"

	"github.com/OpenArchive/save-dweb-go/internal/kv"
)

// cheap is a passphrase that costs little to try.
func cheap(p string) KeySource { return passphraseSource{&p, argonCost{1, 8, 1}} }

func open(t *testing.T, dir string, key KeySource) *Vault {
	t.Helper()
	v, err := Open(t.Context(), dir, Options{Key: key, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

func reopen(t *testing.T, v *Vault, key KeySource) *Vault {
	t.Helper()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, v.dir, key)
}

func put(t *testing.T, v *Vault, table string, pairs ...string) {
	t.Helper()
	m := map[string][]byte{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = []byte(pairs[i+1])
	}
	if err := v.Table(table).Put(m); err != nil {
		t.Fatal(err)
	}
}

func all(t *testing.T, v *Vault, table string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := v.Table(table).Each("", func(k string, val []byte) error {
		m[k] = string(val)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func want(t *testing.T, v *Vault, table string, entries map[string]string) {
	t.Helper()
	if diff := cmp.Diff(entries, all(t, v, table)); diff != "" {
		t.Errorf("table %q: %s", table, diff)
	}
}

// files are the bytes of every file of the vault.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	m := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			m[d.Name()], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func holds(t *testing.T, dir string, secret []byte) bool {
	t.Helper()
	for _, b := range files(t, dir) {
		if bytes.Contains(b, secret) {
			return true
		}
	}
	return false
}

func TestSources(t *testing.T) {
	keyring.MockInit()
	for name, key := range map[string]KeySource{
		"passphrase": cheap("open sesame"), "keyring": Keyring(), "file": DeviceFile(t.TempDir()),
	} {
		t.Run(name, func(t *testing.T) {
			v := open(t, filepath.Join(t.TempDir(), "new"), key)
			put(t, v, "groups", "a", "1", "b", "", "", "empty key")
			v = reopen(t, v, key)
			want(t, v, "groups", map[string]string{"a": "1", "b": "", "": "empty key"})
			want(t, v, "none", map[string]string{})
			if diff := cmp.Diff([]string{"groups"}, v.Tables()); diff != "" {
				t.Error("tables:", diff)
			}
		})
	}
}

func TestDefaultSource(t *testing.T) {
	keyring.MockInit()
	t.Setenv("XDG_RUNTIME_DIR", "")
	for _, tt := range []struct {
		bus, kind string
		broken    bool
	}{
		{"", KindDeviceFile, false}, {"unix:path=x", KindKeyring, false}, {"unix:path=x", KindDeviceFile, true},
	} {
		if runtime.GOOS != "linux" && tt.bus == "" {
			continue
		}
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", tt.bus)
		if tt.broken {
			keyring.MockInitWithError(errors.New("no such service"))
		}
		var log bytes.Buffer
		o := Options{Log: slog.New(slog.NewTextHandler(&log, nil))}
		dir := t.TempDir()
		for range 2 { // made, and opened again
			log.Reset()
			v, err := Open(t.Context(), dir, o)
			if err != nil {
				t.Fatal(err)
			}
			if v.source.Kind() != tt.kind {
				t.Errorf("bus %q: source %s, want %s", tt.bus, v.source.Kind(), tt.kind)
			}
			if warned := strings.Contains(log.String(), "whoever can read this user's files"); warned != (tt.kind == KindDeviceFile) {
				t.Errorf("source %s logs %q", tt.kind, log.String())
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestWrongKey(t *testing.T) {
	keyring.MockInit()
	dir, keys := t.TempDir(), t.TempDir()
	pass := open(t, filepath.Join(dir, "pass"), cheap("right"))
	file := open(t, filepath.Join(dir, "file"), DeviceFile(keys))
	ring := open(t, filepath.Join(dir, "ring"), Keyring())
	for _, v := range []*Vault{pass, file, ring} {
		put(t, v, "a", "k", "v")
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	try := func(name string, v *Vault, key KeySource, hint string) {
		t.Helper()
		_, err := Open(t.Context(), v.dir, Options{Key: key, Log: slog.New(slog.DiscardHandler)})
		if !errors.Is(err, ErrWrongKey) || !strings.Contains(err.Error(), hint) {
			t.Errorf("%s: %v, want ErrWrongKey with %q", name, err, hint)
		}
		if err != nil && strings.Contains(err.Error(), "wrong-passphrase") {
			t.Errorf("%s: the error shows the passphrase: %v", name, err)
		}
	}
	try("wrong passphrase", pass, cheap("wrong-passphrase"), "capitals")
	try("no passphrase", pass, nil, "give it")
	try("file instead of passphrase", pass, DeviceFile(keys), "passphrase")
	try("passphrase instead of file", file, cheap("x"), "device-file")
	try("file missing", file, DeviceFile(t.TempDir()), "missing")
	if err := os.WriteFile(DeviceFile(keys).(deviceFile).path(file.keys.header.keyName()), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	try("file damaged", file, DeviceFile(keys), "64 hex")
	if err := keyring.Set(keyringService, ring.keys.header.keyName(), strings.Repeat("ab", 32)); err != nil {
		t.Fatal(err)
	}
	try("other key in keyring", ring, Keyring(), "keyring")
	if err := keyring.Delete(keyringService, ring.keys.header.keyName()); err != nil {
		t.Fatal(err)
	}
	try("no key in keyring", ring, nil, "has no entry")
	want(t, open(t, pass.dir, cheap("right")), "a", map[string]string{"k": "v"})
	if _, err := Open(t.Context(), t.TempDir(), Options{Key: cheap("")}); err == nil {
		t.Error("an empty passphrase was taken")
	}
}

func TestKeyringWaitEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	cancel()
	_, err := interruptible(ctx, func() (string, error) { <-release; return "", nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
}

func TestPassphraseCost(t *testing.T) {
	_, params, err := Passphrase("x").Create(t.Context(), "n")
	if err != nil {
		t.Fatal(err)
	}
	p, err := parseArgon(params)
	if err != nil || p.MemoryKiB < 64<<10 || p.Time < 3 || len(p.Salt) != 16 {
		t.Errorf("cost %s, %v", params, err)
	}
	for _, bad := range []string{`{"time":0,"memory_kib":64,"threads":1,"salt":"AAAAAAAAAAAAAAAA"}`, `{"time":1,"memory_kib":4194304,"threads":1,"salt":"AAAAAAAAAAAAAAAA"}`,
		`{"time":4000000000,"memory_kib":64,"threads":1,"salt":"AAAAAAAAAAAAAAAA"}`, `{"time":1,"memory_kib":64,"threads":0,"salt":"AAAAAAAAAAAAAAAA"}`,
		`{"time":1,"memory_kib":64,"threads":1,"salt":"AA=="}`, `[]`, ``} {
		if _, err := Passphrase("x").Load(t.Context(), "n", []byte(bad)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", bad, err)
		}
	}
}

func TestLocked(t *testing.T) {
	v := open(t, t.TempDir(), cheap("p"))
	_, err := Open(t.Context(), v.dir, Options{Key: cheap("p"), Wait: -1})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "stop that one") {
		t.Errorf("second Open: %v, want ErrLocked", err)
	}
}

func TestClosed(t *testing.T) {
	v := open(t, t.TempDir(), cheap("p"))
	put(t, v, "a", "k", "v")
	if err := errors.Join(v.Close(), v.Close()); err != nil {
		t.Fatal(err)
	}
	_, get := v.Table("a").Get("k")
	for name, err := range map[string]error{
		"Get": get, "Put": v.Table("a").Put(map[string][]byte{"k": nil}), "Put to new": v.Table("n").Put(map[string][]byte{"k": {}}),
		"Each": v.Table("a").Each("", nil), "Scrub": v.Table("a").Scrub(), "Shred": v.Shred("a"), "Rekey": v.Rekey(t.Context(), cheap("q")),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
}

func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes")
	}
	v := open(t, filepath.Join(t.TempDir(), "vault"), DeviceFile(filepath.Join(t.TempDir(), "keys")))
	put(t, v, "a", "k", "v")
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	key := v.source.(deviceFile)
	paths := map[string]fs.FileMode{
		v.dir: 0o700, filepath.Join(v.dir, dbName): 0o600, filepath.Join(v.dir, keysName): 0o600,
		key.dir: 0o700, key.path(v.keys.header.keyName()): 0o600,
	}
	check := func() {
		t.Helper()
		for path, want := range paths {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("%s has mode %04o, want %04o", filepath.Base(path), got, want)
			}
		}
	}
	check()
	for path, mode := range paths {
		if path != key.dir {
			if err := os.Chmod(path, mode|0o044); err != nil {
				t.Fatal(err)
			}
		}
	}
	var log bytes.Buffer
	w, err := Open(t.Context(), v.dir, Options{Key: key, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	check()
	if n := strings.Count(log.String(), "others had access"); n != 4 {
		t.Errorf("%d warnings of 4: %s", n, log.String())
	}
}

func TestRekey(t *testing.T) {
	keyring.MockInit()
	keys := t.TempDir()
	v := open(t, t.TempDir(), cheap("first"))
	put(t, v, "a", "k", "v")
	var former KeySource = cheap("first")
	for _, to := range []KeySource{cheap("second"), Keyring(), DeviceFile(keys), DeviceFile(keys), cheap("third")} {
		name := v.keys.header.keyName()
		if err := v.Rekey(t.Context(), to); err != nil {
			t.Fatal(err)
		}
		put(t, v, "a", "k2", to.Kind())
		if k := former.Kind(); k != KindPassphrase {
			if _, err := former.Load(t.Context(), name, nil); !errors.Is(err, ErrWrongKey) {
				t.Errorf("%s still has the former key: %v", k, err)
			}
		}
		v = reopen(t, v, to)
		want(t, v, "a", map[string]string{"k": "v", "k2": to.Kind()})
		former = to
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), v.dir, Options{Key: cheap("second")}); !errors.Is(err, ErrWrongKey) {
		t.Errorf("former passphrase: %v, want ErrWrongKey", err)
	}
	if left, err := os.ReadDir(keys); err != nil || len(left) > 0 {
		t.Errorf("former key files: %v, %v", left, err)
	}
}

// A passphrase that was changed must not be of use for what the file held before.
func TestRekeyWipesFormerFile(t *testing.T) {
	v := open(t, t.TempDir(), cheap("first"))
	put(t, v, "a", "k", "v")
	link := filepath.Join(t.TempDir(), "inode")
	if err := os.Link(v.keys.path, link); err != nil {
		t.Skip("no hard links here:", err)
	}
	if err := v.Rekey(t.Context(), cheap("second")); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(link)
	if err != nil || len(bytes.Trim(b, "\x00")) > 0 {
		t.Errorf("the former file holds %q, %v", b, err)
	}
}

func TestSecretsAreNotInFilesOrPrints(t *testing.T) {
	pass := Passphrase("hunter2-passphrase")
	for _, s := range []string{fmt.Sprintf("%v %+v %#v %s", pass, pass, pass, pass), fmt.Sprintf("%+v %#v", Options{Key: pass}, struct{ k KeySource }{pass})} {
		if strings.Contains(s, "hunter2") {
			t.Errorf("passphrase in %q", s)
		}
	}
	v := open(t, t.TempDir(), cheap("hunter2-passphrase"))
	put(t, v, "table-of-secrets", "key-of-secret", "value-of-secret")
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"hunter2", "table-of-secrets", "key-of-secret", "value-of-secret"} {
		if holds(t, v.dir, []byte(s)) {
			t.Errorf("%q is in a file in clear", s)
		}
	}
}

// raw works on the database behind the vault's back.
func raw(t *testing.T, dir string, fn func(tx *kv.Tx) error) {
	t.Helper()
	db, err := kv.Open(filepath.Join(dir, dbName), kv.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fn), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestMissingAndMixedFiles(t *testing.T) {
	make := func() string {
		v := open(t, filepath.Join(t.TempDir(), "vault"), cheap("p"))
		put(t, v, "a", "k", "v")
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		return v.dir
	}
	write := func(dir, name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other := files(t, make())
	tests := map[string]struct {
		change func(dir string)
		want   error
	}{
		"no key file": {func(dir string) { os.Remove(filepath.Join(dir, keysName)) }, ErrCorrupt},
		"no database": {func(dir string) { os.Remove(filepath.Join(dir, dbName)) }, ErrCorrupt},
		"torn database": {func(dir string) {
			write(dir, dbName, other[dbName][:5000])
		}, ErrCorrupt},
		"key file of another vault": {func(dir string) { write(dir, keysName, other[keysName]) }, ErrCorrupt},
		"database of another vault": {func(dir string) { write(dir, dbName, other[dbName]) }, ErrCorrupt},
		"key file empty":            {func(dir string) { write(dir, keysName, nil) }, ErrCorrupt},
		"key file too large":        {func(dir string) { write(dir, keysName, bytes.Repeat([]byte(" "), maxKeyFile+1)) }, ErrCorrupt},
		"newer format":              {func(dir string) { write(dir, keysName, []byte(`{"format":2,"vault":7}`)) }, ErrVersion},
		"leftover of a crash":       {func(dir string) { write(dir, keysName+newSuffix, []byte("half")) }, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := make()
			tt.change(dir)
			v, err := Open(t.Context(), dir, Options{Key: cheap("p")})
			if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Fatalf("error = %v, want %v", err, tt.want)
			}
			if err == nil {
				defer v.Close()
				want(t, v, "a", map[string]string{"k": "v"})
				if _, err := os.Stat(filepath.Join(dir, keysName+newSuffix)); err == nil {
					t.Error("the leftover is still there")
				}
			}
		})
	}
}

// Every field of the key file is bound to the rest.
func TestTamperedKeyFile(t *testing.T) {
	v := open(t, t.TempDir(), cheap("p"))
	put(t, v, "a", "k", "v")
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	flip := func(b []byte) []byte { b = bytes.Clone(b); b[len(b)/2] ^= 1; return b }
	for name, tt := range map[string]struct {
		change func(*header)
		want   error
	}{
		"vault":    {func(h *header) { h.Vault = randomID() }, ErrTampered},
		"slot":     {func(h *header) { h.Slot = randomID() }, ErrTampered},
		"bad slot": {func(h *header) { h.Slot = "../../etc" }, ErrCorrupt},
		"source":   {func(h *header) { h.Source = "other" }, ErrWrongKey},
		"params":   {func(h *header) { h.Params = append(h.Params, ' ') }, ErrTampered},
		"salt":     {func(h *header) { h.Params = []byte(`{"time":1,"memory_kib":8,"threads":1,"salt":"AAAAAAAAAAAAAAAA"}`) }, ErrWrongKey},
		"check":    {func(h *header) { h.Check = flip(h.Check) }, ErrWrongKey},
		"no check": {func(h *header) { h.Check = nil }, ErrWrongKey},
		"master":   {func(h *header) { h.Master = flip(h.Master) }, ErrTampered},
		"inner":    {func(h *header) { h.Inner = flip(h.Inner) }, ErrTampered},
		"no inner": {func(h *header) { h.Inner = nil }, ErrTampered},
	} {
		k := keyFile{header: v.keys.header}
		tt.change(&k.header)
		err := func() error {
			b, err := json.Marshal(k.header)
			if err != nil {
				return err
			}
			if k.header, err = parseHeader(b); err != nil {
				return err
			}
			w := Vault{keys: k, log: slog.New(slog.DiscardHandler)}
			source, err := w.sourceFor(cheap("p"))
			if err != nil {
				return err
			}
			kek, err := source.Load(t.Context(), k.header.keyName(), k.header.Params)
			if err != nil {
				return err
			}
			return k.open(kek)
		}()
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

package vault

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	"github.com/zalando/go-keyring"
	"golang.org/x/crypto/argon2"
)

// KeySource keeps or computes device keys of 32 bytes. A program on a platform with a key store of its own, such as a
// phone, brings its own.
type KeySource interface {
	// Kind names the source in the key file; the vault is later opened with a source of the same kind.
	Kind() string
	// Create makes a fresh key and keeps it under a name of letters, digits and hyphens. It returns what Load needs
	// besides, at most 1 KiB, which is stored in clear.
	Create(ctx context.Context, name string) (key [32]byte, params []byte, err error)
	// Load is the key of that name. Where it is not there, or cannot be, the error wraps ErrWrongKey.
	Load(ctx context.Context, name string, params []byte) (key [32]byte, err error)
	// Forget deletes the key of that name; it is no error if it is not there.
	Forget(ctx context.Context, name string) error
}

// Kinds of the sources of this package.
const (
	KindKeyring    = "keyring"
	KindPassphrase = "passphrase"
	KindDeviceFile = "device-file"
)

// keyringService is the service under which the system's keyring lists our keys.
const keyringService = "save-dweb"

// Keyring is the keyring of the operating system: Keychain, Credential Manager or Secret Service. Its answer may wait
// for the user, who is asked to unlock it.
func Keyring() KeySource { return keyringSource{} }

type keyringSource struct{}

func (keyringSource) Kind() string { return KindKeyring }

func (keyringSource) Create(ctx context.Context, name string) (key [32]byte, params []byte, err error) {
	rand.Read(key[:])
	text, err := interruptible(ctx, func() (string, error) {
		if err := keyring.Set(keyringService, name, hex.EncodeToString(key[:])); err != nil {
			return "", err
		}
		return keyring.Get(keyringService, name) // a keyring that keeps nothing would cost everything
	})
	if err != nil {
		return key, nil, fmt.Errorf("keyring of the system: %w", err)
	}
	if text != hex.EncodeToString(key[:]) {
		return key, nil, errors.New("keyring of the system does not keep what it is given")
	}
	return key, nil, nil
}

func (keyringSource) Load(ctx context.Context, name string, _ []byte) (key [32]byte, err error) {
	text, err := interruptible(ctx, func() (string, error) { return keyring.Get(keyringService, name) })
	if errors.Is(err, keyring.ErrNotFound) {
		return key, fmt.Errorf("%w: the system's keyring has no entry %q of %q; it was made by another user or device", ErrWrongKey,
			name, keyringService)
	}
	if err != nil {
		return key, fmt.Errorf("keyring of the system: %w", err)
	}
	return parseKey(text)
}

func (keyringSource) Forget(ctx context.Context, name string) error {
	_, err := interruptible(ctx, func() (string, error) { return "", keyring.Delete(keyringService, name) })
	if errors.Is(err, keyring.ErrNotFound) {
		return nil
	}
	return err
}

// interruptible lets ctx end the wait for the keyring, which has no other way to be called off; the call itself ends
// when the system's prompt does.
func interruptible(ctx context.Context, call func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := call()
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		return "", fmt.Errorf("waiting for the keyring: %w", context.Cause(ctx))
	}
}

// hasKeyring reports whether to try the keyring at all. On a machine without a desktop session the attempt would start
// a message bus of its own.
func hasKeyring() bool {
	switch runtime.GOOS {
	case "darwin", "windows":
		return true
	case "linux", "freebsd", "openbsd", "netbsd":
		if os.Getenv("DBUS_SESSION_BUS_ADDRESS") != "" {
			return true
		}
		_, err := os.Stat(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "bus"))
		return os.Getenv("XDG_RUNTIME_DIR") != "" && err == nil
	}
	return false
}

// Passphrase derives the device key from a passphrase by Argon2id. Nothing but the salt and the cost is stored.
func Passphrase(passphrase string) KeySource {
	return passphraseSource{&passphrase, argonCost{Time: 3, MemoryKiB: 64 << 10, Threads: 4}}
}

// passphraseSource holds a pointer, because fmt prints what a field of somebody's unexported struct holds.
type passphraseSource struct {
	passphrase *string
	cost       argonCost
}

// argonCost is what a guess costs: RFC 9106's second recommended choice.
type argonCost struct {
	Time      uint32 `json:"time"`
	MemoryKiB uint32 `json:"memory_kib"`
	Threads   uint8  `json:"threads"`
}

type argonParams struct {
	argonCost
	Salt []byte `json:"salt"`
}

// The most that a key file may ask for: it is read before it is authenticated.
const (
	maxArgonTime   = 64
	maxArgonMemory = 1 << 20 // KiB
	maxArgonSalt   = 64
)

func (passphraseSource) Kind() string { return KindPassphrase }

// String never shows the passphrase.
func (passphraseSource) String() string { return "passphrase (redacted)" }

// GoString never shows the passphrase.
func (s passphraseSource) GoString() string { return s.String() }

// LogValue never shows the passphrase.
func (s passphraseSource) LogValue() slog.Value { return slog.StringValue(s.String()) }

func (s passphraseSource) Create(ctx context.Context, name string) (key [32]byte, params []byte, err error) {
	if *s.passphrase == "" {
		return key, nil, errors.New("the passphrase is empty: choose one, or another key source")
	}
	p := argonParams{argonCost: s.cost, Salt: make([]byte, 16)}
	rand.Read(p.Salt)
	if params, err = json.Marshal(p); err != nil {
		return key, nil, err
	}
	key, err = s.Load(ctx, name, params)
	return key, params, err
}

func (s passphraseSource) Load(ctx context.Context, _ string, params []byte) (key [32]byte, err error) {
	p, err := parseArgon(params)
	if err != nil {
		return key, err
	}
	if err := ctx.Err(); err != nil {
		return key, err
	}
	copy(key[:], argon2.IDKey([]byte(*s.passphrase), p.Salt, p.Time, p.MemoryKiB, p.Threads, uint32(len(key))))
	return key, nil
}

func (passphraseSource) Forget(context.Context, string) error { return nil }

func parseArgon(params []byte) (p argonParams, err error) {
	if err := json.Unmarshal(params, &p); err != nil {
		return p, fmt.Errorf("%w: parameters of the passphrase in %s", ErrCorrupt, keysName)
	}
	if p.Time < 1 || p.Time > maxArgonTime || p.MemoryKiB < 8 || p.MemoryKiB > maxArgonMemory || p.Threads < 1 ||
		len(p.Salt) < 8 || len(p.Salt) > maxArgonSalt {
		return p, fmt.Errorf("%w: cost of the passphrase in %s is out of bounds", ErrCorrupt, keysName)
	}
	return p, nil
}

// DeviceFile keeps the device key in a file of mode 0600 in dir, in clear: it protects a copy of the vault that lacks
// the file, and nothing against who can read the user's files. It is for machines without a keyring that start by
// themselves.
func DeviceFile(dir string) KeySource { return deviceFile{dir} }

type deviceFile struct{ dir string }

func (deviceFile) Kind() string { return KindDeviceFile }

func (d deviceFile) path(name string) string { return filepath.Join(d.dir, "device-"+name+".key") }

func (d deviceFile) Create(_ context.Context, name string) (key [32]byte, params []byte, err error) {
	rand.Read(key[:])
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return key, nil, err
	}
	if err := writeFile(d.path(name), []byte(hex.EncodeToString(key[:])+"\n")); err != nil {
		return key, nil, fmt.Errorf("write device key: %w", err)
	}
	return key, nil, syncDir(d.dir)
}

func (d deviceFile) Load(_ context.Context, name string, _ []byte) (key [32]byte, err error) {
	f, err := os.Open(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return key, fmt.Errorf("%w: the key file %s is missing", ErrWrongKey, filepath.Base(d.path(name)))
	}
	if err != nil {
		return key, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 2*keySize+2))
	if err != nil {
		return key, err
	}
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	return parseKey(string(b))
}

func (d deviceFile) Forget(_ context.Context, name string) error {
	f, err := os.OpenFile(d.path(name), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(wipe(f), f.Close(), os.Remove(d.path(name)))
}

// parseKey reads 64 hexadecimal digits. Its error does not quote them.
func parseKey(s string) (key [32]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(key) {
		return key, fmt.Errorf("%w: the stored device key is not 64 hexadecimal digits", ErrWrongKey)
	}
	return [32]byte(b), nil
}

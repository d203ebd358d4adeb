package seal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"golang.org/x/crypto/chacha20poly1305"
	"lukechampine.com/blake3"
)

func secretOf(fill byte) veilid.SharedSecret {
	return veilid.NewSharedSecret(veilid.VLD0, [32]byte(bytes.Repeat([]byte{fill}, 32)))
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rust is what a real peer of the Rust app sealed.
type rust struct {
	Secret          string
	GroupName       string `json:"group_name"`
	GroupNameSealed string `json:"group_name_sealed"`
	RepoName        string `json:"repo_name"`
	RepoNameSealed  string `json:"repo_name_sealed"`
	FileSealed      string `json:"file_sealed"`
	FileBlake3      string `json:"file_blake3"`
}

func loadRust(t testing.TB) (r rust, secret veilid.SharedSecret) {
	t.Helper()
	b, err := os.ReadFile("testdata/rust.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r, veilid.NewSharedSecret(veilid.VLD0, [32]byte(unhex(t, r.Secret)))
}

func TestRustNames(t *testing.T) {
	r, secret := loadRust(t)
	for sealed, want := range map[string]string{r.GroupNameSealed: r.GroupName, r.RepoNameSealed: r.RepoName} {
		got, err := OpenName(secret, unhex(t, sealed))
		if err != nil || got != want {
			t.Errorf("OpenName = %q, %v, want %q", got, err, want)
		}
		if _, err := OpenName(secretOf(1), unhex(t, sealed)); !errors.Is(err, ErrTampered) {
			t.Errorf("under another secret: %v, want ErrTampered", err)
		}
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"", "a", "Gruppe ü", strings.Repeat("x", 1000)} {
		a, err := SealName(secretOf(1), name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := SealName(secretOf(1), name)
		if err != nil {
			t.Fatal(err)
		}
		if len(a) != len(name)+NameOverhead || bytes.Equal(a, b) {
			t.Errorf("sealed %q to %x and %x", name, a, b)
		}
		if got, err := OpenName(secretOf(1), a); err != nil || got != name {
			t.Errorf("OpenName = %q, %v, want %q", got, err, name)
		}
		for i := range a {
			a[i] ^= 0x40
			if _, err := OpenName(secretOf(1), a); !errors.Is(err, ErrTampered) {
				t.Fatalf("byte %d changed: %v, want ErrTampered", i, err)
			}
			a[i] ^= 0x40
		}
	}
	if _, err := SealName(secretOf(1), "\xff"); !errors.Is(err, ErrName) {
		t.Errorf("sealing a name that is not UTF-8: %v", err)
	}
	b, err := Encrypt(secretOf(1), []byte("\xff"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenName(secretOf(1), b); !errors.Is(err, ErrName) {
		t.Errorf("opening a name that is not UTF-8: %v", err)
	}
}

func TestDecryptShort(t *testing.T) {
	tests := []struct {
		size     int
		want     error
		contains string
	}{
		{0, ErrTooShort, "too short"},
		{5, ErrTooShort, "too short"},
		{10, ErrTooShort, "too short"},
		{23, ErrTooShort, "too short"},
		{24, ErrNoCiphertext, "no ciphertext"},
		{25, ErrTampered, ""},
		{39, ErrTampered, ""},
		{40, ErrTampered, ""},
	}
	for _, tt := range tests {
		_, err := Decrypt(secretOf(1), make([]byte, tt.size))
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.contains) {
			t.Errorf("%d bytes: %v, want %v", tt.size, err, tt.want)
		}
	}
}

func TestSplit(t *testing.T) {
	nonce := bytes.Repeat([]byte{7}, 24)
	n, c, err := split(append(nonce[:24:24], "ciphertext"...))
	if err != nil || !bytes.Equal(n, nonce) || string(c) != "ciphertext" {
		t.Errorf("split = %x, %q, %v", n, c, err)
	}
}

func TestValues(t *testing.T) {
	for _, plain := range []string{"", "value", strings.Repeat("v", 30000)} {
		a, err := Seal(secretOf(1), "pointer", []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		if len(a) != len(plain)+ValueOverhead {
			t.Errorf("%d bytes for %d", len(a), len(plain))
		}
		if got, err := Open(secretOf(1), "pointer", a); err != nil || string(got) != plain {
			t.Errorf("Open = %q, %v", got, err)
		}
		if _, err := Open(secretOf(1), "device", a); !errors.Is(err, ErrTampered) {
			t.Errorf("with another context: %v, want ErrTampered", err)
		}
		if _, err := Open(secretOf(2), "pointer", a); !errors.Is(err, ErrTampered) {
			t.Errorf("under another secret: %v, want ErrTampered", err)
		}
		for _, n := range []int{0, 1, 10, 24, 25, len(a) - 1} {
			if _, err := Open(secretOf(1), "pointer", a[:n]); err == nil {
				t.Errorf("cut to %d bytes: opened", n)
			}
		}
		for _, i := range []int{1, 24, 25, len(a) - 1} {
			a[i] ^= 1
			if _, err := Open(secretOf(1), "pointer", a); !errors.Is(err, ErrTampered) {
				t.Errorf("byte %d changed: %v, want ErrTampered", i, err)
			}
			a[i] ^= 1
		}
		a[0] = 2
		if _, err := Open(secretOf(1), "pointer", a); !errors.Is(err, ErrVersion) {
			t.Errorf("version 2: %v, want ErrVersion", err)
		}
	}
}

// A value as the package comment describes it, made by other means.
func TestValueFormat(t *testing.T) {
	secret := secretOf(3).Bytes()
	var key [32]byte
	blake3.DeriveKey(key[:], "save-dweb-go v1 sealed value", append(secret[:], "some context"...))
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		t.Fatal(err)
	}
	sealed := append([]byte{1}, bytes.Repeat([]byte{9}, 24)...)
	sealed = aead.Seal(sealed, sealed[1:], []byte("hello"), []byte{1})
	if got, err := Open(secretOf(3), "some context", sealed); err != nil || string(got) != "hello" {
		t.Errorf("Open = %q, %v", got, err)
	}
}

func TestZeroSecretIsNoKey(t *testing.T) {
	var zero veilid.SharedSecret
	_, enc := Encrypt(zero, nil)
	_, dec := Decrypt(zero, make([]byte, 50))
	_, seal := Seal(zero, "c", nil)
	_, open := Open(zero, "c", append([]byte{1}, make([]byte, 50)...))
	_, read := NewSealer(zero, strings.NewReader("x")).Read(make([]byte, 1))
	_, hash := NewContentHash(zero)
	for i, err := range []error{enc, dec, seal, open, read, hash} {
		if !errors.Is(err, ErrNoSecret) {
			t.Errorf("case %d: %v, want ErrNoSecret", i, err)
		}
	}
	for _, v := range []byte{1, 2} {
		b := append([]byte("SAVE"), v)
		b = append(b, make([]byte, 60)...)
		if _, err := OpenFile(zero, bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrNoSecret) {
			t.Errorf("file v%d: %v, want ErrNoSecret", v, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	r, _ := loadRust(f)
	f.Add(unhex(f, r.GroupNameSealed))
	b, err := Seal(secretOf(1), "c", []byte("hello"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		// Nobody but the holder of the secret makes bytes that open, and the fuzzer has only the seed's.
		if p, err := Open(secretOf(1), "c", b); err == nil && string(p) != "hello" {
			t.Fatalf("forged value %q", p)
		}
		if p, err := OpenName(secretOf(1), b); err == nil {
			t.Fatalf("forged name %q", p)
		}
	})
}

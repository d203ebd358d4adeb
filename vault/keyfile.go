package vault

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
	"lukechampine.com/blake3"
)

const (
	keySize      = chacha20poly1305.KeySize
	idSize       = 16
	fileFormat   = 1
	maxKeyFile   = 4 << 20 // some 20,000 tables
	maxParamSize = 1 << 10
)

// Names of derived keys and of sealed parts. A change makes existing vaults unreadable.
const (
	deriveCheck  = "save-dweb-go v1 vault key check"
	deriveWrap   = "save-dweb-go v1 vault master key"
	deriveInner  = "save-dweb-go v1 vault table keys"
	deriveHide   = "save-dweb-go v1 vault key names"
	deriveValues = "save-dweb-go v1 vault values"
)

// header is the key file: JSON, the byte slices in base64.
type header struct {
	Format int    `json:"format"`
	Vault  string `json:"vault"`            // random id
	Source string `json:"source"`           // kind of the key source
	Slot   string `json:"slot"`             // random, new with each device key
	Params []byte `json:"params,omitempty"` // the source's, such as salt and cost of a passphrase
	Check  []byte `json:"check"`            // derived from the device key: tells a wrong key from a changed file
	Master []byte `json:"master"`           // master key under the device key, bound to the fields above
	Inner  []byte `json:"inner"`            // innerKeys under the master key
}

// keyName is the name under which a source keeps the device key.
func (h header) keyName() string { return h.Vault + "-" + h.Slot }

// bound is what the master key is bound to.
func (h header) bound() ([]byte, error) {
	h.Check, h.Master, h.Inner = nil, nil, nil
	return json.Marshal(h)
}

// innerKeys is what the master key seals.
type innerKeys struct {
	Tables []storedTable `json:"tables"`
	Stale  *staleKey     `json:"stale,omitempty"`

	master [keySize]byte
}

// storedTable is a table's key. Two entries of one name are there only while the key is changed.
type storedTable struct {
	Name string        `json:"name"`
	ID   string        `json:"id"`
	Key  [keySize]byte `json:"key"`
}

// staleKey is a former device key that its source has yet to forget.
type staleKey struct {
	Source string `json:"source"`
	Name   string `json:"name"`
}

// keyFile is the key file and, once open, what it seals.
type keyFile struct {
	path   string
	header header
	inner  innerKeys
}

// new makes the keys of a new vault.
func (k *keyFile) new() {
	k.header = header{Format: fileFormat, Vault: randomID()}
	k.inner = innerKeys{Tables: []storedTable{}}
	rand.Read(k.inner.master[:])
}

func randomID() string {
	b := make([]byte, idSize)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// read reads the file's header.
func (k *keyFile) read() error {
	f, err := os.Open(k.path)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", keysName, err)
	}
	k.header, err = parseHeader(b)
	return err
}

func parseHeader(b []byte) (h header, err error) {
	if len(b) > maxKeyFile {
		return h, fmt.Errorf("%w: %s is larger than %d bytes", ErrCorrupt, keysName, maxKeyFile)
	}
	var format struct{ Format int }
	if err := json.Unmarshal(b, &format); err != nil {
		return h, fmt.Errorf("%w: %s is not JSON", ErrCorrupt, keysName)
	}
	if format.Format > fileFormat {
		return h, fmt.Errorf("%w (%s has format %d)", ErrVersion, keysName, format.Format)
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return h, fmt.Errorf("%w: %s has fields of a wrong kind", ErrCorrupt, keysName)
	}
	if h.Format != fileFormat || !isID(h.Vault) || !isID(h.Slot) || h.Source == "" || len(h.Params) > maxParamSize {
		return h, fmt.Errorf("%w: %s lacks fields", ErrCorrupt, keysName)
	}
	return h, nil
}

// isID also keeps what becomes part of file names free of separators.
func isID(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == idSize && hex.EncodeToString(b) == s
}

// open opens what the header seals.
func (k *keyFile) open(kek [keySize]byte) error {
	h := k.header
	if subtle.ConstantTimeCompare(checkOf(kek), h.Check) != 1 {
		return ErrWrongKey
	}
	ad, err := h.bound()
	if err != nil {
		return err
	}
	master, err := unseal(derived(kek, deriveWrap), h.Master, ad)
	if err != nil || len(master) != keySize {
		return fmt.Errorf("%w: master key in %s", ErrTampered, keysName)
	}
	copy(k.inner.master[:], master)
	b, err := unseal(derived(k.inner.master, deriveInner), h.Inner, []byte(h.Vault))
	if err != nil {
		return fmt.Errorf("%w: table keys in %s", ErrTampered, keysName)
	}
	inner := innerKeys{master: k.inner.master}
	if err := json.Unmarshal(b, &inner); err != nil {
		return fmt.Errorf("%w: table keys in %s", ErrCorrupt, keysName)
	}
	for i, t := range inner.Tables {
		if !isID(t.ID) || slices.ContainsFunc(inner.Tables[:i], func(u storedTable) bool { return u.ID == t.ID }) {
			return fmt.Errorf("%w: table ids in %s", ErrCorrupt, keysName)
		}
	}
	k.inner = inner
	return nil
}

// wrap seals the master key under a new device key, in memory.
func (k *keyFile) wrap(kek [keySize]byte, source, slot string, params []byte) error {
	h := k.header
	h.Source, h.Slot, h.Params, h.Check = source, slot, params, checkOf(kek)
	ad, err := h.bound()
	if err != nil {
		return err
	}
	if h.Master, err = seal(derived(kek, deriveWrap), k.inner.master[:], ad); err != nil {
		return err
	}
	k.header = h
	return nil
}

// write seals the table keys and replaces the file.
func (k *keyFile) write() error {
	b, err := json.Marshal(k.inner)
	if err != nil {
		return err
	}
	if k.header.Inner, err = seal(derived(k.inner.master, deriveInner), b, []byte(k.header.Vault)); err != nil {
		return err
	}
	if b, err = json.MarshalIndent(k.header, "", "\t"); err != nil {
		return err
	}
	return replaceFile(k.path, append(b, '\n'))
}

func checkOf(kek [keySize]byte) []byte {
	k := derived(kek, deriveCheck)
	return k[:16]
}

// derived is a key for one purpose.
func derived(key [keySize]byte, purpose string) (k [keySize]byte) {
	blake3.DeriveKey(k[:], purpose, key[:])
	return k
}

// seal is a random nonce and XChaCha20-Poly1305.
func seal(key [keySize]byte, plaintext, ad []byte) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, err
	}
	b := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plaintext)+aead.Overhead())
	rand.Read(b)
	return aead.Seal(b, b, plaintext, ad), nil
}

var errUnseal = errors.New("authentication failed")

func unseal(key [keySize]byte, b, ad []byte) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, err
	}
	if len(b) < aead.NonceSize() {
		return nil, errUnseal
	}
	plaintext, err := aead.Open(nil, b[:aead.NonceSize()], b[aead.NonceSize():], ad)
	if err != nil {
		return nil, errUnseal
	}
	return plaintext, nil
}

// newSuffix is that of a key file that is not yet in place.
const newSuffix = ".new"

// replaceFile writes a file of mode 0600 as a whole or not at all, and overwrites what the former one held.
func replaceFile(path string, data []byte) error {
	tmp := path + newSuffix // one name: what a crash leaves is overwritten by the next write
	if err := writeFile(tmp, data); err != nil {
		return err
	}
	var old *os.File
	if runtime.GOOS != "windows" { // which does not rename over an open file
		old, _ = os.OpenFile(path, os.O_WRONLY, 0)
	}
	if old != nil {
		defer old.Close()
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	if old != nil {
		return wipe(old)
	}
	return nil
}

// writeFile writes a file of mode 0600 to stable storage.
func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// wipe overwrites a file with zeros.
func wipe(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{0}, int(min(info.Size(), maxKeyFile))), 0); err != nil {
		return err
	}
	return f.Sync()
}

// syncDir makes the names in a folder durable where the system lets one.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

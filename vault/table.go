package vault

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
	"lukechampine.com/blake3"

	"github.com/OpenArchive/save-dweb-go/internal/kv"
)

// Limits of entries, in bytes.
const (
	MaxKeySize   = 64 << 10
	MaxValueSize = 64 << 20
)

// entryVersion is the first byte of a sealed entry: version | nonce 24 | XChaCha20-Poly1305 of
// (length of key, uvarint | key | value), AD = version | table id 16 | hidden key 32.
const entryVersion = 1

const minEntry = 1 + chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead

// tableKey is what a table's entries are hidden and sealed with.
type tableKey struct {
	id   string
	hide [keySize]byte
	aead cipher.AEAD
}

func newTableKey(s storedTable) (*tableKey, error) {
	k := derived(s.Key, deriveValues)
	aead, err := chacha20poly1305.NewX(k[:])
	if err != nil {
		return nil, err
	}
	return &tableKey{s.ID, derived(s.Key, deriveHide), aead}, nil
}

// hidden is what stands for a key in the database.
func (t *tableKey) hidden(key string) []byte {
	h := blake3.New(keySize, t.hide[:])
	h.Write([]byte(key))
	return h.Sum(nil)
}

func (t *tableKey) ad(hidden []byte) ([]byte, error) {
	id, err := hex.DecodeString(t.id)
	if err != nil {
		return nil, err
	}
	return append(append([]byte{entryVersion}, id...), hidden...), nil
}

// seal is a sealed entry and what stands for its key.
func (t *tableKey) seal(key string, value []byte) (hidden, sealed []byte, err error) {
	if len(key) > MaxKeySize || len(value) > MaxValueSize {
		return nil, nil, fmt.Errorf("entry with a key of %d bytes and a value of %d: at most %d and %d fit", len(key), len(value),
			MaxKeySize, MaxValueSize)
	}
	hidden = t.hidden(key)
	ad, err := t.ad(hidden)
	if err != nil {
		return nil, nil, err
	}
	plain := binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen32+len(key)+len(value)), uint64(len(key)))
	plain = append(append(plain, key...), value...)
	sealed = make([]byte, 1+chacha20poly1305.NonceSizeX, minEntry+len(plain))
	sealed[0] = entryVersion
	rand.Read(sealed[1:])
	return hidden, t.aead.Seal(sealed, sealed[1:], plain, ad), nil
}

// open opens the entry that stands under a hidden key.
func (t *tableKey) open(hidden, sealed []byte) (key string, value []byte, err error) {
	if len(sealed) > 0 && sealed[0] != entryVersion {
		return "", nil, fmt.Errorf("%w (entry of version %d)", ErrVersion, sealed[0])
	}
	if len(sealed) < minEntry {
		return "", nil, fmt.Errorf("%w: an entry has only %d bytes", ErrTampered, len(sealed))
	}
	ad, err := t.ad(hidden)
	if err != nil {
		return "", nil, err
	}
	nonce, ciphertext := sealed[1:1+chacha20poly1305.NonceSizeX], sealed[1+chacha20poly1305.NonceSizeX:]
	plain, err := t.aead.Open(nil, nonce, ciphertext, ad)
	if err != nil {
		return "", nil, fmt.Errorf("%w: an entry does not belong where it is, or is damaged", ErrTampered)
	}
	if key, value, err = splitEntry(plain); err != nil {
		return "", nil, err
	}
	if !bytes.Equal(t.hidden(key), hidden) {
		return "", nil, fmt.Errorf("%w: an entry stands under another key", ErrTampered)
	}
	return key, value, nil
}

// splitEntry cuts an opened entry into key and value.
func splitEntry(plain []byte) (key string, value []byte, err error) {
	n, size := binary.Uvarint(plain)
	if size <= 0 || n > uint64(len(plain)-size) {
		return "", nil, fmt.Errorf("%w: an entry's key is longer than the entry", ErrCorrupt)
	}
	plain = plain[size:]
	return string(plain[:n]), plain[n:], nil
}

// Table is a set of keys with their values. Its methods may be called from any goroutine.
type Table struct {
	v    *Vault
	name string
}

// Table is the table of this name. It comes into being with its first value.
func (v *Vault) Table(name string) *Table { return &Table{v, name} }

// Get is the key's value, nil where there is none.
func (t *Table) Get(key string) (value []byte, err error) {
	err = t.view(func(k *tableKey, tx *kv.Tx) error {
		value, err = get(k, tx, key)
		return err
	})
	return value, t.wrap(err)
}

func get(k *tableKey, tx *kv.Tx, key string) ([]byte, error) {
	hidden := k.hidden(key)
	sealed, err := tx.Get(k.id, hidden)
	if sealed == nil || err != nil {
		return nil, mapError(err)
	}
	_, value, err := k.open(hidden, sealed)
	return value, err
}

// Put sets all of these keys, or, after an error, none. A nil value deletes its key.
func (t *Table) Put(entries map[string][]byte) error {
	return t.Update(func(b *Batch) error {
		for key, value := range entries {
			var err error
			if value == nil {
				err = b.Delete(key)
			} else {
				err = b.Put(key, value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Delete removes these keys; it is no error if they are not there.
func (t *Table) Delete(keys ...string) error {
	return t.Update(func(b *Batch) error {
		for _, key := range keys {
			if err := b.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
}

// Each calls fn for every key that begins with prefix, in no particular order, until fn fails. It shows the table as it
// was when Each was called; fn may change it. The entries are in memory meanwhile.
func (t *Table) Each(prefix string, fn func(key string, value []byte) error) error {
	type entry struct {
		key   string
		value []byte
	}
	var entries []entry
	err := t.view(func(k *tableKey, tx *kv.Tx) error {
		return each(k, tx, func(key string, value []byte) error {
			if strings.HasPrefix(key, prefix) {
				entries = append(entries, entry{key, value})
			}
			return nil
		})
	})
	if err != nil {
		return t.wrap(err)
	}
	for _, e := range entries {
		if err := fn(e.key, e.value); err != nil {
			return err
		}
	}
	return nil
}

// each opens every entry. fn must not change the table.
func each(k *tableKey, tx *kv.Tx, fn func(key string, value []byte) error) error {
	return mapError(tx.Each(k.id, nil, func(hidden, sealed []byte) error {
		key, value, err := k.open(hidden, sealed)
		if err != nil {
			return err
		}
		return fn(key, value)
	}))
}

// Batch is a change of a table that is under way. It ends with the function that it was given to.
type Batch struct {
	k  *tableKey
	tx *kv.Tx
}

// Get is the key's value with the changes made so far, nil where there is none.
func (b *Batch) Get(key string) ([]byte, error) { return get(b.k, b.tx, key) }

// Put sets a key.
func (b *Batch) Put(key string, value []byte) error {
	hidden, sealed, err := b.k.seal(key, value)
	if err != nil {
		return err
	}
	return b.tx.Put(b.k.id, hidden, sealed)
}

// Delete removes a key; it is no error if it is not there.
func (b *Batch) Delete(key string) error {
	hidden := b.k.hidden(key)
	old, err := b.tx.Get(b.k.id, hidden)
	if old == nil || err != nil {
		return err
	}
	if err := b.tx.Put(usedTable, []byte(b.k.id), []byte{}); err != nil {
		return err
	}
	return b.tx.Delete(b.k.id, hidden)
}

// Update changes the table: all that fn did, on stable storage, where it returns nil, and nothing where it does not.
// fn must use no other method of the vault.
func (t *Table) Update(fn func(*Batch) error) error {
	if err := t.make(); err != nil {
		return t.wrap(err)
	}
	t.v.mu.RLock()
	defer t.v.mu.RUnlock()
	k := t.v.tables[t.name]
	if k == nil {
		if t.v.closed {
			return t.wrap(ErrClosed)
		}
		return t.wrap(fmt.Errorf("shredded meanwhile: %w", ErrClosed))
	}
	return t.wrap(mapError(t.v.db.Update(func(tx *kv.Tx) error { return fn(&Batch{k, tx}) })))
}

// view reads the table, which is empty where it is not there.
func (t *Table) view(fn func(*tableKey, *kv.Tx) error) error {
	t.v.mu.RLock()
	defer t.v.mu.RUnlock()
	if t.v.closed {
		return ErrClosed
	}
	k := t.v.tables[t.name]
	if k == nil {
		return nil
	}
	return t.v.db.View(func(tx *kv.Tx) error { return fn(k, tx) })
}

// make brings the table into being.
func (t *Table) make() error {
	v := t.v
	v.mu.RLock()
	ready := v.closed || v.tables[t.name] != nil
	v.mu.RUnlock()
	if ready {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed || v.tables[t.name] != nil {
		return nil
	}
	k, err := v.newKey(t.name)
	if err != nil {
		return err
	}
	err = v.db.Update(func(tx *kv.Tx) error { return tx.Put(liveTable, []byte(k.id), []byte{}) })
	if err != nil {
		return mapError(err)
	}
	v.tables[t.name] = k
	return nil
}

// newKey writes down a new key for a table. It counts only once its id is in liveTable.
func (v *Vault) newKey(name string) (*tableKey, error) {
	s := storedTable{Name: name, ID: randomID()}
	rand.Read(s.Key[:])
	k, err := newTableKey(s)
	if err != nil {
		return nil, err
	}
	v.keys.inner.Tables = append(v.keys.inner.Tables, s)
	if err := v.keys.write(); err != nil {
		v.keys.inner.Tables = v.keys.inner.Tables[:len(v.keys.inner.Tables)-1]
		return nil, err
	}
	return k, nil
}

// Scrub seals the table's entries anew under a fresh key and destroys the former one, so that what was deleted from the
// table or overwritten cannot be read from the vault's files. It takes time in proportion to the table.
func (t *Table) Scrub() error {
	t.v.mu.Lock()
	defer t.v.mu.Unlock()
	if t.v.closed {
		return t.wrap(ErrClosed)
	}
	return t.wrap(t.v.scrub(t.name))
}

// scrub does it; v.mu is held to write. A crash leaves the old key in use or the new one, and the other without a live
// table, which the next Open removes.
func (v *Vault) scrub(name string) error {
	old := v.tables[name]
	if old == nil {
		return nil
	}
	k, err := v.newKey(name)
	if err != nil {
		return err
	}
	err = v.db.Update(func(tx *kv.Tx) error {
		err := each(old, tx, func(key string, value []byte) error {
			hidden, sealed, err := k.seal(key, value)
			if err != nil {
				return err
			}
			return tx.Put(k.id, hidden, sealed)
		})
		if err != nil {
			return err
		}
		if err := drop(tx, old.id); err != nil {
			return err
		}
		return tx.Put(liveTable, []byte(k.id), []byte{})
	})
	if err != nil {
		return fmt.Errorf("scrub: %w", mapError(err))
	}
	v.tables[name] = k
	return v.destroy(old.id)
}

func (t *Table) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("vault table %q: %w", t.name, err)
}

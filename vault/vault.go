// Package vault keeps secrets and small tables at rest, encrypted and authenticated, in a folder of its own:
//
//	vault.db      the entries. Names of tables and keys are hidden, values sealed; lengths and counts can be seen.
//	vault.keys    a random master key, sealed under the device key, and a random key per table, sealed under that.
//	              It is replaced as a whole, and what it held before is overwritten.
//	device-*.key  the device key, only where it is kept in a file; see [DeviceFile].
//
// The device key comes from a [KeySource]: the system's keyring, a passphrase, or a file. Who has a copy of the folder
// and not the device key reads nothing and changes nothing unnoticed; that a whole folder was put back to an earlier
// state is not noticed. What was deleted stays in the unused parts of vault.db until its table's key is destroyed:
// [Vault.Shred] and [Table.Scrub] do so at once, Open does it for every table in which something was deleted. On media
// that keep old versions of a file by themselves (flash, snapshots) only a passphrase that nobody knows protects these.
//
// Everything that was reported as written survives the end of the process at any moment.
package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/OpenArchive/save-dweb-go/internal/kv"
)

// Errors of vaults.
var (
	// ErrWrongKey: the passphrase, keyring or key file does not open this vault.
	ErrWrongKey = errors.New("wrong key for the vault")
	// ErrLocked: another process has the vault open.
	ErrLocked = errors.New("vault is in use by another process")
	// ErrTampered: an entry or the key file was changed by others.
	ErrTampered = errors.New("vault was changed from outside")
	// ErrCorrupt: a file of the vault is missing or damaged, or comes from another vault.
	ErrCorrupt = errors.New("vault is damaged")
	// ErrVersion: a newer version of the program wrote the vault.
	ErrVersion = errors.New("vault has a newer format: update the program")
	// ErrClosed: the vault is closed.
	ErrClosed = errors.New("vault is closed")
)

// Names of the vault's files.
const (
	dbName   = "vault.db"
	keysName = "vault.keys"
)

// Tables of the database besides those of the user, whose names are ids of 32 hexadecimal digits.
const (
	metaTable = "meta" // metaVault -> id of the vault
	liveTable = "live" // id -> "": the tables that are there; a key of any other is a remnant of a crash
	usedTable = "used" // id -> "": live tables in which something was deleted
	metaVault = "vault"
)

// Options are the choices of [Open].
type Options struct {
	// Key is where the device key comes from. nil: for a new vault the system's keyring, or, with a warning, a file
	// where there is none; for an existing vault what it was made with, unless that is a passphrase.
	Key KeySource
	Log *slog.Logger // nil: slog.Default
	// Wait is how long to wait for another process to let go of the vault; 0: a few seconds, negative: one attempt.
	Wait time.Duration
}

// Vault is an open vault. Its methods may be called from any goroutine.
type Vault struct {
	dir string
	log *slog.Logger
	db  *kv.DB

	mu     sync.RWMutex // held to read by what works on tables, to write by what changes keys
	source KeySource
	kek    [keySize]byte
	keys   keyFile
	tables map[string]*tableKey // by name; the live ones
	closed bool
}

// Open opens the vault in dir, or makes one. The folder should hold nothing else: permissions wider than the owner's
// are taken away, with a warning. ErrLocked where another process uses it, ErrWrongKey where the key does not fit.
func Open(ctx context.Context, dir string, o Options) (_ *Vault, err error) {
	v := &Vault{dir: dir, log: o.Log, source: o.Key}
	if v.log == nil {
		v.log = slog.Default()
	}
	if err := v.tighten(dir, 0o700); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, name := range []string{dbName, keysName} {
		if err := v.tighten(filepath.Join(dir, name), 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	v.db, err = kv.Open(filepath.Join(dir, dbName), kv.Options{Wait: o.Wait})
	if err != nil {
		return nil, fmt.Errorf("open vault %s: %w", dir, mapError(err))
	}
	defer func() {
		if err != nil {
			v.db.Close()
		}
	}()
	id, used, err := v.stored()
	if err != nil {
		return nil, fmt.Errorf("open vault %s: %w", dir, err)
	}
	v.keys.path = filepath.Join(dir, keysName)
	if err := removeLeftover(v.keys.path + newSuffix); err != nil {
		return nil, fmt.Errorf("open vault %s: %w", dir, err)
	}
	err = v.keys.read()
	switch {
	case err == nil:
		err = v.load(ctx, id)
	case !errors.Is(err, fs.ErrNotExist):
	case used:
		err = fmt.Errorf("%w: %s is missing; without it nothing in %s can be read: restore both", ErrCorrupt, keysName, dbName)
	default:
		err = v.create(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("open vault %s: %w", dir, err)
	}
	if err := v.recover(ctx); err != nil {
		return nil, fmt.Errorf("open vault %s: %w", dir, err)
	}
	return v, nil
}

// stored is the id of the vault that the database belongs to, and whether it holds anything.
func (v *Vault) stored() (id string, used bool, err error) {
	err = v.db.View(func(tx *kv.Tx) error {
		b, err := tx.Get(metaTable, []byte(metaVault))
		if err != nil {
			return err
		}
		names, err := tx.Tables()
		id, used = string(b), len(names) > 0
		return err
	})
	return id, used, mapError(err)
}

// create makes the keys of a new vault. The database learns its id last: what a crash leaves before is made anew.
func (v *Vault) create(ctx context.Context) error {
	v.keys.new()
	if err := v.wrap(ctx, v.source); err != nil {
		return err
	}
	if err := v.keys.write(); err != nil {
		return err
	}
	return v.claim()
}

// claim notes in the database which vault it belongs to.
func (v *Vault) claim() error {
	return mapError(v.db.Update(func(tx *kv.Tx) error {
		return tx.Put(metaTable, []byte(metaVault), []byte(v.keys.header.Vault))
	}))
}

// load opens the keys of an existing vault whose database belongs to the vault with this id.
func (v *Vault) load(ctx context.Context, id string) (err error) {
	if v.source, err = v.sourceFor(v.source); err != nil {
		return err
	}
	h := v.keys.header
	if v.kek, err = v.source.Load(ctx, h.keyName(), h.Params); err != nil {
		return fmt.Errorf("device key from %s: %w", h.Source, err)
	}
	if err := v.keys.open(v.kek); err != nil {
		if h.Source == KindPassphrase && errors.Is(err, ErrWrongKey) {
			return fmt.Errorf("%w: the passphrase is not the one that it was closed with; check capitals and keyboard layout", err)
		}
		return fmt.Errorf("device key from %s: %w", h.Source, err)
	}
	switch {
	case id == h.Vault:
		return nil
	case id == "" && len(v.keys.inner.Tables) == 0: // a crash in create
		return v.claim()
	case id == "":
		return fmt.Errorf("%w: %s is missing or empty, but %s holds the keys of %d tables: restore both", ErrCorrupt, dbName,
			keysName, len(v.keys.inner.Tables))
	}
	return fmt.Errorf("%w: %s and %s are of different vaults: restore both from the same backup", ErrCorrupt, dbName, keysName)
}

// recover ends what a crash interrupted, and destroys the keys of what was deleted.
func (v *Vault) recover(ctx context.Context) error {
	live, used := map[string]bool{}, map[string]bool{}
	err := v.db.View(func(tx *kv.Tx) error {
		for table, set := range map[string]map[string]bool{liveTable: live, usedTable: used} {
			err := tx.Each(table, nil, func(k, _ []byte) error {
				set[string(k)] = true
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return mapError(err)
	}
	before := len(v.keys.inner.Tables)
	v.keys.inner.Tables = slices.DeleteFunc(v.keys.inner.Tables, func(k storedTable) bool { return !live[k.ID] })
	v.tables = map[string]*tableKey{}
	for _, k := range v.keys.inner.Tables {
		t, err := newTableKey(k)
		if err != nil {
			return err
		}
		v.tables[k.Name] = t
		delete(live, k.ID)
	}
	if len(live) > 0 {
		return fmt.Errorf("%w: %s is older than %s: it lacks the keys of %d tables; restore both from the same backup",
			ErrCorrupt, keysName, dbName, len(live))
	}
	stale := v.keys.inner.Stale
	if stale != nil {
		v.forget(ctx, *stale)
		v.keys.inner.Stale = nil
	}
	if stale != nil || before != len(v.keys.inner.Tables) {
		if err := v.keys.write(); err != nil {
			return err
		}
	}
	for name, t := range v.tables {
		if used[t.id] {
			if err := v.scrub(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Rekey puts the vault under another device key: another passphrase, or another kind of source. It is how a passphrase
// is changed. A crash leaves the vault under the one or the other.
func (v *Vault) Rekey(ctx context.Context, to KeySource) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return ErrClosed
	}
	kek, source, keys := v.kek, v.source, v.keys
	h := keys.header
	if err := v.wrap(ctx, to); err != nil {
		return fmt.Errorf("change the key of the vault: %w", err)
	}
	v.keys.inner.Stale = &staleKey{Source: h.Source, Name: h.keyName()}
	if err := v.keys.write(); err != nil {
		v.kek, v.source, v.keys = kek, source, keys
		return fmt.Errorf("change the key of the vault: %w", err)
	}
	if err := source.Forget(ctx, h.keyName()); err != nil {
		v.log.Warn("former device key stays until the vault is opened again", "source", h.Source, "err", err)
		return nil
	}
	v.keys.inner.Stale = nil
	return v.keys.write()
}

// wrap makes a device key and seals the keys under it, in memory.
func (v *Vault) wrap(ctx context.Context, source KeySource) error {
	source, kek, params, slot, err := v.makeKey(ctx, source)
	if err != nil {
		return err
	}
	v.source, v.kek = source, kek
	return v.keys.wrap(kek, source.Kind(), slot, params)
}

// Shred removes a table and destroys its key, so that nothing that it held, and nothing deleted from it before, can be
// read from the vault's files. A table that is not there is no error.
func (v *Vault) Shred(name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return ErrClosed
	}
	t := v.tables[name]
	if t == nil {
		return nil
	}
	err := v.db.Update(func(tx *kv.Tx) error { return drop(tx, t.id) })
	if err != nil {
		return fmt.Errorf("shred table %q: %w", name, mapError(err))
	}
	delete(v.tables, name)
	if err := v.destroy(t.id); err != nil {
		return fmt.Errorf("shred table %q: %w; opening the vault again ends it", name, err)
	}
	return nil
}

// drop removes a table from the database.
func drop(tx *kv.Tx, id string) error {
	return errors.Join(tx.DeleteTable(id), tx.Delete(liveTable, []byte(id)), tx.Delete(usedTable, []byte(id)))
}

// destroy removes a table's key.
func (v *Vault) destroy(id string) error {
	v.keys.inner.Tables = slices.DeleteFunc(v.keys.inner.Tables, func(k storedTable) bool { return k.ID == id })
	return v.keys.write()
}

// Tables are the names of the tables that were ever written to and not shredded, in order.
func (v *Vault) Tables() []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var names []string
	for name := range v.tables {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Close waits for what is under way, forgets the keys and releases the folder. A second Close does nothing.
func (v *Vault) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	v.closed = true
	clear(v.kek[:])
	clear(v.keys.inner.master[:])
	v.keys.inner.Tables, v.tables = nil, nil
	return mapError(v.db.Close())
}

// mapError gives the database's errors the names of this package.
func mapError(err error) error {
	switch {
	case errors.Is(err, kv.ErrLocked):
		return fmt.Errorf("%w: %w", ErrLocked, err)
	case errors.Is(err, kv.ErrCorrupt):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case errors.Is(err, kv.ErrClosed):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

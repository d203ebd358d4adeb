package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
)

// Suffixes of files that exist only while a database is made or compacted.
const (
	newSuffix     = ".new-"
	compactSuffix = ".compact-"
)

// minCompact is the size in bytes below which compaction is not worth its while.
const minCompact = 1 << 20

// guarded turns what corrupt pages cause inside bolt (faults in the mapped file, failed assertions) into ErrCorrupt.
func guarded(fn func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, p)
		}
	}()
	return fn()
}

// create makes an empty database, whole or not at all: bolt itself writes into place, and a crash there would leave
// a file that cannot be told from a torn one.
func create(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tmp, err := tempFile(path, newSuffix)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	b, err := bolt.Open(tmp, 0o600, nil)
	if err != nil {
		return err
	}
	if err := b.Close(); err != nil {
		return err
	}
	// A link does not replace what another process may have made meanwhile. Some file systems have none.
	if err := os.Link(tmp, path); err != nil {
		if _, statErr := os.Stat(path); statErr == nil {
			return nil
		}
		if err := os.Rename(tmp, path); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(path))
}

func tempFile(path, suffix string) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+suffix)
	if err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

// removeLeftovers removes what crashed processes left; the caller holds the lock.
func removeLeftovers(path string) {
	for _, suffix := range []string{newSuffix, compactSuffix} {
		names, _ := filepath.Glob(globEscape(path+suffix) + "*")
		for _, name := range names {
			os.Remove(name)
		}
	}
}

// globEscape makes a path a pattern that matches only itself.
func globEscape(path string) string {
	if runtime.GOOS == "windows" {
		return path // has no escapes, and no such characters in most paths
	}
	var out []byte
	for i := range len(path) {
		switch path[i] {
		case '*', '?', '[', '\\':
			out = append(out, '\\')
		}
		out = append(out, path[i])
	}
	return string(out)
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

// Layout of bolt's two meta pages, in the machine's byte order.
const (
	pageHeader  = 16
	metaSize    = 64
	metaMagic   = 0xED0CDAED
	metaVersion = 2
)

// preflight refuses a file that is shorter than its own count of pages: the database would read behind its end, and
// would take what it finds there for its own. It needs no lock: a writer makes the file longer before it writes the
// meta page that says so, and writes the older of the two.
func preflight(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 { // bolt fills an empty file
		return err
	}
	var (
		found         bool
		txid, reaches uint64
	)
	// The second meta page is one page behind the first, and only the first, if it is whole, says how long a page is.
	for _, at := range []int64{0, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10} {
		buf := make([]byte, pageHeader+metaSize)
		if _, err := f.ReadAt(buf, at); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		m := buf[pageHeader:]
		order := binary.NativeEndian
		sum := fnv.New64a()
		sum.Write(m[:56])
		if order.Uint32(m) != metaMagic || order.Uint32(m[4:]) != metaVersion || order.Uint64(m[56:]) != sum.Sum64() {
			continue
		}
		pageSize := uint64(order.Uint32(m[8:]))
		if at != 0 && uint64(at) != pageSize {
			continue // an old copy of a meta page inside another page
		}
		if id := order.Uint64(m[48:]); !found || id > txid {
			found, txid, reaches = true, id, order.Uint64(m[40:])*pageSize
		}
	}
	if !found {
		return fmt.Errorf("%w: neither of its meta pages is whole", ErrCorrupt)
	}
	if info, err = f.Stat(); err != nil {
		return err
	}
	if uint64(info.Size()) < reaches {
		return fmt.Errorf("%w: %d bytes of %d are left", ErrCorrupt, info.Size(), reaches)
	}
	return nil
}

// wasteful reports whether more than half of the file's pages are free.
func (db *DB) wasteful() bool {
	var used int64
	if guarded(func() error {
		return db.b.View(func(tx *bolt.Tx) error {
			used = tx.Size()
			return nil
		})
	}) != nil {
		return false
	}
	stats := db.b.Stats()
	free := int64(stats.FreePageN+stats.PendingPageN) * int64(db.b.Info().PageSize)
	return used >= minCompact && free*2 > used
}

// compact writes what the database holds to a new file and returns its path.
func (db *DB) compact() (tmp string, err error) {
	if tmp, err = tempFile(db.path, compactSuffix); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp)
		}
	}()
	dst, err := bolt.Open(tmp, 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType})
	if err != nil {
		return "", err
	}
	err = guarded(func() error { return bolt.Compact(dst, db.b, minCompact) })
	return tmp, errors.Join(err, dst.Close())
}

// replaceBy puts the compacted file into place and closes the database.
func (db *DB) replaceBy(tmp string) error {
	if runtime.GOOS == "windows" { // cannot rename over an open file
		if err := db.Close(); err != nil {
			return err
		}
	}
	err := os.Rename(tmp, db.path)
	if err != nil {
		os.Remove(tmp) // the file that is in place is good
	} else if err := syncDir(filepath.Dir(db.path)); err != nil {
		return errors.Join(err, db.Close())
	}
	return db.Close()
}

package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/OpenArchive/save-dweb-go/blobs"
)

const onWindows = runtime.GOOS == "windows"

// Names in a store's folder.
const (
	dataDir     = "data" // two levels: the first two digits of the hash, the hash and a suffix
	tempDir     = "temp" // files of Adds that are under way
	tablesFile  = "blobs.db"
	lockFile    = "lock" // only where the metadata is elsewhere
	dataSuffix  = ".data"
	pairsSuffix = ".obao4"
	partSuffix  = ".part"
)

func (s *Store) hashDir(h blobs.Hash) string {
	return filepath.Join(s.dir, dataDir, h.String()[:2])
}

func (s *Store) path(h blobs.Hash, suffix string) string {
	return filepath.Join(s.hashDir(h), h.String()+suffix)
}

// makeHashDir makes the folder of a blob's files, durably.
func (s *Store) makeHashDir(h blobs.Hash) error {
	switch err := os.Mkdir(s.hashDir(h), 0o700); {
	case err == nil:
		return syncDir(filepath.Join(s.dir, dataDir))
	case errors.Is(err, fs.ErrExist):
		return nil
	default:
		return noSpace(err)
	}
}

// removeFiles removes files of a blob; the ones that are not there are no error.
func (s *Store) removeFiles(h blobs.Hash, suffixes ...string) error {
	var errs []error
	for _, suffix := range suffixes {
		if err := os.Remove(s.path(h, suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// eachFile calls fn for every file that is named as the store names those of blobs.
func (s *Store) eachFile(fn func(h blobs.Hash, suffix string, size int64) error) error {
	dirs, err := os.ReadDir(filepath.Join(s.dir, dataDir))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		files, err := os.ReadDir(filepath.Join(s.dir, dataDir, dir.Name()))
		if err != nil {
			continue // not a folder of ours
		}
		for _, file := range files {
			stem, suffix, _ := strings.Cut(file.Name(), ".")
			suffix = "." + suffix
			h, err := blobs.ParseHash(stem)
			info, statErr := file.Info()
			if err != nil || statErr != nil || h.String() != stem || stem[:2] != dir.Name() ||
				!slices.Contains([]string{dataSuffix, pairsSuffix, partSuffix}, suffix) {
				continue
			}
			if err := fn(h, suffix, info.Size()); err != nil {
				return err
			}
		}
	}
	return nil
}

// clearTemp removes what Adds of a crashed process left; the caller holds the folder's lock.
func (s *Store) clearTemp() error {
	files, err := os.ReadDir(filepath.Join(s.dir, tempDir))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := os.Remove(filepath.Join(s.dir, tempDir, file.Name())); err != nil {
			return err
		}
	}
	return nil
}

// syncDir makes the names in a folder durable where the system lets one.
func syncDir(dir string) error {
	if onWindows {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("make names durable: %w", noSpace(err))
	}
	return nil
}

// tempFile is a file that is written from its begin to its end. Tests put one in its place that fails.
type tempFile interface {
	Write([]byte) (int, error)
	WriteAt([]byte, int64) (int, error)
	ReadAt([]byte, int64) (int, error)
	Sync() error
	Close() error
	Name() string
}

func (s *Store) createTemp() (tempFile, error) {
	return os.CreateTemp(filepath.Join(s.dir, tempDir), "add-")
}

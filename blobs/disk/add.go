package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// maxInlineData is the largest blob that is kept in the metadata, in bytes: one group, which has no outboard.
const maxInlineData = bao.GroupSize

// spool is a blob that was read and is not in the store yet. What is in files is in temp.
type spool struct {
	s        *Store
	hash     blobs.Hash
	size     uint64
	inline   []byte // the blob, where it is small
	outboard []byte // where it goes into the metadata
	data     tempFile
	pairs    tempFile // the outboard otherwise
	scratch  []tempFile
}

// Add reads r to its end and keeps it as a complete blob.
func (s *Store) Add(ctx context.Context, r io.Reader) (*blobs.TempTag, uint64, error) {
	if err := s.alive(ctx); err != nil {
		return nil, 0, err
	}
	sp := &spool{s: s}
	defer sp.discard()
	if err := sp.read(ctx, r); err != nil {
		return nil, 0, fmt.Errorf("add blob: %w", noSpace(err))
	}
	tag, err := s.publish(ctx, sp)
	if err != nil {
		return nil, 0, fmt.Errorf("add blob: %w", noSpace(err))
	}
	return tag, sp.size, nil
}

// read reads a blob to its end and computes its hash.
func (sp *spool) read(ctx context.Context, r io.Reader) error {
	head := make([]byte, maxInlineData+1)
	n, err := bao.ReadFull(r, head)
	switch {
	case err == io.EOF:
		sp.inline, sp.size = head[:n], uint64(n)
		sp.hash = blobs.Sum(sp.inline)
		return nil
	case err != nil:
		return err
	}
	if sp.data, err = sp.s.newTemp(); err != nil {
		return err
	}
	hasher := bao.NewHasher(&bao.Spill{Limit: maxInlineOutboard, Create: func() (bao.Scratch, error) {
		f, err := sp.s.newTemp()
		if err == nil {
			sp.scratch = append(sp.scratch, f)
		}
		return f, err
	}})
	limited := &limitReader{io.MultiReader(bytes.NewReader(head), r), MaxSize}
	if _, err := hasher.Copy(ctx, sp.data, limited); err != nil {
		return err
	}
	root, size, err := hasher.Finish()
	if err != nil {
		return err
	}
	sp.hash, sp.size = root, size
	if bao.OutboardSize(size) <= maxInlineOutboard {
		var b bytes.Buffer
		err = hasher.WriteOutboard(&b)
		sp.outboard = b.Bytes()
		return err
	}
	if sp.pairs, err = sp.s.newTemp(); err != nil {
		return err
	}
	return hasher.WriteOutboard(sp.pairs)
}

// limitReader fails with ErrTooLarge where more than left bytes come.
type limitReader struct {
	r    io.Reader
	left int64
}

func (l *limitReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return n, fmt.Errorf("%w: more than %d bytes", blobs.ErrTooLarge, int64(MaxSize))
	}
	return n, err
}

// discard removes what is still in temp.
func (sp *spool) discard() {
	for _, f := range append(sp.scratch, sp.data, sp.pairs) {
		if f != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}
}

// publish makes what was read a blob of the store, unless it is one already.
func (s *Store) publish(ctx context.Context, sp *spool) (*blobs.TempTag, error) {
	tag := s.hold(blobs.HashAndFormat{Hash: sp.hash})
	s.shield(ctx, tag.HashAndFormat)
	known, err := s.holds(ctx, sp)
	if err == nil && !known {
		// Before the lock: this is what takes long.
		if err = sp.sync(); err == nil {
			err = s.place(ctx, sp)
		}
	}
	if err != nil {
		tag.Release()
		return nil, err
	}
	return tag, nil
}

// holds reports whether the blob is complete in the store, as far as that can be told without reading it.
func (s *Store) holds(ctx context.Context, sp *spool) (bool, error) {
	if sp.hash == blobs.EmptyHash {
		return true, nil
	}
	// Waits for a Collect that decided before it saw our tag.
	defer s.keys.lock(sp.hash)()
	return s.holdsLocked(ctx, sp)
}

func (s *Store) holdsLocked(ctx context.Context, sp *spool) (bool, error) {
	e, err := s.load(ctx, sp.hash)
	if errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrCorrupt) {
		return false, nil
	}
	if err != nil || !e.complete {
		return false, err
	}
	s.mu.Lock()
	suspect := s.suspects[sp.hash]
	s.mu.Unlock()
	if suspect {
		return false, nil
	}
	for _, f := range []struct {
		place  place
		suffix string
		size   uint64
	}{{e.data, dataSuffix, e.size}, {e.outboard, pairsSuffix, bao.OutboardSize(e.size)}} {
		if f.place != inFile {
			continue
		}
		if info, err := os.Stat(s.path(sp.hash, f.suffix)); err != nil || uint64(info.Size()) < f.size {
			s.suspect(sp.hash)
			return false, nil
		}
	}
	return true, nil
}

func (sp *spool) sync() error {
	for _, f := range []tempFile{sp.data, sp.pairs} {
		if f != nil {
			if err := f.Sync(); err != nil {
				return err
			}
		}
	}
	return nil
}

// place moves the files into place and then writes the metadata.
func (s *Store) place(ctx context.Context, sp *spool) error {
	h := sp.hash
	defer s.keys.lock(h)()
	if known, err := s.holdsLocked(ctx, sp); known || err != nil {
		return err // another Add was faster
	}
	e := entry{complete: true, size: sp.size, data: inTable}
	changes := []Change{{}}
	var placed []string
	for _, f := range []struct {
		file   *tempFile
		suffix string
		place  *place
	}{{&sp.pairs, pairsSuffix, &e.outboard}, {&sp.data, dataSuffix, &e.data}} {
		if *f.file == nil {
			continue
		}
		if err := s.moveInto(*f.file, h, f.suffix); err != nil {
			return errors.Join(err, s.unplace(ctx, h, placed))
		}
		*f.file, *f.place = nil, inFile
		placed = append(placed, f.suffix)
	}
	if e.data == inTable {
		changes = append(changes, set(tableData, h[:], sp.inline))
	}
	if sp.outboard != nil {
		e.outboard = inTable
		changes = append(changes, set(tableOutboards, h[:], sp.outboard))
	}
	changes[0] = set(tableBlobs, h[:], e.encode())
	var err error
	if len(placed) > 0 {
		err = syncDir(s.hashDir(h))
	}
	if err == nil {
		err = s.commitOver(ctx, sp, changes)
	}
	if err != nil {
		return errors.Join(err, s.unplace(ctx, h, placed))
	}
	s.mu.Lock()
	delete(s.suspects, h)
	s.mu.Unlock()
	s.removeFiles(h, partSuffix) // Collect would find it
	return nil
}

// moveInto closes a file of temp, which some systems want before, and renames it.
func (s *Store) moveInto(f tempFile, h blobs.Hash, suffix string) error {
	if err := s.makeHashDir(h); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), s.path(h, suffix))
}

// unplace removes files that the metadata does not know after all. The outboard of a partial blob stays: it was
// replaced by one that holds the same pairs, and all others.
func (s *Store) unplace(ctx context.Context, h blobs.Hash, suffixes []string) error {
	e, err := s.load(context.WithoutCancel(ctx), h)
	switch {
	case errors.Is(err, blobs.ErrNotFound):
		return s.removeFiles(h, suffixes...)
	case err == nil && !e.complete:
		return s.removeFiles(h, dataSuffix)
	}
	return nil // replaced what was corrupt, or Collect will tell
}

// commitOver writes the metadata of a complete blob. A partial blob of the same hash that is in use must not write its
// own after that; readers of it go on with what they have.
func (s *Store) commitOver(ctx context.Context, sp *spool, changes []Change) error {
	p := s.partial(sp.hash)
	if p == nil {
		return s.commits.apply(ctx, changes...)
	}
	p.syncing.Lock()
	defer p.syncing.Unlock()
	err := s.commits.apply(ctx, changes...)
	if err == nil {
		p.end(func() { p.complete, p.overtakenBy = true, sp.size })
	}
	return err
}

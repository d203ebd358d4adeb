package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// blob reads a blob. Every group is compared with the hash when it is first read.
type blob struct {
	s       *Store
	src     bao.Source
	partial *partial // nil where the blob was complete when it was opened

	mu       sync.Mutex
	verified bitmap
	closed   bool
	files    []io.Closer
}

// Open opens a complete or partial blob for reading.
func (s *Store) Open(ctx context.Context, h blobs.Hash) (blobs.Blob, error) {
	b, err := s.open(ctx, h)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (s *Store) open(ctx context.Context, h blobs.Hash) (*blob, error) {
	if err := s.alive(ctx); err != nil {
		return nil, err
	}
	if h == blobs.EmptyHash {
		return s.newBlob(h, 0, bytes.NewReader(nil), nil), nil
	}
	for try := 0; ; try++ {
		b, err := s.openOnce(ctx, h)
		// What was removed or became complete meanwhile is looked up again.
		again := errors.Is(err, blobs.ErrComplete) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoValue)
		if !again || try >= 2 {
			if again {
				s.suspect(h)
				err = fmt.Errorf("%w: %s: %w", blobs.ErrCorrupt, h.Short(), err)
			}
			return b, err
		}
	}
}

// errNoValue: the metadata says that a table holds a part of the blob, and it does not.
var errNoValue = errors.New("its bytes are gone")

func (s *Store) openOnce(ctx context.Context, h blobs.Hash) (*blob, error) {
	if p := s.partial(h); p != nil && len(p.info().Have) > 0 {
		return s.openPartial(ctx, h)
	}
	e, err := s.load(ctx, h)
	if err != nil {
		return nil, err
	}
	if !e.complete {
		return s.openPartial(ctx, h)
	}
	b := s.newBlob(h, e.size, nil, nil)
	part := func(p place, table, suffix string, size uint64) (io.ReaderAt, error) {
		switch p {
		case inTable:
			v, err := s.get(ctx, table, h[:])
			if err == nil && uint64(len(v)) != size {
				err = errNoValue
			}
			return bytes.NewReader(v), err
		case inFile:
			f, err := os.Open(s.path(h, suffix))
			if err == nil {
				b.files = append(b.files, f)
			}
			return f, err
		}
		return nil, nil
	}
	if b.src.Data, err = part(e.data, tableData, dataSuffix, e.size); err == nil {
		b.src.Outboard, err = part(e.outboard, tableOutboards, pairsSuffix, bao.OutboardSize(e.size))
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (s *Store) newBlob(h blobs.Hash, size uint64, data, outboard io.ReaderAt) *blob {
	return &blob{
		s:        s,
		src:      bao.Source{Root: h, Size: size, Data: data, Outboard: outboard},
		verified: newBitmap(bao.Groups(size)),
	}
}

func (s *Store) openPartial(ctx context.Context, h blobs.Hash) (*blob, error) {
	p, err := s.acquire(ctx, h, false)
	if err != nil {
		return nil, err
	}
	b := p.open()
	if b == nil {
		p.release(false)
		return nil, fmt.Errorf("%s: %w", h.Short(), blobs.ErrNotFound)
	}
	return b, nil
}

// open is a reader of what is here, nil where nothing is.
func (p *partial) open() *blob {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.have.count == 0 {
		return nil
	}
	b := p.s.newBlob(p.h, p.size, p.data, p.tree)
	if p.small != nil {
		b.src.Data, b.src.Outboard = bytes.NewReader(p.small), nil
	}
	b.partial = p
	return b
}

// Info is what is here of the blob now.
func (b *blob) Info() blobs.Info {
	if b.partial != nil {
		b.partial.mu.Lock()
		defer b.partial.mu.Unlock()
		return b.partial.held()
	}
	return completeInfo(b.src.Root, b.src.Size)
}

func (b *blob) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	var errs []error
	for _, f := range b.files {
		errs = append(errs, f.Close())
	}
	if b.partial != nil {
		errs = append(errs, b.partial.sync()) // groups found corrupt
		b.partial.release(false)
	}
	return errors.Join(errs...)
}

func (b *blob) here(group uint64) bool {
	if b.partial == nil {
		return true
	}
	b.partial.mu.Lock()
	defer b.partial.mu.Unlock()
	return b.partial.have.has(group)
}

func (b *blob) isVerified(group uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.verified.has(group)
}

func (b *blob) usable() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return fmt.Errorf("blob %s: %w", b.hash().Short(), blobs.ErrClosed)
	}
	return nil
}

func (b *blob) hash() blobs.Hash { return b.src.Root }

// ReadAt reads verified bytes. Short of ErrNotFound or ErrCorrupt it reads what is before the group they are about.
func (b *blob) ReadAt(dst []byte, off int64) (n int, err error) {
	if err := b.usable(); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, fmt.Errorf("blob %s: negative offset", b.hash().Short())
	}
	if len(dst) == 0 {
		return 0, nil
	}
	if uint64(off) >= b.src.Size {
		return 0, io.EOF
	}
	var eof error
	if left := b.src.Size - uint64(off); uint64(len(dst)) > left {
		dst, eof = dst[:left], io.EOF
	}
	for n < len(dst) {
		m, err := b.readRun(dst[n:], uint64(off)+uint64(n))
		if n += m; err != nil {
			clear(dst[n:]) // may hold what failed
			return n, err
		}
	}
	return n, eof
}

// maxRun is how many groups are verified at once at most.
const maxRun = 64

// readRun reads from off up to the end of dst, or of the groups that are all verified already or all not.
func (b *blob) readRun(dst []byte, off uint64) (int, error) {
	first := off / bao.GroupSize
	verified := b.isVerified(first)
	end, last := first, (off+uint64(len(dst))-1)/bao.GroupSize
	for ; end <= last && end-first < maxRun; end++ {
		if !b.here(end) {
			break
		}
		if end > first && b.isVerified(end) != verified {
			break
		}
	}
	if end == first {
		return 0, fmt.Errorf("group %d of %s: %w", first, b.hash().Short(), blobs.ErrNotFound)
	}
	dst = dst[:min(uint64(len(dst)), end*bao.GroupSize-off)]
	if verified {
		n, err := b.src.Data.ReadAt(dst, int64(off))
		if n == len(dst) {
			return n, nil
		}
		b.forget(first, end)
		return 0, b.bad(first, err)
	}
	err := b.verify(dst, off, first, end)
	if err == nil {
		return len(dst), nil
	}
	if end-first == 1 {
		return 0, b.bad(first, err)
	}
	// One by one, to serve what is before the bad one.
	dst = dst[:min(uint64(len(dst)), (first+1)*bao.GroupSize-off)]
	if err := b.verify(dst, off, first, first+1); err != nil {
		return 0, b.bad(first, err)
	}
	return len(dst), nil
}

// verify compares groups with the hash and copies what dst wants of them, which begins at off.
func (b *blob) verify(dst []byte, off, first, end uint64) error {
	src := b.src
	src.Data = tee{src.Data, dst, off}
	if err := bao.Encode(discard{}, src, bao.GroupSpan(first, end)); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.verified.addSpan(first, end)
	return nil
}

func (b *blob) forget(first, end uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := first; i < end; i++ {
		b.verified.remove(i)
	}
}

// tee copies what is read of a range to dst, so that the bytes that are verified are the bytes that are served.
type tee struct {
	r   io.ReaderAt
	dst []byte
	off uint64
}

func (t tee) ReadAt(p []byte, off int64) (int, error) {
	n, err := t.r.ReadAt(p, off)
	from, to := max(uint64(off), t.off), min(uint64(off)+uint64(n), t.off+uint64(len(t.dst)))
	if from < to {
		copy(t.dst[from-t.off:], p[from-uint64(off):to-uint64(off)])
	}
	return n, err
}

// discard takes bytes one by one too, so that Encode puts no buffer before it.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteByte(byte) error        { return nil }

// bad is the error for a group that cannot be read as it should be. A group of a partial blob is dropped; a complete
// blob is marked, so that adding it again replaces it.
func (b *blob) bad(group uint64, err error) error {
	if errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("blob %s: %w", b.hash().Short(), blobs.ErrClosed)
	}
	if b.partial != nil {
		b.partial.dropGroup(group)
	} else {
		b.s.suspect(b.hash())
	}
	return fmt.Errorf("%w: group %d of %s: %w", blobs.ErrCorrupt, group, b.hash().Short(), err)
}

// maxBuffered is the size in bytes up to which a response is made in memory, so that nothing of it is written where
// the blob proves corrupt.
const maxBuffered = 1 << 20

// Encode writes iroh's response for these chunks. Where a part is not here nothing is written. Where the blob is
// corrupt nothing is written of a response of up to 1 MiB, and of a longer one what is before the corrupt part.
func (b *blob) Encode(w io.Writer, ranges bao.Ranges) error {
	if err := b.usable(); err != nil {
		return err
	}
	chunks := bao.Chunks(b.src.Size)
	selected := ranges.Clamp(chunks)
	if b.partial != nil {
		for group := range selected.Groups(chunks) {
			if !b.here(group) {
				return fmt.Errorf("group %d of %s: %w", group, b.hash().Short(), blobs.ErrNotFound)
			}
		}
	}
	// A failure to write is the caller's and not the blob's.
	out := &sink{w: w}
	var err error
	if size := bao.EncodedSize(b.src.Size, ranges); size <= maxBuffered {
		var buf bytes.Buffer
		buf.Grow(int(size))
		if err = bao.Encode(&buf, b.src, ranges); err == nil {
			_, err = out.Write(buf.Bytes())
		}
	} else {
		err = bao.Encode(out, b.src, ranges)
	}
	if out.err != nil {
		return fmt.Errorf("write response for %s: %w", b.hash().Short(), out.err)
	}
	if err == nil {
		return nil
	}
	return b.blame(selected, err)
}

// sink remembers a failure to write.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

// blame finds the group that made a response fail.
func (b *blob) blame(selected bao.Ranges, err error) error {
	if errors.Is(err, bao.ErrRanges) {
		return err
	}
	for group := range selected.Groups(bao.Chunks(b.src.Size)) {
		if err := b.verify(nil, 0, group, group+1); err != nil {
			return b.bad(group, err)
		}
	}
	return fmt.Errorf("%w: %s: %w", blobs.ErrCorrupt, b.hash().Short(), err) // it is good again
}

// verifyAll reads what is here from storage and compares it with the hash.
func (b *blob) verifyAll(ctx context.Context) error {
	valid, err := bao.ValidRanges(ctx, b.src)
	if err != nil {
		if ctx.Err() == nil {
			err = b.bad(0, err)
		}
		return err
	}
	var bad error
	for group := range b.Info().Have.Groups(bao.Chunks(b.src.Size)) {
		if !valid.Contains(group*bao.GroupChunks) && b.here(group) {
			// Of a partial blob this drops each bad group. One that came while we read is read once more.
			if err := b.verify(nil, 0, group, group+1); err != nil {
				bad = b.bad(group, err)
			}
			if bad != nil && b.partial == nil {
				break
			}
		}
	}
	return bad
}

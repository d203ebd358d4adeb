package seal

import (
	"bytes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// DefaultMaxWhole is the largest envelope v1, in bytes, that OpenFile opens: ours are at most 1 MiB, but the Rust app
// seals files of any size as a whole, and such a file must be in memory to be opened.
const DefaultMaxWhole = 64 << 20

// Option is a choice of [OpenFile].
type Option func(*File)

// MaxWhole is the largest envelope v1 to open, in bytes, instead of [DefaultMaxWhole].
func MaxWhole(n int64) Option { return func(f *File) { f.maxWhole = n } }

// File is the plaintext of a sealed file. Its methods may be called from any goroutine. It takes 64 KiB of memory, and
// the whole file only for envelope v1.
type File struct {
	r        io.ReaderAt
	size     int64 // of the plaintext
	version  Envelope
	maxWhole int64

	whole *bytes.Reader // v1

	aead   cipher.AEAD // v2
	chunks int64
	mu     sync.Mutex
	cached int64  // number of the chunk in cache; -1 for none
	cache  []byte // readers often come with less room than a chunk
}

// OpenFile opens an envelope of size bytes. Of v2 it reads the header and the last chunk, which proves the size; every
// later read is verified. Bytes that are no envelope are opened as plaintext; see [File.Plaintext].
func OpenFile(secret veilid.SharedSecret, r io.ReaderAt, size int64, opts ...Option) (*File, error) {
	f := &File{r: r, maxWhole: DefaultMaxWhole, cached: -1}
	for _, o := range opts {
		o(f)
	}
	if size < 0 {
		return nil, fmt.Errorf("open file: negative size %d", size)
	}
	var header [headerSize]byte
	if size <= int64(headerSize) {
		f.size = size
		return f, nil
	}
	if err := readAt(r, header[:], 0); err != nil {
		return nil, fmt.Errorf("open file: read header: %w", err)
	}
	if string(header[:len(magic)]) != magic {
		f.size = size
		return f, nil
	}
	f.version = Envelope(header[len(magic)])
	var err error
	switch f.version {
	case V1:
		err = f.openV1(secret, header[len(magic)+1:], size)
	case V2:
		err = f.openV2(secret, header[:], size)
	default:
		err = fmt.Errorf("%w %d: a newer version of the app may read it", ErrVersion, header[len(magic)])
	}
	if err != nil {
		return nil, fmt.Errorf("open file: %w", err)
	}
	return f, nil
}

func (f *File) openV1(secret veilid.SharedSecret, nonce []byte, size int64) error {
	if size > f.maxWhole {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLarge, size, f.maxWhole)
	}
	aead, err := groupAEAD(secret)
	if err != nil {
		return err
	}
	b := make([]byte, size-int64(headerSize))
	if err := readAt(f.r, b, int64(headerSize)); err != nil {
		return fmt.Errorf("read file: %w", err)
	}
	if b, err = aead.Open(b[:0], nonce, b, nil); err != nil {
		return ErrTampered
	}
	f.size, f.whole = int64(len(b)), bytes.NewReader(b)
	return nil
}

func (f *File) openV2(secret veilid.SharedSecret, header []byte, size int64) (err error) {
	body := size - int64(headerSize)
	f.chunks = (body + sealedSize - 1) / sealedSize
	// Only an empty file has an empty chunk: else one file would have two envelopes of different size.
	last := body - (f.chunks-1)*sealedSize
	if last < tagSize || last == tagSize && f.chunks > 1 {
		return fmt.Errorf("%w: no envelope has %d bytes", ErrTampered, size)
	}
	f.size = body - f.chunks*tagSize
	if f.aead, err = chunkAEAD(secret, header); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err = f.cachedChunk(f.chunks - 1)
	return err
}

// Size is the number of plaintext bytes. It is proven, except where Plaintext is true.
func (f *File) Size() int64 { return f.size }

// Envelope is how the file is sealed.
func (f *File) Envelope() Envelope { return f.version }

// Plaintext reports that the file was never encrypted: whoever carried it may have read and changed it.
func (f *File) Plaintext() bool { return f.version == Plain }

// NewReader reads and seeks in the plaintext from its begin.
func (f *File) NewReader() *io.SectionReader { return io.NewSectionReader(f, 0, f.size) }

// ReadAt reads plaintext. What it returns is verified; ErrTampered where the envelope was changed.
func (f *File) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("read file: negative offset")
	}
	if off >= f.size {
		return 0, io.EOF
	}
	switch f.version {
	case Plain:
		short := int64(len(p)) > f.size-off
		if short {
			p = p[:f.size-off]
		}
		if err := readAt(f.r, p, off); err != nil {
			return 0, fmt.Errorf("read file: %w", err)
		}
		if short {
			return len(p), io.EOF
		}
		return len(p), nil
	case V1:
		return f.whole.ReadAt(p, off)
	}
	for n < len(p) && off < f.size {
		m, err := f.readChunk(p[n:], off)
		if err != nil {
			return n, fmt.Errorf("read file: %w", err)
		}
		n += m
		off += int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readChunk reads at most what is left of the chunk at off.
func (f *File) readChunk(p []byte, off int64) (int, error) {
	i, skip := off/chunkSize, off%chunkSize
	if plain := f.plainSize(i); skip == 0 && len(p) >= plain {
		return plain, f.openChunk(p[:plain], i)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.cachedChunk(i)
	if err != nil {
		return 0, err
	}
	return copy(p, c[skip:]), nil
}

// cachedChunk is the plaintext of chunk i. f.mu is held while it is used.
func (f *File) cachedChunk(i int64) ([]byte, error) {
	if f.cached == i {
		return f.cache, nil
	}
	if f.cache == nil {
		f.cache = make([]byte, min(f.size, chunkSize))
	}
	f.cached = -1
	f.cache = f.cache[:f.plainSize(i)]
	if err := f.openChunk(f.cache, i); err != nil {
		return nil, err
	}
	f.cached = i
	return f.cache, nil
}

func (f *File) plainSize(i int64) int {
	return int(min(f.size-i*chunkSize, chunkSize))
}

var sealedChunks = sync.Pool{New: func() any { return new([sealedSize]byte) }}

// openChunk opens chunk i into p, which has its plaintext size.
func (f *File) openChunk(p []byte, i int64) error {
	buf := sealedChunks.Get().(*[sealedSize]byte)
	defer sealedChunks.Put(buf)
	b := buf[:len(p)+tagSize]
	if err := readAt(f.r, b, int64(headerSize)+i*sealedSize); err != nil {
		return fmt.Errorf("chunk %d: %w", i, err)
	}
	nonce := chunkNonce(uint64(i), i == f.chunks-1)
	if _, err := f.aead.Open(p[:0:len(p)], nonce[:], b, nil); err != nil {
		return fmt.Errorf("chunk %d: %w", i, ErrTampered)
	}
	return nil
}

// readAt fills p. A source that ends before its size was not what it claimed to be.
func readAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || err == io.EOF:
		return fmt.Errorf("%w: it ends at byte %d", ErrTampered, off+int64(n))
	}
	return err
}

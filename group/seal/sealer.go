package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
	"lukechampine.com/blake3"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Envelope is how a file is sealed.
type Envelope uint8

// The envelopes of files.
const (
	Plain Envelope = 0 // not at all: early versions of the Rust app
	V1    Envelope = 1 // as a whole
	V2    Envelope = 2 // in chunks
)

// String is "plaintext", "v1" or "v2".
func (e Envelope) String() string {
	if e == Plain {
		return "plaintext"
	}
	return fmt.Sprintf("v%d", uint8(e))
}

const (
	// MaxV1 is the most plaintext bytes that a Sealer puts into envelope v1, which the Rust app reads too.
	MaxV1 = 1 << 20

	magic      = "SAVE"
	headerSize = len(magic) + 1 + nonceSize
	chunkSize  = 64 << 10
	sealedSize = chunkSize + tagSize
	batchSize  = MaxV1 // read and hashed at once; a multiple of chunkSize
)

// EnvelopeSize is the size of the envelope that a Sealer makes of so many plaintext bytes.
func EnvelopeSize(plain int64) int64 {
	if plain <= MaxV1 {
		return int64(headerSize) + plain + tagSize
	}
	chunks := (plain + chunkSize - 1) / chunkSize
	return int64(headerSize) + plain + chunks*tagSize
}

// NewContentHash is the keyed hash by which a group recognises a file that it has already: BLAKE3 of the plaintext
// under a key derived from the group secret, so that outsiders cannot test for a file that they know.
func NewContentHash(secret veilid.SharedSecret) (hash.Hash, error) {
	k, err := derive(secret, deriveContent, nil)
	if err != nil {
		return nil, err
	}
	return blake3.New(len(k), k[:]), nil
}

// Sealer reads a plaintext and yields its envelope. It takes up to 3 MiB of memory, whatever the size of the file.
type Sealer struct {
	src     io.Reader
	secret  veilid.SharedSecret
	v1Limit int // most plaintext bytes for v1

	in      []byte // plaintext that was read; of v2 at the end of a full batch one byte of the next one
	atEnd   bool   // the plaintext ends with in
	out     []byte // envelope not yet handed out
	err     error  // what Read returns when out is empty
	size    int64
	content hash.Hash
	version Envelope

	// v2 only
	aead  cipher.AEAD
	chunk []byte // room for a sealed chunk
	next  uint64 // number of the next chunk
	done  int    // bytes of in that are sealed
}

// NewSealer seals what r yields. An error of r is what Read returns; the envelope is whole only when Read has returned
// io.EOF.
func NewSealer(secret veilid.SharedSecret, r io.Reader) *Sealer {
	s := &Sealer{src: r, secret: secret, v1Limit: MaxV1}
	s.content, s.err = NewContentHash(secret)
	return s
}

// PlainSize is the number of plaintext bytes, after Read has returned io.EOF.
func (s *Sealer) PlainSize() int64 { return s.size }

// ContentHash is the [NewContentHash] of the plaintext, after Read has returned io.EOF.
func (s *Sealer) ContentHash() (h [32]byte) {
	if s.content != nil {
		s.content.Sum(h[:0])
	}
	return h
}

// Envelope is the version of the envelope, after the first Read.
func (s *Sealer) Envelope() Envelope { return s.version }

// Read yields the envelope.
func (s *Sealer) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(s.out) == 0 {
		switch {
		case s.err != nil:
			return 0, s.err
		case s.version == Plain:
			s.err = s.begin()
		default:
			s.err = s.sealChunk()
		}
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}

// begin reads the first batch, which decides on the envelope: v1 if the file ends within it.
func (s *Sealer) begin() error {
	// Room for the header before and the tag behind lets v1 be sealed in place.
	buf := make([]byte, headerSize, 32<<10)
	for len(buf) < headerSize+batchSize+1 && !s.atEnd {
		buf = slices.Grow(buf, 1+tagSize)
		room := min(cap(buf)-tagSize, headerSize+batchSize+1)
		n, err := s.fill(buf[len(buf):room])
		if err != nil {
			return err
		}
		buf = buf[:len(buf)+n]
	}
	s.in = buf[headerSize:]
	header := buf[:headerSize]
	copy(header, magic)
	rand.Read(header[len(magic)+1:])
	if s.atEnd && len(s.in) <= s.v1Limit {
		s.version = V1
		header[len(magic)] = byte(V1)
		aead, err := groupAEAD(s.secret)
		if err != nil {
			return err
		}
		s.count(s.in)
		s.out = aead.Seal(header, header[len(magic)+1:], s.in, nil)
		s.in = nil
		return io.EOF
	}
	s.version = V2
	header[len(magic)] = byte(V2)
	var err error
	if s.aead, err = chunkAEAD(s.secret, header); err != nil {
		return err
	}
	s.chunk = make([]byte, 0, sealedSize)
	s.count(s.batch())
	s.out = header
	return nil
}

// sealChunk seals the next chunk of v2.
func (s *Sealer) sealChunk() error {
	if s.done == batchSize && len(s.in) > batchSize {
		s.in[0] = s.in[batchSize]
		n, err := s.fill(s.in[1 : batchSize+1])
		if err != nil {
			return err
		}
		s.in, s.done = s.in[:1+n], 0
		s.count(s.batch())
	}
	plain := s.in[s.done:min(s.done+chunkSize, len(s.in))]
	last := s.atEnd && s.done+len(plain) == len(s.in)
	nonce := chunkNonce(s.next, last)
	s.out = s.aead.Seal(s.chunk, nonce[:], plain, nil)
	s.done += len(plain)
	s.next++
	if last {
		return io.EOF
	}
	return nil
}

// batch is what of in is sealed before more is read: all but the byte that tells whether a full batch is the end.
func (s *Sealer) batch() []byte { return s.in[:min(len(s.in), batchSize)] }

// count takes note of plaintext that is about to be sealed.
func (s *Sealer) count(p []byte) {
	s.size += int64(len(p))
	s.content.Write(p)
}

// fill reads until p is full or the plaintext ends. Unlike io.ReadFull it tells a plaintext that ends from a source
// that breaks off with io.ErrUnexpectedEOF: half an upload must not be sealed as if it were all.
func (s *Sealer) fill(p []byte) (n int, err error) {
	for idle := 0; n < len(p) && !s.atEnd; {
		m, err := s.src.Read(p[n:])
		n += m
		switch {
		case err == io.EOF:
			s.atEnd = true
		case err != nil:
			return n, fmt.Errorf("read plaintext: %w", err)
		case m > 0:
			idle = 0
		default:
			if idle++; idle == 100 {
				return n, fmt.Errorf("read plaintext: %w", io.ErrNoProgress)
			}
		}
	}
	return n, nil
}

// chunkAEAD encrypts the chunks of a file with this header, which is the first headerSize bytes of its envelope.
func chunkAEAD(secret veilid.SharedSecret, header []byte) (cipher.AEAD, error) {
	if len(header) != headerSize {
		return nil, errors.New("header has a wrong size")
	}
	k, err := derive(secret, deriveChunks, header)
	if err != nil {
		return nil, err
	}
	return chacha20poly1305.New(k[:])
}

// chunkNonce is the nonce of chunk i. The key is never used for another file, so a counter suffices.
func chunkNonce(i uint64, last bool) (nonce [chacha20poly1305.NonceSize]byte) {
	binary.BigEndian.PutUint64(nonce[3:11], i)
	if last {
		nonce[11] = 1
	}
	return nonce
}

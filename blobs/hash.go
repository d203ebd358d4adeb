// Package blobs holds Iroh blobs: immutable bytes named by their BLAKE3 hash, verified in groups of 16 KiB.
//
// [Store] is the contract of a place that keeps them; package disk implements it on files and package memory for
// tests, and package storetest holds both to the same behaviour. Bytes from others enter a store through [Receiver]
// only, which verifies them first. [HashSeq] and [Collection] are Iroh's sequences of hashes and their names.
package blobs

import (
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// HashSize is the size of a [Hash] in bytes.
const HashSize = 32

// Hash is the BLAKE3 hash that names a blob. Its text form is 64 hexadecimal digits; iroh before 0.90 and the Save app
// use base32, which [ParseHash] takes too.
type Hash [HashSize]byte

// EmptyHash names the blob of no bytes, which every store holds.
var EmptyHash = Sum(nil)

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Sum is the hash of data.
func Sum(data []byte) Hash { return bao.Root(data) }

// ParseHash reads 64 lower-case hexadecimal digits or 52 characters of unpadded base32 in either case.
func ParseHash(s string) (h Hash, err error) {
	switch len(s) {
	case hex.EncodedLen(HashSize):
		if strings.ToLower(s) != s {
			return h, fmt.Errorf("hash %q: hexadecimal digits must be lower case", s)
		}
		_, err = hex.Decode(h[:], []byte(s))
	case lowerBase32.EncodedLen(HashSize):
		var b []byte
		if b, err = lowerBase32.DecodeString(strings.ToLower(s)); err == nil {
			copy(h[:], b)
		}
	default:
		return h, fmt.Errorf("hash of %d characters: want 64 hexadecimal digits or 52 characters of base32", len(s))
	}
	if err != nil {
		return Hash{}, fmt.Errorf("hash %q: %w", s, err)
	}
	return h, nil
}

// String is the hash in hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Base32 is the hash as the Save app and iroh before 0.90 write it.
func (h Hash) Base32() string { return lowerBase32.EncodeToString(h[:]) }

// Short is the first ten hexadecimal digits, for logs.
func (h Hash) Short() string { return hex.EncodeToString(h[:5]) }

// MarshalText is the hash in hexadecimal digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what [ParseHash] reads.
func (h *Hash) UnmarshalText(b []byte) (err error) {
	*h, err = ParseHash(string(b))
	return err
}

// Format says what a hash stands for.
type Format uint8

// The formats of iroh-blobs.
const (
	Raw       Format = 0 // the blob itself
	SeqFormat Format = 1 // a sequence of hashes, and the blobs they name
)

// HashAndFormat is a hash and what it stands for, such as what a tag keeps.
type HashAndFormat struct {
	Hash   Hash
	Format Format
}

// String is the hash in hexadecimal digits, with an "s" before that of a sequence.
func (h HashAndFormat) String() string {
	if h.Format == SeqFormat {
		return "s" + h.Hash.String()
	}
	return h.Hash.String()
}

// ParseHashAndFormat reads what [HashAndFormat.String] writes: a hash, with an "s" before that of a sequence. The hash
// is in hexadecimal digits.
func ParseHashAndFormat(s string) (h HashAndFormat, err error) {
	digits := s
	if rest, ok := strings.CutPrefix(s, "s"); ok && len(rest) == hex.EncodedLen(HashSize) {
		h.Format, digits = SeqFormat, rest
	}
	if len(digits) != hex.EncodedLen(HashSize) {
		return HashAndFormat{}, fmt.Errorf("hash and format %q: want 64 hexadecimal digits, with an s before them for a sequence", s)
	}
	if h.Hash, err = ParseHash(digits); err != nil {
		return HashAndFormat{}, err
	}
	return h, nil
}

// Bytes is iroh's binary form, 33 bytes: the hash, then the format.
func (h HashAndFormat) Bytes() []byte {
	return append(h.Hash[:len(h.Hash):len(h.Hash)], byte(h.Format))
}

// HashAndFormatFromBytes reads iroh's binary form.
func HashAndFormatFromBytes(b []byte) (HashAndFormat, error) {
	if len(b) != HashSize+1 {
		return HashAndFormat{}, fmt.Errorf("hash and format of %d bytes: want %d: %w", len(b), HashSize+1, ErrFormat)
	}
	f := Format(b[HashSize])
	if f > SeqFormat {
		return HashAndFormat{}, fmt.Errorf("blob format %d: want 0 (raw) or 1 (sequence of hashes): %w", f, ErrFormat)
	}
	return HashAndFormat{Hash(b[:HashSize]), f}, nil
}

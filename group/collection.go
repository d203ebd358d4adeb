package group

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/OpenArchive/save-dweb-go/blobs"
)

// maxLegacyCollection bounds the collections of Rust members, in bytes; one file takes about 60 and its name.
const maxLegacyCollection = 16 << 20

// maxFiles bounds the files of one repo.
const maxFiles = 100_000

// legacyDecode reads what serde_cbor writes: hashes as arrays of 32 integers, keys in any order.
var legacyDecode = must(cbor.DecOptions{
	DupMapKey:        cbor.DupMapKeyQuiet, // the last one wins, as in Rust
	MaxMapPairs:      maxFiles + 1,
	MaxArrayElements: maxFiles + 1,
	MaxNestedLevels:  8,
	IndefLength:      cbor.IndefLengthAllowed,
}.DecMode())

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // options are constants
	}
	return v
}

// LegacyCollection is the Rust app's collection: file names and the blobs they stand for.
type LegacyCollection map[string]blobs.Hash

// Encode writes a CBOR map with sorted names, each hash as an array of 32 integers: the form that serde_cbor reads.
func (c LegacyCollection) Encode() []byte {
	b := cborHead(nil, 5, uint64(len(c)))
	for _, name := range slices.Sorted(maps.Keys(c)) {
		b = cborHead(b, 3, uint64(len(name)))
		b = append(b, name...)
		b = cborHead(b, 4, blobs.HashSize)
		h := c[name]
		for _, x := range h {
			b = cborHead(b, 0, uint64(x))
		}
	}
	return b
}

// cborHead appends a CBOR initial byte with its argument in the shortest form.
func cborHead(b []byte, major byte, n uint64) []byte {
	switch m := major << 5; {
	case n < 24:
		return append(b, m|byte(n))
	case n < 1<<8:
		return append(b, m|24, byte(n))
	case n < 1<<16:
		return append(b, m|25, byte(n>>8), byte(n))
	default:
		return append(b, m|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
}

// DecodeLegacyCollection reads a collection that the Rust app or [LegacyCollection.Encode] wrote.
func DecodeLegacyCollection(b []byte) (LegacyCollection, error) {
	if len(b) > maxLegacyCollection {
		return nil, fmt.Errorf("%w collection: %d bytes, at most %d are read", ErrMalformed, len(b), maxLegacyCollection)
	}
	var raw map[string][]uint8
	var ints map[string][]uint16 // serde_cbor's arrays do not decode into bytes
	if err := legacyDecode.Unmarshal(b, &ints); err != nil {
		if legacyDecode.Unmarshal(b, &raw) != nil {
			return nil, fmt.Errorf("%w collection: %w", ErrMalformed, err)
		}
	}
	c := make(LegacyCollection, len(ints)+len(raw))
	for name, xs := range ints {
		var h blobs.Hash
		if len(xs) != len(h) {
			return nil, fmt.Errorf("%w collection: hash of %d bytes, expected 32 bytes", ErrMalformed, len(xs))
		}
		for i, x := range xs {
			if x > 255 {
				return nil, fmt.Errorf("%w collection: %d is not a byte", ErrMalformed, x)
			}
			h[i] = byte(x)
		}
		c[name] = h
	}
	for name, xs := range raw {
		if len(xs) != blobs.HashSize {
			return nil, fmt.Errorf("%w collection: hash of %d bytes, expected 32 bytes", ErrMalformed, len(xs))
		}
		c[name] = blobs.Hash(xs)
	}
	return c, nil
}

// encodeLegacyHash is the form of a hash in subkey 1: 64 hexadecimal digits as ASCII.
func encodeLegacyHash(h blobs.Hash) []byte { return []byte(h.String()) }

// decodeLegacyHash reads subkey 1 of a repo.
func decodeLegacyHash(b []byte) (h blobs.Hash, err error) {
	raw := make([]byte, hex.DecodedLen(len(b)))
	if _, err := hex.Decode(raw, b); err != nil {
		return h, fmt.Errorf("%w collection hash: Failed to decode hex string: %w", ErrMalformed, err)
	}
	if len(raw) != len(h) {
		return h, fmt.Errorf("%w collection hash: %d bytes, expected 32 bytes", ErrMalformed, len(raw))
	}
	copy(h[:], raw)
	return h, nil
}

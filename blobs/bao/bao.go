// Package bao is the tree of BLAKE3 in the shape that iroh-blobs uses: chunks of 1 KiB, groups of 16 chunks (16 KiB),
// outboards in pre-order without size, and responses that prove any set of chunks.
//
// [Encode] writes a response and [Decode] verifies one; [Hasher] builds the tree of a stream in one pass; [ValidRanges]
// finds what is intact of a blob and its outboard. The format is that of bao-tree 0.17 with block size 4.
package bao

import "errors"

// Sizes of the tree's parts.
const (
	ChunkSize   = 1024
	GroupChunks = 16
	GroupSize   = ChunkSize * GroupChunks
	PairSize    = 64
	HashSize    = 32
	HeaderSize  = 8 // the size, little endian, that begins a response
)

// MaxSize is the largest size of a blob, in bytes; offsets in files are signed.
const MaxSize = 1<<63 - 1

// Errors of trees and responses.
var (
	// ErrMismatch: bytes do not belong to the hash that they were said to belong to.
	ErrMismatch = errors.New("bytes do not match the hash")
	// ErrTruncated: a response ends before everything that was asked for has come.
	ErrTruncated = errors.New("response is cut short")
	// ErrTrailing: a response goes on after everything that was asked for.
	ErrTrailing = errors.New("response is longer than what was asked for")
	// ErrRanges: boundaries of ranges are not in ascending order.
	ErrRanges = errors.New("boundaries of ranges must ascend")
	// ErrTooLarge: a size is above MaxSize.
	ErrTooLarge = errors.New("size is above what a file can hold")
)

// Parent is a node of the tree at or above group level: the hashes of its two halves and where it stands.
type Parent struct {
	Index       uint64 // position in the pre-order outboard, in pairs
	Left, Right [HashSize]byte
}

// Append appends the pair as it stands in outboards and responses, 64 bytes.
func (p Parent) Append(b []byte) []byte {
	return append(append(b, p.Left[:]...), p.Right[:]...)
}

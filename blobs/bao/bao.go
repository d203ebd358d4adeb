// Package bao is the tree of BLAKE3 in the shape that iroh-blobs uses: chunks of 1 KiB, groups of 16 chunks (16 KiB),
// outboards in pre-order without size, and responses that prove any set of chunks.
package bao

// Sizes of the tree's parts.
const (
	ChunkSize   = 1024
	GroupChunks = 16
	GroupSize   = ChunkSize * GroupChunks
	PairSize    = 64
	HashSize    = 32
)

// Parent is a node of the tree at or above group level: the hashes of its two halves and where it stands.
type Parent struct {
	Index       uint64 // position in the pre-order outboard, in pairs
	Left, Right [HashSize]byte
}

package bao

import (
	"encoding/binary"
	"math/bits"
	"sync"

	"lukechampine.com/blake3/guts"
)

// Chunks is the number of chunks of a blob of size bytes. The empty blob has one, of no bytes.
func Chunks(size uint64) uint64 { return units(size, ChunkSize) }

// Groups is the number of groups of a blob of size bytes. The empty blob has one, of no bytes.
func Groups(size uint64) uint64 { return units(size, GroupSize) }

func units(size, unit uint64) uint64 {
	if size == 0 {
		return 1
	}
	return (size-1)/unit + 1
}

// GroupLen is the number of bytes of a group of a blob of size bytes: 16 KiB, or less of the last one; 0 past the end.
func GroupLen(size, group uint64) int {
	if group > MaxSize/GroupSize || group*GroupSize >= size {
		return 0
	}
	return int(min(size-group*GroupSize, GroupSize))
}

// OutboardSize is the size in bytes of the outboard of a blob of size bytes.
func OutboardSize(size uint64) uint64 { return (Groups(size) - 1) * PairSize }

// Path appends the pre-order positions of the parents above a group, from the root down, in a blob of so many groups.
func Path(path []uint64, groups, group uint64) []uint64 {
	for index, first := uint64(0), uint64(0); groups > 1; {
		path = append(path, index)
		left := leftHalf(groups)
		if group < first+left {
			index, groups = index+1, left
		} else {
			// the left half has left-1 pairs, and this one is before them
			index, first, groups = index+left, first+left, groups-left
		}
	}
	return path
}

// leftHalf is the number of units (bytes, chunks or groups) in the left half of a tree of n > 1: the largest power of
// two below n.
func leftHalf(n uint64) uint64 { return 1 << (bits.Len64(n-1) - 1) }

// cv is a chaining value: the hash of a subtree.
type cv = [8]uint32

func cvOf(b []byte) (v cv) {
	_ = b[HashSize-1]
	for i := range v {
		v[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return v
}

func bytesOf(v cv) (b [HashSize]byte) {
	for i, w := range v {
		binary.LittleEndian.PutUint32(b[4*i:], w)
	}
	return b
}

func appendPair(b []byte, left, right cv) []byte {
	for _, v := range [2]cv{left, right} {
		for _, w := range v {
			b = binary.LittleEndian.AppendUint32(b, w)
		}
	}
	return b
}

func rootFlag(root bool) uint32 {
	if root {
		return guts.FlagRoot
	}
	return 0
}

func parentCV(left, right cv, root bool) cv {
	return guts.ChainingValue(guts.ParentNode(left, right, &guts.IV, rootFlag(root)))
}

// leafBuf is room for a group that is not whole: the vector code of guts reads 16 KiB whatever the length.
type leafBuf [GroupSize]byte

var leafBufs = sync.Pool{New: func() any { return new(leafBuf) }}

// leafNode is the node of at most one group of bytes, which begins at a chunk. Where it has more than one chunk, the
// node's block holds the chaining values of its two halves.
func (b *leafBuf) leafNode(data []byte, chunk uint64, root bool) guts.Node {
	var n guts.Node
	switch {
	case len(data) <= ChunkSize:
		n = guts.CompressChunk(data, &guts.IV, chunk, 0)
	case len(data) == GroupSize:
		n = guts.CompressBuffer((*[GroupSize]byte)(data), GroupSize, &guts.IV, chunk, 0)
	default:
		copy(b[:], data)
		n = guts.CompressBuffer((*[GroupSize]byte)(b), len(data), &guts.IV, chunk, 0)
	}
	n.Flags |= rootFlag(root)
	return n
}

func (b *leafBuf) leafCV(data []byte, chunk uint64, root bool) cv {
	return guts.ChainingValue(b.leafNode(data, chunk, root))
}

// node is a subtree of a blob: the chunks from first to before end, and the position of its pair, if it has one at or
// above group level, in the pre-order outboard.
type node struct {
	first, end uint64
	index      uint64
}

func rootNode(size uint64) node { return node{0, Chunks(size), 0} }

func (n node) chunks() uint64 { return n.end - n.first }

// inGroup reports whether the node is a group or below, so that its pair is not in outboards.
func (n node) inGroup() bool { return n.chunks() <= GroupChunks }

func (n node) isRoot(size uint64) bool { return n.first == 0 && n.end == Chunks(size) }

// bytes is the range of the node's bytes in a blob of size bytes.
func (n node) bytes(size uint64) (off, length uint64) {
	off = n.first * ChunkSize
	if n.end == Chunks(size) {
		return off, size - off
	}
	return off, n.chunks() * ChunkSize
}

func (n node) children() (left, right node) {
	half := leftHalf(n.chunks())
	left = node{n.first, n.first + half, n.index + 1}
	right = node{n.first + half, n.end, n.index + (half+GroupChunks-1)/GroupChunks}
	return left, right
}

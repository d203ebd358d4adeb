package blobs

import (
	"errors"
	"fmt"
	"iter"
)

// ErrFormat: bytes are not the sequence, collection or text that they should be.
var ErrFormat = errors.New("bad format")

// HashSeq is a sequence of hashes as iroh stores it: 32 bytes each, nothing else.
type HashSeq struct{ b []byte }

// NewHashSeq makes a sequence.
func NewHashSeq(hashes ...Hash) HashSeq {
	b := make([]byte, 0, len(hashes)*HashSize)
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return HashSeq{b}
}

// ParseHashSeq takes the bytes of a sequence, which it keeps: they must not change any more.
func ParseHashSeq(b []byte) (HashSeq, error) {
	if len(b)%HashSize != 0 {
		return HashSeq{}, fmt.Errorf("sequence of hashes of %d bytes, not a multiple of %d: %w", len(b), HashSize, ErrFormat)
	}
	return HashSeq{b}, nil
}

// Len is the number of hashes.
func (s HashSeq) Len() int { return len(s.b) / HashSize }

// At is hash i, counted from 0.
func (s HashSeq) At(i int) Hash { return Hash(s.b[i*HashSize : (i+1)*HashSize]) }

// All yields the hashes in order.
func (s HashSeq) All() iter.Seq2[int, Hash] {
	return func(yield func(int, Hash) bool) {
		for i := range s.Len() {
			if !yield(i, s.At(i)) {
				return
			}
		}
	}
}

// Bytes is the blob of the sequence. It must not be changed.
func (s HashSeq) Bytes() []byte { return s.b }

// Hash names the sequence.
func (s HashSeq) Hash() Hash { return Sum(s.b) }

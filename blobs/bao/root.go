package bao

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
)

// Root is the hash of data, computed on all cores where that is worth it.
func Root(data []byte) [HashSize]byte {
	if len(data) <= 2*segmentSize {
		leaf := leafBufs.Get().(*leafBuf)
		defer leafBufs.Put(leaf)
		return bytesOf(hashTree(leaf, data, 0, true, nil))
	}
	segments := make([]cv, units(uint64(len(data)), segmentSize))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(segments)) {
		wg.Go(func() {
			leaf := leafBufs.Get().(*leafBuf)
			defer leafBufs.Put(leaf)
			for i := int(next.Add(1)) - 1; i < len(segments); i = int(next.Add(1)) - 1 {
				part := data[i*segmentSize : min(len(data), (i+1)*segmentSize)]
				segments[i] = hashTree(leaf, part, uint64(i)*(segmentSize/ChunkSize), false, nil)
			}
		})
	}
	wg.Wait()
	return bytesOf(joinTree(segments, true))
}

func joinTree(parts []cv, root bool) cv {
	if len(parts) == 1 {
		return parts[0]
	}
	cut := leftHalf(uint64(len(parts)))
	return parentCV(joinTree(parts[:cut], false), joinTree(parts[cut:], false), root)
}

// RootReader is the hash and the length in bytes of what r yields to its end.
func RootReader(ctx context.Context, r io.Reader) (root [HashSize]byte, size uint64, err error) {
	h := NewHasher(nil)
	_, err = h.Copy(ctx, nil, r)
	root, size, _ = h.Finish()
	if err != nil {
		return [HashSize]byte{}, 0, err
	}
	return root, size, nil
}

// NewOutboard is the hash of data and its outboard in pre-order.
func NewOutboard(data []byte) (root [HashSize]byte, outboard []byte) {
	leaf := leafBufs.Get().(*leafBuf)
	defer leafBufs.Put(leaf)
	post := make([]byte, 0, OutboardSize(uint64(len(data))))
	root = bytesOf(hashTree(leaf, data, 0, true, &post))
	return root, PreOrder(post)
}

// Spill is a [Scratch] that stays in memory up to Limit bytes, and moves to what Create makes when it grows above it.
// The caller disposes of what was created.
type Spill struct {
	Limit  int
	Create func() (Scratch, error)

	mem  []byte
	file Scratch
}

// WriteAt writes b at off. In memory it may leave no gap.
func (s *Spill) WriteAt(b []byte, off int64) (int, error) {
	if s.file == nil {
		if off < 0 || off > int64(len(s.mem)) {
			return 0, fmt.Errorf("write at %d of an outboard of %d bytes leaves a gap", off, len(s.mem))
		}
		if end := off + int64(len(b)); end <= int64(s.Limit) {
			n := copy(s.mem[off:], b)
			s.mem = append(s.mem, b[n:]...)
			return len(b), nil
		}
		file, err := s.Create()
		if err != nil {
			return 0, err
		}
		if _, err := file.WriteAt(s.mem, 0); err != nil {
			return 0, err
		}
		s.file, s.mem = file, nil
	}
	return s.file.WriteAt(b, off)
}

// ReadAt reads what was written.
func (s *Spill) ReadAt(b []byte, off int64) (int, error) {
	if s.file != nil {
		return s.file.ReadAt(b, off)
	}
	if off < 0 || off > int64(len(s.mem)) {
		return 0, io.EOF
	}
	n := copy(b, s.mem[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

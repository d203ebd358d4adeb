package bao

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
)

// Hashing works on segments: power-of-two subtrees big enough that handing one to another core costs nothing beside
// hashing it, and small enough that a few of them fit any device.
const (
	segmentGroups = 16
	segmentSize   = segmentGroups * GroupSize
)

// Scratch keeps an outboard in post-order while its blob is hashed, because positions in pre-order are known only when
// the size is. See [Spill].
type Scratch interface {
	io.ReaderAt
	io.WriterAt
}

// Hasher builds the tree of a stream of unknown length in one pass, on all cores. Its memory does not grow with the
// stream. Its methods are for one goroutine; goroutines that it starts end by themselves after one segment.
type Hasher struct {
	scratch Scratch
	filling *segment   // not handed out yet; may be full
	pending []*segment // handed out, in order
	free    []*segment
	depth   int // segments in flight at most

	size    uint64
	handed  uint64 // segments handed out
	settled uint64 // segments in the tree
	stack   []cv   // subtrees that are complete, at most one per height
	pairs   []byte // in post-order, not in scratch yet
	written int64  // bytes in scratch
	err     error

	finished bool
	root     [HashSize]byte
}

// NewHasher makes a hasher that keeps the outboard in scratch, or computes only the root where scratch is nil.
func NewHasher(scratch Scratch) *Hasher {
	return &Hasher{scratch: scratch, depth: min(2*runtime.GOMAXPROCS(0)+2, 16)}
}

// segment is a part of the stream on its way through a core.
type segment struct {
	buf   [segmentSize]byte
	n     int
	first uint64 // its first chunk
	pairs []byte // in post-order
	cv    cv
	busy  sync.WaitGroup // those who hash it or write it elsewhere
}

// take is a segment to fill. It waits for the oldest one in flight where there are enough of them.
func (h *Hasher) take() *segment {
	if len(h.pending) >= h.depth {
		h.settle()
	}
	if n := len(h.free); n > 0 {
		s := h.free[n-1]
		h.free = h.free[:n-1]
		s.n = 0
		return s
	}
	return new(segment)
}

// Write hashes b. It fails only when scratch does.
func (h *Hasher) Write(b []byte) (int, error) {
	if h.finished {
		return 0, errFinished
	}
	total := len(b)
	for len(b) > 0 && h.err == nil {
		if h.filling == nil || h.filling.n == segmentSize {
			h.handOut()
			h.filling = h.take()
		}
		n := copy(h.filling.buf[h.filling.n:], b)
		h.filling.n += n
		h.size += uint64(n)
		b = b[n:]
	}
	return total - len(b), h.err
}

var errFinished = errors.New("hasher is finished: make another one")

// handOut lets another goroutine hash the segment that is full. More bytes follow, so that it is never the root.
func (h *Hasher) handOut() {
	s := h.filling
	if s == nil {
		return
	}
	s.first = h.handed * (segmentSize / ChunkSize)
	h.handed++
	h.filling = nil
	h.pending = append(h.pending, s)
	keep := h.scratch != nil
	s.busy.Go(func() { s.hash(keep, false) })
}

func (s *segment) hash(keep, root bool) {
	leaf := leafBufs.Get().(*leafBuf)
	defer leafBufs.Put(leaf)
	var pairs *[]byte
	s.pairs = s.pairs[:0]
	if keep {
		pairs = &s.pairs
	}
	s.cv = hashTree(leaf, s.buf[:s.n], s.first, root, pairs)
}

// hashTree hashes a subtree and appends its pairs in post-order.
func hashTree(leaf *leafBuf, data []byte, first uint64, root bool, pairs *[]byte) cv {
	if len(data) <= GroupSize {
		return leaf.leafCV(data, first, root)
	}
	cut := leftHalf(uint64(len(data)))
	left := hashTree(leaf, data[:cut], first, false, pairs)
	right := hashTree(leaf, data[cut:], first+cut/ChunkSize, false, pairs)
	if pairs != nil {
		*pairs = appendPair(*pairs, left, right)
	}
	return parentCV(left, right, root)
}

// settle waits for the oldest segment and adds it to the tree.
func (h *Hasher) settle() {
	s := h.pending[0]
	h.pending = append(h.pending[:0], h.pending[1:]...)
	s.busy.Wait()
	h.pairs = append(h.pairs, s.pairs...)
	v := s.cv
	h.settled++
	for n := h.settled; n%2 == 0; n /= 2 {
		v = h.merge(v, false)
	}
	h.stack = append(h.stack, v)
	if len(h.pairs) >= 1<<16 {
		h.flush()
	}
	h.free = append(h.free, s)
}

// merge joins the subtree on top of the stack with the one that follows it.
func (h *Hasher) merge(right cv, root bool) cv {
	left := h.stack[len(h.stack)-1]
	h.stack = h.stack[:len(h.stack)-1]
	if h.scratch != nil {
		h.pairs = appendPair(h.pairs, left, right)
	}
	return parentCV(left, right, root)
}

func (h *Hasher) flush() {
	if h.err == nil && len(h.pairs) > 0 {
		if _, err := h.scratch.WriteAt(h.pairs, h.written); err != nil {
			h.err = fmt.Errorf("keep the outboard: %w", err)
		}
	}
	h.written += int64(len(h.pairs))
	h.pairs = h.pairs[:0]
}

// Copy reads src to its end, hashes it and writes it to dst, all at once: reading, hashing and writing overlap. dst may
// be nil. It returns the number of bytes read. A context that ends is noticed between two reads.
func (h *Hasher) Copy(ctx context.Context, dst io.Writer, src io.Reader) (total uint64, err error) {
	if h.finished {
		return 0, errFinished
	}
	var out *copier
	if dst != nil {
		out = startCopier(dst, h.depth+2)
		defer func() {
			if failed := out.stop(); err == nil {
				err = failed
			}
		}()
	}
	for h.err == nil {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		if out != nil && out.failed.Load() {
			return total, nil // stop says why
		}
		s := h.filling
		if s == nil || s.n == segmentSize {
			s = h.take()
		}
		from := s.n
		n, err := ReadFull(src, s.buf[from:])
		if n > 0 {
			if h.filling != s {
				h.handOut()
				h.filling = s
			}
			s.n += n
			h.size += uint64(n)
			total += uint64(n)
			if out != nil {
				out.save(s, from)
			}
		} else if h.filling != s {
			h.free = append(h.free, s)
		}
		switch {
		case err == io.EOF:
			return total, nil
		case err != nil:
			return total, err
		}
	}
	return total, h.err
}

// ReadFull fills p like io.ReadFull, but the end of src is io.EOF wherever it comes, and every other error is what src
// says. io.ReadFull cannot tell a source that has ended from one that broke off with io.ErrUnexpectedEOF, as the body of
// an HTTP request does: half an upload would pass for all of it.
func ReadFull(src io.Reader, p []byte) (n int, err error) {
	for idle := 0; n < len(p) && err == nil; {
		var m int
		m, err = src.Read(p[n:])
		n += m
		if idle++; m > 0 {
			idle = 0
		} else if idle == 100 && err == nil {
			err = io.ErrNoProgress
		}
	}
	if n == len(p) && err == io.EOF {
		err = nil // the next read tells it
	}
	return n, err
}

// copier writes segments in order, beside the goroutine that reads them.
type copier struct {
	jobs   chan copyJob
	failed atomic.Bool
	done   chan struct{}
	err    error
}

type copyJob struct {
	s    *segment
	data []byte
}

func startCopier(dst io.Writer, depth int) *copier {
	c := &copier{jobs: make(chan copyJob, depth), done: make(chan struct{})}
	go func() {
		defer close(c.done)
		for j := range c.jobs {
			if c.err == nil {
				if _, c.err = dst.Write(j.data); c.err != nil {
					c.failed.Store(true)
				}
			}
			j.s.busy.Done()
		}
	}()
	return c
}

func (c *copier) save(s *segment, from int) {
	s.busy.Add(1)
	c.jobs <- copyJob{s, s.buf[from:s.n]}
}

func (c *copier) stop() error {
	close(c.jobs)
	<-c.done
	return c.err
}

// Finish ends the stream and returns its hash and length in bytes.
func (h *Hasher) Finish() (root [HashSize]byte, size uint64, err error) {
	if h.finished {
		return h.root, h.size, h.err
	}
	for len(h.pending) > 0 {
		h.settle()
	}
	s := h.filling
	if s == nil {
		s = new(segment)
	}
	s.first = h.handed * (segmentSize / ChunkSize)
	s.hash(h.scratch != nil, len(h.stack) == 0)
	h.pairs = append(h.pairs, s.pairs...)
	v := s.cv
	for len(h.stack) > 0 {
		v = h.merge(v, len(h.stack) == 1)
	}
	if h.scratch != nil {
		h.flush()
	}
	h.finished, h.root = true, bytesOf(v)
	h.filling, h.free = nil, nil
	return h.root, h.size, h.err
}

// WriteOutboard writes the outboard in pre-order, after Finish. It reads scratch, which must not have been closed.
func (h *Hasher) WriteOutboard(w io.Writer) error {
	switch {
	case !h.finished:
		return errors.New("the outboard is known only when the hasher is finished")
	case h.err != nil:
		return h.err
	case h.scratch == nil:
		return errors.New("the hasher was made without scratch: it keeps no outboard")
	}
	return preOrder(w, h.scratch, Groups(h.size))
}

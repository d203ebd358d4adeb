package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// content is what is here of a blob. The store's lock guards it.
type content struct {
	hash           blobs.Hash
	complete       bool
	data, outboard []byte // where it is complete

	proven  uint64 // size of a partial blob, 0 before it is known
	have    bao.Ranges
	groups  map[uint64][]byte
	pairs   map[uint64][]byte
	writers int
	deleted bool
}

func (c *content) setComplete(data, outboard []byte) {
	c.complete, c.data, c.outboard = true, data, outboard
	c.groups, c.pairs = nil, nil
}

func (c *content) size() uint64 {
	if c.complete {
		return uint64(len(c.data))
	}
	return c.proven
}

func (c *content) info() blobs.Info {
	if c.complete {
		return blobs.Info{Hash: c.hash, Size: c.size(), Proven: true, Complete: true, Have: bao.All()}
	}
	return blobs.Info{Hash: c.hash, Size: c.proven, Proven: c.proven > 0, Have: append(bao.Ranges(nil), c.have...)}
}

// stored is how many bytes are here.
func (c *content) stored() (n uint64) {
	if c.complete {
		return c.size()
	}
	for _, g := range c.groups {
		n += uint64(len(g))
	}
	return n
}

// group is a group's bytes, nil where they are not here.
func (c *content) group(i uint64) []byte {
	if !c.complete {
		return c.groups[i]
	}
	return c.data[i*bao.GroupSize:][:bao.GroupLen(c.size(), i)]
}

// assemble makes a whole partial blob a complete one.
func (c *content) assemble() error {
	data := make([]byte, 0, c.proven)
	for i := range bao.Groups(c.proven) {
		data = append(data, c.groups[i]...)
	}
	root, outboard := bao.NewOutboard(data)
	if root != c.hash {
		return fmt.Errorf("%w: %s: groups were stored that had not been verified", blobs.ErrCorrupt, c.hash.Short())
	}
	c.setComplete(data, outboard)
	return nil
}

// reader reads a blob. It implements blobs.Blob.
type reader struct {
	s      *Store
	c      *content
	closed bool
}

// locked calls fn unless the reader is closed. It works on a closed store, whose blobs are still there.
func (r *reader) locked(fn func() error) error {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if r.closed {
		return blobs.ErrClosed
	}
	return fn()
}

func (r *reader) Info() blobs.Info {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.c.info()
}

func (r *reader) ReadAt(dst []byte, off int64) (n int, err error) {
	err = r.locked(func() error {
		if off < 0 {
			return errors.New("negative offset")
		}
		for n < len(dst) {
			at := uint64(off) + uint64(n)
			if at >= r.c.size() {
				return io.EOF
			}
			group := r.c.group(at / bao.GroupSize)
			if group == nil {
				return notFound(r.c.hash)
			}
			n += copy(dst[n:], group[at%bao.GroupSize:])
		}
		return nil
	})
	return n, err
}

// part reads groups, or pairs, that lie behind each other in a file on disk. The store's lock is held.
type part struct {
	unit  uint64
	piece func(i uint64) []byte
}

func (p part) ReadAt(dst []byte, off int64) (n int, err error) {
	for n < len(dst) {
		at := uint64(off) + uint64(n)
		piece := p.piece(at / p.unit)
		if at%p.unit >= uint64(len(piece)) {
			return n, io.EOF
		}
		n += copy(dst[n:], piece[at%p.unit:])
	}
	return n, nil
}

func (r *reader) Encode(w io.Writer, ranges bao.Ranges) error {
	var buf bytes.Buffer
	err := r.locked(func() error {
		c := r.c
		chunks := bao.Chunks(c.size())
		src := bao.Source{Root: c.hash, Size: c.size(), Data: bytes.NewReader(c.data), Outboard: bytes.NewReader(c.outboard)}
		if !c.complete {
			for i := range ranges.Clamp(chunks).Groups(chunks) {
				if c.groups[i] == nil {
					return notFound(c.hash)
				}
			}
			src.Data = part{bao.GroupSize, c.group}
			src.Outboard = part{bao.PairSize, func(i uint64) []byte { return c.pairs[i] }}
		}
		if err := bao.Encode(&buf, src, ranges); err != nil {
			return fmt.Errorf("%w: %s: %w", blobs.ErrCorrupt, c.hash.Short(), err)
		}
		return nil
	})
	if err == nil {
		_, err = w.Write(buf.Bytes())
	}
	return err
}

func (r *reader) Close() error {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.closed = true
	return nil
}

// writer writes a partial blob. It implements blobs.Partial.
type writer struct {
	s      *Store
	c      *content
	closed bool
}

func (w *writer) locked(fn func(c *content) error) error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	switch {
	case w.closed, w.s.closed:
		return blobs.ErrClosed
	case w.c.deleted:
		return notFound(w.c.hash)
	}
	return fn(w.c)
}

func (w *writer) Info() blobs.Info {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.c.info()
}

func (w *writer) SetSize(size uint64) error {
	return w.locked(func(c *content) error {
		known := c.size()
		switch {
		case size == 0:
			return fmt.Errorf("%s: %w: it is not the hash of no bytes", c.hash.Short(), blobs.ErrVerify)
		case size > MaxSize:
			return fmt.Errorf("%s: %w: %d bytes, at most %d", c.hash.Short(), blobs.ErrTooLarge, size, uint64(MaxSize))
		case known != 0 && known != size:
			return fmt.Errorf("%s: %w: size %d was proven before, now %d", c.hash.Short(), blobs.ErrVerify, known, size)
		case !c.complete:
			c.proven = size
		}
		return nil
	})
}

func (w *writer) WriteGroup(i uint64, data []byte, parents []bao.Parent) error {
	return w.locked(func(c *content) error {
		groups := bao.Groups(c.size())
		switch {
		case c.complete:
			return nil
		case c.proven == 0:
			return fmt.Errorf("%s: group %d came before the size", c.hash.Short(), i)
		case i >= groups || len(data) != bao.GroupLen(c.proven, i):
			return fmt.Errorf("%s: no group %d of %d bytes in %d bytes", c.hash.Short(), i, len(data), c.proven)
		}
		for _, p := range parents {
			if p.Index >= groups-1 {
				return fmt.Errorf("%s: no pair %d in %d bytes", c.hash.Short(), p.Index, c.proven)
			}
		}
		if c.groups == nil {
			c.groups, c.pairs = map[uint64][]byte{}, map[uint64][]byte{}
		}
		for _, p := range parents {
			c.pairs[p.Index] = p.Append(nil)
		}
		c.groups[i] = bytes.Clone(data)
		end := bao.GroupSpan(i, i+1)
		if i == groups-1 { // no end, as iroh writes it
			end = bao.From(i * bao.GroupChunks)
		}
		c.have = c.have.Union(end)
		return nil
	})
}

func (w *writer) Complete(ctx context.Context) (done bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	err = w.locked(func(c *content) error {
		if !c.complete && c.proven > 0 && uint64(len(c.groups)) == bao.Groups(c.proven) {
			if err := c.assemble(); err != nil {
				return err
			}
		}
		done = c.complete
		return nil
	})
	return done, err
}

func (w *writer) Close() error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	if w.c.writers--; w.c.writers == 0 && !w.c.complete && len(w.c.have) == 0 && w.s.blobs[w.c.hash] == w.c {
		delete(w.s.blobs, w.c.hash) // nothing came
	}
	return nil
}

package blobs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// sample is the data of the vectors; shorter data begins longer data.
var sample = sync.OnceValue(func() []byte {
	b := make([]byte, 4<<20)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
})

// fakeStore keeps complete blobs, and partial ones strictly: it refuses what a receiver must not do. Methods that the
// tests do not need are those of a nil Store.
type fakeStore struct {
	Store
	mu    sync.Mutex
	blobs map[Hash][]byte
	parts map[Hash]*fakePartial
	fail  func(group uint64) error // before a group is written
}

func newFakeStore() *fakeStore {
	return &fakeStore{blobs: map[Hash][]byte{}, parts: map[Hash]*fakePartial{}}
}

func (s *fakeStore) Add(_ context.Context, r io.Reader) (*TempTag, uint64, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, 0, err
	}
	h := Sum(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[h] = b
	return NewTempTag(HashAndFormat{Hash: h}, func() {}), uint64(len(b)), nil
}

func (s *fakeStore) TempTag(h HashAndFormat) *TempTag { return NewTempTag(h, func() {}) }

func (s *fakeStore) Open(_ context.Context, h Hash) (Blob, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.blobs[h]
	if !ok {
		return nil, ErrNotFound
	}
	return &fakeBlob{bytes.NewReader(b), Info{Hash: h, Size: uint64(len(b)), Proven: true, Complete: true}}, nil
}

type fakeBlob struct {
	*bytes.Reader
	info Info
}

func (b *fakeBlob) Close() error                       { return nil }
func (b *fakeBlob) Info() Info                         { return b.info }
func (b *fakeBlob) Encode(io.Writer, bao.Ranges) error { panic("not needed") }

func (s *fakeStore) Partial(_ context.Context, h Hash) (Partial, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.blobs[h]; ok {
		return nil, ErrComplete
	}
	p := s.parts[h]
	if p == nil {
		p = &fakePartial{s: s, h: h, written: map[uint64]bool{}}
		s.parts[h] = p
	}
	p.open++
	return p, nil
}

type fakePartial struct {
	s *fakeStore
	h Hash

	mu       sync.Mutex
	open     int
	size     uint64
	proven   bool
	complete bool
	data     []byte
	tree     []byte
	have     bao.Ranges
	written  map[uint64]bool
	pairs    int // that were handed over
}

func (p *fakePartial) Info() Info {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Info{Hash: p.h, Size: p.size, Proven: p.proven, Complete: p.complete, Have: p.have.Union(nil)}
}

func (p *fakePartial) SetSize(size uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proven && p.size != size {
		return ErrVerify
	}
	if !p.proven {
		p.size, p.proven = size, true
		p.data, p.tree = make([]byte, size), make([]byte, bao.OutboardSize(size))
	}
	return nil
}

// WriteGroup checks that the group is proven by what was handed over so far: a crash right after it loses nothing.
func (p *fakePartial) WriteGroup(i uint64, data []byte, parents []bao.Parent) error {
	if p.s.fail != nil {
		if err := p.s.fail(i); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.proven:
		return fmt.Errorf("group %d before the size is set", i)
	case len(data) != bao.GroupLen(p.size, i):
		return fmt.Errorf("group %d has %d bytes", i, len(data))
	case p.written[i]:
		return fmt.Errorf("group %d is written twice", i)
	}
	p.written[i] = true
	copy(p.data[i*bao.GroupSize:], data)
	for _, parent := range parents {
		copy(p.tree[parent.Index*bao.PairSize:], parent.Append(nil))
		p.pairs++
	}
	chunks := bao.Chunks(p.size)
	group := bao.GroupSpan(i, i+1).Intersect(bao.Span(0, chunks))
	valid, err := bao.ValidRanges(context.Background(), p.source())
	if err != nil {
		return err
	}
	if first, _ := group.First(); !valid.Contains(first) {
		return fmt.Errorf("group %d is not proven", i)
	}
	p.have = p.have.Union(group)
	return nil
}

func (p *fakePartial) source() bao.Source {
	return bao.Source{Root: p.h, Size: p.size, Data: bytes.NewReader(p.data), Outboard: bytes.NewReader(p.tree)}
}

func (p *fakePartial) Complete(context.Context) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.complete {
		return true, nil
	}
	if !p.proven || !p.have.Equal(bao.Span(0, bao.Chunks(p.size))) {
		return false, nil
	}
	if Sum(p.data) != p.h {
		return false, ErrCorrupt
	}
	p.complete = true
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.s.blobs[p.h] = p.data
	return true, nil
}

func (p *fakePartial) Close() error {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.open--
	return nil
}

// provider answers requests for one blob.
type provider struct {
	h   Hash
	src bao.Source
}

func newProvider(data []byte) provider {
	root, tree := bao.NewOutboard(data)
	return provider{root, bao.Source{Root: root, Size: uint64(len(data)), Data: bytes.NewReader(data), Outboard: bytes.NewReader(tree)}}
}

func (p provider) answer(r bao.Ranges) []byte {
	var b bytes.Buffer
	if err := bao.Encode(&b, p.src, r); err != nil {
		panic(err)
	}
	return b.Bytes()
}

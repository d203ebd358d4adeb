package exchange

import (
	"context"
	"sync"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
	"github.com/OpenArchive/save-dweb-go/blobs/memory"
)

// spyStore counts what is written and can fail.
type spyStore struct {
	blobs.Store

	mu     sync.Mutex
	groups map[blobs.Hash]map[uint64]int // how often a group was stored
	full   func(written int) error       // asked before each group
	n      int
}

func newSpyStore() *spyStore {
	return &spyStore{Store: memory.New(), groups: map[blobs.Hash]map[uint64]int{}}
}

func (s *spyStore) Partial(ctx context.Context, h blobs.Hash) (blobs.Partial, error) {
	p, err := s.Store.Partial(ctx, h)
	if err != nil {
		return nil, err
	}
	return &spyPartial{p, s, h}, nil
}

type spyPartial struct {
	blobs.Partial
	s *spyStore
	h blobs.Hash
}

func (p *spyPartial) WriteGroup(i uint64, data []byte, parents []bao.Parent) error {
	p.s.mu.Lock()
	if p.s.full != nil {
		if err := p.s.full(p.s.n); err != nil {
			p.s.mu.Unlock()
			return err
		}
	}
	p.s.n++
	if p.s.groups[p.h] == nil {
		p.s.groups[p.h] = map[uint64]int{}
	}
	p.s.groups[p.h][i]++
	p.s.mu.Unlock()
	return p.Partial.WriteGroup(i, data, parents)
}

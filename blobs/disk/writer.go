package disk

import (
	"context"
	"fmt"
	"sync"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// writer is one use of a partial blob. It implements blobs.Partial.
type writer struct {
	p      *partial
	mu     sync.RWMutex // Close waits for the calls that are under way
	closed bool
}

func (w *writer) Info() blobs.Info { return w.p.info() }

func (w *writer) do(fn func() error) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return fmt.Errorf("partial blob %s: %w", w.p.h.Short(), blobs.ErrClosed)
	}
	return fn()
}

func (w *writer) SetSize(size uint64) error {
	return w.do(func() error { return w.p.proven(size) })
}

func (w *writer) WriteGroup(i uint64, data []byte, parents []bao.Parent) error {
	return w.do(func() error { return w.p.writeGroup(i, data, parents) })
}

func (w *writer) Complete(ctx context.Context) (done bool, err error) {
	err = w.do(func() error {
		done, err = w.p.finish(ctx)
		return err
	})
	return done, err
}

func (w *writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	p := w.p
	defer p.s.keys.lock(p.h)()
	err := p.sync()
	p.removeEmpty()
	p.release(true)
	return err
}

// removeEmpty removes the files of a blob of which nothing could be written; the blob's key is locked.
func (p *partial) removeEmpty() {
	p.mu.Lock()
	empty := p.data != nil && p.have.count == 0 && !p.complete && p.dead == nil && !p.named
	p.mu.Unlock()
	p.s.mu.Lock()
	empty = empty && p.writers == 1 && p.readers == 0
	p.s.mu.Unlock()
	if empty {
		p.s.removeFiles(p.h, partSuffix, pairsSuffix)
	}
}

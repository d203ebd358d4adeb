package exchange

import (
	"context"
	"sync"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
)

// Bounds of open blobs.
const (
	maxOpen  = 32
	openIdle = 15 * time.Second
)

// blobCache keeps the blobs open that are being read: the READs of one unit come close together, and opening costs more
// than reading.
type blobCache struct {
	store blobs.Store

	mu    sync.Mutex
	blobs map[blobs.Hash]*openBlob
}

// openBlob is an open blob. It is closed when nobody uses it and the cache has forgotten it.
type openBlob struct {
	blobs.Blob
	c     *blobCache
	hash  blobs.Hash
	ready chan struct{} // closed when Blob or err is there
	err   error

	// Guarded by c.mu.
	uses int // the cache's own included
	used time.Time
}

func newBlobCache(s blobs.Store) *blobCache {
	return &blobCache{store: s, blobs: map[blobs.Hash]*openBlob{}}
}

// open opens a blob, or uses it again. Whoever gets it must release it.
func (c *blobCache) open(ctx context.Context, h blobs.Hash) (*openBlob, error) {
	c.mu.Lock()
	b := c.blobs[h]
	if b == nil {
		c.makeRoom()
		b = &openBlob{c: c, hash: h, ready: make(chan struct{}), uses: 2, used: time.Now()}
		c.blobs[h] = b
		c.mu.Unlock()
		b.Blob, b.err = c.store.Open(ctx, h)
		if b.err != nil {
			c.forget(b)
		}
		close(b.ready)
	} else {
		b.uses++
		b.used = time.Now()
		c.mu.Unlock()
		<-b.ready
	}
	if b.err != nil {
		b.release()
		return nil, b.err
	}
	return b, nil
}

// release ends one use.
func (b *openBlob) release() {
	b.c.mu.Lock()
	b.uses--
	last := b.uses == 0
	b.c.mu.Unlock()
	if last && b.Blob != nil {
		b.Blob.Close()
	}
}

// forget makes the next open look at the store again.
func (c *blobCache) forget(b *openBlob) {
	c.mu.Lock()
	mine := c.blobs[b.hash] == b
	if mine {
		delete(c.blobs, b.hash)
	}
	c.mu.Unlock()
	if mine {
		b.release()
	}
}

// makeRoom forgets the blob that was used longest ago where there are too many. The caller holds c.mu.
func (c *blobCache) makeRoom() {
	if len(c.blobs) < maxOpen {
		return
	}
	var oldest *openBlob
	for _, b := range c.blobs {
		if b.uses == 1 && (oldest == nil || b.used.Before(oldest.used)) {
			oldest = b
		}
	}
	if oldest != nil {
		delete(c.blobs, oldest.hash)
		oldest.uses = 0
		if oldest.Blob != nil {
			oldest.Blob.Close()
		}
	}
}

// sweep closes what nobody has used for a while.
func (c *blobCache) sweep(now time.Time) {
	c.mu.Lock()
	var idle []*openBlob
	for _, b := range c.blobs {
		if now.Sub(b.used) > openIdle {
			idle = append(idle, b)
		}
	}
	c.mu.Unlock()
	for _, b := range idle {
		c.forget(b)
	}
}

// close forgets everything.
func (c *blobCache) close() {
	c.mu.Lock()
	all := make([]*openBlob, 0, len(c.blobs))
	for _, b := range c.blobs {
		all = append(all, b)
	}
	c.mu.Unlock()
	for _, b := range all {
		c.forget(b)
	}
}

package exchange

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
	"github.com/OpenArchive/save-dweb-go/exchange/internal/frame"
)

// Bounds of batches of small blobs.
const (
	maxBatch     = 256                  // blobs of one question
	batchBytes   = frame.MaxAnswer - 64 // of the answer: the list of what is missing needs room too
	batchesEach  = 4                    // on the way to one provider
	singlesAlong = 4                    // blobs too large for a batch, fetched at the same time
)

// FetchSmall brings many blobs into the store whose sizes are known, several in one answer where they are small. The
// tags run parallel to the hashes. Blobs that no batch could bring, because nobody who was asked holds them or they are
// too large, are fetched as [Exchange.Fetch] does, one by one. After an error those that came stay in the store, without a tag.
func (x *Exchange) FetchSmall(ctx context.Context, req Request, hashes []blobs.Hash, sizes []uint64) ([]*blobs.TempTag, error) {
	if len(hashes) != len(sizes) || req.Peers == nil {
		return nil, errors.New("fetch: want one size for each hash, and peers")
	}
	if x.served(req.Group) == nil {
		return nil, fmt.Errorf("fetch: %w", ErrUnknownGroup)
	}
	tags := make([]*blobs.TempTag, len(hashes))
	for i, h := range hashes {
		tags[i] = x.cfg.Store.TempTag(blobs.HashAndFormat{Hash: h, Format: blobs.Raw})
	}
	err := x.fetchSmall(ctx, req, hashes, sizes)
	if err != nil {
		for _, t := range tags {
			t.Release()
		}
		return nil, err
	}
	return tags, nil
}

// batches is what FetchSmall has still to ask.
type batches struct {
	x   *Exchange
	max uint64 // largest blob to accept

	cancel context.CancelCauseFunc

	mu     sync.Mutex
	todo   []smallBlob
	out    int // batches on their way
	failed map[linkKey]bool
	err    error
}

// smallBlob is a blob that is to come with others.
type smallBlob struct {
	hash  blobs.Hash
	size  uint64 // as the caller knows it; a hint only
	asked map[linkKey]bool
}

func (x *Exchange) fetchSmall(ctx context.Context, req Request, hashes []blobs.Hash, sizes []uint64) error {
	b := &batches{x: x, max: x.cfg.MaxBlob, failed: map[linkKey]bool{}}
	if req.MaxSize > 0 {
		b.max = min(b.max, req.MaxSize)
	}
	seen := map[blobs.Hash]bool{}
	var missing []blobs.Hash
	for i, h := range hashes {
		if seen[h] {
			continue
		}
		seen[h] = true
		info, err := x.cfg.Store.Info(ctx, h)
		switch {
		case err != nil && !errors.Is(err, blobs.ErrNotFound):
			return fmt.Errorf("fetch %s: %w", h.Short(), err)
		case info.Complete:
			continue
		}
		missing = append(missing, h)
		if err != nil && sizes[i] <= batchBytes && bao.EncodedSize(sizes[i], bao.All()) <= batchBytes { // nothing of it is here
			b.todo = append(b.todo, smallBlob{h, sizes[i], map[linkKey]bool{}})
		}
	}
	if len(b.todo) > 0 {
		if err := b.run(ctx, req); err != nil {
			return err
		}
	}

	// What is left goes the long way, which waits for providers.
	var wg sync.WaitGroup
	gate := make(chan struct{}, singlesAlong)
	errs := make([]error, len(missing))
	req.Progress = nil // it would tell of one blob or another
	for i, h := range missing {
		info, err := x.cfg.Store.Info(ctx, h)
		if err == nil && info.Complete {
			continue
		}
		select {
		case gate <- struct{}{}:
		case <-ctx.Done():
			errs[i] = context.Cause(ctx)
		}
		if errs[i] != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-gate }()
			r := req
			r.Hash = h
			tag, err := x.Fetch(ctx, r)
			tag.Release() // the caller has one already
			errs[i] = err
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// run asks the providers for batches, until each blob is here or was asked of all that can be reached.
func (b *batches) run(ctx context.Context, req Request) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	b.cancel = cancel
	for {
		var wg sync.WaitGroup
		for _, p := range req.Peers() {
			if l := b.x.link(req.Group, p); b.wants(l.key) {
				wg.Go(func() { b.serve(ctx, l) })
			}
		}
		if wg.Wait(); !b.again(ctx, req) {
			break
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// again reports whether another round makes sense: a peer that failed gave back what others had no chance to be asked.
func (b *batches) again(ctx context.Context, req Request) bool {
	if ctx.Err() != nil {
		return false
	}
	for _, p := range req.Peers() {
		if b.wants(linkKey{req.Group, p.ID}) {
			return true
		}
	}
	return false
}

// wants reports whether there is anything to ask of a peer.
func (b *batches) wants(k linkKey) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.failed[k] && slices.ContainsFunc(b.todo, func(s smallBlob) bool { return !s.asked[k] })
}

// serve lets one peer bring what it can.
func (b *batches) serve(ctx context.Context, l *link) {
	_, err := l.ready(ctx)
	if err == nil {
		var calls sync.WaitGroup
		for range batchesEach {
			calls.Go(func() {
				for b.ask(ctx, l) {
				}
			})
		}
		calls.Wait()
	} else {
		b.giveBack(l.key, nil, true)
	}
}

// take removes blobs that fill one answer and that the peer was not asked for yet.
func (b *batches) take(k linkKey) (batch []smallBlob) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed[k] {
		return nil
	}
	room := uint64(batchBytes)
	rest := b.todo[:0]
	for _, s := range b.todo {
		size := bao.EncodedSize(s.size, bao.All())
		if s.asked[k] || size > room || len(batch) >= maxBatch {
			rest = append(rest, s)
			continue
		}
		room -= size
		batch = append(batch, s)
	}
	clear(b.todo[len(rest):])
	b.todo = rest
	if len(batch) > 0 {
		b.out++
	}
	return batch
}

// giveBack returns what a batch did not bring. failed says that the peer is of no more use here.
func (b *batches) giveBack(k linkKey, rest []smallBlob, failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.todo = append(b.todo, rest...)
	if failed {
		b.failed[k] = true
	}
}

// returned counts the end of a batch. After the last one there is nobody to wait for.
func (b *batches) returned() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.out--; b.out == 0 && len(b.todo) == 0 {
		b.cancel(errNotNeeded)
	}
}

func (b *batches) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	b.cancel(err)
}

// ask fetches one batch; it reports whether it makes sense to ask the same peer for another.
func (b *batches) ask(ctx context.Context, l *link) (more bool) {
	batch := b.take(l.key)
	if len(batch) == 0 {
		return false
	}
	defer b.returned()
	hashes := make([]blobs.Hash, len(batch))
	for i := range batch {
		hashes[i] = batch[i].hash
	}
	if err := b.x.down.await(ctx, readSize); err != nil {
		b.giveBack(l.key, batch, true)
		return false
	}
	st, body, _, err := b.x.questionStatus(ctx, l, frame.OpRead, manyRequest(hashes))
	b.x.down.giveBack(readSize - len(body))
	has := make([]bool, len(batch))
	switch {
	case err != nil || st != frame.OK && st != frame.Shortened:
		b.giveBack(l.key, batch, true)
		return false
	case st == frame.Shortened:
		if has, body, err = frame.ParseShortenedMany(body, len(batch)); err != nil || len(has) == 0 {
			b.giveBack(l.key, batch, true)
			return false
		}
	default:
		for i := range has {
			has[i] = true
		}
	}
	var rest []smallBlob
	for i, s := range batch {
		switch {
		case i >= len(has): // it did not fit
			rest = append(rest, s)
			more = true
		case !has[i]:
			s.asked[l.key] = true
			rest = append(rest, s)
			more = true
		default:
			n, ok := splitWhole(body)
			if !ok || b.x.isLiar(l.key, s.hash) {
				b.giveBack(l.key, append(rest, batch[i:]...), true)
				return false
			}
			err := b.keep(ctx, s.hash, body[:n])
			body = body[n:]
			switch {
			case err == nil:
				more = true
			case errors.Is(err, blobs.ErrVerify):
				b.x.log.Warn("peer sent wrong data", "peer", l.key.peer, "hash", s.hash.Short(), "err", err)
				b.x.addLiar(l.key, s.hash)
				s.asked[l.key] = true
				b.giveBack(l.key, append(append(rest, s), batch[i+1:]...), true)
				return false
			default:
				b.giveBack(l.key, append(rest, batch[i:]...), true)
				if ctx.Err() == nil {
					b.fail(fmt.Errorf("fetch %s: %w", s.hash.Short(), err))
				}
				return false
			}
		}
	}
	b.giveBack(l.key, rest, false)
	return more
}

// splitWhole is the length of the response for a whole blob at the beginning of body, by the size that it claims.
func splitWhole(body []byte) (int, bool) {
	if len(body) < bao.HeaderSize {
		return 0, false
	}
	size := binary.LittleEndian.Uint64(body)
	if size > uint64(len(body)) {
		return 0, false
	}
	n := bao.EncodedSize(size, bao.All())
	return int(n), n <= uint64(len(body))
}

// keep verifies and stores a whole blob.
func (b *batches) keep(ctx context.Context, h blobs.Hash, response []byte) error {
	r, err := blobs.NewReceiver(ctx, b.x.cfg.Store, h, b.max)
	if errors.Is(err, blobs.ErrComplete) {
		return nil
	}
	if err != nil {
		return err
	}
	_, _, err = r.Write(ctx, bao.All(), response)
	return errors.Join(err, r.Close())
}

package group

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/exchange"
)

// SyncProgress is how far a synchronisation is. Sizes are of sealed files, as far as they are known.
type SyncProgress struct {
	Files, FilesDone, Failed int
	Bytes, BytesDone         uint64
}

// SyncOptions bound what Sync fetches.
type SyncOptions struct {
	MaxFile  uint64        // skip larger files; 0: none is skipped
	Idle     time.Duration // give a file up when nothing of it has arrived for so long; 0: one minute
	Progress func(SyncProgress)
}

const (
	smallFile     = 16 << 10 // the largest file that travels together with others in one answer
	smallBatch    = 64
	syncParallel  = 4 // files at once: one whose holders are away must not hold up the others
	syncIdleLimit = time.Minute
)

// Sync brings all files of a repo to this device. Files that fail do not hold up the others; their errors are joined.
func (r *Repo) Sync(ctx context.Context, opts SyncOptions) error {
	return r.g.sync(ctx, []*Repo{r}, opts)
}

// Sync brings all files of all members to this device. Files that fail do not hold up the others; their errors are
// joined. It goes on where an earlier one ended.
func (g *Group) Sync(ctx context.Context, opts SyncOptions) error {
	return g.sync(ctx, g.Repos(), opts)
}

// wanted is a file that a synchronisation brings.
type wanted struct {
	r *Repo
	f File
}

// syncRun is one synchronisation under way.
type syncRun struct {
	g    *Group
	opts SyncOptions

	mu     sync.Mutex
	p      SyncProgress
	moving map[blobs.Hash]uint64 // bytes that unfinished files have
	errs   []error
}

func (g *Group) sync(ctx context.Context, repos []*Repo, opts SyncOptions) error {
	if opts.Idle == 0 {
		opts.Idle = syncIdleLimit
	}
	s := &syncRun{g: g, opts: opts, moving: map[blobs.Hash]uint64{}}
	small, large, err := s.plan(ctx, repos)
	if err != nil {
		return err
	}
	s.report(func() {})
	large = append(s.fetchSmall(ctx, small), large...)
	var eg errgroup.Group
	eg.SetLimit(syncParallel)
	for _, w := range large {
		eg.Go(func() error {
			s.fetch(ctx, w)
			return nil
		})
	}
	eg.Wait() //nolint:errcheck // failures are counted, not returned
	return errors.Join(append(s.errs, ctx.Err())...)
}

func (s *syncRun) plan(ctx context.Context, repos []*Repo) (small, large []wanted, err error) {
	seen := map[blobs.Hash]bool{}
	for _, r := range repos {
		files, err := r.Files(ctx)
		if err != nil {
			return nil, nil, err
		}
		for _, f := range files {
			if f.Local || seen[f.Blob] || s.opts.MaxFile > 0 && f.BlobSize > s.opts.MaxFile {
				continue
			}
			seen[f.Blob] = true
			s.p.Files++
			s.p.Bytes += f.BlobSize
			if f.BlobSize > 0 && f.BlobSize <= smallFile {
				small = append(small, wanted{r, f})
			} else {
				large = append(large, wanted{r, f})
			}
		}
	}
	return small, large, nil
}

// report changes the progress and tells of it.
func (s *syncRun) report(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	if s.opts.Progress != nil {
		p := s.p
		for _, n := range s.moving {
			p.BytesDone += n
		}
		s.opts.Progress(p)
	}
}

// fetchSmall brings small files, many in one answer, and returns those that did not come so.
func (s *syncRun) fetchSmall(ctx context.Context, todo []wanted) (rest []wanted) {
	for len(todo) > 0 && ctx.Err() == nil {
		batch := todo[:min(smallBatch, len(todo))]
		todo = todo[len(batch):]
		var hashes []blobs.Hash
		var sizes []uint64
		for _, w := range batch {
			hashes, sizes = append(hashes, w.f.Blob), append(sizes, w.f.BlobSize)
		}
		bctx, cancel := context.WithTimeout(ctx, s.opts.Idle)
		tags, err := s.g.d.Exchange.FetchSmall(bctx, s.g.request(), hashes, sizes)
		cancel()
		if err != nil {
			rest = append(rest, batch...) // one by one, so that one bad file does not spoil the others
			continue
		}
		for i, w := range batch {
			tags[i].Release()
			s.g.emit(FileLocal, w.r, w.f.Name)
			s.report(func() { s.p.FilesDone++; s.p.BytesDone += w.f.BlobSize })
		}
	}
	return append(rest, todo...)
}

// fetch brings one file; it is given up when nothing of it arrives.
func (s *syncRun) fetch(ctx context.Context, w wanted) {
	if ctx.Err() != nil {
		return
	}
	fctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(s.opts.Idle, func() { cancel(exchange.ErrUnreachable) })
	defer idle.Stop()
	var last uint64
	err := w.r.Fetch(fctx, w.f.Name, func(p exchange.Progress) {
		if p.Fetched > last {
			last = p.Fetched
			idle.Reset(s.opts.Idle)
		}
		s.report(func() { s.moving[w.f.Blob] = p.Done })
	})
	if cause := context.Cause(fctx); err != nil && errors.Is(cause, exchange.ErrUnreachable) {
		err = fmt.Errorf("fetch %q: %w", w.f.Name, cause)
	}
	s.report(func() {
		delete(s.moving, w.f.Blob)
		switch {
		case err == nil:
			s.p.FilesDone++
			s.p.BytesDone += w.f.BlobSize
		case errors.Is(err, ErrFileNotFound): // its owner has removed it meanwhile
			s.p.Files--
		case ctx.Err() == nil:
			s.p.Failed++
			s.errs = append(s.errs, err)
		}
	})
}

package backend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/group"
)

// Collect removes what no repo keeps any more.
func (b *Backend) Collect(ctx context.Context) (blobs.Collected, error) {
	return b.cfg.Store.Collect(ctx, nil)
}

// collectSoon collects some time after files were removed, so that many removals cost one collection.
func (js *jobs) collectSoon() {
	js.mu.Lock()
	defer js.mu.Unlock()
	if js.closed {
		return
	}
	if js.collect != nil {
		js.collect.Reset(collectDelay)
		return
	}
	js.collect = time.AfterFunc(collectDelay, func() {
		if c, err := js.b.Collect(js.b.ctx); err != nil {
			js.b.log.Warn("collect", "err", err)
		} else if c.Removed > 0 {
			js.b.log.Info("removed what nothing keeps", "blobs", c.Removed, "bytes", c.RemovedBytes)
		}
	})
}

// Verify starts to read every blob and to compare it with its hash. With repair, corrupt blobs are removed and those
// that a repo lists are fetched again from other members.
func (b *Backend) Verify(repair bool) (Job, error) {
	return b.jobs.launch(Job{Kind: JobVerify}, func(ctx context.Context, report func(func(*Job))) error {
		infos, err := b.cfg.Store.List(ctx)
		if err != nil {
			return err
		}
		var total uint64
		for _, i := range infos {
			total += i.Size
		}
		report(func(j *Job) { j.Total, j.Files = total, len(infos) })
		var bad []blobs.Hash
		for _, i := range infos {
			if err := b.cfg.Store.Verify(ctx, i.Hash); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if !errors.Is(err, blobs.ErrCorrupt) {
					return fmt.Errorf("verify %s: %w", i.Hash.Short(), err)
				}
				b.log.Warn("blob is corrupt", "hash", i.Hash.Short(), "err", err)
				bad = append(bad, i.Hash)
			}
			report(func(j *Job) { j.Done += i.Size; j.FilesDone++; j.Failed = len(bad) })
		}
		if len(bad) == 0 {
			return nil
		}
		if !repair {
			return fmt.Errorf("%w: %d of %d blobs; verify with repair fetches them again", blobs.ErrCorrupt, len(bad), len(infos))
		}
		return b.repair(ctx, bad)
	})
}

// repair removes corrupt blobs and starts to fetch the files among them.
func (b *Backend) repair(ctx context.Context, bad []blobs.Hash) error {
	var errs []error
	lost := map[blobs.Hash]bool{}
	for _, h := range bad {
		lost[h] = true
		if err := b.cfg.Store.Delete(ctx, h); err != nil {
			errs = append(errs, fmt.Errorf("remove corrupt %s: %w", h.Short(), err))
		}
	}
	for _, g := range b.Groups() {
		for _, r := range g.Repos() {
			files, err := r.Files(ctx)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			for _, f := range files {
				if !lost[f.Blob] {
					continue
				}
				if _, err := b.Fetch(r, f.Name); err != nil {
					errs = append(errs, err)
				}
			}
		}
		g.Reattach(false) // manifests among the lost are fetched again
	}
	return errors.Join(errs...)
}

// Ping calls every other member of a group.
func (b *Backend) Ping(ctx context.Context, g *group.Group) ([]group.Pong, error) {
	if !b.ready.Load() {
		return nil, ErrOffline
	}
	return g.Ping(ctx), nil
}

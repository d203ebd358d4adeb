package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// finish makes the blob a complete one if every group is here.
func (p *partial) finish(ctx context.Context) (bool, error) {
	if done, err := p.ready(); !done || err != nil {
		return false, err
	}
	if err := p.s.alive(ctx); err != nil {
		return false, err
	}
	defer p.s.keys.lock(p.h)()
	p.syncing.Lock()
	defer p.syncing.Unlock()
	if done, err := p.ready(); !done || err != nil {
		return false, err // deleted meanwhile, or a group was found corrupt
	}
	p.mu.Lock()
	complete, small := p.complete, p.small != nil
	p.mu.Unlock()
	switch {
	case complete:
		return true, nil
	case small:
		err := p.finishSmall()
		return err == nil, err
	}
	err := p.finishFiles(ctx)
	return err == nil, err
}

// ready reports whether the blob is whole, or complete already.
func (p *partial) ready() (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.complete || p.size > 0 && p.have.full(), p.dead
}

// finishSmall puts a blob of one group into the metadata; syncing is held. It needs no lock of the blob's key: there
// are no files, and whoever else makes the blob complete writes the same.
func (p *partial) finishSmall() error {
	e := entry{complete: true, size: p.size, data: inTable}
	err := p.s.commits.apply(context.Background(), set(tableBlobs, p.h[:], e.encode()), set(tableData, p.h[:], p.small))
	if err == nil {
		p.end(func() { p.complete = true })
	}
	return err
}

// finishFiles turns the files of a whole blob into those of a complete one; the blob's key and syncing are held.
func (p *partial) finishFiles(ctx context.Context) error {
	e := entry{complete: true, size: p.size, data: inFile, outboard: inFile}
	changes := []Change{{}}
	if size := bao.OutboardSize(p.size); size <= maxInlineOutboard {
		outboard := make([]byte, size)
		if _, err := io.ReadFull(io.NewSectionReader(p.tree, 0, int64(size)), outboard); err != nil {
			return fmt.Errorf("%w: outboard of %s: %w", blobs.ErrCorrupt, p.h.Short(), err)
		}
		e.outboard = inTable
		changes = append(changes, set(tableOutboards, p.h[:], outboard))
	}
	changes[0] = set(tableBlobs, p.h[:], e.encode())

	part, final := p.s.path(p.h, partSuffix), p.s.path(p.h, dataSuffix)
	if err := p.syncFiles(); err != nil {
		return err
	}
	if err := os.Rename(part, final); err != nil {
		return fmt.Errorf("complete blob %s: %w", p.h.Short(), noSpace(err))
	}
	err := syncDir(p.s.hashDir(p.h))
	if err == nil {
		err = p.s.commits.apply(ctx, changes...)
	}
	if err != nil {
		return errors.Join(err, os.Rename(final, part)) // so that it can be tried again
	}
	p.end(func() { p.complete = true })
	if e.outboard == inTable {
		p.s.removeFiles(p.h, pairsSuffix) // Collect would find it
	}
	return nil
}

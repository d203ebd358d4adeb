package group

import (
	"context"
	"fmt"
	"io"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// readBlob reads a small blob that is here as a whole.
func (g *Group) readBlob(ctx context.Context, h blobs.Hash, most uint64) ([]byte, error) {
	b, err := g.d.Store.Open(ctx, h)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", h.Short(), err)
	}
	defer b.Close()
	info := b.Info()
	if !info.Complete {
		return nil, fmt.Errorf("blob %s is here only in part: %w", h.Short(), blobs.ErrNotFound)
	}
	if info.Size > most {
		return nil, fmt.Errorf("blob %s: %d bytes, at most %d are read: %w", h.Short(), info.Size, most, blobs.ErrTooLarge)
	}
	data := make([]byte, info.Size)
	if _, err := io.ReadFull(io.NewSectionReader(b, 0, int64(info.Size)), data); err != nil {
		return nil, fmt.Errorf("blob %s: %w", h.Short(), err)
	}
	return data, nil
}

// readRepo reads the files of a manifest that is here, and the pointer that names it but for its version.
func (g *Group) readRepo(ctx context.Context, repo veilid.OpaqueRecordKey, root blobs.Hash) ([]entry, pointer, error) {
	seqBytes, err := g.readBlob(ctx, root, blobs.HashSize*(maxFiles+2))
	if err != nil {
		return nil, pointer{}, err
	}
	seq, err := blobs.ParseHashSeq(seqBytes)
	if err != nil || seq.Len() < 2 {
		return nil, pointer{}, fmt.Errorf("%w manifest %s: no sequence of hashes", ErrMalformed, root.Short())
	}
	sealed, err := g.readBlob(ctx, seq.At(1), maxManifest)
	if err != nil {
		return nil, pointer{}, err
	}
	entries, err := readManifest(g.keys.Secret, repo, seqBytes, sealed)
	if err != nil {
		return nil, pointer{}, err
	}
	p := pointer{Root: root, Count: uint64(len(entries)), Meta: seq.At(0), Manifest: seq.At(1), ManifestSize: uint64(len(sealed))}
	for _, e := range entries {
		p.Bytes += e.Size
	}
	info, err := g.d.Store.Info(ctx, p.Meta)
	if err != nil {
		return nil, pointer{}, fmt.Errorf("blob %s: %w", p.Meta.Short(), err)
	}
	p.MetaSize = info.Size
	return entries, p, nil
}

// legacyEntries are the files of the Rust app's collection; it tells names and blobs only.
func legacyEntries(b []byte) ([]entry, error) {
	c, err := DecodeLegacyCollection(b)
	if err != nil {
		return nil, err
	}
	var es []entry
	for name, h := range c {
		es = append(es, entry{Name: name, Blob: h})
	}
	sortEntries(es)
	return es, nil
}

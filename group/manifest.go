package group

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/group/seal"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// maxManifest bounds a manifest in bytes; one file takes about 150 and its name.
const maxManifest = 64 << 20

// manifestName is the name of the collection's first entry; the others are numbered.
const manifestName = "manifest"

// entry is a file in a manifest. Its keys are numbers, so that later versions can add fields that this one ignores.
type entry struct {
	Name     string     `cbor:"1,keyasint"`
	Size     uint64     `cbor:"2,keyasint"` // of the plaintext, in bytes
	MIME     string     `cbor:"3,keyasint,omitempty"`
	Created  int64      `cbor:"4,keyasint,omitempty"` // Unix milliseconds
	Modified int64      `cbor:"5,keyasint,omitempty"` // Unix milliseconds
	Content  []byte     `cbor:"6,keyasint,omitempty"` // keyed hash of the plaintext
	Blob     blobs.Hash `cbor:"7,keyasint"`
	Envelope uint8      `cbor:"8,keyasint"`           // 0 plaintext, 1, 2
	Stored   uint64     `cbor:"9,keyasint,omitempty"` // size of the blob, in bytes
}

// pointer is subkey 3: which manifest is the current one. Meta and Manifest name the collection's first two blobs and
// their sizes, so that a reader can ask for all three at once.
type pointer struct {
	Version      uint64     `cbor:"1,keyasint"` // grows with every change
	Root         blobs.Hash `cbor:"2,keyasint"`
	Count        uint64     `cbor:"3,keyasint"` // files
	Bytes        uint64     `cbor:"4,keyasint"` // of their plaintexts
	Meta         blobs.Hash `cbor:"5,keyasint"`
	MetaSize     uint64     `cbor:"6,keyasint"`
	Manifest     blobs.Hash `cbor:"7,keyasint"`
	ManifestSize uint64     `cbor:"8,keyasint"`
}

// rootSize is the size of the sequence of hashes that the pointer names: metadata, manifest, files.
func (p pointer) rootSize() uint64 { return blobs.HashSize * (p.Count + 2) }

// status is subkey 4: what a member's device tells about itself.
type status struct {
	Protocols []string `cbor:"1,keyasint"`
	LastSeen  int64    `cbor:"2,keyasint"` // Unix seconds
	Device    string   `cbor:"3,keyasint,omitempty"`
}

var (
	sealedEncode = must(cbor.CoreDetEncOptions().EncMode())
	sealedDecode = must(cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		MaxArrayElements: maxFiles + 1,
		MaxMapPairs:      128,
		MaxNestedLevels:  8,
	}.DecMode())
)

// The contexts that keep sealed values apart; each also holds the repo's name, so that none passes for another's.
const (
	pointerContext  = "dweb 2026 repo pointer v1"
	statusContext   = "dweb 2026 repo status v1"
	manifestContext = "dweb 2026 manifest v1"
)

func sealValue(secret veilid.SharedSecret, context string, repo veilid.OpaqueRecordKey, v any) ([]byte, error) {
	plain, err := sealedEncode.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return seal.Seal(secret, context+" "+repo.Bare(), plain)
}

func openValue(secret veilid.SharedSecret, context string, repo veilid.OpaqueRecordKey, b []byte, v any) error {
	plain, err := seal.Open(secret, context+" "+repo.Bare(), b)
	if err != nil {
		return fmt.Errorf("%w value: %w", ErrMalformed, err)
	}
	if err := sealedDecode.Unmarshal(plain, v); err != nil {
		return fmt.Errorf("%w value: %w", ErrMalformed, err)
	}
	return nil
}

// manifest is a repo's files with the blobs that publish them.
type manifest struct {
	entries []entry // sorted by name
	sealed  []byte  // the manifest blob
	meta    []byte  // the collection's metadata blob
	root    []byte  // the sequence of hashes
	pointer pointer
}

// buildManifest makes the blobs that publish these files.
func buildManifest(secret veilid.SharedSecret, repo veilid.OpaqueRecordKey, version uint64, entries []entry) (manifest, error) {
	m := manifest{entries: entries}
	var err error
	if m.sealed, err = sealValue(secret, manifestContext, repo, entries); err != nil {
		return manifest{}, err
	}
	c := blobs.Collection{{Name: manifestName, Hash: blobs.Sum(m.sealed)}}
	p := pointer{Version: version, Count: uint64(len(entries))}
	for i, e := range entries {
		c = append(c, blobs.Entry{Name: strconv.Itoa(i), Hash: e.Blob})
		p.Bytes += e.Size
	}
	meta, seq, err := c.Encode()
	if err != nil {
		return manifest{}, fmt.Errorf("collection: %w", err)
	}
	m.meta, m.root = meta, seq.Bytes()
	p.Root, p.Meta, p.Manifest = seq.Hash(), blobs.Sum(m.meta), c[0].Hash
	p.MetaSize, p.ManifestSize = uint64(len(m.meta)), uint64(len(m.sealed))
	m.pointer = p
	return m, nil
}

// readManifest opens the blobs of a manifest and checks that they agree.
func readManifest(secret veilid.SharedSecret, repo veilid.OpaqueRecordKey, root, sealed []byte) ([]entry, error) {
	var entries []entry
	if err := openValue(secret, manifestContext, repo, sealed, &entries); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	seq, err := blobs.ParseHashSeq(root)
	if err != nil {
		return nil, fmt.Errorf("%w manifest: %w", ErrMalformed, err)
	}
	if seq.Len() != len(entries)+2 {
		return nil, fmt.Errorf("%w manifest: %d files, but %d blobs", ErrMalformed, len(entries), seq.Len())
	}
	for i, e := range entries {
		if seq.At(i+2) != e.Blob {
			return nil, fmt.Errorf("%w manifest: file %d names another blob than the collection", ErrMalformed, i)
		}
	}
	return entries, nil
}

func sortEntries(es []entry) {
	slices.SortFunc(es, func(a, b entry) int { return cmp.Compare(a.Name, b.Name) })
}

func findEntry(es []entry, name string) (int, bool) {
	return slices.BinarySearchFunc(es, name, func(e entry, name string) int { return cmp.Compare(e.Name, name) })
}

// mergeEntries joins two descendants of base: what either added or changed is there, what either removed is not, and
// where both changed a file the one modified last wins.
func mergeEntries(base, ours, theirs []entry) []entry {
	index := func(es []entry) map[string]entry {
		m := make(map[string]entry, len(es))
		for _, e := range es {
			m[e.Name] = e
		}
		return m
	}
	b, o, t := index(base), index(ours), index(theirs)
	var out []entry
	keep := func(name string) {
		be, inBase := b[name]
		oe, inOurs := o[name]
		te, inTheirs := t[name]
		switch {
		case inOurs && inTheirs:
			pick := oe
			if oe.Blob == be.Blob && inBase || te.Blob != be.Blob && te.Modified > oe.Modified {
				pick = te
			}
			out = append(out, pick)
		case inOurs && (!inBase || oe.Blob != be.Blob): // new or changed here; they never had it or removed the old one
			out = append(out, oe)
		case inTheirs && (!inBase || te.Blob != be.Blob):
			out = append(out, te)
		}
	}
	for _, e := range ours {
		keep(e.Name)
	}
	for _, e := range theirs {
		if _, seen := o[e.Name]; !seen {
			keep(e.Name)
		}
	}
	sortEntries(out)
	return out
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

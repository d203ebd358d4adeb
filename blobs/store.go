package blobs

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// Errors of stores and of what enters them.
var (
	// ErrNotFound: the store does not hold the blob, or not the part that was asked for.
	ErrNotFound = errors.New("blob not found")
	// ErrCorrupt: what the store holds is not what the hash names (bit rot, or a file changed by others).
	ErrCorrupt = errors.New("stored blob is corrupt")
	// ErrVerify: bytes from a peer are not what the hash names. The peer lies.
	ErrVerify = errors.New("received bytes do not match the hash")
	// ErrTooLarge: the blob, or its claim, is larger than the store or the caller allows.
	ErrTooLarge = errors.New("blob is too large")
	// ErrNoSpace: the disk is full. Nothing was kept; free space and try again.
	ErrNoSpace = errors.New("no space left for blobs")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("blob store is closed")
)

// Info says what a store holds of a blob.
type Info struct {
	Hash     Hash
	Size     uint64     // bytes; of a partial blob a claim until Proven
	Proven   bool       // the size is verified: the blob is complete or holds its last chunk
	Complete bool       // all of it is here
	Have     bao.Ranges // chunks that are here, by whole groups; all of them where Complete
}

// Store keeps blobs. All methods may be called from any goroutine; a blob that is complete never changes.
type Store interface {
	// Add reads r to its end and keeps it as a complete blob, on stable storage when Add returns. The temporary tag
	// keeps it until released; set a named tag before that. After an error nothing is kept.
	Add(ctx context.Context, r io.Reader) (*TempTag, uint64, error)

	// Info says what is here. A blob of which nothing is here is ErrNotFound.
	Info(ctx context.Context, h Hash) (Info, error)

	// Open opens a complete or partial blob for reading; ErrNotFound where nothing of it is here.
	Open(ctx context.Context, h Hash) (Blob, error)

	// Partial opens or creates a partial blob for writing. It is how a [Receiver] stores what it verified; nobody
	// else calls it. A second Partial of the same hash shares the state of the first. The blob is kept from
	// collection while the Partial is open. Where the blob is complete it returns ErrComplete.
	Partial(ctx context.Context, h Hash) (Partial, error)

	// TempTag keeps a blob, and its children where the format is a sequence, from collection until released.
	TempTag(h HashAndFormat) *TempTag

	// SetTag names what to keep, replacing the tag's former value. Names are any bytes, at most 1 KiB.
	SetTag(ctx context.Context, name string, h HashAndFormat) error
	// Tag is what a tag keeps, or ErrNotFound.
	Tag(ctx context.Context, name string) (HashAndFormat, error)
	// DeleteTag removes a tag; it is no error if there is none.
	DeleteTag(ctx context.Context, name string) error
	// Tags yields the tags whose names begin with prefix, in order of their names.
	Tags(ctx context.Context, prefix string) ([]NamedTag, error)

	// List yields what is here of every blob, complete and partial, in order of hashes.
	List(ctx context.Context) ([]Info, error)

	// Collect removes every blob that no tag, temporary tag or open Partial keeps and that was not added since Collect
	// began. protect, if not nil, adds what else to keep; if it fails nothing is removed.
	Collect(ctx context.Context, protect func(add func(HashAndFormat)) error) (Collected, error)

	// Delete removes one blob at once, whatever keeps it: for blobs found corrupt.
	Delete(ctx context.Context, h Hash) error

	// Verify reads a blob from storage and compares it with its hash: ErrCorrupt where they differ.
	Verify(ctx context.Context, h Hash) error

	// Close writes what is pending and releases the store.
	Close() error
}

// ErrComplete is what [Store.Partial] returns for a blob that is complete.
var ErrComplete = errors.New("blob is complete")

// NamedTag is a tag and what it keeps.
type NamedTag struct {
	Name string
	HashAndFormat
}

// Collected counts what [Store.Collect] removed and left.
type Collected struct {
	Removed, Kept           int
	RemovedBytes, KeptBytes uint64
	Broken                  int // sequences to keep that are missing or corrupt, whose children nothing else may keep
}

// Blob reads a complete or partial blob. Every read is verified against the hash: bytes that are not what it names are
// ErrCorrupt, and bytes that are not here are ErrNotFound.
type Blob interface {
	io.ReaderAt
	io.Closer
	// Info is what was here when it was opened, or later.
	Info() Info
	// Encode writes iroh's response for these chunks: size, parents and leaves. What is not here is ErrNotFound, and
	// then nothing was written.
	Encode(w io.Writer, ranges bao.Ranges) error
}

// Partial stores the verified groups of a blob that is on its way. Its methods may be called from any goroutine.
type Partial interface {
	// Info is what is here now.
	Info() Info
	// SetSize records the size once it is proven. Another size than an earlier proven one is ErrVerify.
	SetSize(size uint64) error
	// WriteGroup stores group i (16 KiB, less for the last one) with the tree nodes at and above group level that its
	// proof held. The caller has verified both. The size must have been set.
	WriteGroup(i uint64, data []byte, parents []bao.Parent) error
	// Complete turns the blob into a complete one, on stable storage, if every group is here: it reports whether it
	// is. It is called after each WriteGroup that may have been the last.
	Complete(ctx context.Context) (bool, error)
	// Close writes what is pending, so that it survives a crash, and ends this use.
	Close() error
}

// TempTag keeps a blob from collection until it is released. A nil TempTag keeps nothing.
type TempTag struct {
	HashAndFormat
	once    sync.Once
	release func()
}

// NewTempTag is a tag that calls release once, at its first Release. Stores make them.
func NewTempTag(h HashAndFormat, release func()) *TempTag {
	return &TempTag{HashAndFormat: h, release: release}
}

// Release ends the tag's hold. Releasing twice, or a nil tag, does nothing. It may be called from any goroutine.
func (t *TempTag) Release() {
	if t != nil && t.release != nil {
		t.once.Do(t.release)
	}
}

package frame

import (
	"encoding/binary"
	"fmt"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Limits of bodies.
const (
	MaxHashes     = 512  // of one HAVE
	MaxText       = 256  // bytes of a name in HELLO and NEWS
	MaxRouteBlob  = 4096 // bytes; those of the Rust node have 750 to 860 with one or two hops
	MaxBoundaries = 128  // of one blob's ranges in HAVE; further ones are left out
)

// Version is the protocol's version in HELLO.
const Version = 1

// Hello is the body of HELLO and of its answer. What follows the known fields is for later versions and ignored.
type Hello struct {
	Version  uint64
	Features uint64
	Device   string
	Repo     string
	Route    []byte
}

// Append appends the body; too long names are cut.
func (h Hello) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, h.Version)
	b = binary.AppendUvarint(b, h.Features)
	b = appendBytes(b, h.Device[:min(len(h.Device), MaxText)])
	b = appendBytes(b, h.Repo[:min(len(h.Repo), MaxText)])
	return appendBytes(b, h.Route)
}

// ParseHello reads the body of HELLO. Route lies in b.
func ParseHello(b []byte) (h Hello, err error) {
	r := reader{b: b}
	h.Version, h.Features = r.uvarint(), r.uvarint()
	h.Device, h.Repo = string(r.bytes(MaxText)), string(r.bytes(MaxText))
	h.Route = r.bytes(MaxRouteBlob)
	if r.bad || h.Version == 0 {
		return Hello{}, fmt.Errorf("HELLO: %w", ErrMalformed)
	}
	return h, nil
}

// News is the body of NEWS.
type News struct {
	Version uint64
	Repo    veilid.OpaqueRecordKey
	Root    blobs.Hash
	From    string // the sender's repo
}

// Append appends the body.
func (n News) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, n.Version)
	b = append(b, n.Repo.Bytes()...)
	b = append(b, n.Root[:]...)
	return appendBytes(b, n.From[:min(len(n.From), MaxText)])
}

// ParseNews reads the body of NEWS.
func ParseNews(b []byte) (n News, err error) {
	r := reader{b: b}
	n.Version = r.uvarint()
	key, root := r.take(len(n.Repo.Kind)+veilid.KeySize), r.take(blobs.HashSize)
	n.From = string(r.bytes(MaxText))
	if r.bad || n.Repo.UnmarshalBinary(key) != nil {
		return News{}, fmt.Errorf("NEWS: %w", ErrMalformed)
	}
	copy(n.Root[:], root)
	return n, nil
}

// AppendHashes appends the body of HAVE.
func AppendHashes(b []byte, hashes []blobs.Hash) []byte {
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}

// ParseHashes reads the body of HAVE.
func ParseHashes(b []byte) ([]blobs.Hash, error) {
	n := len(b) / blobs.HashSize
	if len(b)%blobs.HashSize != 0 || n == 0 || n > MaxHashes {
		return nil, fmt.Errorf("HAVE of %d bytes: want 1 to %d hashes: %w", len(b), MaxHashes, ErrMalformed)
	}
	hs := make([]blobs.Hash, n)
	for i := range hs {
		hs[i] = blobs.Hash(b[i*blobs.HashSize:])
	}
	return hs, nil
}

// What HAVE tells of a blob.
const (
	heldNot      = 0
	heldComplete = 1
	heldPartial  = 2
)

// Held is what HAVE tells of one blob: complete, partial (Have is not empty), or neither.
type Held struct {
	Complete bool
	Size     uint64 // of a partial blob 0 where it is not proven
	Have     bao.Ranges
}

// AppendHeld appends one blob to the answer of HAVE, in at most limit bytes; where its ranges need more, or are more than
// MaxBoundaries, the later ones are left out.
func AppendHeld(b []byte, h Held, limit int) []byte {
	const worst = binary.MaxVarintLen64
	switch {
	case h.Complete && limit > worst:
		return binary.AppendUvarint(append(b, heldComplete), h.Size)
	case h.Complete || len(h.Have) == 0 || limit < 5*worst:
		return append(b, heldNot)
	}
	n := min(len(h.Have), MaxBoundaries, limit/worst-3)
	if n < len(h.Have) {
		n &^= 1 // an odd number would leave the end open
	}
	b = binary.AppendUvarint(append(b, heldPartial), h.Size)
	b = binary.AppendUvarint(b, uint64(n))
	last := uint64(0)
	for _, x := range h.Have[:n] {
		b = binary.AppendUvarint(b, x-last)
		last = x
	}
	return b
}

// ParseHeld reads the answer of HAVE about n blobs.
func ParseHeld(b []byte, n int) ([]Held, error) {
	r := reader{b: b}
	hs := make([]Held, min(n, MaxHashes))
	for i := range hs {
		switch r.byte() {
		case heldNot:
		case heldComplete:
			hs[i] = Held{Complete: true, Size: r.uvarint()}
		case heldPartial:
			hs[i].Size = r.uvarint()
			k := r.uvarint()
			if k == 0 || k > MaxBoundaries {
				r.bad = true
				break
			}
			last := uint64(0)
			for j := range k {
				d := r.uvarint()
				if j > 0 && d == 0 || last+d < last {
					r.bad = true
				}
				last += d
				if r.bad {
					break
				}
				hs[i].Have = append(hs[i].Have, last)
			}
		default:
			r.bad = true
		}
		if r.bad {
			return nil, fmt.Errorf("answer to HAVE: %w", ErrMalformed)
		}
	}
	if len(r.b) > 0 {
		return nil, fmt.Errorf("answer to HAVE: %d bytes too many: %w", len(r.b), ErrMalformed)
	}
	return hs, nil
}

// AppendShortened begins the body of a shortened answer to a READ of one blob: what follows are the chunks below n.
func AppendShortened(b []byte, n uint64) []byte {
	return binary.AppendUvarint(append(b, byte(Shortened)), n)
}

// ParseShortened reads the body of a shortened answer to a READ of one blob.
func ParseShortened(body []byte) (n uint64, response []byte, err error) {
	r := reader{b: body}
	n = r.uvarint()
	if r.bad {
		return 0, nil, fmt.Errorf("shortened answer: %w", ErrMalformed)
	}
	return n, r.b, nil
}

// AppendShortenedMany begins the body of a shortened answer to a READ of many blobs: which of the first len(has) ones
// follow. The rest did not fit.
func AppendShortenedMany(b []byte, has []bool) []byte {
	b = AppendShortened(b, uint64(len(has)))
	at := len(b)
	b = append(b, make([]byte, (len(has)+7)/8)...)
	for i, x := range has {
		if x {
			b[at+i/8] |= 1 << (i % 8)
		}
	}
	return b
}

// ParseShortenedMany reads the body of a shortened answer to a READ of asked blobs.
func ParseShortenedMany(body []byte, asked int) (has []bool, response []byte, err error) {
	r := reader{b: body}
	n := r.uvarint()
	if r.bad || n > uint64(asked) {
		return nil, nil, fmt.Errorf("shortened answer: %w", ErrMalformed)
	}
	bits := r.take((int(n) + 7) / 8)
	if r.bad {
		return nil, nil, fmt.Errorf("shortened answer: %w", ErrMalformed)
	}
	has = make([]bool, n)
	for i := range has {
		has[i] = bits[i/8]>>(i%8)&1 == 1
	}
	return has, r.b, nil
}

func appendBytes[T string | []byte](b []byte, x T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(x))), x...)
}

// reader takes fields from the front of b. After a field that is not there it is bad and gives zero values.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	x := r.b[:n]
	r.b = r.b[n:]
	return x
}

func (r *reader) byte() byte {
	if x := r.take(1); x != nil {
		return x[0]
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	x, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return x
}

func (r *reader) bytes(limit int) []byte {
	n := r.uvarint()
	if n > uint64(limit) {
		r.bad = true
		return nil
	}
	return r.take(int(n))
}

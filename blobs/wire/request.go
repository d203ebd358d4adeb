package wire

import (
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// The first byte of a request.
const (
	typeGet     = 0
	typeObserve = 1
	typePush    = 8
	typeGetMany = 9
)

// Request is a [Get], [GetMany], [Observe] or [Push].
type Request interface {
	// Append appends the request, its type first. Of a push the data follow.
	Append(b []byte) []byte
}

// Get asks for a blob, and if it is a sequence of hashes for its children.
type Get struct {
	Hash   blobs.Hash
	Ranges Seq
}

// GetMany asks for several blobs.
type GetMany struct {
	Hashes []blobs.Hash
	Ranges Seq
}

// Observe asks which of these chunks a peer holds, now and when that changes.
type Observe struct {
	Hash   blobs.Hash
	Ranges bao.Ranges
}

// Push announces a response that follows it.
type Push struct {
	Hash   blobs.Hash
	Ranges Seq
}

// GetBlob asks for chunks of one blob.
func GetBlob(h blobs.Hash, r bao.Ranges) Get { return Get{h, One(r)} }

// Append appends the request.
func (g Get) Append(b []byte) []byte {
	return AppendSeq(append(append(b, typeGet), g.Hash[:]...), g.Ranges)
}

// Append appends the request.
func (g GetMany) Append(b []byte) []byte {
	b = binary.AppendUvarint(append(b, typeGetMany), uint64(len(g.Hashes)))
	for _, h := range g.Hashes {
		b = append(b, h[:]...)
	}
	return AppendSeq(b, g.Ranges)
}

// Append appends the request.
func (o Observe) Append(b []byte) []byte {
	return AppendRanges(append(append(b, typeObserve), o.Hash[:]...), o.Ranges)
}

// Append appends the head of the push; the data follow in the form of a response.
func (p Push) Append(b []byte) []byte {
	body := AppendSeq(append([]byte(nil), p.Hash[:]...), p.Ranges)
	return append(binary.AppendUvarint(append(b, typePush), uint64(len(body))), body...)
}

// Parse reads a request and returns what follows it, which is empty except after a push.
func Parse(b []byte) (req Request, data []byte, err error) {
	if len(b) == 0 {
		return nil, nil, fmt.Errorf("%w: request is empty", ErrFormat)
	}
	typ, in := b[0], input{b: b[1:]}
	if typ == typePush {
		return parsePush(in)
	}
	if len(b) > MaxRequest {
		return nil, nil, fmt.Errorf("%w: request of %d bytes, at most %d are allowed", ErrFormat, len(b), MaxRequest)
	}
	switch typ {
	case typeGet:
		req = Get{in.hash(), in.seq()}
	case typeObserve:
		req = Observe{in.hash(), in.ranges()}
	case typeGetMany:
		var g GetMany
		for range in.count("hashes", blobs.HashSize) {
			g.Hashes = append(g.Hashes, in.hash())
		}
		g.Ranges = in.seq()
		req = g
	default:
		in.fail("request of type %d is unknown", typ)
	}
	if err := in.end(); err != nil {
		return nil, nil, err
	}
	return req, nil, nil
}

func parsePush(in input) (Request, []byte, error) {
	n := in.uvarint("length of the request")
	switch {
	case n > MaxRequest:
		in.fail("request of %d bytes, at most %d are allowed", n, MaxRequest)
	case n > uint64(len(in.b)):
		in.fail("request is cut short: %d of %d bytes", len(in.b), n)
	}
	if in.err != nil {
		return nil, nil, in.err
	}
	body := input{b: in.take("request", int(n))}
	p := Push{body.hash(), body.seq()}
	if err := body.end(); err != nil {
		return nil, nil, err
	}
	return p, in.b, nil
}

// Part is one blob of a response for several.
type Part struct {
	Index  uint64
	Hash   blobs.Hash
	Ranges bao.Ranges
}

// Parts yields the blobs of the response in its order. children is what the request's blob holds, if it is a sequence.
func (g Get) Parts(children blobs.HashSeq) iter.Seq[Part] {
	return func(yield func(Part) bool) {
		for i, r := range g.Ranges.Indexes(uint64(children.Len()) + 1) {
			h := g.Hash
			if i > 0 {
				h = children.At(int(i - 1))
			}
			if !yield(Part{i, h, r}) {
				return
			}
		}
	}
}

// Parts yields the blobs of the response in its order.
func (g GetMany) Parts() iter.Seq[Part] {
	return func(yield func(Part) bool) {
		for i, r := range g.Ranges.Indexes(uint64(len(g.Hashes))) {
			if !yield(Part{i, g.Hashes[i], r}) {
				return
			}
		}
	}
}

// NewGetMany asks for chunks of several blobs, given in any order; the request has them in iroh's order, ascending, and
// joins what is asked of the same blob.
func NewGetMany(parts map[blobs.Hash]bao.Ranges) GetMany {
	var g GetMany
	var ranges []bao.Ranges
	for _, h := range sortedHashes(parts) {
		g.Hashes = append(g.Hashes, h)
		ranges = append(ranges, parts[h])
	}
	g.Ranges = List(ranges...)
	return g
}

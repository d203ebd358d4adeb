package exchange

import (
	"encoding/binary"
	"errors"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// maxSpans bounds how many runs of chunks one READ may ask for.
const maxSpans = 64

// readRequest is a READ: chunks of one blob, or many whole blobs.
type readRequest struct {
	hash   blobs.Hash
	ranges bao.Ranges
	many   []blobs.Hash
}

var errRead = errors.New("bad READ")

// getRequest is iroh's request for chunks of one blob.
func getRequest(h blobs.Hash, r bao.Ranges) []byte {
	b := append([]byte{0}, h[:]...)
	b = append(b, 2, 0)
	b = binary.AppendUvarint(b, uint64(len(r)))
	last := uint64(0)
	for _, x := range r {
		b = binary.AppendUvarint(b, x-last)
		last = x
	}
	return append(b, 1, 0)
}

func manyRequest(hs []blobs.Hash) []byte {
	b := binary.AppendUvarint([]byte{9}, uint64(len(hs)))
	for _, h := range hs {
		b = append(b, h[:]...)
	}
	return append(b, 1, 0, 1, 0)
}

func parseRead(b []byte) (r readRequest, err error) {
	if len(b) < 1 {
		return r, errRead
	}
	switch b[0] {
	case 0:
		if len(b) < 36 {
			return r, errRead
		}
		r.hash = blobs.Hash(b[1:])
		b = b[35:]
		n, k := binary.Uvarint(b)
		if k <= 0 || n > 2*maxSpans {
			return r, errRead
		}
		b = b[k:]
		last := uint64(0)
		for range n {
			d, k := binary.Uvarint(b)
			if k <= 0 {
				return r, errRead
			}
			last += d
			r.ranges = append(r.ranges, last)
			b = b[k:]
		}
		if !r.ranges.Valid() {
			return r, errRead
		}
		return r, nil
	case 9:
		n, k := binary.Uvarint(b[1:])
		b = b[1+max(k, 0):]
		if k <= 0 || n > 512 || uint64(len(b)) < n*32 {
			return r, errRead
		}
		r.many = []blobs.Hash{}
		for i := range n {
			r.many = append(r.many, blobs.Hash(b[i*32:]))
		}
		return r, nil
	}
	return r, errRead
}

package exchange

import (
	"errors"
	"fmt"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
	"github.com/OpenArchive/save-dweb-go/blobs/wire"
	"github.com/OpenArchive/save-dweb-go/exchange/internal/frame"
)

// maxSpans bounds how many runs of chunks one READ may ask for.
const maxSpans = 64

// readRequest is a READ: chunks of one blob, or, where many is not nil, many whole blobs.
type readRequest struct {
	hash   blobs.Hash
	ranges bao.Ranges
	many   []blobs.Hash
}

// getRequest is the body of a READ of chunks of one blob.
func getRequest(h blobs.Hash, r bao.Ranges) []byte {
	return wire.GetBlob(h, r).Append(make([]byte, 0, 64))
}

// manyRequest is the body of a READ of many whole blobs.
func manyRequest(hs []blobs.Hash) []byte {
	return wire.GetMany{Hashes: hs, Ranges: wire.Everything()}.Append(nil)
}

// parseRead reads the body of a READ. Of iroh's requests these two are served, without children of sequences.
func parseRead(b []byte) (r readRequest, err error) {
	req, _, err := wire.Parse(b)
	if err != nil {
		return r, err
	}
	switch req := req.(type) {
	case wire.Get:
		r.hash, r.ranges = req.Hash, req.Ranges.At(0)
		if len(r.ranges) == 0 || len(r.ranges) > 2*maxSpans {
			return r, fmt.Errorf("READ of %d boundaries: want 1 to %d", len(r.ranges), 2*maxSpans)
		}
		children := len(req.Ranges.At(1)) > 0
		for _, e := range req.Ranges {
			children = children || e.From > 0 && len(e.Ranges) > 0
		}
		if children {
			return r, errors.New("READ of children: only the blob itself is served")
		}
		return r, nil
	case wire.GetMany:
		if n := len(req.Hashes); n == 0 || n > frame.MaxHashes {
			return r, fmt.Errorf("READ of %d blobs: want 1 to %d", n, frame.MaxHashes)
		}
		for i := range req.Hashes {
			if !req.Ranges.At(uint64(i)).IsAll() {
				return r, fmt.Errorf("READ of parts of many blobs: only whole ones are served")
			}
		}
		r.many = req.Hashes
		return r, nil
	}
	return r, fmt.Errorf("READ of type %d is not served", b[0])
}

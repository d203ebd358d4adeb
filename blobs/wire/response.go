package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

func sortedHashes(m map[blobs.Hash]bao.Ranges) []blobs.Hash {
	return slices.SortedFunc(maps.Keys(m), func(a, b blobs.Hash) int { return bytes.Compare(a[:], b[:]) })
}

// Opener is what a response is made from; a [blobs.Store] is one.
type Opener interface {
	Open(ctx context.Context, h blobs.Hash) (blobs.Blob, error)
}

// Respond writes the response for several blobs, one after the other. At the first blob that cannot be given it stops;
// those before it are written.
func Respond(ctx context.Context, w io.Writer, s Opener, parts iter.Seq[Part]) error {
	for p := range parts {
		if err := respondOne(ctx, w, s, p); err != nil {
			return fmt.Errorf("blob %d of the response: %w", p.Index, err)
		}
	}
	return nil
}

func respondOne(ctx context.Context, w io.Writer, s Opener, p Part) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	b, err := s.Open(ctx, p.Hash)
	if err != nil {
		return err
	}
	defer func() {
		if closed := b.Close(); err == nil {
			err = closed
		}
	}()
	return b.Encode(w, p.Ranges)
}

// Split cuts the response for several blobs into the responses for each, by the sizes that they claim: nothing is
// verified yet, and a wrong size shows when its part is. A response that ends after some of the blobs is no error: the
// provider does not have the next one. One that ends inside a blob gives the blobs before it, and ErrFormat.
func Split(response []byte, parts iter.Seq[Part]) (responses [][]byte, err error) {
	for p := range parts {
		if len(response) == 0 {
			return responses, nil
		}
		if len(response) < bao.HeaderSize {
			return responses, fmt.Errorf("%w: response ends in the size of blob %d", ErrFormat, p.Index)
		}
		size := binary.LittleEndian.Uint64(response)
		if size > bao.MaxSize {
			return responses, fmt.Errorf("%w: blob %d is said to have %d bytes", ErrFormat, p.Index, size)
		}
		n := bao.EncodedSize(size, p.Ranges)
		if n > uint64(len(response)) {
			return responses, fmt.Errorf("%w: response ends in blob %d, which takes %d bytes", ErrFormat, p.Index, n)
		}
		responses = append(responses, response[:n])
		response = response[n:]
	}
	if len(response) > 0 {
		return responses, fmt.Errorf("%w: %d bytes follow the last blob of the response", ErrFormat, len(response))
	}
	return responses, nil
}

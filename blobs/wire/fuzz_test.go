package wire

import (
	"bufio"
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

func FuzzParse(f *testing.F) {
	v := loadVectors(f)
	for _, r := range v.Requests {
		f.Add(unhex(f, r.Hex))
	}
	f.Add(append(unhex(f, v.PushWireBlob), 1, 2, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		req, data, err := Parse(b)
		if err != nil {
			return
		}
		if !requestSeq(req).Valid() {
			t.Fatalf("not canonical: %v", req)
		}
		out := req.Append(nil)
		if len(out)+len(data) > len(b) {
			t.Fatalf("%d bytes became %d", len(b), len(out))
		}
		again, rest, err := Parse(append(slices.Clone(out), data...))
		if diff := cmp.Diff(req, again, cmpopts.EquateEmpty()); err != nil || diff != "" || !bytes.Equal(rest, data) {
			t.Fatalf("%v %s", err, diff)
		}
	})
}

func FuzzBitfield(f *testing.F) {
	v := loadVectors(f)
	for _, o := range v.ObserveItems {
		f.Add(unhex(f, o.Body))
	}
	for _, b := range v.Bitfields {
		f.Add(unhex(f, b.File))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := ParseBitfield(b); err == nil {
			if !got.Ranges.Valid() || !got.Canonical().Ranges.Valid() {
				t.Fatalf("%v is not valid", got)
			}
			again, err := ReadItem(bufio.NewReader(bytes.NewReader(got.AppendItem(nil))))
			if err != nil || again.Size != got.Size || !again.Ranges.Equal(got.Ranges) {
				t.Fatalf("%v became %v: %v", got, again, err)
			}
		}
		h := blobs.Sum(b)
		if got, err := ParseFile(append(h[:], b...)); err == nil {
			again, err := ParseFile(got.MarshalFile())
			if err != nil || again.Size != got.Size || !again.Ranges.Equal(got.Ranges) {
				t.Fatalf("%v became %v: %v", got, again, err)
			}
		}
		if item, err := ReadItem(bufio.NewReader(bytes.NewReader(b))); err == nil && !item.Ranges.Valid() {
			t.Fatalf("%v is not valid", item)
		}
	})
}

func FuzzTicket(f *testing.F) {
	for _, v := range loadVectors(f).Tickets {
		f.Add(v.Ticket)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseTicket(s)
		if err != nil {
			return
		}
		again, err := ParseTicket(got.String())
		if err != nil || again.String() != got.String() || again.Blob != got.Blob || again.Relay != got.Relay {
			t.Fatalf("%v became %v: %v", got, again, err)
		}
	})
}

func FuzzSplit(f *testing.F) {
	f.Add(make([]byte, 8), []byte{1, 0})
	f.Add(append(slices.Repeat([]byte{2, 0, 0, 0, 0, 0, 0, 0, 9, 9}, 3), 1), []byte{2, 0, 5})
	f.Fuzz(func(t *testing.T, response, ranges []byte) {
		r, err := ParseRanges(ranges)
		if err != nil {
			return
		}
		many := GetMany{make([]blobs.Hash, 5), List(r, bao.All(), nil, bao.Last())}
		got, err := Split(response, many.Parts())
		joined := slices.Concat(got...)
		if !bytes.HasPrefix(response, joined) || err == nil && len(joined) != len(response) {
			t.Fatalf("%d of %d bytes: %v", len(joined), len(response), err)
		}
	})
}

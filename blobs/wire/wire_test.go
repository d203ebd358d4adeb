package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

func TestRefuse(t *testing.T) {
	h := strings.Repeat("da", 32)
	for _, c := range []struct{ name, hex string }{
		{"empty", ""},
		{"type alone", "00"},
		{"short hash", "00" + h[2:]},
		{"no ranges", "00" + h},
		{"unknown type 2", "02" + h + "00"},
		{"unknown type 7", "07" + h + "00"},
		{"unknown type 10", "0a" + h + "00"},
		{"bytes after", "00" + h + "00" + "00"},
		{"more entries than bytes", "00" + h + "05" + "000100"},
		{"count of 2^63", "00" + h + "80808080808080808001"},
		{"number above 64 bits", "00" + h + "0100" + "01" + "ffffffffffffffffff02"},
		{"number of eleven bytes", "00" + h + "0100" + "01" + "8080808080808080808000"},
		{"zero width", "00" + h + "0100" + "020500"},
		{"widths overflow", "00" + h + "0100" + "02ffffffffffffffffff0101"},
		{"zero delta", "00" + h + "02" + "000100" + "0000"},
		{"deltas overflow", "00" + h + "02" + "ffffffffffffffffff010100" + "0100"},
		{"the same again", "00" + h + "02" + "000100" + "010100"},
		{"nothing to begin with", "00" + h + "01" + "0000"},
		{"nothing to begin with, then something", "00" + h + "02" + "0000" + "010100"},
		{"observe: zero width", "01" + h + "020500"},
		{"observe: bytes after", "01" + h + "010000"},
		{"many: short hashes", "0902" + h + "00"},
		{"push: longer than it is", "0827" + h + "020001000100"},
		{"push: shorter than it is", "0825" + h + "020001000100"},
		{"push: too long", "08818040"},
	} {
		if req, _, err := Parse(unhex(t, c.hex)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, %v", c.name, req, err)
		}
	}
	big := append(Get{someHash, Everything()}.Append(nil), make([]byte, MaxRequest)...)
	if _, _, err := Parse(big); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too large: %v", err)
	}
}

func TestAccept(t *testing.T) {
	h := strings.Repeat("da", 32)
	for _, c := range []struct {
		name, hex string
		want      Request
	}{
		{"longer numbers", "00" + h + "8200" + "8000" + "818000" + "8000" + "8100" + "00", GetBlob(someHash, bao.All())},
		{"zero first", "00" + h + "02" + "00" + "020005" + "0100", GetBlob(someHash, bao.Span(0, 5))},
		{"children only", "00" + h + "01" + "01" + "0100", Get{someHash, Seq{{1, bao.All()}}}},
		{"many of nothing", "0900" + "00", GetMany{}},
	} {
		req, _, err := Parse(unhex(t, c.hex))
		if diff := cmp.Diff(c.want, req, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("%s: %v %s", c.name, err, diff)
		}
	}
	push := append(Push{someHash, Everything()}.Append(nil), "data"...)
	req, data, err := Parse(push)
	if err != nil || string(data) != "data" {
		t.Errorf("push: %v, %q", err, data)
	}
	if diff := cmp.Diff(Request(Push{someHash, Everything()}), req); diff != "" {
		t.Error(diff)
	}
}

func TestSeq(t *testing.T) {
	a, b := bao.All(), bao.Span(3, 5)
	for _, c := range []struct {
		name string
		seq  Seq
		want []bao.Ranges // of indexes 0 to 5
	}{
		{"nothing", nil, []bao.Ranges{nil, nil, nil, nil, nil, nil}},
		{"one", One(b), []bao.Ranges{b, nil, nil, nil, nil, nil}},
		{"one of nothing", One(nil), []bao.Ranges{nil, nil, nil, nil, nil, nil}},
		{"everything", Everything(), []bao.Ranges{a, a, a, a, a, a}},
		{"list", List(a, nil, b, b), []bao.Ranges{a, nil, b, b, nil, nil}},
		{"list with holes", List(nil, a, a, nil, b), []bao.Ranges{nil, a, a, nil, b, nil}},
		{"from", Seq{}.With(2, b), []bao.Ranges{nil, nil, b, b, b, b}},
	} {
		if !c.seq.Valid() {
			t.Errorf("%s: not valid: %v", c.name, c.seq)
		}
		var listed []uint64
		for i, want := range c.want {
			if got := c.seq.At(uint64(i)); !got.Equal(want) {
				t.Errorf("%s: index %d: %v, want %v", c.name, i, got, want)
			}
			if !want.IsEmpty() {
				listed = append(listed, uint64(i))
			}
		}
		var got []uint64
		for i, r := range c.seq.Indexes(uint64(len(c.want))) {
			got = append(got, i)
			if !r.Equal(c.want[i]) {
				t.Errorf("%s: index %d: %v", c.name, i, r)
			}
		}
		if !slices.Equal(got, listed) {
			t.Errorf("%s: indexes %v, want %v", c.name, got, listed)
		}
		parsed, err := ParseSeq(AppendSeq(nil, c.seq))
		if diff := cmp.Diff(c.seq, parsed, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("%s: %v %s", c.name, err, diff)
		}
	}
	for _, bad := range []Seq{{{0, nil}}, {{0, a}, {0, b}}, {{0, a}, {1, a}}, {{0, bao.Ranges{2, 2}}}} {
		if bad.Valid() {
			t.Errorf("valid: %v", bad)
		}
	}
	base := List(a)
	one, two := base.With(5, b), base.With(6, a)
	if one.At(5).Equal(a) || !two.At(6).Equal(a) {
		t.Error("With changes what it was called on")
	}
}

func TestBitfieldUpdate(t *testing.T) {
	state := Bitfield{50_000, bao.Span(0, 16)}
	state = state.Update(Bitfield{50_000, bao.Span(16, 32)})
	state = state.Update(Bitfield{50_001, bao.From(32)})
	if state.Size != 50_001 || !state.Ranges.Equal(bao.All()) {
		t.Errorf("%v", state)
	}
	state = state.Update(Bitfield{1, bao.Span(0, 16)}) // lost again
	if state.Size != 50_001 || !state.Ranges.Equal(bao.From(16)) {
		t.Errorf("%v", state)
	}
	if got := (Bitfield{}).Update(Bitfield{7, nil}); got.Size != 7 {
		t.Errorf("%v", got)
	}
}

func TestReadItemLimits(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes []byte
		want  error
	}{
		{"too long", binary.AppendUvarint(nil, MaxItem+1), ErrFormat},
		{"cut short", []byte{5, 0, 0}, io.ErrUnexpectedEOF},
		{"length cut short", []byte{0x80}, ErrFormat},
		{"not ascending", []byte{4, 0, 2, 5, 5}, ErrFormat},
	} {
		if _, err := ReadItem(bufio.NewReader(bytes.NewReader(c.bytes))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// shelf is blobs in memory, as much of a store as responses need.
type shelf map[blobs.Hash][]byte

func (s shelf) add(data []byte) blobs.Hash {
	h := blobs.Sum(data)
	s[h] = data
	return h
}

func (s shelf) Open(_ context.Context, h blobs.Hash) (blobs.Blob, error) {
	data, ok := s[h]
	if !ok {
		return nil, blobs.ErrNotFound
	}
	return &shelfBlob{bytes.NewReader(data), data}, nil
}

type shelfBlob struct {
	*bytes.Reader
	data []byte
}

func (b *shelfBlob) Close() error     { return nil }
func (b *shelfBlob) Info() blobs.Info { return blobs.Info{Size: uint64(len(b.data)), Complete: true} }
func (b *shelfBlob) Encode(w io.Writer, ranges bao.Ranges) error {
	root, pre := bao.NewOutboard(b.data)
	return bao.Encode(w, bao.Source{Root: root, Size: uint64(len(b.data)), Data: b, Outboard: bytes.NewReader(pre)}, ranges)
}

func TestResponses(t *testing.T) {
	s := shelf{}
	var children []blobs.Hash
	for i := range 5 {
		children = append(children, s.add(bytes.Repeat([]byte{byte(i)}, i*9000)))
	}
	seq := blobs.NewHashSeq(children...)
	root := s.add(seq.Bytes())
	missing := blobs.Sum([]byte("not here"))

	get := Get{root, List(bao.All(), nil, bao.Last(), bao.All()).With(5, bao.Single(0))}
	many := GetMany{[]blobs.Hash{children[3], children[1], missing, children[2]}, Everything()}
	for _, c := range []struct {
		name  string
		parts []Part
		want  []string
		err   error
	}{
		{"get", slices.Collect(get.Parts(seq)), []string{"0 0..", "2 last", "3 0..", "5 0..1"}, nil},
		{"get many", slices.Collect(many.Parts()), []string{"0 0..", "1 0..", "2 0..", "3 0.."}, blobs.ErrNotFound},
		{"get nothing", slices.Collect(Get{root, nil}.Parts(seq)), nil, nil},
	} {
		var got []string
		for _, p := range c.parts {
			got = append(got, fmt.Sprint(p.Index, " ", p.Ranges))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: parts %v, want %v", c.name, got, c.want)
		}
		var out bytes.Buffer
		if err := Respond(t.Context(), &out, s, slices.Values(c.parts)); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
		responses, err := Split(out.Bytes(), slices.Values(c.parts))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if c.err != nil {
			c.parts = c.parts[:2] // what comes before the missing one
		}
		if len(responses) != len(c.parts) {
			t.Fatalf("%s: %d responses", c.name, len(responses))
		}
		for i, p := range c.parts {
			if _, _, err := bao.Decode(p.Hash, responses[i], p.Ranges, bao.Visitor{}); err != nil {
				t.Errorf("%s: part %d: %v", c.name, i, err)
			}
		}
		if len(responses) == 0 {
			continue
		}
		short, err := Split(out.Bytes()[:out.Len()-1], slices.Values(c.parts))
		if !errors.Is(err, ErrFormat) || len(short) != len(responses)-1 {
			t.Errorf("%s: a byte missing: %d responses, %v", c.name, len(short), err)
		}
		if _, err := Split(append(out.Bytes(), 1), slices.Values(c.parts)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: a byte too many: %v", c.name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Respond(ctx, io.Discard, s, get.Parts(seq)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	huge := slices.Repeat([]byte{0xff}, 100)
	if _, err := Split(huge, many.Parts()); !errors.Is(err, ErrFormat) {
		t.Errorf("impossible size: %v", err)
	}
	huge[7] = 0x7f
	if _, err := Split(huge, many.Parts()); !errors.Is(err, ErrFormat) {
		t.Errorf("large size: %v", err)
	}
}

func TestTicketRefuse(t *testing.T) {
	good := Ticket{Blob: blobs.HashAndFormat{Hash: hashOne}}.Bytes()
	change := func(at int, b ...byte) string {
		out := slices.Clone(good)
		return ticketPrefix + ticketBase32.EncodeToString(slices.Replace(out, at, at+1, b...))
	}
	for name, s := range map[string]string{
		"empty":           "",
		"prefix alone":    "blob",
		"no prefix":       "blub" + ticketBase32.EncodeToString(good),
		"not base32":      "blob" + "!!!!",
		"version":         change(0, 1),
		"flag of relay":   change(33, 2),
		"empty relay":     change(33, 1, 0),
		"relay not UTF-8": change(33, 1, 1, 0xff),
		"relay too long":  change(33, 1, 0xff, 0xff, 3),
		"addresses":       change(34, 200),
		"address kind":    change(34, 1, 2, 1, 2, 3, 4, 5),
		"port":            change(34, 1, 0, 1, 2, 3, 4, 0x80, 0x80, 4),
		"format":          change(35, 2),
		"too long":        "blob" + strings.Repeat("a", maxTicket),
		"bytes after":     "blob" + ticketBase32.EncodeToString(append(slices.Clone(good), 0)),
	} {
		if got, err := ParseTicket(s); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

package wire

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

type vectors struct {
	Requests     []struct{ Name, Hex string }
	PushWireBlob string       `json:"push_wire_blob"`
	ObserveItems []vectorBits `json:"observe_items"`
	Bitfields    []struct {
		Size           string
		In, Canonical  []string
		Postcard, File string
	}
	Tickets []struct {
		Name, Ticket, Bytes, Format, Hash string
		EndpointID                        string `json:"endpoint_id"`
		Relay                             string
	}
	FsStoreLayout []struct{ Path, Hex string } `json:"fs_store_layout"`
}

type vectorBits struct {
	Body, Size string
	Ranges     []string
}

func loadVectors(t testing.TB) (v vectors) {
	t.Helper()
	b, err := os.ReadFile("../testdata/iroh-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Requests) == 0 || len(v.ObserveItems) == 0 || len(v.Bitfields) == 0 || len(v.Tickets) == 0 {
		t.Fatal("vectors are missing")
	}
	return v
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func number(t testing.TB, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func rangesOf(t testing.TB, texts []string) (r bao.Ranges) {
	t.Helper()
	for _, s := range texts {
		r = append(r, number(t, s))
	}
	return r
}

var (
	someHash = blobs.Hash(bytes.Repeat([]byte{0xda}, 32))
	hashOne  = blobs.Sum([]byte("one"))
	hashTwo  = blobs.Sum([]byte("two"))
)

// meaning is what each named request of the vectors says, where this test knows the name.
var meaning = map[string]Request{
	"get_blob":                    GetBlob(someHash, bao.All()),
	"get_all":                     Get{someHash, Everything()},
	"get_ranges_1_3_9_13":         GetBlob(someHash, bao.Ranges{1, 3, 9, 13}),
	"get_from_10000":              GetBlob(someHash, bao.From(10000)),
	"get_last_chunk":              GetBlob(someHash, bao.Last()),
	"get_verified_size":           GetBlob(someHash, bao.Last()),
	"get_empty":                   Get{someHash, nil},
	"get_root_child2_bytes":       Get{someHash, List(bao.All(), nil, nil, bao.Single(0))},
	"get_children_1_to_1000_only": nil,
	"observe_all":                 Observe{someHash, bao.All()},
	"observe_ranges":              Observe{someHash, bao.Ranges{16, 32}},
}

func TestRequestVectors(t *testing.T) {
	v := loadVectors(t)
	known := 0
	for _, r := range append(v.Requests, struct{ Name, Hex string }{"push_wire_blob", v.PushWireBlob}) {
		b := unhex(t, r.Hex)
		req, data, err := Parse(b)
		if err != nil || len(data) != 0 {
			t.Errorf("%s: %v, %d bytes follow", r.Name, err, len(data))
			continue
		}
		if got := req.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%s: %x, want %x", r.Name, got, b)
		}
		if want := meaning[r.Name]; want != nil {
			known++
			if diff := cmp.Diff(want, req, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: %s", r.Name, diff)
			}
		}
		if !requestSeq(req).Valid() {
			t.Errorf("%s: sequence %v is not valid", r.Name, requestSeq(req))
		}
	}
	if known < 5 {
		t.Errorf("only %d requests are known by name", known)
	}
	many := NewGetMany(map[blobs.Hash]bao.Ranges{hashTwo: bao.All(), hashOne: bao.All()})
	if len(many.Hashes) != 2 || bytes.Compare(many.Hashes[0][:], many.Hashes[1][:]) >= 0 || len(many.Ranges) != 2 {
		t.Errorf("GetMany: %v", many)
	}
}

func requestSeq(r Request) Seq {
	switch r := r.(type) {
	case Get:
		return r.Ranges
	case GetMany:
		return r.Ranges
	case Push:
		return r.Ranges
	case Observe:
		return One(r.Ranges)
	}
	return nil
}

func TestBitfieldVectors(t *testing.T) {
	v := loadVectors(t)
	var stream []byte
	var want []Bitfield
	for _, o := range v.ObserveItems {
		f := Bitfield{number(t, o.Size), rangesOf(t, o.Ranges)}
		if got := hex.EncodeToString(f.Append(nil)); got != o.Body {
			t.Errorf("item of %v: %s, want %s", f, got, o.Body)
		}
		got, err := ParseBitfield(unhex(t, o.Body))
		if err != nil || !got.Ranges.Equal(f.Ranges) || got.Size != f.Size {
			t.Errorf("item %s: %v, %v", o.Body, got, err)
		}
		stream, want = f.AppendItem(stream), append(want, f)
	}
	r := bufio.NewReader(bytes.NewReader(stream))
	for _, f := range want {
		if got, err := ReadItem(r); err != nil || !got.Ranges.Equal(f.Ranges) || got.Size != f.Size {
			t.Errorf("item %v of a stream: %v, %v", f, got, err)
		}
	}
	if _, err := ReadItem(r); err != io.EOF {
		t.Errorf("end of the stream: %v", err)
	}

	for _, b := range v.Bitfields {
		f := Bitfield{number(t, b.Size), rangesOf(t, b.In)}
		c := f.Canonical()
		if want := rangesOf(t, b.Canonical); !c.Ranges.Equal(want) {
			t.Errorf("%v is %v, want %v", f, c.Ranges, want)
		}
		file := c.MarshalFile()
		if got := hex.EncodeToString(file); got != b.File || got[64:] != b.Postcard {
			t.Errorf("file of %v: %s, want %s", f, got, b.File)
		}
		checkFile(t, unhex(t, b.File), c)
	}
	for _, l := range v.FsStoreLayout {
		if bytes.HasSuffix([]byte(l.Path), []byte(".bitfield")) && l.Hex != "" {
			got, err := ParseFile(unhex(t, l.Hex))
			if err != nil || hex.EncodeToString(got.MarshalFile()) != l.Hex {
				t.Errorf("%s: %v, %v", l.Path, got, err)
			}
		}
	}
}

func checkFile(t *testing.T, file []byte, want Bitfield) {
	t.Helper()
	got, err := ParseFile(file)
	if err != nil || got.Size != want.Size || !got.Ranges.Equal(want.Ranges) {
		t.Errorf("file %x: %v, %v", file, got, err)
	}
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 1
		if _, err := ParseFile(bad); !errors.Is(err, ErrFormat) {
			t.Errorf("file %x: %v", bad, err)
		}
	}
}

func TestTicketVectors(t *testing.T) {
	for _, v := range loadVectors(t).Tickets {
		got, err := ParseTicket(v.Ticket)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if hex.EncodeToString(got.Bytes()) != v.Bytes || got.String() != v.Ticket {
			t.Errorf("%s: %s, want %s", v.Name, got, v.Ticket)
		}
		format := blobs.Raw
		if v.Format == "HashSeq" {
			format = blobs.SeqFormat
		}
		if hex.EncodeToString(got.Endpoint[:]) != v.EndpointID || got.Blob.Hash.String() != v.Hash || got.Blob.Format != format {
			t.Errorf("%s: %+v", v.Name, got)
		}
	}
	full := Ticket{
		Endpoint: [32]byte{1}, Relay: "https://relay.example/",
		Addrs: []netip.AddrPort{
			netip.MustParseAddrPort("[2001:db8::1]:9"), netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("[::ffff:10.0.0.1]:80"),
		},
		Blob: blobs.HashAndFormat{Hash: hashOne, Format: blobs.SeqFormat},
	}
	got, err := ParseTicket(full.String())
	if err != nil {
		t.Fatal(err)
	}
	full.Addrs = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("[2001:db8::1]:9")}
	if diff := cmp.Diff(full, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Error(diff)
	}
}

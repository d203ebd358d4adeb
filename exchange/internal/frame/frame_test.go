package frame

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

func testKeys(b byte) *Keys { return NewKeys(veilid.NewSharedSecret(veilid.VLD0, [32]byte{b})) }

func route(b byte) veilid.RouteID {
	return veilid.RouteID{Key32: veilid.Key32{Kind: veilid.VLD0, Value: [32]byte{b}}}
}

// The bytes of the wire do not change by accident: a PING under the secret 01 00 ... to the route VLD0 02 00 ..., with a
// nonce of zeros.
const goldenPing = "44574231025ebe747c5c66c48000000000000000000000000085c2d5d5a1f652e8db8ae065d36e3d15"

func TestGolden(t *testing.T) {
	k := testKeys(1)
	q := append([]byte("DWB1\x02"), k.tag[:]...)
	q = append(q, make([]byte, nonceSize)...)
	mac := k.mac(OpPing, make([]byte, nonceSize), route(2), nil)
	q = append(q, mac[:]...)
	if got := hex.EncodeToString(q); got != goldenPing {
		t.Errorf("PING is\n%s, want\n%s", got, goldenPing)
	}
	f, err := Parse(q)
	if err != nil || !k.Verify(f, route(2)) {
		t.Errorf("not accepted: %v", err)
	}
}

func TestSealAndVerify(t *testing.T) {
	k := testKeys(1)
	for _, n := range []int{0, 1, 1000, MaxBody} {
		body := bytes.Repeat([]byte{7}, n)
		q, err := k.Seal(OpRead, route(2), body)
		if err != nil || len(q) != n+Overhead {
			t.Fatalf("question of %d bytes: %v", len(q), err)
		}
		f, err := Parse(q)
		if err != nil || f.Op != OpRead || f.Tag != k.Tag() || !bytes.Equal(f.Body, body) {
			t.Fatalf("parsed %+v, %v", f, err)
		}
		if !k.Verify(f, route(2)) {
			t.Error("not accepted")
		}
		if k.Verify(f, route(3)) {
			t.Error("accepted at another route")
		}
		if testKeys(2).Verify(f, route(2)) {
			t.Error("accepted by another group")
		}
		for i := len(magic); i < len(q); i += max(1, len(q)/97) {
			bad := bytes.Clone(q)
			bad[i] ^= 0x10
			if f, err := Parse(bad); err == nil && k.Verify(f, route(2)) {
				t.Errorf("accepted with byte %d changed", i)
			}
		}
	}
	if _, err := k.Seal(OpRead, route(2), make([]byte, MaxBody+1)); err == nil {
		t.Error("a question that fits no app call was made")
	}
	a, _ := k.Seal(OpPing, route(2), nil)
	b, _ := k.Seal(OpPing, route(2), nil)
	if bytes.Equal(a, b) {
		t.Error("two questions are alike: the nonce does not change")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want error
	}{
		{"", ErrForeign}, {"DWB", ErrForeign}, {"DWB2" + strings.Repeat("x", 60), ErrForeign},
		{"DWB1", ErrMalformed}, {"DWB1" + strings.Repeat("x", Overhead-5), ErrMalformed},
		{"DWB1" + strings.Repeat("x", veilid.MaxMessageSize-3), ErrMalformed},
	} {
		if _, err := Parse([]byte(tt.in)); !errors.Is(err, tt.want) {
			t.Errorf("%.20q: %v, want %v", tt.in, err, tt.want)
		}
	}
}

func TestParseAnswer(t *testing.T) {
	for _, tt := range []struct {
		in     string
		status Status
		want   error
	}{
		{"", 0, ErrMalformed}, {"\x01", 0, ErrLegacy}, {"\x07", 0, ErrMalformed}, {"\x00", OK, nil}, {"\x01\x00", Shortened, nil},
		{"\x04", Denied, nil}, {"\x00" + strings.Repeat("x", MaxAnswer), OK, nil}, {"\x00" + strings.Repeat("x", MaxAnswer+1), 0, ErrMalformed},
	} {
		s, body, err := ParseAnswer([]byte(tt.in))
		if s != tt.status || !errors.Is(err, tt.want) || err == nil && len(body) != len(tt.in)-1 {
			t.Errorf("%.20q: status %d, %d bytes, %v", tt.in, s, len(body), err)
		}
	}
}

func TestBusy(t *testing.T) {
	for _, tt := range []struct{ say, hear time.Duration }{
		{0, 10 * time.Millisecond}, {time.Second, time.Second}, {time.Hour, MaxRetry}, {1234567 * time.Microsecond, 1234 * time.Millisecond},
	} {
		s, body, err := ParseAnswer(BusyAnswer(tt.say))
		if err != nil || s != Busy || ParseBusy(body) != tt.hear {
			t.Errorf("%v: status %d, %v, %v", tt.say, s, ParseBusy(body), err)
		}
	}
	for _, body := range []string{"", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"} {
		if d := ParseBusy([]byte(body)); d < 10*time.Millisecond || d > MaxRetry {
			t.Errorf("% x: %v", body, d)
		}
	}
}

func TestBodies(t *testing.T) {
	h := Hello{Version: 1, Features: 5, Device: "Ann's phone", Repo: "abc", Route: []byte{1, 2, 3}}
	got, err := ParseHello(append(h.Append(nil), "later fields"...))
	if diff := cmp.Diff(h, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	n := News{Version: 1 << 40, Root: blobs.Hash{9}, From: "abc"}
	n.Repo.Kind, n.Repo.Value = veilid.VLD0, [32]byte{3}
	gotNews, err := ParseNews(n.Append(nil))
	if diff := cmp.Diff(n, gotNews); diff != "" || err != nil {
		t.Error(diff, err)
	}
	held := []Held{
		{}, {Complete: true}, {Complete: true, Size: 1 << 60}, {Have: bao.Ranges{0, 16}, Size: 5000}, {Have: bao.Ranges{32}},
	}
	var b []byte
	for _, x := range held {
		b = AppendHeld(b, x, 1000)
	}
	gotHeld, err := ParseHeld(b, len(held))
	if diff := cmp.Diff(held, gotHeld); diff != "" || err != nil {
		t.Error(diff, err)
	}
	has := []bool{true, false, true, true, false, false, true, true, false, true}
	s, body, err := ParseAnswer(append(AppendShortenedMany(nil, has), "rest"...))
	gotHas, rest, err2 := ParseShortenedMany(body, 12)
	if s != Shortened || err != nil || err2 != nil || string(rest) != "rest" || !cmp.Equal(has, gotHas) {
		t.Error(s, gotHas, string(rest), err, err2)
	}
	if _, _, err := ParseShortenedMany(body, 9); err == nil {
		t.Error("more blobs than were asked for")
	}
}

// What does not fit an answer to HAVE is left out, and what is left is true.
func TestHeldIsCutToFit(t *testing.T) {
	var many bao.Ranges
	for i := range uint64(1000) {
		many = append(many, 1<<40+i*64)
	}
	for _, limit := range []int{1, 20, 49, 50, 100, 500, 20000} {
		b := AppendHeld(nil, Held{Size: 1 << 60, Have: many}, limit)
		if len(b) > limit {
			t.Errorf("%d bytes where %d were allowed", len(b), limit)
		}
		got, err := ParseHeld(b, 1)
		if err != nil || len(got[0].Have)%2 != 0 || !cmp.Equal(got[0].Have, got[0].Have.Intersect(many), cmp.Comparer(func(a, b bao.Ranges) bool { return a.Equal(b) })) {
			t.Errorf("limit %d: %v, %v", limit, got, err)
		}
		if limit >= 20000 && len(got[0].Have) != MaxBoundaries {
			t.Errorf("%d boundaries", len(got[0].Have))
		}
	}
}

func FuzzParse(f *testing.F) {
	k := testKeys(1)
	q, err := hex.DecodeString(goldenPing)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q)
	f.Add([]byte("DWB1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		if len(p.Body) != len(b)-Overhead {
			t.Fatalf("body of %d bytes in %d", len(p.Body), len(b))
		}
		if k.Verify(p, route(2)) && !bytes.Equal(b, q) {
			t.Fatal("a question that nobody sealed is accepted")
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add(Hello{Version: 1, Device: "d", Repo: "r", Route: []byte("route")}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHello(b)
		if err != nil {
			return
		}
		again, err := ParseHello(h.Append(nil))
		if err != nil || !bytes.Equal(again.Append(nil), h.Append(nil)) {
			t.Fatalf("%+v became %+v, %v", h, again, err)
		}
		if len(h.Route) > MaxRouteBlob || len(h.Device) > MaxText || len(h.Repo) > MaxText {
			t.Fatal("too long")
		}
	})
}

func FuzzNews(f *testing.F) {
	f.Add(News{Version: 3, From: "x", Repo: veilid.OpaqueRecordKey{Key32: veilid.Key32{Kind: veilid.VLD0}}}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ParseNews(b)
		if err != nil {
			return
		}
		if again, err := ParseNews(n.Append(nil)); err != nil || again != n {
			t.Fatalf("%+v became %+v, %v", n, again, err)
		}
	})
}

func FuzzHeld(f *testing.F) {
	f.Add(AppendHeld(AppendHeld(nil, Held{Complete: true, Size: 9}, 100), Held{Have: bao.Ranges{1, 2, 3}}, 100), 2)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		n = max(0, min(n, MaxHashes))
		hs, err := ParseHeld(b, n)
		if err != nil {
			return
		}
		var c []byte
		for _, h := range hs {
			if !h.Have.Valid() || len(h.Have) > MaxBoundaries {
				t.Fatalf("ranges %v", h.Have)
			}
			c = AppendHeld(c, h, veilid.MaxMessageSize)
		}
		again, err := ParseHeld(c, n)
		if diff := cmp.Diff(hs, again); diff != "" || err != nil {
			t.Fatal(diff, err)
		}
	})
}

func FuzzShortened(f *testing.F) {
	f.Add([]byte{3, 5, 1, 2, 3}, 4)
	f.Fuzz(func(t *testing.T, b []byte, asked int) {
		asked = max(0, min(asked, MaxHashes))
		if has, rest, err := ParseShortenedMany(b, asked); err == nil && (len(has) > asked || len(rest) > len(b)) {
			t.Fatalf("%d of %d blobs, %d bytes", len(has), asked, len(rest))
		}
		if n, rest, err := ParseShortened(b); err == nil {
			if _, body, err := ParseAnswer(AppendShortened(nil, n)); err == nil {
				if m, _, _ := ParseShortened(body); m != n {
					t.Fatalf("%d became %d", n, m)
				}
			}
			if len(rest) >= len(b) {
				t.Fatal("nothing was read")
			}
		}
	})
}

package blobs

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

type digest struct{ Blake3, Hex string }

type vectors struct {
	Formats     map[string]json.RawMessage
	Collections []struct {
		Names, Hashes []string
		Meta, Hashseq digest
		Root          string
	}
	FsStoreLayout []struct{ Path, Blake3 string } `json:"fs_store_layout"`
}

func loadVectors(t testing.TB) (v vectors) {
	t.Helper()
	b, err := os.ReadFile("testdata/iroh-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Formats) == 0 || len(v.Collections) == 0 {
		t.Fatal("vectors are missing")
	}
	return v
}

func (v vectors) text(t testing.TB, name string) (s string) {
	t.Helper()
	if err := json.Unmarshal(v.Formats[name], &s); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return s
}

func TestFormatVectors(t *testing.T) {
	v := loadVectors(t)
	one, two := Sum([]byte("one")), Sum([]byte("two"))
	raw, seq := HashAndFormat{one, Raw}, HashAndFormat{one, SeqFormat}
	quoted := func(s string) string { return `"` + s + `"` }
	for name, got := range map[string]string{
		"hash_empty":         EmptyHash.String(),
		"hash_one_hex":       one.String(),
		"hash_one_fmt_short": one.Short(),
		"hash_one_postcard":  hex.EncodeToString(one[:]),
		"hf_raw_display":     raw.String(),
		"hf_seq_display":     seq.String(),
		"hf_raw_postcard":    hex.EncodeToString(raw.Bytes()),
		"hf_seq_postcard":    hex.EncodeToString(seq.Bytes()),
		"json_hash":          quoted(one.String()),
		"json_hf":            quoted(seq.String()),
	} {
		if want := v.text(t, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for _, s := range []string{v.text(t, "hash_one_base32_parses"), strings.ToUpper(one.Base32()), one.String()} {
		if got, err := ParseHash(s); err != nil || got != one {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, h := range []HashAndFormat{raw, seq} {
		if got, err := ParseHashAndFormat(h.String()); err != nil || got != h {
			t.Errorf("%v: %v, %v", h, got, err)
		}
		if got, err := HashAndFormatFromBytes(h.Bytes()); err != nil || got != h {
			t.Errorf("%v: %v, %v", h, got, err)
		}
	}
	var want digest
	if err := json.Unmarshal(v.Formats["hashseq_one_two_empty"], &want); err != nil {
		t.Fatal(err)
	}
	s := NewHashSeq(one, two, EmptyHash)
	if hex.EncodeToString(s.Bytes()) != want.Hex || s.Hash().String() != want.Blake3 {
		t.Errorf("sequence %x, want %s", s.Bytes(), want.Hex)
	}
}

func TestHashRefuses(t *testing.T) {
	h := EmptyHash.String()
	for _, s := range []string{"", h[1:], h + "0", strings.ToUpper(h), "g" + h[1:], strings.Repeat("1", 52), "s" + h} {
		if got, err := ParseHash(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
	for _, s := range []string{"", "s", "S" + h, "ss" + h, "s" + strings.ToUpper(h), EmptyHash.Base32(), "x" + h} {
		if got, err := ParseHashAndFormat(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
	b := HashAndFormat{EmptyHash, SeqFormat}.Bytes()
	for _, bad := range [][]byte{nil, b[:32], append(b[:33:33], 0), append(b[:32:32], 2)} {
		if got, err := HashAndFormatFromBytes(bad); !errors.Is(err, ErrFormat) {
			t.Errorf("%x: %v, %v", bad, got, err)
		}
	}
}

func TestCollectionVectors(t *testing.T) {
	for _, v := range loadVectors(t).Collections {
		var c Collection
		for i, name := range v.Names {
			h, err := ParseHash(v.Hashes[i])
			if err != nil {
				t.Fatal(err)
			}
			c = append(c, Entry{name, h})
		}
		meta, seq, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(meta) != v.Meta.Hex || hex.EncodeToString(seq.Bytes()) != v.Hashseq.Hex || seq.Hash().String() != v.Root {
			t.Errorf("%v: meta %x, sequence %x", v.Names, meta, seq.Bytes())
		}
		got, err := ParseCollection(seq, meta)
		if diff := cmp.Diff(c, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("%v: %v %s", v.Names, err, diff)
		}
	}
}

func TestCollectionRefuses(t *testing.T) {
	one := NewHashSeq(EmptyHash, EmptyHash)
	good := "CollectionV0.\x01\x01a"
	if _, err := ParseCollection(one, []byte(good)); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCollection(one, []byte("CollectionV0.\x81\x00\x81\x80\x00a")); err != nil {
		t.Errorf("longer numbers: %v", err)
	}
	for name, meta := range map[string]string{
		"empty":          "",
		"another header": "CollectionV1.\x01\x01a",
		"no count":       "CollectionV0.",
		"fewer names":    "CollectionV0.\x00",
		"more names":     "CollectionV0.\x02\x01a\x01b",
		"short name":     "CollectionV0.\x01\x02a",
		"no name":        "CollectionV0.\x01",
		"not UTF-8":      "CollectionV0.\x01\x01\xff",
		"bytes after":    good + "b",
		"long name":      "CollectionV0.\x01\x81\x20" + strings.Repeat("a", MaxName+1),
		"endless number": "CollectionV0.\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		if c, err := ParseCollection(one, []byte(meta)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	if _, err := ParseCollection(HashSeq{}, []byte(good)); !errors.Is(err, ErrFormat) {
		t.Errorf("no hash of the names: %v", err)
	}
	if _, err := ParseHashSeq(make([]byte, 33)); !errors.Is(err, ErrFormat) {
		t.Errorf("sequence of 33 bytes: %v", err)
	}
	// the sequence of a hostile collection is long, its names are few: nothing is made room for
	if _, err := ParseCollection(HashSeq{make([]byte, 1000*HashSize)}, append([]byte("CollectionV0."), 0xe7, 0x07)); !errors.Is(err, ErrFormat) {
		t.Errorf("names claimed: %v", err)
	}
	for name, c := range map[string]Collection{
		"long name": {{strings.Repeat("a", MaxName+1), EmptyHash}},
		"not UTF-8": {{"\xff", EmptyHash}},
	} {
		if _, _, err := c.Encode(); err == nil {
			t.Errorf("%s is written", name)
		}
	}
}

func TestCollectionInStore(t *testing.T) {
	s := newFakeStore()
	c := Collection{{"b", Sum([]byte("b"))}, {"a/ü", Sum([]byte("a"))}, {"b", EmptyHash}}
	tag, err := AddCollection(t.Context(), s, c)
	if err != nil {
		t.Fatal(err)
	}
	defer tag.Release()
	if tag.Format != SeqFormat {
		t.Errorf("tag keeps %v", tag.HashAndFormat)
	}
	got, err := ReadCollection(t.Context(), s, tag.Hash)
	if diff := cmp.Diff(c, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if _, err := ReadCollection(t.Context(), s, EmptyHash); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	if _, err := ReadSeq(t.Context(), s, tag.Hash, 3); !errors.Is(err, ErrTooLarge) {
		t.Errorf("four hashes where three are allowed: %v", err)
	}
	if _, _, err := s.Add(t.Context(), bytes.NewReader(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadCollection(t.Context(), s, EmptyHash); !errors.Is(err, ErrFormat) {
		t.Errorf("empty sequence: %v", err)
	}
}

func TestCheckName(t *testing.T) {
	for _, good := range []string{"a", "a.jpg", "dir/ünïcode 😀.jpg", ".hidden", "a..b", "...a", "com", "console", "com10", strings.Repeat("x", 255)} {
		if err := CheckName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "/", "/etc/passwd", "a/", "a//b", "..", "../a", "a/../b", "a/..", ".", "./a", "a\\b", "C:x", "a\x00b", "a\nb", "\x7f",
		"a.", "a ", "a/b./c", "CON", "nul.txt", "a/Com1", "lpt9.x.y", "aux .txt", "\xff", strings.Repeat("x", 256), strings.Repeat("x/", MaxName),
	} {
		if err := CheckName(bad); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTempTagReleasesOnce(t *testing.T) {
	var released atomic.Int32
	tag := NewTempTag(HashAndFormat{}, func() { released.Add(1) })
	done := make(chan struct{})
	for range 8 {
		go func() { tag.Release(); done <- struct{}{} }()
	}
	for range 8 {
		<-done
	}
	(*TempTag)(nil).Release()
	NewTempTag(HashAndFormat{}, nil).Release()
	if n := released.Load(); n != 1 {
		t.Errorf("released %d times", n)
	}
}

func FuzzCollection(f *testing.F) {
	for _, v := range loadVectors(f).Collections {
		meta, err := hex.DecodeString(v.Meta.Hex)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(meta, uint16(len(v.Names)))
	}
	f.Fuzz(func(t *testing.T, meta []byte, n uint16) {
		seq := HashSeq{make([]byte, (int(n)%100+1)*HashSize)}
		c, err := ParseCollection(seq, meta)
		if err != nil {
			return
		}
		again, err := c.Meta()
		if err != nil || len(again) > len(meta) || len(c) != seq.Len()-1 {
			t.Fatalf("%d entries, %d bytes became %d: %v", len(c), len(meta), len(again), err)
		}
		back, err := ParseCollection(seq, again)
		if diff := cmp.Diff(c, back, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Fatalf("%v %s", err, diff)
		}
	})
}

func FuzzHash(f *testing.F) {
	f.Add(EmptyHash.String())
	f.Add("s" + EmptyHash.String())
	f.Add(EmptyHash.Base32())
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := ParseHash(s); err == nil {
			if len(s) == 64 && h.String() != s {
				t.Fatalf("%q became %v", s, h)
			}
			if again, err := ParseHash(h.Base32()); err != nil || again != h {
				t.Fatalf("%q became %v", s, again)
			}
		}
		if h, err := ParseHashAndFormat(s); err == nil && h.String() != s {
			t.Fatalf("%q became %v", s, h)
		}
	})
}

package group

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/group/invite"
	"github.com/OpenArchive/save-dweb-go/group/seal"
	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/vld0"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// testRecord is a record key whose bytes are all n.
func testRecord(n byte) veilid.RecordKey {
	var o veilid.OpaqueRecordKey
	o.Kind = veilid.VLD0
	var enc [veilid.KeySize]byte
	for i := range o.Value {
		o.Value[i], enc[i] = n, n+100
	}
	return veilid.NewRecordKey(o, veilid.NewSharedSecret(veilid.VLD0, enc))
}

func TestLegacyCollection(t *testing.T) {
	hello := LegacyCollection{"a.txt": blobs.Sum([]byte("hello"))}
	const helloHex = "a165612e747874982018ea188f16183d18b3188618821892185e1844189118c518e5188d184b18b31850186e18f818c1184e18b7188a188618e90818c51862184a186718200f"
	if got := hex.EncodeToString(hello.Encode()); got != helloHex {
		t.Errorf("collection\n got %s\nwant %s", got, helloHex)
	}
	if got := blobs.Sum(hello.Encode()).String(); got != "901145de105b153807f5f8e80e589f454436ff1516a76fe5a4f2a752d71450a8" {
		t.Errorf("root %s", got)
	}
	empty := LegacyCollection{}
	if got := empty.Encode(); !bytes.Equal(got, []byte{0xa0}) {
		t.Errorf("empty collection %x", got)
	}
	if got := blobs.Sum(empty.Encode()).Base32(); got != "d6kmx4ytwphcgjl2oji6ud6jlisfk3vgchspr5dv4vezog5o3mba" {
		t.Errorf("empty root %s", got)
	}
	hash := strings.Repeat("18ff", 32)
	for name, in := range map[string]string{
		"sorted":     helloHex,
		"indefinite": "bf65612e747874" + "9f" + hash + "ff" + "ff",
		"bytes":      "a165612e747874" + "5820" + strings.Repeat("ff", 32),
		"duplicate":  "a2" + "6161" + "9820" + strings.Repeat("00", 32) + "6161" + "9820" + hash,
	} {
		c, err := DecodeLegacyCollection(unhex(t, in))
		if err != nil || len(c) != 1 {
			t.Errorf("%s: %v, %v", name, c, err)
		}
		if name == "duplicate" && c["a"][0] != 0xff {
			t.Error("the last of two equal names must win")
		}
	}
	for name, in := range map[string]string{
		"nothing":       "",
		"trailing":      "a000",
		"array":         "80",
		"short hash":    "a1616183010203",
		"large number":  "a16161" + "9820" + "190100" + strings.Repeat("00", 31),
		"negative":      "a16161" + "9820" + "20" + strings.Repeat("00", 31),
		"cut":           helloHex[:40],
		"absurd length": "bb7fffffffffffffff",
	} {
		if c, err := DecodeLegacyCollection(unhex(t, in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v, %v: want ErrMalformed", name, c, err)
		}
	}
}

// TestLegacyVectors reads the collections among iroh's vectors.
func TestLegacyVectors(t *testing.T) {
	b, err := os.ReadFile("../blobs/testdata/iroh-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Collections []struct {
			CBOR  struct{ Hex, Blake3 string }
			Files []json.RawMessage
		} `json:"legacy_veilid_cbor_collections"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Collections) == 0 {
		t.Fatal("no vectors")
	}
	for i, c := range v.Collections {
		if c.CBOR.Hex == "" {
			continue
		}
		raw := unhex(t, c.CBOR.Hex)
		got, err := DecodeLegacyCollection(raw)
		if err != nil {
			t.Errorf("%d: %v", i, err)
			continue
		}
		if len(got) != len(c.Files) {
			t.Errorf("%d: %d files, want %d", i, len(got), len(c.Files))
		}
		if again := got.Encode(); !bytes.Equal(again, raw) {
			t.Errorf("%d: encoded\n got %x\nwant %x", i, again, raw)
		}
	}
}

// TestTranscript reads what a peer of the Rust app wrote into its records.
func TestTranscript(t *testing.T) {
	b, err := os.ReadFile("testdata/rust-app-transcript.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Plaintext map[string]string
		Steps     []struct {
			What, URL, Hex string
			Files          map[string]string
		}
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	step := map[string][]byte{}
	var link invite.Link
	var files map[string]string
	for _, s := range v.Steps {
		if s.URL != "" {
			if link, err = invite.Parse(s.URL); err != nil {
				t.Fatal(err)
			}
		}
		if s.Hex != "" {
			step[s.What] = unhex(t, s.Hex)
		}
		if s.Files != nil {
			files = s.Files
		}
	}
	for what, want := range map[string]string{"group record subkey 0": "group name", "repo record subkey 0": "repo name"} {
		got, err := seal.OpenName(link.Secret, step[what])
		if err != nil || got != v.Plaintext[want] {
			t.Errorf("%s: %q, %v: want %q", what, got, err, v.Plaintext[want])
		}
	}
	slot := step["group record subkey 1"]
	repo, err := decodeSlot(slot)
	if err != nil || !bytes.Equal(encodeSlot(repo), slot) {
		t.Errorf("slot: %v, %v", repo, err)
	}
	root, err := decodeLegacyHash(step["repo record subkey 1"])
	if err != nil || root != blobs.Sum(step["collection bytes"]) {
		t.Errorf("collection hash %v, %v", root, err)
	}
	c, err := DecodeLegacyCollection(step["collection bytes"])
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for name, h := range c {
		got[name] = h.String()
	}
	if d := cmp.Diff(files, got); d != "" || len(got) == 0 {
		t.Errorf("files (-want +got):\n%s", d)
	}
	keys := KeysOf(link)
	if again, err := invite.Parse(keys.Link(false).Reveal()); err != nil || again.Reveal() != link.Reveal() {
		t.Errorf("link of the keys: %v", err)
	}
}

func TestLegacyHash(t *testing.T) {
	h := blobs.Sum([]byte("x"))
	if got, err := decodeLegacyHash(encodeLegacyHash(h)); err != nil || got != h {
		t.Errorf("round trip: %v, %v", got, err)
	}
	for in, want := range map[string]string{
		"zz":                    "Failed to decode hex string",
		"abcd":                  "expected 32 bytes",
		strings.Repeat("0", 66): "expected 32 bytes",
		"":                      "expected 32 bytes",
	} {
		if _, err := decodeLegacyHash([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v: want %q", in, err, want)
		}
	}
}

func TestSlotForms(t *testing.T) {
	key := testRecord(1)
	got, err := decodeSlot(encodeSlot(key))
	if err != nil || !got.Equal(key) || len(encodeSlot(key)) != 87 {
		t.Errorf("encoded key: %v, %v", got, err)
	}
	old := testRecord(2).Opaque()
	got, err = decodeSlot(old.Value[:])
	if err != nil || got.Opaque() != old || !got.Encryption().IsZero() {
		t.Errorf("legacy key: %v, %v", got, err)
	}
	for in, want := range map[string]string{
		"\xff\xfe\xfd": "valid UTF-8",
		"short":        "Failed to decode repo record key",
	} {
		if _, err := decodeSlot([]byte(in)); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v: want %q", in, err, want)
		}
	}
}

func TestChooseSlot(t *testing.T) {
	own, other := testRecord(70), testRecord(9) // 70 mod 64: the search begins at slot 7
	all := map[uint32][]byte{}
	for s := uint32(firstSlot); s <= lastSlot; s++ {
		all[s] = encodeSlot(other)
	}
	full := map[uint32][]byte{}
	for s, v := range all {
		full[s] = v
	}
	delete(all, 3)
	for name, c := range map[string]struct {
		values map[uint32][]byte
		want   slotChoice
		err    error
	}{
		"own slot is used again":     {map[uint32][]byte{1: encodeSlot(own)}, slotChoice{1, true}, nil},
		"own slot behind a hole":     {map[uint32][]byte{1: encodeSlot(other), 3: encodeSlot(own)}, slotChoice{3, true}, nil},
		"a free slot":                {map[uint32][]byte{}, slotChoice{7, false}, nil},
		"the next one is taken":      {map[uint32][]byte{7: encodeSlot(other)}, slotChoice{8, false}, nil},
		"one that was given back":    {map[uint32][]byte{7: {}}, slotChoice{7, false}, nil},
		"the only free one, wrapped": {all, slotChoice{3, false}, nil},
		"none":                       {full, slotChoice{}, ErrFull},
	} {
		got, err := chooseSlot(c.values, own)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v: want %v, %v", name, got, err, c.want, c.err)
		}
	}
	// Two members took the same slot: the one that lost finds the next.
	values := map[uint32][]byte{7: encodeSlot(other)}
	if checkSlot(values[7], own) != slotCollision {
		t.Error("a slot with another's key must be a collision")
	}
	if got, _ := chooseSlot(values, own); got.slot != 8 {
		t.Errorf("after a collision: slot %d", got.slot)
	}
	if checkSlot(nil, own) != slotMissing || checkSlot(encodeSlot(own), own) != slotOurs {
		t.Error("a slot that reads back empty is missing, one with the own key is ours")
	}
}

func TestStoredKeys(t *testing.T) {
	pair := vld0.System{}.GenerateKeyPair()
	k := Keys{testRecord(3), vld0.System{}.RandomSharedSecret(), pair}
	for _, k := range []Keys{k, {k.Record, k.Secret, veilid.KeyPair{Public: pair.Public}}} {
		b, err := EncodeKeys(k)
		if err != nil {
			t.Fatal(err)
		}
		if want := []byte("\xa4\x62id"); !bytes.HasPrefix(b, want) {
			t.Errorf("stored keys begin with %x", b[:8])
		}
		if !k.CanWrite() && !bytes.Contains(b, append([]byte("\x6asecret_key"), 0xf6)) {
			t.Errorf("a missing secret key must be null: %x", b)
		}
		got, err := DecodeKeys(b)
		if err != nil || !got.Record.Equal(k.Record) || !got.Secret.Equal(k.Secret) || got.Owner.Reveal() != k.Owner.Reveal() {
			t.Errorf("round trip: %v", err)
		}
		if _, err := DecodeKeys(b[:len(b)-1]); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut keys: %v", err)
		}
	}
}

func TestManifest(t *testing.T) {
	secret, repo := vld0.System{}.RandomSharedSecret(), testRecord(4).Opaque()
	entries := []entry{
		{Name: "a.jpg", Size: 10, MIME: "image/jpeg", Created: 5, Modified: 6, Content: []byte{1}, Blob: blobs.Sum([]byte("a")), Envelope: 1, Stored: 55},
		{Name: "ü.mp4", Size: 1 << 40, Blob: blobs.Sum([]byte("b")), Envelope: 2, Stored: 1<<40 + 100},
	}
	m, err := buildManifest(secret, repo, 7, entries)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readManifest(secret, repo, m.root, m.sealed)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(entries, got); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	if m.pointer.Count != 2 || m.pointer.Bytes != 10+1<<40 || m.pointer.Version != 7 || m.pointer.rootSize() != uint64(len(m.root)) {
		t.Errorf("pointer %+v", m.pointer)
	}
	for _, clear := range []string{"a.jpg", "image"} {
		if bytes.Contains(m.root, []byte(clear)) || bytes.Contains(m.meta, []byte(clear)) || bytes.Contains(m.sealed, []byte(clear)) {
			t.Errorf("%q is readable in the published blobs", clear)
		}
	}
	if _, err := readManifest(secret, testRecord(5).Opaque(), m.root, m.sealed); !errors.Is(err, ErrMalformed) {
		t.Errorf("another repo's manifest: %v", err)
	}
	if _, err := readManifest(secret, repo, m.root[:64], m.sealed); !errors.Is(err, ErrMalformed) {
		t.Errorf("a sequence that lacks files: %v", err)
	}
	swapped := bytes.Clone(m.root)
	copy(swapped[64:96], m.root[96:])
	if _, err := readManifest(secret, repo, swapped, m.sealed); !errors.Is(err, ErrMalformed) {
		t.Errorf("a sequence with other files: %v", err)
	}
}

func TestMergeEntries(t *testing.T) {
	e := func(name, blob string, modified int64) entry {
		return entry{Name: name, Blob: blobs.Sum([]byte(blob)), Modified: modified}
	}
	base := []entry{e("both", "0", 0), e("gone here", "0", 0), e("gone there", "0", 0), e("new here", "0", 0), e("new there", "0", 0), e("same", "0", 0)}
	ours := []entry{e("added here", "1", 1), e("both", "1", 5), e("gone there", "0", 0), e("new here", "1", 1), e("new there", "0", 0), e("same", "0", 0)}
	theirs := []entry{e("added there", "2", 1), e("both", "2", 3), e("gone here", "0", 0), e("new here", "0", 0), e("new there", "2", 1), e("same", "0", 0)}
	want := []entry{e("added here", "1", 1), e("added there", "2", 1), e("both", "1", 5), e("new here", "1", 1), e("new there", "2", 1), e("same", "0", 0)}
	if d := cmp.Diff(want, mergeEntries(base, ours, theirs)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if d := cmp.Diff(want, mergeEntries(base, theirs, ours)); d != "" {
		t.Errorf("the other way round (-want +got):\n%s", d)
	}
}

func TestNames(t *testing.T) {
	for _, ok := range []string{"a", "photo (1).jpg", "ü", strings.Repeat("x", MaxName)} {
		if err := CheckFileName(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", " ", ".", "..", "a/b", `a\b`, "a\x00b", "a\nb", "\xff", strings.Repeat("x", MaxName+1)} {
		if err := CheckFileName(bad); !errors.Is(err, ErrBadName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for in, want := range map[string]string{
		`{"name":"seed"}`: "seed", "plain": "plain", `{"other":1}`: `{"other":1}`, "a\x1b[2Jb": "a\uFFFD[2Jb",
	} {
		if got := plainName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzDecodeLegacyCollection(f *testing.F) {
	f.Add(LegacyCollection{"a": blobs.EmptyHash}.Encode())
	f.Add([]byte{0xbf, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeLegacyCollection(b)
		if err != nil {
			return
		}
		again, err := DecodeLegacyCollection(c.Encode())
		if err != nil || len(again) != len(c) {
			t.Fatalf("%d files became %d, %v", len(c), len(again), err)
		}
	})
}

func FuzzDecodeSlot(f *testing.F) {
	f.Add(encodeSlot(testRecord(1)))
	f.Add(make([]byte, 32))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := decodeSlot(b)
		if err != nil {
			return
		}
		if again, err := decodeSlot(encodeSlot(k)); err != nil || !again.Equal(k) {
			t.Fatalf("%q does not round-trip: %v", b, err)
		}
	})
}

func FuzzDecodeKeys(f *testing.F) {
	if b, err := EncodeKeys(Keys{testRecord(1), vld0.System{}.RandomSharedSecret(), vld0.System{}.GenerateKeyPair()}); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := DecodeKeys(b); err == nil {
			if _, err := EncodeKeys(k); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzReadManifest(f *testing.F) {
	secret, repo := vld0.System{}.RandomSharedSecret(), testRecord(4).Opaque()
	m, err := buildManifest(secret, repo, 1, []entry{{Name: "a", Blob: blobs.EmptyHash, Stored: 1}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.root, []byte{0x81, 0xa0})
	f.Fuzz(func(t *testing.T, root, plain []byte) {
		sealed, err := seal.Seal(secret, manifestContext+" "+repo.Bare(), plain)
		if err != nil {
			t.Fatal(err)
		}
		es, err := readManifest(secret, repo, root, sealed) // a hostile member can seal what it likes
		if err == nil && len(root) != (len(es)+2)*blobs.HashSize {
			t.Fatalf("%d files in %d bytes", len(es), len(root))
		}
	})
}

package bao

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"lukechampine.com/blake3"
)

type digest struct {
	Blake3 string
	Hex    string
	Len    int
}

// check compares bytes with what the vectors say of them: all of them where they are few, their hash else.
func (d digest) check(t *testing.T, what string, b []byte) {
	t.Helper()
	sum := blake3.Sum256(b)
	if len(b) != d.Len || hex.EncodeToString(sum[:]) != d.Blake3 {
		t.Errorf("%s: %d bytes with hash %x, want %d bytes with hash %s", what, len(b), sum, d.Len, d.Blake3)
	}
	if d.Hex != "" && hex.EncodeToString(b) != d.Hex {
		t.Errorf("%s: %x, want %s", what, b, d.Hex)
	}
}

type boundaries Ranges

func (r *boundaries) UnmarshalJSON(b []byte) error {
	var texts []string
	if err := json.Unmarshal(b, &texts); err != nil {
		return err
	}
	for _, s := range texts {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return err
		}
		*r = append(*r, n)
	}
	return nil
}

type vectorBlob struct {
	Size      uint64
	Hash      string
	Chunks    uint64
	BlocksG4  uint64 `json:"blocks_g4"`
	PreG4     digest `json:"outboard_pre_g4"`
	PostG4    digest `json:"outboard_post_g4"`
	Responses []struct {
		Name     string
		Ranges   boundaries
		Response digest
	}
}

// sample is the data of the vectors: a linear congruential generator, so that shorter data begins longer data.
var sample = sync.OnceValue(func() []byte {
	b := make([]byte, 12<<20)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
})

func loadVectors(t testing.TB) []vectorBlob {
	t.Helper()
	b, err := os.ReadFile("../testdata/iroh-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ Blobs []vectorBlob }
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Blobs) == 0 {
		t.Fatal("no blobs in the vectors")
	}
	return v.Blobs
}

// decodeAll decodes and puts every verified byte at its place.
func decodeAll(root [HashSize]byte, response []byte, ranges Ranges) (data []byte, got Ranges, parents []Parent, size uint64, proven bool, err error) {
	leaves := map[uint64][]byte{}
	size, proven, err = Decode(root, response, ranges, Visitor{
		Parent: func(p Parent) error { parents = append(parents, p); return nil },
		Leaf: func(chunk uint64, b []byte) error {
			leaves[chunk] = slices.Clone(b)
			got = got.Union(Span(chunk, chunk+Chunks(uint64(len(b)))))
			return nil
		},
	})
	if err == nil {
		data = make([]byte, size)
		for chunk, b := range leaves {
			copy(data[chunk*ChunkSize:], b)
		}
	}
	return data, got, parents, size, proven, err
}

func TestVectors(t *testing.T) {
	responses := 0
	for _, v := range loadVectors(t) {
		t.Run(fmt.Sprint(v.Size), func(t *testing.T) {
			data := sample()[:v.Size]
			root, pre := NewOutboard(data)
			if got := hex.EncodeToString(root[:]); got != v.Hash {
				t.Fatalf("root %s, want %s", got, v.Hash)
			}
			if Root(data) != root {
				t.Errorf("Root differs from NewOutboard's")
			}
			v.PreG4.check(t, "pre-order outboard", pre)
			v.PostG4.check(t, "post-order outboard", PostOrder(pre))
			if !bytes.Equal(PreOrder(PostOrder(pre)), pre) {
				t.Errorf("pre-order is not the same after post-order")
			}
			if v.Size > 0 && Chunks(v.Size) != v.Chunks || Groups(v.Size) != v.BlocksG4 {
				t.Errorf("%d chunks, %d groups", Chunks(v.Size), Groups(v.Size))
			}
			for _, r := range v.Responses {
				responses++
				ranges := Ranges(r.Ranges)
				for _, trust := range []bool{false, true} {
					src := Source{Root: root, Size: v.Size, Data: bytes.NewReader(data), Outboard: bytes.NewReader(pre), Trust: trust}
					var b bytes.Buffer
					if err := Encode(&b, src, ranges); err != nil {
						t.Fatalf("%s: %v", r.Name, err)
					}
					r.Response.check(t, r.Name, b.Bytes())
					if trust {
						continue
					}
					if n := EncodedSize(v.Size, ranges); n != uint64(b.Len()) {
						t.Errorf("%s: EncodedSize %d, want %d", r.Name, n, b.Len())
					}
					checkDecode(t, r.Name, root, data, pre, b.Bytes(), ranges)
				}
			}
		})
	}
	t.Logf("%d responses", responses)
}

// TestStoreLayout compares with the files of a real store: those of whole blobs that are long enough to have any.
func TestStoreLayout(t *testing.T) {
	b, err := os.ReadFile("../testdata/iroh-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Files []struct {
			Path   string
			Blake3 string
			Len    int
		} `json:"fs_store_layout"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	tested := 0
	for _, data := range v.Files {
		name, ok := strings.CutSuffix(data.Path, ".data")
		if !ok || data.Len > len(sample()) {
			continue
		}
		root, pre := NewOutboard(sample()[:data.Len])
		if !strings.HasSuffix(name, hex.EncodeToString(root[:])) {
			continue // a partial blob
		}
		for _, tree := range v.Files {
			if tree.Path == name+".obao4" {
				tested++
				digest{Blake3: tree.Blake3, Len: tree.Len}.check(t, tree.Path, pre)
			}
		}
	}
	if tested == 0 {
		t.Error("no outboard file of a whole blob in the vectors")
	}
}

func checkDecode(t *testing.T, name string, root [HashSize]byte, data, pre, response []byte, ranges Ranges) {
	t.Helper()
	size := uint64(len(data))
	chunks := Chunks(size)
	got, have, parents, gotSize, proven, err := decodeAll(root, response, ranges)
	if err != nil {
		t.Fatalf("%s: decode: %v", name, err)
	}
	want := ranges.Clamp(chunks)
	if gotSize != size || proven != want.Contains(chunks-1) || !have.Equal(want) {
		t.Errorf("%s: size %d, proven %v, chunks %v; want %d and chunks %v", name, gotSize, proven, have, size, want)
	}
	for first, end := range want.Spans(chunks) {
		lo, hi := first*ChunkSize, min(size, end*ChunkSize)
		if !bytes.Equal(got[lo:hi], data[lo:hi]) {
			t.Errorf("%s: chunks %d..%d differ", name, first, end)
		}
	}
	for _, p := range parents {
		if !bytes.Equal(p.Append(nil), pre[p.Index*PairSize:(p.Index+1)*PairSize]) {
			t.Errorf("%s: pair %d differs", name, p.Index)
		}
	}
	// Any flipped bit is refused, and so is another length.
	step := max(1, len(response)/5)
	for i := HeaderSize; i < len(response); i += step {
		bad := slices.Clone(response)
		bad[i] ^= 1 << (i % 8)
		if _, _, _, _, _, err := decodeAll(root, bad, ranges); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: a flipped bit in byte %d: %v", name, i, err)
		}
	}
	if _, _, _, _, _, err := decodeAll(root, response[:len(response)-1], ranges); !errors.Is(err, ErrTruncated) {
		t.Errorf("%s: a byte missing: %v", name, err)
	}
	if _, _, _, _, _, err := decodeAll(root, append(slices.Clone(response), 0), ranges); !errors.Is(err, ErrTrailing) {
		t.Errorf("%s: a byte too many: %v", name, err)
	}
	if !want.IsEmpty() && size > 0 {
		bad := slices.Clone(response)
		bad[7] |= 0x10
		if _, _, _, _, _, err := decodeAll(root, bad, ranges); err == nil {
			if !want.Contains(chunks - 1) {
				t.Logf("%s: a wrong size is possible without the last chunk", name)
			} else {
				t.Errorf("%s: a wrong size is believed", name)
			}
		}
	}
}

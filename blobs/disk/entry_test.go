package disk

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

func groupsOf(n uint64, members ...uint64) bitmap {
	b := newBitmap(n)
	for _, i := range members {
		b.add(i)
	}
	return b
}

func TestBitmap(t *testing.T) {
	for _, c := range []struct {
		b      bitmap
		runs   []uint64
		ranges bao.Ranges
	}{
		{groupsOf(10), nil, nil},
		{groupsOf(10, 0), []uint64{0, 1}, bao.GroupSpan(0, 1)},
		{groupsOf(10, 9), []uint64{9, 10}, bao.From(9 * 16)},
		{groupsOf(1, 0), []uint64{0, 1}, bao.All()},
		{groupsOf(200, 0, 1, 62, 63, 64, 65, 127, 128, 199), []uint64{0, 2, 62, 66, 127, 129, 199, 200},
			bao.Ranges{0, 32, 62 * 16, 66 * 16, 127 * 16, 129 * 16, 199 * 16}},
	} {
		if diff := cmp.Diff(c.runs, c.b.runs()); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(c.ranges, c.b.ranges()); diff != "" {
			t.Error(diff)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		n := 1 + rnd.Uint64N(300)
		b, model := newBitmap(n), map[uint64]bool{}
		for range rnd.IntN(400) {
			i := rnd.Uint64N(n)
			if rnd.IntN(3) == 0 {
				b.remove(i)
				delete(model, i)
			} else if b.add(i) == model[i] {
				t.Fatal("add does not say whether the member is new")
			} else {
				model[i] = true
			}
		}
		var runs []uint64
		for i := range n + 1 {
			if b.has(i) != model[i] {
				t.Fatalf("has(%d) = %t", i, b.has(i))
			}
			if model[i] != (i > 0 && model[i-1]) {
				runs = append(runs, i)
			}
		}
		if !slices.Equal(b.runs(), runs) || b.count != uint64(len(model)) || b.full() != (len(model) == int(n)) {
			t.Fatalf("runs %v, want %v", b.runs(), runs)
		}
	}
}

func TestEntry(t *testing.T) {
	scattered := newBitmap(1000)
	for i := uint64(0); i < 1000; i += 2 {
		scattered.add(i)
	}
	for _, e := range []entry{
		{complete: true, size: 1, data: inTable},
		{complete: true, size: 16385, data: inFile, outboard: inTable},
		{complete: true, size: MaxSize, data: inFile, outboard: inFile},
		{size: 40_000, have: groupsOf(3)},
		{size: 40_000, have: groupsOf(3, 0, 2)},
		{size: 1000 * bao.GroupSize, have: scattered},
		{size: 64 << 30, have: groupsOf(4<<20, 5, 6, 7, 4<<20-1)},
	} {
		b := e.encode()
		got, err := parseEntry(b)
		if diff := cmp.Diff(e, got, cmp.AllowUnexported(entry{}, bitmap{})); diff != "" || err != nil {
			t.Errorf("%v %s", err, diff)
		}
		if want := 140; len(b) > want {
			t.Errorf("%d bytes for a blob of %d, want at most %d", len(b), e.size, want)
		}
		for i := range b {
			bad := bytes.Clone(b)
			bad[i] ^= 1
			if _, err := parseEntry(bad); err == nil {
				t.Errorf("a change of byte %d is not noticed", i)
			}
		}
	}
}

// The checksum is right, the rest is not.
func TestEntryRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"version":              {2, kindComplete, 1, 1, 0},
		"kind":                 {1, 3, 1, 1, 0},
		"no size":              {1, kindComplete, 0, 1, 0},
		"size without end":     {1, kindComplete, 0xff, 0xff, 0xff},
		"size too large":       append(binary.AppendUvarint([]byte{1, kindComplete}, MaxSize+1), 2, 2),
		"place":                {1, kindComplete, 1, 3, 0},
		"no data":              {1, kindComplete, 1, 0, 0},
		"outboard of a group":  {1, kindComplete, 1, 1, 1},
		"no outboard":          append(binary.AppendUvarint([]byte{1, kindComplete}, 20_000), 2, 0),
		"trailing":             {1, kindComplete, 1, 1, 0, 0},
		"no set":               {1, kindPartial, 1},
		"form of the set":      {1, kindPartial, 1, 9},
		"runs past the end":    {1, kindPartial, 1, setRuns, 0, 2},
		"run without end":      {1, kindPartial, 1, setRuns, 0},
		"bits of another size": {1, kindPartial, 1, setBits, 1, 1},
	} {
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crcTable))
		if e, err := parseEntry(b); err == nil {
			t.Errorf("%s: taken as %+v", name, e)
		}
	}
}

func FuzzEntry(f *testing.F) {
	for _, e := range []entry{
		{complete: true, size: 16385, data: inFile, outboard: inTable},
		{size: 400_000, have: groupsOf(25, 0, 2, 3, 24)},
	} {
		b := e.encode()
		f.Add(b[:len(b)-4])
	}
	f.Add([]byte{1, kindPartial, 1, setBits, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		b = binary.LittleEndian.AppendUint32(bytes.Clone(b), crc32.Checksum(b, crcTable))
		e, err := parseEntry(b)
		if err != nil {
			return
		}
		again, err := parseEntry(e.encode())
		if diff := cmp.Diff(e, again, cmp.AllowUnexported(entry{}, bitmap{})); diff != "" || err != nil {
			t.Fatal(err, diff)
		}
	})
}

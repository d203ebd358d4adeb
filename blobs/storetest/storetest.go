// Package storetest is the behaviour that every implementation of [blobs.Store] is held to.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// Test runs the whole suite. open makes an empty store, which is closed by the suite; each part has its own.
func Test(t *testing.T, open func(t *testing.T) blobs.Store) {
	for _, part := range []struct {
		name string
		run  func(t *testing.T, s blobs.Store)
	}{
		{"Add", testAdd},
		{"AddAgain", testAddAgain},
		{"AddFails", testAddFails},
		{"Missing", testMissing},
		{"Empty", testEmpty},
		{"Tags", testTags},
		{"Delete", testDelete},
		{"List", testList},
		{"Closed", testClosed},
		{"Partial", testPartial},
		{"PartialSmall", testPartialSmall},
		{"PartialMisuse", testPartialMisuse},
		{"PartialShared", testPartialShared},
		{"PartialDeleted", testPartialDeleted},
		{"PartialOvertaken", testPartialOvertaken},
		{"PartialConcurrent", testPartialConcurrent},
		{"Receiver", testReceiver},
		{"Collect", testCollect},
		{"CollectTwoTags", testCollectTwoTags},
		{"CollectTempTags", testCollectTempTags},
		{"CollectSequences", testCollectSequences},
		{"CollectPartials", testCollectPartials},
		{"CollectMany", testCollectMany},
		{"CollectMeanwhile", testCollectMeanwhile},
		{"Concurrent", testConcurrent},
	} {
		t.Run(part.name, func(t *testing.T) {
			s := open(t)
			part.run(t, s)
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

// TestBig is for stores that keep big blobs, of size bytes, in another way than small ones.
func TestBig(t *testing.T, size int, open func(t *testing.T) blobs.Store) {
	s := open(t)
	data := Data(size, 2)
	h := Add(t, s, data)
	Add(t, s, data)
	Check(t, s, data)
	if err := s.Delete(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	gone(t, s, h)
	partialOfSize(t, s, size)
	overtakenOfSize(t, s, size)
	if count := collect(t, s); count.Removed != 2 {
		t.Errorf("collected %+v, want 2 removed", count)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// Data is n bytes that are the same for the same n and seed, and look like chance.
func Data(n int, seed uint64) []byte {
	var key [32]byte
	for i := range 8 {
		key[i], key[8+i] = byte(seed>>(8*i)), byte(n>>(8*i))
	}
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

// sizes are those at which something about a blob changes: chunks, groups, and where stores keep it.
var sizes = []int{1, 1023, 1024, 1025, 16383, 16384, 16385, 32768, 32769, 100_000, 1<<20 + 7}

// Add adds a blob and releases the temporary tag.
func Add(t testing.TB, s blobs.Store, data []byte) blobs.Hash {
	t.Helper()
	tag, size, err := s.Add(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatalf("add %d bytes: %v", len(data), err)
	}
	defer tag.Release()
	if size != uint64(len(data)) || tag.Hash != blobs.Sum(data) || tag.Format != blobs.Raw {
		t.Fatalf("add: %d bytes as %v, want %d as %v", size, tag.HashAndFormat, len(data), blobs.Sum(data))
	}
	return tag.Hash
}

// Check compares what the store says and serves of a complete blob with its bytes.
func Check(t testing.TB, s blobs.Store, data []byte) {
	t.Helper()
	ctx := t.Context()
	h := blobs.Sum(data)
	want := blobs.Info{Hash: h, Size: uint64(len(data)), Proven: true, Complete: true, Have: bao.All()}
	info, err := s.Info(ctx, h)
	if diff := cmp.Diff(want, info); diff != "" || err != nil {
		t.Fatalf("info: %v %s", err, diff)
	}
	if err := s.Verify(ctx, h); err != nil {
		t.Fatalf("verify: %v", err)
	}
	b, err := s.Open(ctx, h)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer b.Close()
	if diff := cmp.Diff(want, b.Info()); diff != "" {
		t.Fatalf("info of the open blob: %s", diff)
	}
	checkReads(t, b, data)
	checkEncode(t, b, data)
}

func checkReads(t testing.TB, b blobs.Blob, data []byte) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, uint64(len(data))))
	for range 30 {
		off, n := rnd.IntN(len(data)+1), rnd.IntN(70_000)
		got := make([]byte, n)
		k, err := b.ReadAt(got, int64(off))
		if want := min(n, len(data)-off); k != want || !bytes.Equal(got[:k], data[off:off+want]) {
			t.Fatalf("read %d at %d of %d: %d bytes (%v), or wrong ones", n, off, len(data), k, err)
		}
		if k < n && !errors.Is(err, io.EOF) || k == n && err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("read %d at %d of %d: %v", n, off, len(data), err)
		}
	}
	got, err := io.ReadAll(io.NewSectionReader(b, 0, int64(len(data))+1))
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("read all: %d bytes of %d, or wrong ones (%v)", len(got), len(data), err)
	}
	if _, err := b.ReadAt(make([]byte, 1), -1); err == nil {
		t.Fatal("a negative offset was taken")
	}
}

// response is what iroh answers.
func (f *Feed) response(t testing.TB, ranges bao.Ranges) []byte {
	t.Helper()
	var b bytes.Buffer
	src := bao.Source{
		Root: f.Hash, Size: uint64(len(f.Data)), Data: bytes.NewReader(f.Data), Outboard: bytes.NewReader(f.outboard), Trust: true,
	}
	if err := bao.Encode(&b, src, ranges); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func checkEncode(t testing.TB, b blobs.Blob, data []byte) {
	t.Helper()
	f := NewFeed(data)
	chunks := bao.Chunks(uint64(len(data)))
	for _, ranges := range []bao.Ranges{
		bao.All(), nil, bao.Last(), bao.Single(0), bao.Span(3, 40), bao.Span(chunks/2, chunks/2+20).Union(bao.Last()),
	} {
		var got bytes.Buffer
		if err := b.Encode(&got, ranges); err != nil {
			t.Fatalf("encode %v of %d bytes: %v", ranges, len(data), err)
		}
		if !bytes.Equal(got.Bytes(), f.response(t, ranges)) {
			t.Fatalf("encode %v of %d bytes: not what iroh answers", ranges, len(data))
		}
	}
	if err := b.Encode(io.Discard, bao.Ranges{5, 3}); err == nil && len(data) > 0 {
		t.Fatal("ranges that do not ascend were taken")
	}
	boom := errors.New("boom")
	if err := b.Encode(failingWriter{boom}, bao.All()); !errors.Is(err, boom) || errors.Is(err, blobs.ErrCorrupt) {
		t.Fatalf("encode to a writer that fails: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// gone fails the test unless nothing is here of the blob.
func gone(t testing.TB, s blobs.Store, h blobs.Hash) {
	t.Helper()
	if info, err := s.Info(t.Context(), h); !errors.Is(err, blobs.ErrNotFound) {
		t.Fatalf("info: %+v, %v, want ErrNotFound", info, err)
	}
	if b, err := s.Open(t.Context(), h); !errors.Is(err, blobs.ErrNotFound) || b != nil {
		t.Fatalf("open: %v, %v, want ErrNotFound", b, err)
	}
}

// names are the hashes that the store lists, short.
func names(t testing.TB, s blobs.Store) (out []string) {
	t.Helper()
	list, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range list {
		out = append(out, info.Hash.Short())
	}
	return out
}

// Feed is the parts of a blob as a verified download gives them.
type Feed struct {
	Data     []byte
	Hash     blobs.Hash
	outboard []byte
}

// NewFeed takes a blob apart.
func NewFeed(data []byte) *Feed {
	root, outboard := bao.NewOutboard(data)
	return &Feed{data, root, outboard}
}

// Groups is the number of groups.
func (f *Feed) Groups() uint64 { return bao.Groups(uint64(len(f.Data))) }

// Write writes one group with all pairs above it.
func (f *Feed) Write(p blobs.Partial, i uint64) error {
	var parents []bao.Parent
	for _, index := range bao.Path(nil, f.Groups(), i) {
		parent, err := bao.Outboard{R: bytes.NewReader(f.outboard)}.Parent(index)
		if err != nil {
			return err
		}
		parents = append(parents, parent)
	}
	size := uint64(len(f.Data))
	return p.WriteGroup(i, f.Data[i*bao.GroupSize:][:bao.GroupLen(size, i)], parents)
}

// Start opens the partial blob and says its size.
func (f *Feed) Start(ctx context.Context, s blobs.Store) (blobs.Partial, error) {
	p, err := s.Partial(ctx, f.Hash)
	if err != nil {
		return nil, err
	}
	if err := p.SetSize(uint64(len(f.Data))); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// CheckPartial reads everything that the store says is here of the blob and compares it.
func (f *Feed) CheckPartial(ctx context.Context, s blobs.Store) (blobs.Info, error) {
	b, err := s.Open(ctx, f.Hash)
	if err != nil {
		return blobs.Info{}, err
	}
	defer b.Close()
	info := b.Info()
	if info.Size != uint64(len(f.Data)) || !info.Proven {
		return info, fmt.Errorf("size %d (proven: %t), want %d", info.Size, info.Proven, len(f.Data))
	}
	buf := make([]byte, bao.GroupSize)
	for i := range f.Groups() {
		want := f.Data[i*bao.GroupSize:][:bao.GroupLen(info.Size, i)]
		n, err := b.ReadAt(buf[:len(want)], int64(i*bao.GroupSize))
		switch {
		case !info.Have.Contains(i * bao.GroupChunks):
			if !errors.Is(err, blobs.ErrNotFound) || n != 0 {
				return info, fmt.Errorf("group %d is not here: read %d bytes, %w", i, n, err)
			}
		case err != nil && !errors.Is(err, io.EOF):
			return info, fmt.Errorf("group %d: %w", i, err)
		case !bytes.Equal(buf[:n], want):
			return info, fmt.Errorf("group %d has wrong bytes", i)
		}
	}
	return info, nil
}

// CheckServed reads every group that the store serves now and compares it; it returns how many there are. Unlike
// CheckPartial it may run while others write.
func (f *Feed) CheckServed(ctx context.Context, s blobs.Store) (served uint64, err error) {
	b, err := s.Open(ctx, f.Hash)
	if errors.Is(err, blobs.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer b.Close()
	buf := make([]byte, bao.GroupSize)
	for i := range f.Groups() {
		want := f.Data[i*bao.GroupSize:][:bao.GroupLen(uint64(len(f.Data)), i)]
		n, err := b.ReadAt(buf[:len(want)], int64(i*bao.GroupSize))
		switch {
		case errors.Is(err, blobs.ErrNotFound) && n == 0:
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return served, fmt.Errorf("group %d: %w", i, err)
		case !bytes.Equal(buf[:n], want):
			return served, fmt.Errorf("group %d has wrong bytes", i)
		}
		served++
	}
	return served, nil
}

package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

func testAdd(t *testing.T, s blobs.Store) {
	for _, size := range sizes {
		data := Data(size, 1)
		Add(t, s, data)
		Check(t, s, data)
	}
	if got := names(t, s); len(got) != len(sizes) {
		t.Errorf("%d blobs are listed, want %d", len(got), len(sizes))
	}
}

func testAddAgain(t *testing.T, s blobs.Store) {
	for _, size := range []int{10, 100_000} {
		data := Data(size, 2)
		Add(t, s, data)
		tag, _, err := s.Add(t.Context(), iotest.OneByteReader(bytes.NewReader(data)))
		if err != nil {
			t.Fatal(err)
		}
		tag.Release()
		tag.Release()
		Check(t, s, data)
	}
	if got := names(t, s); len(got) != 2 {
		t.Errorf("%d blobs are listed, want 2", len(got))
	}
}

func testAddFails(t *testing.T, s blobs.Store) {
	boom := errors.New("boom")
	for _, size := range []int{0, 1000, 20_000, 3 << 20} {
		r := io.MultiReader(bytes.NewReader(Data(size, 3)), iotest.ErrReader(boom))
		if tag, _, err := s.Add(t.Context(), r); !errors.Is(err, boom) || tag != nil {
			t.Errorf("reader failed after %d bytes: %v", size, err)
		}
		// An upload that breaks off, as package net/http tells it, is no end of the file.
		for _, cut := range []error{io.ErrUnexpectedEOF, fmt.Errorf("read: %w", io.ErrUnexpectedEOF), fmt.Errorf("read: %w", io.EOF)} {
			r = io.MultiReader(bytes.NewReader(Data(size, 3)), iotest.ErrReader(cut))
			if tag, _, err := s.Add(t.Context(), r); !errors.Is(err, cut) || tag != nil {
				t.Errorf("reader broke off with %q after %d bytes: %v", cut, size, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		stop := readerFunc(func([]byte) (int, error) { cancel(); return 0, nil })
		r = io.MultiReader(bytes.NewReader(Data(size, 3)), &times{stop, 1}, bytes.NewReader(Data(3<<20, 4)))
		if tag, _, err := s.Add(ctx, r); !errors.Is(err, context.Canceled) || tag != nil {
			t.Errorf("cancelled after %d bytes: %v", size, err)
		}
	}
	if got := names(t, s); got != nil {
		t.Errorf("what failed is listed: %v", got)
	}
	count, err := s.Collect(t.Context(), nil)
	if err != nil || count != (blobs.Collected{}) {
		t.Errorf("what failed is collected: %+v, %v", count, err)
	}
	Check(t, s, Data(0, 0))
	Add(t, s, Data(20_000, 3))
	Check(t, s, Data(20_000, 3))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// times reads so many times and then ends.
type times struct {
	r    io.Reader
	left int
}

func (r *times) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	r.left--
	return r.r.Read(p)
}

func testMissing(t *testing.T, s blobs.Store) {
	h := blobs.Sum([]byte("missing"))
	gone(t, s, h)
	if err := s.Verify(t.Context(), h); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("verify: %v", err)
	}
	if err := s.Delete(t.Context(), h); err != nil {
		t.Errorf("delete: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Info(ctx, h); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func testEmpty(t *testing.T, s blobs.Store) {
	Check(t, s, nil)
	Add(t, s, nil)
	Check(t, s, nil)
	if _, err := s.Partial(t.Context(), blobs.EmptyHash); !errors.Is(err, blobs.ErrComplete) {
		t.Errorf("partial: %v, want ErrComplete", err)
	}
	if _, err := s.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), blobs.EmptyHash); err != nil {
		t.Fatal(err)
	}
	Check(t, s, nil)
}

func testTags(t *testing.T, s blobs.Store) {
	ctx := t.Context()
	one := blobs.HashAndFormat{Hash: blobs.Sum([]byte("1"))}
	two := blobs.HashAndFormat{Hash: blobs.Sum([]byte("2")), Format: blobs.SeqFormat}
	long := strings.Repeat("x", 1024)
	for _, name := range []string{"b", "a/2", "a/1", "", "\x00\xff", long, "a0"} {
		if err := s.SetTag(ctx, name, one); err != nil {
			t.Fatalf("set tag %.20q: %v", name, err)
		}
	}
	if err := s.SetTag(ctx, "a/1", two); err != nil {
		t.Fatal(err)
	}
	if err := s.SetTag(ctx, long+"x", one); err == nil {
		t.Error("a name of 1025 bytes was taken")
	}
	if err := s.SetTag(ctx, "f", blobs.HashAndFormat{Format: 7}); err == nil {
		t.Error("an unknown format was taken")
	}
	if got, err := s.Tag(ctx, "a/1"); err != nil || got != two {
		t.Errorf("tag a/1: %v, %v", got, err)
	}
	if _, err := s.Tag(ctx, "a"); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("tag a: %v, want ErrNotFound", err)
	}
	for _, name := range []string{"b", "none"} {
		if err := s.DeleteTag(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		prefix string
		want   []blobs.NamedTag
	}{
		{"a/", []blobs.NamedTag{{Name: "a/1", HashAndFormat: two}, {Name: "a/2", HashAndFormat: one}}},
		{"", []blobs.NamedTag{
			{Name: "", HashAndFormat: one}, {Name: "\x00\xff", HashAndFormat: one}, {Name: "a/1", HashAndFormat: two},
			{Name: "a/2", HashAndFormat: one}, {Name: "a0", HashAndFormat: one}, {Name: long, HashAndFormat: one},
		}},
		{"zz", nil},
	} {
		got, err := s.Tags(ctx, c.prefix)
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("tags %q: %v %s", c.prefix, err, diff)
		}
	}
}

func testDelete(t *testing.T, s blobs.Store) {
	for _, size := range []int{100, 50_000} {
		data := Data(size, 5)
		h := Add(t, s, data)
		if err := s.SetTag(t.Context(), "keep", blobs.HashAndFormat{Hash: h}); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		gone(t, s, h)
		Add(t, s, data)
		Check(t, s, data)
		if err := s.Delete(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(t, s); got != nil {
		t.Errorf("what was deleted is listed: %v", got)
	}
}

func testList(t *testing.T, s blobs.Store) {
	for i := range 40 {
		Add(t, s, fmt.Append(nil, "blob ", i))
	}
	f := NewFeed(Data(100_000, 6))
	p, err := f.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if got := names(t, s); len(got) != 40 {
		t.Errorf("%d blobs are listed before anything of the partial one is here, want 40", len(got))
	}
	if err := f.Write(p, 2); err != nil {
		t.Fatal(err)
	}
	list, err := s.List(t.Context())
	if err != nil || len(list) != 41 {
		t.Fatalf("%d blobs are listed, want 41 (%v)", len(list), err)
	}
	for i, info := range list {
		if i > 0 && bytes.Compare(list[i-1].Hash[:], info.Hash[:]) >= 0 {
			t.Fatal("the list is not in order of hashes")
		}
		want := blobs.Info{Hash: f.Hash, Size: 100_000, Proven: true, Have: bao.GroupSpan(2, 3)}
		if info.Hash != f.Hash {
			want = blobs.Info{Hash: info.Hash, Size: info.Size, Proven: true, Complete: true, Have: bao.All()}
		}
		if diff := cmp.Diff(want, info); diff != "" {
			t.Error(diff)
		}
	}
}

func testClosed(t *testing.T, s blobs.Store) {
	ctx := t.Context()
	data := Data(40_000, 7)
	h := Add(t, s, data)
	f := NewFeed(Data(40_000, 8))
	p, err := f.Start(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Write(p, 0); err != nil {
		t.Fatal(err)
	}
	tag := s.TempTag(blobs.HashAndFormat{Hash: h})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tag.Release()
	want := blobs.HashAndFormat{Hash: h}
	_, infoErr := s.Info(ctx, h)
	_, openErr := s.Open(ctx, h)
	_, partialErr := s.Partial(ctx, blobs.Sum([]byte("x")))
	_, _, addErr := s.Add(ctx, bytes.NewReader(data))
	_, tagErr := s.Tag(ctx, "x")
	_, tagsErr := s.Tags(ctx, "")
	_, listErr := s.List(ctx)
	_, collectErr := s.Collect(ctx, nil)
	for name, err := range map[string]error{
		"Info": infoErr, "Open": openErr, "Partial": partialErr, "Add": addErr, "Tag": tagErr, "Tags": tagsErr,
		"List": listErr, "Collect": collectErr,
		"SetTag": s.SetTag(ctx, "x", want), "DeleteTag": s.DeleteTag(ctx, "x"), "Delete": s.Delete(ctx, h),
		"Verify": s.Verify(ctx, h), "WriteGroup": f.Write(p, 1),
	} {
		if !errors.Is(err, blobs.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
	if err := p.Close(); err != nil {
		t.Errorf("close of the partial blob: %v", err)
	}
}

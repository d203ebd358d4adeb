package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// testConcurrent lets everything happen at once; what is tagged must be there at any time.
func testConcurrent(t *testing.T, s blobs.Store) {
	ctx := t.Context()
	shared := Data(60_000, 40)
	setTag(t, s, "shared", Add(t, s, shared), blobs.Raw)
	var workers sync.WaitGroup
	for w := range 4 {
		workers.Go(func() {
			for i := range 12 {
				data := Data(1000+i*4000, uint64(41+w%2)) // pairs of workers add the same
				tag, _, err := s.Add(ctx, bytes.NewReader(data))
				if err != nil {
					t.Error(err)
					return
				}
				name := fmt.Sprint(w, i)
				if err := s.SetTag(ctx, name, tag.HashAndFormat); err != nil {
					t.Error(err)
				}
				tag.Release()
				b, err := s.Open(ctx, tag.Hash)
				if err != nil {
					t.Errorf("open of a tagged blob: %v", err)
					continue
				}
				got := make([]byte, len(data))
				if _, err := b.ReadAt(got, 0); err != nil || !bytes.Equal(got, data) {
					t.Errorf("read: %v, or wrong bytes", err)
				}
				b.Close()
				if i%2 == 0 {
					if err := s.DeleteTag(ctx, name); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	done := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for {
			if _, err := s.Collect(ctx, nil); err != nil {
				t.Error(err)
			}
			if _, err := s.List(ctx); err != nil {
				t.Error(err)
			}
			if err := s.Verify(ctx, blobs.Sum(shared)); err != nil {
				t.Error(err)
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	workers.Wait()
	close(done)
	others.Wait()
	collect(t, s)
	if got := names(t, s); len(got) != 13 {
		t.Errorf("%d blobs are listed, want 13", len(got))
	}
	for i := 1; i < 12; i += 2 {
		for w := range 2 {
			Check(t, s, Data(1000+i*4000, uint64(41+w)))
		}
	}
}

// TestReopen is for stores that last: open opens the one store of the test again after each Close.
func TestReopen(t *testing.T, open func(t *testing.T) blobs.Store) {
	ctx := t.Context()
	sizes := []int{0, 100, 16384, 16385, 300_000}
	s := open(t)
	for _, size := range sizes {
		Add(t, s, Data(size, 50))
	}
	one := blobs.HashAndFormat{Hash: blobs.Sum(Data(100, 50)), Format: blobs.SeqFormat}
	if err := s.SetTag(ctx, "one", one); err != nil {
		t.Fatal(err)
	}
	temp := s.TempTag(blobs.HashAndFormat{Hash: blobs.Sum(Data(300_000, 50))})
	feeds := []*Feed{NewFeed(Data(200_000, 51)), NewFeed(Data(3<<20, 51)), NewFeed(Data(10_000, 51))}
	for i, f := range feeds {
		p := start(t, s, f)
		write(t, f, p, f.Groups()-1)
		if i == 0 { // closed before the store is; the others by it
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	nothing := NewFeed(Data(90_000, 52))
	start(t, s, nothing)
	before, err := s.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	temp.Release()

	s = open(t)
	gone(t, s, nothing.Hash)
	after, err := s.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// A blob of one group whose writer did not get to complete it may have become complete by itself.
	for _, list := range [][]blobs.Info{before, after} {
		for i := range list {
			if list[i].Hash == feeds[2].Hash {
				list[i].Complete = true
			}
		}
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error("what is here after reopening:", diff)
	}
	for _, size := range sizes {
		Check(t, s, Data(size, 50))
	}
	if got, err := s.Tag(ctx, "one"); err != nil || got != one {
		t.Errorf("tag: %v, %v", got, err)
	}
	for _, f := range feeds[:2] {
		checkPartial(t, s, f, bao.From((f.Groups()-1)*bao.GroupChunks))
		p := start(t, s, f)
		if info := p.Info(); info.Size != uint64(len(f.Data)) || !info.Proven {
			t.Errorf("partial blob: %+v", info)
		}
		if err := p.SetSize(5); !errors.Is(err, blobs.ErrVerify) {
			t.Errorf("another size than before reopening: %v", err)
		}
		for i := range f.Groups() {
			write(t, f, p, i)
		}
		if !complete(t, p) {
			t.Error("all is here and it is not complete")
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	checkPartial(t, s, feeds[2], bao.All())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t)
	for _, f := range feeds[:2] {
		Check(t, s, f.Data)
	}
	if err := s.DeleteTag(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	if count := collect(t, s); count.Kept != 0 || count.Removed != 7 {
		t.Errorf("collected: %+v, want all 7 removed", count)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t)
	defer s.Close()
	if got := names(t, s); got != nil {
		t.Errorf("listed after everything was collected: %v", got)
	}
}

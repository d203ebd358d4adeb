package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/OpenArchive/save-dweb-go/blobs"
)

func setTag(t *testing.T, s blobs.Store, name string, h blobs.Hash, format blobs.Format) {
	t.Helper()
	if err := s.SetTag(t.Context(), name, blobs.HashAndFormat{Hash: h, Format: format}); err != nil {
		t.Fatal(err)
	}
}

func collect(t *testing.T, s blobs.Store) blobs.Collected {
	t.Helper()
	count, err := s.Collect(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// has fails the test unless exactly those of the blobs are here whose letter is in want.
func has(t *testing.T, s blobs.Store, all map[string][]byte, want string) {
	t.Helper()
	got := ""
	for _, c := range "abcdefghijklmnopqrstuvwxyz" {
		data, known := all[string(c)]
		if !known {
			continue
		}
		if _, err := s.Info(t.Context(), blobs.Sum(data)); err == nil {
			got += string(c)
			Check(t, s, data)
		}
	}
	if got != want {
		t.Fatalf("blobs %q are here, want %q", got, want)
	}
}

func testCollect(t *testing.T, s blobs.Store) {
	all := map[string][]byte{"a": Data(100, 20), "b": Data(50_000, 20), "c": Data(200, 21), "d": Data(2<<20, 21), "e": Data(70_000, 22)}
	for _, data := range all {
		Add(t, s, data)
	}
	setTag(t, s, "a", blobs.Sum(all["a"]), blobs.Raw)
	setTag(t, s, "b", blobs.Sum(all["b"]), blobs.Raw)
	boom := errors.New("boom")
	_, err := s.Collect(t.Context(), func(add func(blobs.HashAndFormat)) error { return boom })
	if !errors.Is(err, boom) {
		t.Fatalf("protect failed: %v", err)
	}
	has(t, s, all, "abcde")
	count, err := s.Collect(t.Context(), func(add func(blobs.HashAndFormat)) error {
		add(blobs.HashAndFormat{Hash: blobs.Sum(all["e"])})
		add(blobs.HashAndFormat{Hash: blobs.Sum([]byte("not here"))})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := blobs.Collected{Removed: 2, Kept: 3, RemovedBytes: 200 + 2<<20, KeptBytes: 100 + 50_000 + 70_000}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Error(diff)
	}
	has(t, s, all, "abe")
	if count := collect(t, s); count.Removed != 1 {
		t.Errorf("%d removed, want 1", count.Removed)
	}
	has(t, s, all, "ab")
	if err := s.DeleteTag(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	setTag(t, s, "b", blobs.Sum(all["a"]), blobs.Raw) // the tag no longer keeps b
	collect(t, s)
	has(t, s, all, "a")
}

func testCollectTwoTags(t *testing.T, s blobs.Store) {
	all := map[string][]byte{"a": Data(40_000, 23)}
	h := Add(t, s, all["a"])
	setTag(t, s, "one", h, blobs.Raw)
	setTag(t, s, "two", h, blobs.Raw)
	for _, c := range []struct{ tag, want string }{{"one", "a"}, {"two", ""}} {
		if err := s.DeleteTag(t.Context(), c.tag); err != nil {
			t.Fatal(err)
		}
		collect(t, s)
		has(t, s, all, c.want)
	}
}

func testCollectTempTags(t *testing.T, s blobs.Store) {
	all := map[string][]byte{"a": Data(40_000, 24), "b": Data(50, 24)}
	tagA, _, err := s.Add(t.Context(), bytes.NewReader(all["a"]))
	if err != nil {
		t.Fatal(err)
	}
	tagB, _, err := s.Add(t.Context(), bytes.NewReader(all["b"]))
	if err != nil {
		t.Fatal(err)
	}
	second := s.TempTag(tagA.HashAndFormat)
	collect(t, s)
	has(t, s, all, "ab")
	tagA.Release()
	tagA.Release() // counts once
	tagB.Release()
	collect(t, s)
	has(t, s, all, "a")
	second.Release()
	collect(t, s)
	has(t, s, all, "")
}

// sequence is the blob that names these.
func sequence(all map[string][]byte, letters string) (seq []byte) {
	for _, c := range letters {
		h := blobs.Sum(all[string(c)])
		seq = append(seq, h[:]...)
	}
	return seq
}

func testCollectSequences(t *testing.T, s blobs.Store) {
	all := map[string][]byte{}
	for i, c := range "abcdefg" {
		all[string(c)] = Data(100+i, 25)
	}
	all["s"] = sequence(all, "ab")
	all["t"] = sequence(all, "cs") // names a sequence: its children are not children's children
	all["u"] = sequence(all, "d")
	var big []byte // over many groups, with a child in the last
	for i := range 2000 {
		h := blobs.Sum(fmt.Append(nil, i))
		big = append(big, h[:]...)
	}
	all["v"] = append(big, sequence(all, "e")...)
	all["w"] = append(sequence(all, "f"), 1, 2, 3) // no whole number of hashes
	for _, data := range all {
		Add(t, s, data)
	}
	missing := blobs.Sum([]byte("missing"))
	setTag(t, s, "1", blobs.Sum(all["t"]), blobs.SeqFormat)
	setTag(t, s, "2", blobs.Sum(all["u"]), blobs.Raw) // the tag says that it is no sequence
	setTag(t, s, "3", blobs.Sum(all["v"]), blobs.SeqFormat)
	setTag(t, s, "4", blobs.Sum(all["w"]), blobs.SeqFormat)
	setTag(t, s, "5", missing, blobs.SeqFormat)
	setTag(t, s, "6", blobs.EmptyHash, blobs.SeqFormat)
	temp := s.TempTag(blobs.HashAndFormat{Hash: blobs.Sum(all["s"]), Format: blobs.SeqFormat})
	if count := collect(t, s); count.Broken != 2 {
		t.Errorf("%d broken sequences, want 2", count.Broken)
	}
	has(t, s, all, "abcefstuvw")
	temp.Release()
	collect(t, s)
	has(t, s, all, "cefstuvw")
}

func testCollectPartials(t *testing.T, s blobs.Store) {
	kept, tagged, loose := NewFeed(Data(100_000, 26)), NewFeed(Data(100_000, 27)), NewFeed(Data(100_000, 28))
	child := Data(300, 29)
	h := Add(t, s, child)
	seq := NewFeed(append(Data(1000*32, 30), h[:]...)) // the child's hash is in the last group
	p := start(t, s, kept)
	write(t, kept, p, 0)
	for _, f := range []*Feed{tagged, loose, seq} {
		p := start(t, s, f)
		write(t, f, p, f.Groups()-1)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	setTag(t, s, "tagged", tagged.Hash, blobs.Raw)
	setTag(t, s, "seq", seq.Hash, blobs.SeqFormat)
	count := collect(t, s)
	tail := uint64(100_000 - 6*16384)
	want := blobs.Collected{
		Removed: 1, RemovedBytes: tail, Kept: 4, KeptBytes: 16384 + tail + 300 + uint64(len(seq.Data)) - 16384, Broken: 1,
	}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Error(diff)
	}
	gone(t, s, loose.Hash)
	Check(t, s, child)
	for _, f := range []*Feed{kept, tagged, seq} {
		if _, err := f.CheckPartial(t.Context(), s); err != nil {
			t.Error(err)
		}
	}
	write(t, kept, p, 1)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	collect(t, s)
	gone(t, s, kept.Hash)
}

func testCollectMany(t *testing.T, s blobs.Store) {
	for i := range 450 {
		h := Add(t, s, fmt.Append(nil, "many ", i))
		if i%3 == 0 {
			setTag(t, s, fmt.Sprint(i), h, blobs.Raw)
		}
	}
	if count := collect(t, s); count.Removed != 300 || count.Kept != 150 {
		t.Errorf("removed %d and kept %d of 450, want 300 and 150", count.Removed, count.Kept)
	}
	if got := names(t, s); len(got) != 150 {
		t.Errorf("%d are listed, want 150", len(got))
	}
}

// What is added, tagged or opened for writing while a Collect runs stays, even if nothing keeps it at its end.
func testCollectMeanwhile(t *testing.T, s blobs.Store) {
	all := map[string][]byte{}
	for i, c := range "abcdefg" {
		all[string(c)] = Data(20_000+i, 31)
	}
	all["s"] = sequence(all, "cd")
	for _, c := range "acdefs" {
		Add(t, s, all[string(c)])
	}
	f := NewFeed(Data(100_000, 32))
	_, err := s.Collect(t.Context(), func(add func(blobs.HashAndFormat)) error {
		Add(t, s, all["a"]) // once more
		Add(t, s, all["b"])
		setTag(t, s, "s", blobs.Sum(all["s"]), blobs.SeqFormat)
		if err := s.DeleteTag(t.Context(), "s"); err != nil {
			t.Error(err)
		}
		s.TempTag(blobs.HashAndFormat{Hash: blobs.Sum(all["e"])}).Release()
		p := start(t, s, f)
		write(t, f, p, 0)
		return p.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	has(t, s, all, "abcdes")
	if _, err := f.CheckPartial(t.Context(), s); err != nil {
		t.Error(err)
	}
	collect(t, s)
	has(t, s, all, "")
	gone(t, s, f.Hash)
}

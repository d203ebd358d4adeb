package exchange

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/exchange/internal/frame"
	"github.com/OpenArchive/save-dweb-go/veilid/memory"
)

func TestFetchSmall(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.net.SetConditions(memory.Conditions{Delay: 50 * time.Millisecond})
		a, b, c := w.member("a"), w.member("b"), w.member("c")
		var hashes []blobs.Hash
		var sizes []uint64
		var want [][]byte
		for i := range 200 {
			d := bytes.Repeat([]byte{byte(i), 1}, 10*i)
			switch i {
			case 50:
				d = data(300_000) // too large for a batch
			case 51:
				d = want[7] // twice the same
			}
			at := []*member{a, c}
			if i%10 == 3 {
				at = at[1:] // only one has it
			}
			hashes = append(hashes, add(t, d, at...))
			sizes = append(sizes, uint64(len(d)))
			want = append(want, d)
		}
		sizes[20] = 5 // the caller is wrong
		begun := time.Now()
		tags, err := b.x.FetchSmall(context.Background(), request(blobs.Hash{}, a, c), hashes, sizes)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%v", time.Since(begun))
		if d := time.Since(begun); d > 2500*time.Millisecond {
			t.Errorf("took %v: 100 ms for each of a dozen rounds would do", d)
		}
		for i, tag := range tags {
			if tag.Hash != hashes[i] {
				t.Errorf("tag %d is for %s", i, tag.Hash.Short())
			}
			b.check(t, hashes[i], want[i])
			tag.Release()
		}
	})
}

// notes are many small blobs.
func notes(t *testing.T, n int, at ...*member) (hashes []blobs.Hash, sizes []uint64, want [][]byte) {
	for i := range n {
		d := bytes.Repeat([]byte{byte(i), byte(i >> 8), 1}, 300)
		hashes = append(hashes, add(t, d, at...))
		sizes = append(sizes, uint64(len(d)))
		want = append(want, d)
	}
	return hashes, sizes, want
}

// Peers that are of no use cost a little time, and nothing of theirs is believed.
func TestFetchSmallFromBadPeers(t *testing.T) {
	for name, answer := range map[string]func([]byte) []byte{
		"silent":           func([]byte) []byte { return nil },
		"denied":           func([]byte) []byte { return denied },
		"busy":             func([]byte) []byte { return frame.BusyAnswer(time.Minute) },
		"none fits":        func([]byte) []byte { return frame.AppendShortenedMany(nil, nil) },
		"has none":         func([]byte) []byte { return frame.AppendShortenedMany(nil, make([]bool, 30)) },
		"too many":         func([]byte) []byte { return frame.AppendShortenedMany(nil, make([]bool, 500)) },
		"nothing follows":  func(a []byte) []byte { return a[:1] },
		"a flipped bit":    func(a []byte) []byte { b := bytes.Clone(a); b[len(b)/2] ^= 1; return b },
		"a flipped size":   func(a []byte) []byte { b := bytes.Clone(a); b[8] ^= 1; return b },
		"the last is lost": func(a []byte) []byte { return a[:len(a)-1] },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, w *world) {
				w.net.SetConditions(memory.Conditions{Delay: 50 * time.Millisecond})
				a, b := w.member("a"), w.member("b")
				bad := w.fake("bad", onlyReads(answer))
				hashes, sizes, want := notes(t, 150, a, bad.member)
				begun := time.Now()
				tags, err := b.x.FetchSmall(context.Background(), request(blobs.Hash{}, bad.member, a), hashes, sizes)
				if err != nil {
					t.Fatal(err)
				}
				if d := time.Since(begun); d > 7*time.Second {
					t.Errorf("took %v", d)
				}
				for i, tag := range tags {
					b.check(t, hashes[i], want[i])
					tag.Release()
				}
			})
		})
	}
}

func TestFetchSmallErrors(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		a, b := w.member("a"), w.member("b")
		hashes, sizes, _ := notes(t, 100, a)
		req := request(blobs.Hash{}, a)
		b.store.full = func(n int) error {
			if n >= 40 {
				return blobs.ErrNoSpace
			}
			return nil
		}
		if _, err := b.x.FetchSmall(context.Background(), req, hashes, sizes); !errors.Is(err, blobs.ErrNoSpace) {
			t.Errorf("disk full: %v", err)
		}
		b.store.full = nil
		if _, err := b.x.FetchSmall(context.Background(), req, hashes, sizes[1:]); err == nil {
			t.Error("too few sizes: no error")
		}
		req.Group = GroupID{}
		if _, err := b.x.FetchSmall(context.Background(), req, hashes, sizes); !errors.Is(err, ErrUnknownGroup) {
			t.Errorf("unknown group: %v", err)
		}
		req.Group = testGroup
		a.node.SetOnline(false)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := b.x.FetchSmall(ctx, req, hashes, sizes); !errors.Is(err, ErrUnreachable) {
			t.Errorf("nobody there: %v", err)
		}
		a.node.SetOnline(true)
		tags, err := b.x.FetchSmall(context.Background(), req, hashes, sizes)
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range tags {
			tag.Release()
		}
	})
}

// One provider that does not answer does not hold up what another has brought.
func TestFetchSmallDoesNotWaitForTheDead(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		a, b := w.member("a"), w.member("b")
		hashes, sizes, _ := notes(t, 20, a)
		req := request(blobs.Hash{}, a)
		req.Peers = func() []Peer {
			return []Peer{{ID: "slow", Route: func(ctx context.Context, _ bool) ([]byte, error) {
				<-ctx.Done()
				return nil, context.Cause(ctx)
			}}, a.peer()}
		}
		begun := time.Now()
		tags, err := b.x.FetchSmall(context.Background(), req, hashes, sizes)
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d > time.Second {
			t.Errorf("took %v", d)
		}
		for _, tag := range tags {
			tag.Release()
		}
	})
}

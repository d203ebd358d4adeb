package updates

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/google/go-cmp/cmp"
)

// word is a short name of an update, so that sequences compare as strings.
func word(u veilid.Update) string {
	switch u := u.(type) {
	case *veilid.AppMessage:
		return "m" + string(u.Message)
	case *veilid.AppCall:
		return fmt.Sprint("c", u.CallID)
	case *veilid.Log:
		return "log" + u.Message
	case *veilid.Network:
		return fmt.Sprint("net", u.Peers)
	case *veilid.Attachment:
		return "att"
	case *veilid.ValueChange:
		return fmt.Sprint("val", u.Count)
	case *veilid.RouteChange:
		return "route"
	case *veilid.Lagged:
		return fmt.Sprint("lost", u.Count)
	case *veilid.Shutdown:
		return "shutdown"
	case *veilid.Reconnected:
		return "reconnected"
	}
	return "?"
}

func message(i int) veilid.Update { return &veilid.AppMessage{Message: fmt.Append(nil, i)} }

// drain reads until the end of a closed broadcaster's subscription.
func drain(t *testing.T, s veilid.Subscription) (words []string) {
	t.Helper()
	for {
		u, err := s.Next(t.Context())
		if err != nil {
			if !errors.Is(err, veilid.ErrShutdown) {
				t.Fatalf("Next: %v", err)
			}
			return words
		}
		words = append(words, word(u))
	}
}

func TestOverflow(t *testing.T) {
	log := func(s string) veilid.Update { return &veilid.Log{Message: s} }
	tests := []struct {
		name    string
		n, size int
		give    []veilid.Update
		want    []string
	}{
		{"fits", 3, 100, []veilid.Update{message(1), log("a"), message(2)}, []string{"m1", "loga", "m2"}},
		{"oldest of any", 2, 100, []veilid.Update{message(1), message(2), message(3), message(4)}, []string{"lost2", "m3", "m4"}},
		{
			"noise first, the gap where it was", 3, 100,
			[]veilid.Update{message(1), log("a"), message(2), log("b"), message(3)},
			[]string{"m1", "lost1", "m2", "lost1", "m3"},
		},
		{
			"each noise", 1, 100,
			[]veilid.Update{&veilid.Network{}, &veilid.Attachment{}, log("a"), message(1)},
			[]string{"lost3", "m1"},
		},
		{"noise gives way at the tail", 1, 100, []veilid.Update{message(1), log("a")}, []string{"m1", "lost1"}},
		{"bytes", 9, 4, []veilid.Update{message(11), message(22), message(33)}, []string{"lost1", "m22", "m33"}},
		{"larger than the queue", 9, 4, []veilid.Update{message(12345)}, []string{"lost1"}},
		{
			"bytes of every kind", 9, 8,
			[]veilid.Update{
				&veilid.ValueChange{Count: 1, Value: &veilid.ValueData{Data: make([]byte, 8)}},
				&veilid.ValueChange{Count: 2, Subkeys: veilid.Subkey(0)},
				&veilid.RouteChange{DeadRoutes: make([]veilid.RouteID, 1)},
				&veilid.AppCall{CallID: 1, AppMessage: veilid.AppMessage{Message: make([]byte, 5)}},
				&veilid.Network{NodeIDs: make([]veilid.NodeID, 1)},
				&veilid.AppCall{CallID: 2, AppMessage: veilid.AppMessage{Message: make([]byte, 3)}},
			},
			[]string{"lost3", "c1", "lost1", "c2"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := New(WithQueue(tt.n, tt.size))
			s := b.Subscribe(veilid.AllUpdates)
			for _, u := range tt.give {
				b.Publish(u)
			}
			b.Close()
			if d := cmp.Diff(tt.want, drain(t, s)); d != "" {
				t.Errorf("read (-want +got)\n%s", d)
			}
		})
	}
}

func TestKinds(t *testing.T) {
	all := []veilid.Update{
		&veilid.AppMessage{}, &veilid.AppCall{}, &veilid.Attachment{}, &veilid.Network{}, &veilid.RouteChange{}, &veilid.ValueChange{},
		&veilid.Log{}, &veilid.Lagged{Count: 7}, &veilid.Reconnected{}, &veilid.Shutdown{},
	}
	always := []string{"lost7", "reconnected", "shutdown"}
	for kinds, want := range map[veilid.UpdateKinds][]string{
		0:                                    always,
		veilid.AppMessages:                   append([]string{"m"}, always...),
		veilid.AppCalls | veilid.Logs:        append([]string{"c0", "log"}, always...),
		veilid.Attachments | veilid.Networks: append([]string{"att", "net0"}, always...),
		veilid.RouteChanges:                  append([]string{"route"}, always...),
		veilid.ValueChanges:                  append([]string{"val0"}, always...),
		veilid.AllUpdates:                    append([]string{"m", "c0", "att", "net0", "route", "val0", "log"}, always...),
	} {
		b := New()
		s := b.Subscribe(kinds)
		for _, u := range all {
			b.Publish(u)
		}
		b.Close()
		if d := cmp.Diff(want, drain(t, s)); d != "" {
			t.Errorf("kinds %b (-want +got)\n%s", kinds, d)
		}
	}
}

func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		s := b.Subscribe(veilid.AllUpdates)
		got := make(chan string)
		go func() {
			u, err := s.Next(t.Context())
			if err != nil {
				t.Error(err)
			}
			got <- word(u)
		}()
		synctest.Wait()
		b.Publish(message(1))
		if w := <-got; w != "m1" {
			t.Errorf("Next = %s, want m1", w)
		}

		for name, end := range map[string]func(context.CancelFunc, veilid.Subscription){
			"context": func(c context.CancelFunc, _ veilid.Subscription) { c() },
			"close":   func(_ context.CancelFunc, s veilid.Subscription) { s.Close() },
		} {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := b.Subscribe(veilid.AllUpdates)
			errs := make(chan error)
			go func() {
				_, err := s.Next(ctx)
				errs <- err
			}()
			synctest.Wait()
			end(cancel, s)
			want := map[string]error{"context": context.Canceled, "close": veilid.ErrShutdown}[name]
			if err := <-errs; !errors.Is(err, want) {
				t.Errorf("%s: Next = %v, want %v", name, err, want)
			}
		}
	})
}

func TestCancelledReaderTakesNothing(t *testing.T) {
	b := New()
	s := b.Subscribe(veilid.AllUpdates)
	b.Publish(message(1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if u, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Next with a cancelled context = %v, %v", u, err)
	}
	b.Close()
	if d := cmp.Diff([]string{"m1"}, drain(t, s)); d != "" {
		t.Error(d)
	}
}

func TestClose(t *testing.T) {
	b := New()
	s, other := b.Subscribe(veilid.AllUpdates), b.Subscribe(veilid.AllUpdates)
	b.Publish(message(1))
	s.Close()
	s.Close()
	if got := drain(t, s); got != nil {
		t.Errorf("a closed subscription still gave %v", got)
	}
	b.Publish(message(2))
	b.Close()
	b.Close()
	b.Publish(message(3))
	if d := cmp.Diff([]string{"m1", "m2"}, drain(t, other)); d != "" {
		t.Errorf("another's Close disturbed (-want +got)\n%s", d)
	}
	if got := drain(t, b.Subscribe(veilid.AllUpdates)); got != nil {
		t.Errorf("subscribed after Close, got %v", got)
	}
}

// TestSlowReader floods one reader that sleeps and one that reads: the latter misses nothing, in order, from several
// writers; the sleeper's numbers add up.
func TestSlowReader(t *testing.T) {
	const writers, each = 4, 5000
	b := New(WithQueue(2*writers*each, 1<<30))
	slow := b.Subscribe(veilid.AllUpdates)
	slow.(*subscription).maxUpdates = 10
	fast := b.Subscribe(veilid.AllUpdates)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				b.Publish(&veilid.AppCall{CallID: uint64(w*each + i)})
			}
		})
	}
	wg.Go(func() {
		last := [writers]int{-1, -1, -1, -1}
		for range writers * each {
			u, err := fast.Next(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			c, ok := u.(*veilid.AppCall)
			if !ok {
				t.Errorf("fast reader got %s", word(u))
				return
			}
			w, i := int(c.CallID)/each, int(c.CallID)%each
			if i != last[w]+1 {
				t.Errorf("writer %d: %d after %d", w, i, last[w])
				return
			}
			last[w] = i
		}
	})
	wg.Wait()
	b.Close()
	var got []string
	for _, w := range drain(t, slow) {
		got = append(got, w[:1])
	}
	want := []string{"l", "c", "c", "c", "c", "c", "c", "c", "c", "c", "c"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("slow reader (-want +got)\n%s", d)
	}
}

func TestTwoReadersOfOneSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		s := b.Subscribe(veilid.AllUpdates)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if _, err := s.Next(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		b.Publish(message(1))
		b.Publish(message(2))
		wg.Wait() // the bubble is deadlocked where a wake-up is lost
	})
}

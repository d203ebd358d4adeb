package memory

import (
	"container/heap"
	"sync"
	"time"
)

// schedule runs functions at their time, one after the other, those of the same time in the order they came. Its
// goroutine lives only while something is due.
type schedule struct {
	mu      sync.Mutex
	events  eventHeap
	seq     uint64
	running bool
	closed  bool
	wake    chan struct{} // holds a token when the next event may be another one
	idle    sync.WaitGroup
}

type event struct {
	at  time.Time
	seq uint64
	fn  func()
}

func newSchedule() *schedule { return &schedule{wake: make(chan struct{}, 1)} }

// after runs fn, which must not block, after d. It never runs it within this call.
func (s *schedule) after(d time.Duration, fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	heap.Push(&s.events, event{time.Now().Add(d), s.seq, fn})
	s.seq++
	if !s.running {
		s.running = true
		s.idle.Go(s.run)
	}
	s.signal()
}

func (s *schedule) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *schedule) run() {
	for {
		s.mu.Lock()
		if len(s.events) == 0 {
			s.running = false
			s.mu.Unlock()
			return
		}
		next := s.events[0]
		wait := time.Until(next.at)
		if wait <= 0 {
			heap.Pop(&s.events)
		}
		s.mu.Unlock()
		if wait <= 0 {
			next.fn()
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-s.wake:
		}
		t.Stop()
	}
}

// close drops what is due and waits for what is running.
func (s *schedule) close() {
	s.mu.Lock()
	s.closed = true
	s.events = nil
	s.signal()
	s.mu.Unlock()
	s.idle.Wait()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].seq < h[j].seq
	}
	return h[i].at.Before(h[j].at)
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*h = old[:len(old)-1]
	return e
}

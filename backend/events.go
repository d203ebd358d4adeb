package backend

import (
	"context"
	"sync"
	"time"
)

// Types of events beside those of package group.
const (
	EventAttachment   = "attachment"
	EventGroupAdded   = "group.added"
	EventGroupRemoved = "group.removed"
	EventJob          = "job"  // a job began, moved on or ended
	EventLost         = "lost" // events before this one were overwritten unread
)

// keepEvents is how many events a late reader can catch up on.
const keepEvents = 4096

// Event is something that happened. Fields that its type does not use are empty. None holds a secret.
type Event struct {
	Seq   uint64    `json:"seq"` // grows by one with each event, from 1
	Time  time.Time `json:"time"`
	Type  string    `json:"type"`
	Group string    `json:"group,omitempty"`
	Repo  string    `json:"repo,omitempty"`
	File  string    `json:"file,omitempty"`
	State string    `json:"state,omitempty"` // attachment
	Ready bool      `json:"ready,omitempty"` // attachment
	Job   *Job      `json:"job,omitempty"`
}

// events is a ring of the latest events.
type events struct {
	mu     sync.Mutex
	ring   []Event
	next   uint64 // sequence number of the next event
	more   chan struct{}
	closed bool
}

func newEvents() *events { return &events{next: 1, more: make(chan struct{})} }

func (e *events) publish(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	ev.Seq, ev.Time = e.next, time.Now().UTC()
	e.next++
	e.ring = append(e.ring, ev)
	if len(e.ring) > 2*keepEvents {
		e.ring = append(e.ring[:0:0], e.ring[keepEvents:]...)
	}
	close(e.more)
	e.more = make(chan struct{})
}

func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.closed = true
		close(e.more)
	}
}

// Events waits until there is an event after since, and returns all those; 0 returns what is kept. Where some are lost
// the first one says so. ErrClosed once the backend is closed and all is read.
func (b *Backend) Events(ctx context.Context, since uint64) ([]Event, error) {
	e := b.events
	for {
		e.mu.Lock()
		if since+1 < e.next {
			out := e.after(since)
			e.mu.Unlock()
			return out, nil
		}
		more, closed := e.more, e.closed
		e.mu.Unlock()
		if closed {
			return nil, ErrClosed
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-more:
		}
	}
}

// LastEvent is the sequence number of the latest event: where to begin for what comes from now on.
func (b *Backend) LastEvent() uint64 {
	b.events.mu.Lock()
	defer b.events.mu.Unlock()
	return b.events.next - 1
}

func (e *events) after(since uint64) []Event {
	first := e.ring[0].Seq
	if since+1 >= first {
		return append([]Event(nil), e.ring[since+1-first:]...)
	}
	var out []Event
	if since > 0 {
		out = append(out, Event{Seq: first - 1, Time: e.ring[0].Time, Type: EventLost})
	}
	return append(out, e.ring...)
}

package updates

import (
	"context"
	"sync"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// subscription is one reader's queue. What matters and what may go first wait in lines of their own; their sequence
// numbers restore the order, and a missing number is a gap.
type subscription struct {
	owner                *Broadcaster
	kinds                veilid.UpdateKinds
	maxUpdates, maxBytes int
	wake                 chan struct{} // holds a token while something may be waiting
	done                 chan struct{} // closed at the end

	mu             sync.Mutex
	important      line
	noise          line
	bytes          int
	pushed, popped uint64 // sequence numbers: of the next update to come, of the next one to read
	ended          bool
}

type item struct {
	seq  uint64
	size int
	u    veilid.Update
}

func (s *subscription) push(u veilid.Update, size int, noise bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	to := &s.important
	if noise {
		to = &s.noise
	}
	to.push(item{s.pushed, size, u})
	s.pushed++
	s.bytes += size
	for s.important.len()+s.noise.len() > s.maxUpdates || s.bytes > s.maxBytes {
		from := &s.noise
		if from.len() == 0 {
			from = &s.important
		}
		s.bytes -= from.pop().size
	}
	s.signal()
}

// Next waits for the next update.
func (s *subscription) Next(ctx context.Context) (veilid.Update, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		u, ended := s.pop()
		if u != nil {
			return u, nil
		}
		if ended {
			return nil, veilid.ErrShutdown
		}
		select {
		case <-s.wake:
		case <-s.done:
		case <-ctx.Done():
		}
	}
}

// pop takes the oldest update, or the word that some before it are lost.
func (s *subscription) pop() (u veilid.Update, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := &s.important
	if from.len() == 0 || s.noise.len() > 0 && s.noise.first().seq < from.first().seq {
		from = &s.noise
	}
	next := s.pushed
	if from.len() > 0 {
		next = from.first().seq
	}
	switch lost := next - s.popped; {
	case lost > 0:
		u = &veilid.Lagged{Count: int(lost)}
		s.popped = next
	case from.len() > 0:
		it := from.pop()
		s.bytes -= it.size
		s.popped++
		u = it.u
	}
	if s.popped < s.pushed {
		s.signal() // for another reader
	}
	return u, s.ended
}

func (s *subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Close ends the subscription and drops what is queued.
func (s *subscription) Close() {
	s.owner.remove(s)
	s.end(true)
}

func (s *subscription) end(drop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if drop {
		s.important, s.noise, s.bytes, s.popped = line{}, line{}, 0, s.pushed
	}
	if !s.ended {
		s.ended = true
		close(s.done)
	}
}

// line is a first-in first-out queue.
type line struct {
	items []item
	head  int
}

func (l *line) len() int     { return len(l.items) - l.head }
func (l *line) first() *item { return &l.items[l.head] }

func (l *line) push(it item) { l.items = append(l.items, it) }

func (l *line) pop() item {
	it := l.items[l.head]
	l.items[l.head] = item{} // lets the payload go
	l.head++
	if l.head*2 >= len(l.items) { // moves each item once on average
		n := copy(l.items, l.items[l.head:])
		clear(l.items[n:])
		l.items, l.head = l.items[:n], 0
	}
	return it
}

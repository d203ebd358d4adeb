package remote

import (
	"context"
	"net"
	"sync"
)

const (
	maxQueued   = 8 << 20   // bytes that wait to be written before callers wait too
	maxPooled   = 128 << 10 // bytes of a line's memory that is used again
	linesAtOnce = 256
)

// lineMemory holds memory for requests.
var lineMemory = sync.Pool{New: func() any { return new([]byte) }}

func getLine() *[]byte { return lineMemory.Get().(*[]byte) }

func putLine(b *[]byte) {
	if cap(*b) <= maxPooled {
		*b = (*b)[:0]
		lineMemory.Put(b)
	}
}

// outbox collects lines from many callers for one writer, which sends in one go what gathered meanwhile.
type outbox struct {
	mu     sync.Mutex
	queue  []*[]byte
	queued int           // bytes
	room   chan struct{} // closed when the writer took the queue; nil if nobody waits
	wake   chan struct{} // holds a token while something may be queued
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

// put hands a line, and its memory, to the writer. It waits while much is queued, unless force is set.
func (o *outbox) put(ctx context.Context, dead <-chan struct{}, line *[]byte, force bool) error {
	o.mu.Lock()
	for o.queued > maxQueued && !force {
		if o.room == nil {
			o.room = make(chan struct{})
		}
		room := o.room
		o.mu.Unlock()
		select {
		case <-room:
		case <-dead:
			return nil // the caller hears it while waiting for the answer
		case <-ctx.Done():
			return ctx.Err()
		}
		o.mu.Lock()
	}
	o.queue = append(o.queue, line)
	o.queued += len(*line)
	first := len(o.queue) == 1
	o.mu.Unlock()
	if first {
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// run writes until the connection fails or is dead.
func (o *outbox) run(conn net.Conn, dead <-chan struct{}) error {
	var lines []*[]byte
	batch := make(net.Buffers, 0, linesAtOnce)
	for {
		select {
		case <-o.wake:
		case <-dead:
			return nil
		}
		o.mu.Lock()
		lines, o.queue = o.queue, lines[:0]
		o.queued = 0
		if o.room != nil {
			close(o.room)
			o.room = nil
		}
		o.mu.Unlock()
		for rest := lines; len(rest) > 0; {
			n := min(len(rest), linesAtOnce)
			batch = batch[:0]
			for _, l := range rest[:n] {
				batch = append(batch, *l)
			}
			w := batch // WriteTo consumes it
			if _, err := w.WriteTo(conn); err != nil {
				return err
			}
			for i, l := range rest[:n] {
				putLine(l)
				rest[i] = nil
			}
			rest = rest[n:]
		}
	}
}

package exchange

import (
	"sync"
	"time"

	"github.com/OpenArchive/save-dweb-go/exchange/internal/frame"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Bounds of what waits to be answered.
const (
	maxReads      = 2048 // on our route
	maxGroupReads = 1024 // of one group
	maxControls   = 1024
)

// incoming is a question of a member, or a refusal to be sent.
type incoming struct {
	call  *veilid.AppCall
	group *served
	frame frame.Frame
	at    time.Time
	say   []byte // the answer, where it is known already
}

// callQueue holds the questions that wait for a worker: READs, group by group in turn so that no group holds up
// another, and the small ones.
type callQueue struct {
	mu       sync.Mutex
	some     sync.Cond // a READ, or closed
	reads    map[*served][]incoming
	turn     []*served // groups that have READs waiting
	n        int
	closed   bool
	controls chan incoming
}

func newCallQueue() *callQueue {
	q := &callQueue{reads: map[*served][]incoming{}, controls: make(chan incoming, maxControls)}
	q.some.L = &q.mu
	return q
}

// push queues a READ; false where there are too many. n is how many wait then.
func (q *callQueue) push(in incoming) (n int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting := q.reads[in.group]
	if q.closed || q.n >= maxReads || len(waiting) >= maxGroupReads {
		return q.n, false
	}
	if len(waiting) == 0 {
		q.turn = append(q.turn, in.group)
	}
	q.reads[in.group] = append(waiting, in)
	q.n++
	q.some.Signal()
	return q.n, true
}

func (q *callQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n
}

// pop waits for the next READ; false after close.
func (q *callQueue) pop() (in incoming, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.n == 0 && !q.closed {
		q.some.Wait()
	}
	if q.closed {
		return in, false
	}
	g := q.turn[0]
	q.turn = q.turn[1:]
	waiting := q.reads[g]
	in, waiting[0] = waiting[0], incoming{}
	if waiting = waiting[1:]; len(waiting) > 0 {
		q.reads[g] = waiting
		q.turn = append(q.turn, g)
	} else {
		delete(q.reads, g)
	}
	q.n--
	return in, true
}

// control queues a small question or a refusal; false where there are too many.
func (q *callQueue) control(in incoming) bool {
	select {
	case q.controls <- in:
		return true
	default:
		return false
	}
}

func (q *callQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.some.Broadcast()
}

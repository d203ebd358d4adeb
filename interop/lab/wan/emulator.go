//go:build linux

package main

import (
	"container/heap"
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	queueBytes = 256 << 10 // what a rate-limited link buffers before it drops
	heldBytes  = 256 << 20 // what all links together hold back before they drop
)

// link is one slot's link; next is when each direction is free again (0 up, 1 down).
type link struct {
	profile
	next [2]time.Time
}

// held is a packet on its way.
type held struct {
	due time.Time
	seq uint64
	pkt []byte
}

type queue []held

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return q[i].seq < q[j].seq
	}
	return q[i].due.Before(q[j].due)
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(held)) }
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	old[len(old)-1] = held{} // or the packet stays reachable
	*q = old[:len(old)-1]
	return x
}

// emulator holds packets back and writes each to out when its time has come.
type emulator struct {
	out  io.Writer
	wake chan struct{}

	mu                    sync.Mutex
	all                   profile // of links not seen yet
	links                 map[int]*link
	q                     queue
	bytes                 int // in q
	seq                   uint64
	passed, lost, dropped uint64
}

func newEmulator(out io.Writer) *emulator {
	return &emulator{out: out, wake: make(chan struct{}, 1), links: map[int]*link{}}
}

// slots are the K of a packet's sender and receiver; 0 where it has none.
func slots(p []byte) (src, dst int) {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		return int(p[15]), int(p[19])
	case len(p) >= 40 && p[0]>>4 == 6: // lab.sh writes K in decimal where IPv6 reads hexadecimal
		return hexDecimal(p[22], p[23]), hexDecimal(p[38], p[39])
	}
	return 0, 0
}

func hexDecimal(hi, lo byte) int {
	k, err := strconv.Atoi(strconv.FormatUint(uint64(hi)<<8|uint64(lo), 16))
	if err != nil || k > 254 {
		return 0
	}
	return k
}

// send takes a packet that reaches its first link now. The packet becomes the emulator's.
func (e *emulator) send(p []byte, now time.Time) {
	src, dst := slots(p)
	e.mu.Lock()
	defer e.mu.Unlock()
	up, down := e.link(src), e.link(dst)
	due, ok := e.cross(up, 0, len(p), now)
	if ok {
		due, ok = e.cross(down, 1, len(p), due)
	}
	if !ok {
		return
	}
	e.hold(p, due)
	if chance(up.dup) || chance(down.dup) {
		e.hold(p, due.Add(time.Millisecond))
	}
}

// cross says when a packet that reaches a link at t is over it, or that it never is.
func (e *emulator) cross(l *link, dir, size int, t time.Time) (time.Time, bool) {
	if l.down || chance(l.loss) {
		e.lost++
		return t, false
	}
	if l.rate > 0 {
		if l.next[dir].Before(t) {
			l.next[dir] = t
		}
		if l.next[dir].Sub(t).Seconds()*l.rate > queueBytes {
			e.dropped++
			return t, false
		}
		l.next[dir] = l.next[dir].Add(time.Duration(float64(size) / l.rate * float64(time.Second)))
		t = l.next[dir]
	}
	if chance(l.reorder) {
		return t, true // overtakes those that are still held back
	}
	d := l.delay
	if l.jitter > 0 {
		d += time.Duration((2*rand.Float64() - 1) * float64(l.jitter))
	}
	return t.Add(max(d, 0)), true
}

func chance(percent float64) bool { return percent > 0 && rand.Float64()*100 < percent }

func (e *emulator) link(k int) *link {
	l := e.links[k]
	if l == nil {
		l = &link{profile: e.all}
		e.links[k] = l
	}
	return l
}

func (e *emulator) hold(p []byte, due time.Time) {
	if e.bytes+len(p) > heldBytes {
		e.dropped++
		return
	}
	e.seq++
	e.bytes += len(p)
	heap.Push(&e.q, held{due, e.seq, p})
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// deliver writes packets when they are due, until ctx ends.
func (e *emulator) deliver(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(e.flush())
		select {
		case <-ctx.Done():
			return
		case <-e.wake:
		case <-timer.C:
		}
	}
}

// flush writes what is due and says how long the next packet has.
func (e *emulator) flush() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.q) > 0 {
		if wait := time.Until(e.q[0].due); wait > 0 {
			return wait
		}
		h := heap.Pop(&e.q).(held)
		e.bytes -= len(h.pkt)
		e.passed++
		e.mu.Unlock() // the write may wait, and packets come in meanwhile
		if _, err := e.out.Write(h.pkt); err != nil {
			log.Printf("write: %v", err)
		}
		e.mu.Lock()
	}
	return time.Hour
}

// answer carries out one command line.
func (e *emulator) answer(line string) string {
	out, err := e.command(strings.Fields(line))
	if err != nil {
		return "error: " + err.Error()
	}
	return out
}

func (e *emulator) command(f []string) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case len(f) == 0:
		return "", fmt.Errorf("want all, stats or a slot number")
	case f[0] == "stats":
		return fmt.Sprintf("passed %d lost %d dropped %d held %d", e.passed, e.lost, e.dropped, len(e.q)), nil
	case f[0] == "all":
		if err := e.all.try(f[1:]); err != nil {
			return "", err
		}
		for _, l := range e.links {
			if err := l.try(f[1:]); err != nil {
				return "", err
			}
		}
		return "ok", nil
	}
	k, err := strconv.Atoi(f[0])
	if err != nil || k < 1 || k > 254 {
		return "", fmt.Errorf("%q: want all, stats or a slot number from 1 to 254", f[0])
	}
	if err := e.link(k).try(f[1:]); err != nil {
		return "", err
	}
	return "ok", nil
}

// try is set that changes nothing on an error.
func (p *profile) try(words []string) error {
	next := *p
	if err := next.set(words); err != nil {
		return err
	}
	*p = next
	return nil
}

package window

import (
	"math/rand/v2"
	"sort"
	"testing"
	"time"
)

// line is a way for calls: a fixed time, jitter, a line that carries so many calls per second, and chance loss.
type line struct {
	rtt, jitter time.Duration
	perSecond   float64
	loss        func(chunks int) float64
	watch       func()
}

// drive runs the controller against a line for a while and returns the largest window, the calls that were answered and
// the mean window of the second half.
func drive(c *Controller, l line, for_ time.Duration) (peak, answered int, mean float64) {
	type event struct {
		at   time.Time
		t    Ticket
		lost bool
	}
	r := rand.New(rand.NewPCG(1, 2))
	begin := time.Unix(0, 0)
	now, free := begin, begin
	var events []event
	sum, n := 0, 0
	for now.Sub(begin) < for_ {
		for c.Room() > 0 {
			t := c.Send(now)
			e := event{at: now.Add(l.rtt + time.Duration(r.Int64N(int64(l.jitter)+1))), t: t}
			if l.loss != nil && r.Float64() < l.loss(c.Chunks()) {
				e.at, e.lost = now.Add(c.Deadline()), true
			} else if l.perSecond > 0 {
				if free.Before(now) {
					free = now
				}
				free = free.Add(time.Duration(float64(time.Second) / l.perSecond))
				e.at = e.at.Add(free.Sub(now))
			}
			i := sort.Search(len(events), func(i int) bool { return events[i].at.After(e.at) })
			events = append(events, event{})
			copy(events[i+1:], events[i:])
			events[i] = e
		}
		e := events[0]
		events = events[1:]
		now = e.at
		if e.lost {
			c.Lost(now, e.t)
		} else {
			c.Ack(now, e.t, true)
			answered++
		}
		if l.watch != nil {
			l.watch()
		}
		peak = max(peak, c.Size())
		if now.Sub(begin) > for_/2 {
			sum += c.Size()
			n++
		}
	}
	return peak, answered, float64(sum) / float64(max(n, 1))
}

func always(p float64) func(int) float64 { return func(int) float64 { return p } }

// The lines are those of the lab: 550 calls of 32 KiB per second near by, and as many or more at half a second.
func TestController(t *testing.T) {
	for _, tt := range []struct {
		name      string
		line      line
		span      time.Duration
		low, high float64 // mean window of the second half
		peak      int     // at most
		share     float64 // of the line's capacity in the whole span, or of what 256 in flight would carry
	}{
		{"far and wide", line{rtt: 490 * time.Millisecond, jitter: 50 * time.Millisecond, perSecond: 550}, 20 * time.Second, 220, Max, Max, 0.8},
		{"far, no limit", line{rtt: 490 * time.Millisecond, jitter: 100 * time.Millisecond}, 20 * time.Second, Max, Max, Max, 0},
		{"far and narrow", line{rtt: 490 * time.Millisecond, jitter: 50 * time.Millisecond, perSecond: 30}, 60 * time.Second, 10, 40, 64, 0.9},
		{"near", line{rtt: 3 * time.Millisecond, jitter: time.Millisecond, perSecond: 550}, 20 * time.Second, 8, 32, 40, 0.95},
		{"near, slow peer", line{rtt: 3 * time.Millisecond, jitter: time.Millisecond, perSecond: 20}, 60 * time.Second, floor, 8, 20, 0.9},
		{"uneven", line{rtt: 60 * time.Millisecond, jitter: 240 * time.Millisecond, perSecond: 300}, 30 * time.Second, 30, 200, 260, 0.6},
		{"1 % lost", line{rtt: 490 * time.Millisecond, perSecond: 550, loss: always(0.01)}, 30 * time.Second, 180, Max, Max, 0.7},
		{"5 % lost by chance", line{rtt: 100 * time.Millisecond, perSecond: 550, loss: always(0.05)}, 30 * time.Second, 50, 300, Max, 0.6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := New()
			peak, answered, mean := drive(c, tt.line, tt.span)
			share := float64(answered) / tt.span.Seconds() / max(tt.line.perSecond, 1)
			t.Logf("window %.0f, at most %d, %d answers, %.2f of the line", mean, peak, answered, share)
			if mean < tt.low || mean > tt.high {
				t.Errorf("window %.0f, want %.0f to %.0f", mean, tt.low, tt.high)
			}
			if peak > tt.peak {
				t.Errorf("window went up to %d, want at most %d", peak, tt.peak)
			}
			if share < tt.share {
				t.Errorf("%.2f of the line is used, want %.2f", share, tt.share)
			}
		})
	}
}

// A way that becomes longer is not taken for a queue for ever.
func TestLongerWay(t *testing.T) {
	c := New()
	drive(c, line{rtt: 20 * time.Millisecond, perSecond: 500}, 5*time.Second)
	c.inFlight = 0
	_, answered, mean := drive(c, line{rtt: 400 * time.Millisecond, perSecond: 500}, 60*time.Second)
	t.Logf("window %.0f, %d answers", mean, answered)
	if mean < 100 {
		t.Errorf("window %.0f where 200 fill the line", mean)
	}
}

func TestMessageSize(t *testing.T) {
	datagrams := func(q float64) func(int) float64 { // each chunk is a datagram that may be lost
		return func(chunks int) float64 {
			p := 1.0
			for range chunks {
				p *= 1 - q
			}
			return 1 - p
		}
	}
	for _, tt := range []struct {
		name string
		loss func(int) float64
		want int
	}{
		{"nothing lost", nil, 30},
		{"one datagram in a thousand", datagrams(0.001), 30},
		{"one in eighty", datagrams(0.0125), 15},
		{"one in twenty", datagrams(0.05), 7},
		{"a third, whatever the size", always(0.33), 30},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := New()
			seen := map[int]int{}
			drive(c, line{
				rtt: 50 * time.Millisecond, perSecond: 500, loss: tt.loss, watch: func() { seen[c.Chunks()]++ },
			}, 5*time.Minute)
			t.Log(seen)
			best := 30
			for size, n := range seen {
				if n > seen[best] {
					best = size
				}
			}
			if best != tt.want {
				t.Errorf("%d chunks most of the time, want %d", best, tt.want)
			}
		})
	}
}

func TestDeadlines(t *testing.T) {
	c := New()
	if c.Deadline() != firstDeadline || c.RTT() != 0 {
		t.Errorf("before the first answer: %v, %v", c.Deadline(), c.RTT())
	}
	now := time.Unix(0, 0)
	for _, tt := range []struct {
		rtt    time.Duration
		lo, hi time.Duration
	}{
		{3 * time.Millisecond, minDeadline, minDeadline},
		{490 * time.Millisecond, 1400 * time.Millisecond, 1600 * time.Millisecond},
		{4 * time.Second, 11 * time.Second, maxDeadline},
		{20 * time.Second, maxDeadline, maxDeadline},
	} {
		for range 100 {
			k := c.Send(now)
			now = now.Add(tt.rtt)
			c.Ack(now, k, true)
		}
		if d := c.Deadline(); d < tt.lo || d > tt.hi {
			t.Errorf("round trip %v: deadline %v, want %v to %v", tt.rtt, d, tt.lo, tt.hi)
		}
		if c.Late() > c.Deadline()+20*time.Millisecond+tt.rtt {
			t.Errorf("round trip %v: late after %v", tt.rtt, c.Late())
		}
	}
}

func TestBusyMakesTheWindowSmallerOnce(t *testing.T) {
	c := New()
	now := time.Unix(0, 0)
	drive(c, line{rtt: 100 * time.Millisecond}, 2*time.Second)
	c.inFlight = 0
	now = now.Add(time.Hour)
	size := c.Size()
	var ks []Ticket
	for range 20 {
		ks = append(ks, c.Send(now))
	}
	for _, k := range ks {
		c.Busy(now.Add(time.Second), k)
	}
	if got := c.Size(); got >= size || got < size/4 {
		t.Errorf("window was %d and is %d", size, got)
	}
	if c.InFlight() != 0 {
		t.Errorf("%d in flight", c.InFlight())
	}
}

// Package window decides how many calls to have in flight on one route, how long to wait for each and how much to ask
// in it. It knows nothing but times and losses, and is not safe for use by several goroutines.
//
// A route's best window lies between ten and many hundreds: at a round trip of 490 ms 256 calls carry 15 MB/s, and at
// 3 ms more than 16 only queue (measured on real nodes). Single round trips vary three- to fivefold, so the controller
// looks at the quickest of many: a queue delays all of them, jitter only some.
package window

import "time"

// Bounds of the window, in calls.
const (
	probe   = 2 // until the first answer
	initial = 8
	floor   = 2
	low     = 4 // at this size it is not our own queue that we measure
	Max     = 512
)

// A route without a queue answers within base+1/4+20 ms, a queue is certain above base+1/2+40 ms. The fixed parts keep
// short routes from being starved by the granularity of their work.
func noQueue(base time.Duration) time.Duration { return base + base/4 + 20*time.Millisecond }
func queue(base time.Duration) time.Duration   { return base + base/2 + 40*time.Millisecond }

// Deadlines of calls.
const (
	minDeadline   = time.Second
	maxDeadline   = 12 * time.Second
	firstDeadline = 7 * time.Second // Veilid itself gives up after about 5 s and a bit per hop
)

// Loss that is taken for chance rather than for congestion; it adapts, see lossy.
const (
	minTolerance = 0.05
	maxTolerance = 0.5
	lossSample   = 32
	maxSample    = 128
)

const (
	roundSamples = 8                // that tell a queue from jitter
	startGain    = 2.9              // of slow start: enough not to hold up doubling
	forget       = 10 * time.Second // of silence, after which the window is doubted
)

// Ticket is a call in flight.
type Ticket struct {
	seq  uint64
	at   time.Time
	full bool // the window was what held further calls back
	part uint // cohort that it belongs to; 0: none
}

// Sent is when the call was sent.
func (t Ticket) Sent() time.Time { return t.at }

// Controller is the window of one route.
type Controller struct {
	size      float64
	inFlight  int
	slowStart bool
	answered  bool
	next      uint64
	sizer     sizer

	base, srtt, rttvar time.Duration

	round struct {
		start   time.Time
		samples int
		min     time.Duration
		acks    int
		full    bool
	}
	stale int // rounds of slow start in which more calls brought only a queue
	rate  float64
	last  time.Time // last answer
	cutAt time.Time
	after uint64 // calls from here on were sent after the last cut, and tell of the queue since

	cohort    cohort
	tolerance float64
	cutLoss   float64 // loss at the last cut
	cuts      int
}

// cohort is a number of calls that were sent one after the other. Loss is judged when all of them have ended: answers
// are quick and losses late, so that what ended lately would show the one or the other alone.
type cohort struct {
	id               uint // 0 before the first
	sent, done, lost int
	full             bool // no more are taken in
}

// New is the window of a route that nothing is known of.
func New() *Controller {
	return &Controller{size: probe, slowStart: true, tolerance: minTolerance}
}

// Room is how many more calls may be sent.
func (c *Controller) Room() int { return max(0, int(c.size)-c.inFlight) }

// Size is the window in calls.
func (c *Controller) Size() int { return int(c.size) }

// InFlight is the number of calls that are neither answered nor given up.
func (c *Controller) InFlight() int { return c.inFlight }

// RTT is the smoothed round-trip time; 0 before the first answer.
func (c *Controller) RTT() time.Duration { return c.srtt }

// Late is when an answer is later than usual, well before Deadline.
func (c *Controller) Late() time.Duration {
	if !c.answered {
		return time.Second
	}
	return c.srtt + max(2*c.rttvar, c.srtt/4) + 20*time.Millisecond
}

// Deadline is how long to wait for an answer.
func (c *Controller) Deadline() time.Duration {
	if !c.answered {
		return firstDeadline
	}
	return min(max(3*c.srtt, c.srtt+4*c.rttvar, minDeadline), maxDeadline)
}

// Chunks is how many chunks to ask in one READ at most.
func (c *Controller) Chunks() int { return c.sizer.chunks() }

// Send counts a call that begins.
func (c *Controller) Send(now time.Time) Ticket {
	if c.round.start.IsZero() {
		c.newRound(now)
	}
	if c.inFlight == 0 && c.answered && now.Sub(c.last) > forget {
		c.size = min(c.size, max(c.size/2, initial)) // the way may have changed
		c.slowStart, c.stale, c.rate = true, 0, 0
		c.newRound(now)
	}
	c.inFlight++
	t := Ticket{seq: c.next, at: now, full: 4*c.inFlight >= 3*int(c.size)}
	if !c.cohort.full {
		if c.cohort.id == 0 {
			c.cohort.id = 1
		}
		c.cohort.sent++
		c.cohort.full = c.cohort.sent >= max(lossSample, min(int(c.size), maxSample))
		t.part = c.cohort.id
	}
	c.next++
	return t
}

// Cancel takes back a call whose answer nobody waits for.
func (c *Controller) Cancel(now time.Time, t Ticket) {
	c.inFlight--
	if t.part == c.cohort.id && t.part > 0 {
		c.cohort.sent--
		c.closeCohort(now)
	}
}

// ended counts the end of a call for its cohort.
func (c *Controller) ended(now time.Time, t Ticket, lost bool) {
	h := &c.cohort
	if t.part != h.id || t.part == 0 {
		return
	}
	h.done++
	if lost {
		h.lost++
	}
	c.closeCohort(now)
}

func (c *Controller) closeCohort(now time.Time) {
	h := c.cohort
	if !h.full || h.done < h.sent {
		return
	}
	c.cohort = cohort{id: h.id + 1}
	if h.done >= lossSample/2 {
		c.judgeLoss(now, float64(h.lost)/float64(h.done))
		if c.sizer.results(h.done, h.lost) {
			c.cuts = 0 // another size loses otherwise
		}
	}
}

// Ack counts an answer. whole says that the call asked as much as its size allowed: short answers travel faster and
// would mislead.
func (c *Controller) Ack(now time.Time, t Ticket, whole bool) {
	c.inFlight--
	rtt := max(now.Sub(t.at), time.Microsecond)
	if !c.answered {
		c.answered = true
		c.size = max(c.size, initial)
		c.srtt, c.rttvar, c.base = rtt, rtt/2, rtt
	}
	d := rtt - c.srtt
	c.srtt += d / 8
	c.rttvar += (max(d, -d) - c.rttvar) / 4
	if whole {
		c.base = min(c.base, rtt)
	}
	c.last = now
	c.round.acks++
	c.ended(now, t, false)
	if c.slowStart && t.full {
		c.size = min(c.size+1, Max)
	}
	if t.seq < c.after || !whole {
		return
	}
	c.round.full = c.round.full || t.full
	c.round.samples++
	c.round.min = min(c.round.min, rtt)
	if c.round.samples >= min(max(int(c.size)/2, 1), roundSamples) && now.Sub(c.round.start) >= c.base {
		c.endRound(now)
	}
}

// Lost counts a call that got no answer in time.
func (c *Controller) Lost(now time.Time, t Ticket) {
	c.inFlight--
	c.ended(now, t, true)
}

// Busy counts a call that the peer refused because it has too much to do.
func (c *Controller) Busy(now time.Time, t Ticket) {
	c.Cancel(now, t)
	c.cut(now, t.at, 0.7)
}

func (c *Controller) newRound(now time.Time) {
	c.round.start = now
	c.round.samples, c.round.min = 0, time.Hour
	c.round.acks, c.round.full = 0, false
}

// endRound draws the conclusions from the answers of about one round trip.
func (c *Controller) endRound(now time.Time) {
	r := c.round
	c.newRound(now)
	rate := float64(r.acks) / max(now.Sub(r.start), time.Microsecond).Seconds()
	grown := rate > 1.15*c.rate
	c.rate = rate
	clear := r.min < c.base+c.base/10+5*time.Millisecond
	switch {
	case r.min > queue(c.base):
		if c.size <= low { // too few calls to queue behind each other: the way itself has become longer
			c.base += (r.min - c.base) / 2
			return
		}
		c.cut(now, r.start, max(0.5, float64(noQueue(c.base))/float64(r.min)))
	case c.slowStart && r.full:
		// While the window doubles with each round trip, answers come at half the pace that it allows. Far below
		// that the way is full already, though its queue has not been seen yet.
		if most := max(startGain*rate*noQueue(c.base).Seconds(), 2*initial); c.size > most {
			c.size, c.slowStart = most, false
			return
		}
		if grown || clear {
			c.stale = 0
		} else if c.stale++; c.stale >= 2 {
			c.slowStart = false
		}
	case r.full && c.cuts == 0 && clear:
		c.size = min(c.size+max(1, c.size/4), Max)
	case r.full && c.cuts == 0 && r.min < noQueue(c.base):
		c.size = min(c.size+max(1, c.size/16), Max)
	}
}

// cut makes the window smaller, once for all the calls that were in flight together.
func (c *Controller) cut(now, sent time.Time, by float64) bool {
	c.slowStart = false
	if sent.Before(c.cutAt) {
		return false
	}
	c.cutAt, c.after = now, c.next
	c.size = max(c.size*by, floor)
	return true
}

// judgeLoss tells congestion from chance: where a smaller window does not lose less, it is the way that loses, and only
// more tolerance keeps the window open.
func (c *Controller) judgeLoss(now time.Time, p float64) {
	if p <= c.tolerance {
		if p < c.tolerance/4 {
			c.tolerance = max(minTolerance, 0.9*c.tolerance)
		}
		c.cuts = 0
		return
	}
	if c.size <= low || c.cuts > 0 && p >= 0.7*c.cutLoss {
		c.tolerance = min(1.4*p+0.02, maxTolerance)
		c.cuts = 0
		return
	}
	if c.cut(now, now.Add(-c.srtt), 0.7) {
		c.cutLoss = p
		c.cuts++
	}
}

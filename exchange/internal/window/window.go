// Package window decides how many calls to have in flight on one route, how long to wait for each and how much to ask
// in it. It knows nothing but times and losses, and is not safe for use by several goroutines.
//
// A route's best window lies between ten and many hundreds: at a round trip of 490 ms 256 calls carry 15 MB/s, and at
// 3 ms more than 16 only queue (measured on real nodes). The round trip alone does not tell which: below are TCP
// connections, and where those lose a packet now and then everything behind it waits, however few calls there are; more
// calls in flight then bring more although each takes longer (1.3 MB/s with 64, 4 MB/s with 256, at 1 % loss). So the
// window follows the pace at which answers come, as a multiple of what that pace fills on the bare way, and now and
// then it is tried whether a smaller multiple brings as much.
package window

import (
	"fmt"
	"slices"
	"time"
)

// Bounds of the window, in calls.
const (
	probe   = 2 // until the first answer
	initial = 8

	farAway    = 200 * time.Millisecond // from here on each doubling of the window costs a fifth of a second or more
	initialFar = 32                     // of such a route: a megabyte, which no hop takes ill
	floor      = 2
	low        = 4 // whatever the pace
	Max        = 512
)

// The window is pace × (gain × base + slack), where base is the shortest round trip. The slack keeps short routes from
// being starved by the granularity of their work.
const (
	growGain = 3.5 // in the beginning: the pace that is known is that of one round trip ago
	highGain = 2.5
	lowGain  = 1.5
	slack    = 30 * time.Millisecond
)

// The pace is the best of so many rounds. A round is one bare round trip, or half of a present one, since answers come in
// bursts, and has so many answers at least.
const (
	paceRounds   = 10
	roundAnswers = 8
	longerRounds = 6 // until a longer way is believed
)

// Trials of the gain.
const (
	settleRounds  = 2    // after a change, until it shows
	measureRounds = 5    // of each gain
	holdRounds    = 16   // of the better one, until the other is tried again
	enough        = 0.88 // of the high gain's pace, for the low one to be the better
	flatRounds    = 3    // without a better pace, after which growth is over and trials begin
)

// Deadlines of calls.
const (
	minDeadline   = time.Second
	maxDeadline   = 12 * time.Second
	firstDeadline = 7 * time.Second // Veilid itself gives up after about 5 s and a bit per hop
)

// forget is the silence after which the window is doubted.
const forget = 10 * time.Second

// Ticket is a call in flight.
type Ticket struct {
	at   time.Time
	full bool // the window was what held further calls back
	part uint // cohort that it belongs to; 0: none
}

// Sent is when the call was sent.
func (t Ticket) Sent() time.Time { return t.at }

// Controller is the window of one route.
type Controller struct {
	size     float64
	ceiling  float64 // after losses: not to be exceeded, and rising
	inFlight int
	answered bool
	last     time.Time // last answer

	base, srtt, rttvar time.Duration

	round struct {
		start   time.Time
		answers int
		min     time.Duration
		full    bool
	}
	paces []float64 // of the last rounds in which the window was full, answers per second
	trial trial

	longer int // rounds in which even the quickest answer took longer than our own queue explains

	loss  loss
	sizer sizer
}

// New is the window of a route that nothing is known of.
func New() *Controller {
	return &Controller{size: probe, ceiling: Max, loss: newLoss(), trial: trial{high: true}}
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

// String shows the state, for logs.
func (c *Controller) String() string {
	return fmt.Sprintf("window %.0f of %.0f, %d in flight, base %v, round trip %v ± %v, pace %.0f/s, high gain %v, tolerance %.2f",
		c.size, c.ceiling, c.inFlight, c.base.Round(time.Millisecond), c.srtt.Round(time.Millisecond),
		c.rttvar.Round(time.Millisecond), c.pace(), c.trial.high, c.loss.tolerance)
}

// Send counts a call that begins.
func (c *Controller) Send(now time.Time) Ticket {
	if c.inFlight == 0 {
		if c.answered && now.Sub(c.last) > forget { // the way may have changed
			c.size = min(c.size, max(c.size/2, initial))
			c.trial = trial{high: true}
		}
		c.newRound(now)
	}
	c.inFlight++
	t := Ticket{at: now, full: 4*c.inFlight >= 3*int(c.size)}
	t.part = c.loss.sent(int(c.size))
	return t
}

// Cancel takes back a call whose answer nobody waits for.
func (c *Controller) Cancel(now time.Time, t Ticket) {
	c.inFlight--
	c.loss.cancelled(t.part)
	c.judgeLoss(now)
}

// Ack counts an answer. whole says that the call asked as much as its size allowed: short answers travel faster and
// would mislead.
func (c *Controller) Ack(now time.Time, t Ticket, whole bool) {
	c.inFlight--
	rtt := max(now.Sub(t.at), time.Microsecond)
	if !c.answered {
		c.answered = true
		c.size = max(c.size, initial)
		if rtt >= farAway {
			c.size = max(c.size, initialFar)
		}
		c.srtt, c.rttvar, c.base = rtt, rtt/2, rtt
	}
	d := rtt - c.srtt
	c.srtt += d / 8
	c.rttvar += (max(d, -d) - c.rttvar) / 4
	if whole {
		c.base = min(c.base, rtt)
	}
	c.last = now
	c.loss.ended(t.part, false)
	c.judgeLoss(now)
	if most := min(c.target(), c.ceiling); t.full && c.size < most {
		c.size = min(c.size+1, most)
	}
	c.round.answers++
	c.round.full = c.round.full || t.full
	c.round.min = min(c.round.min, rtt)
	if c.round.answers >= min(max(int(c.size)/2, 1), roundAnswers) && now.Sub(c.round.start) >= max(c.base, c.srtt/2) {
		c.endRound(now)
	}
}

// Lost counts a call that got no answer in time.
func (c *Controller) Lost(now time.Time, t Ticket) {
	c.inFlight--
	c.loss.ended(t.part, true)
	c.judgeLoss(now)
}

// Busy counts a call that the peer refused because it has too much to do.
func (c *Controller) Busy(now time.Time, t Ticket) {
	c.Cancel(now, t)
	c.cut(now, t.at)
}

func (c *Controller) newRound(now time.Time) {
	c.round.start, c.round.answers, c.round.min, c.round.full = now, 0, time.Hour, false
}

func (c *Controller) pace() float64 {
	if len(c.paces) == 0 {
		return 0
	}
	return slices.Max(c.paces)
}

// target is the window that the pace asks for.
func (c *Controller) target() float64 {
	if len(c.paces) < 2 {
		return Max // nothing is known yet
	}
	gain := lowGain
	switch {
	case c.trial.phase == growing:
		gain = growGain
	case c.trial.high:
		gain = highGain
	}
	return min(max(c.pace()*(gain*c.base.Seconds()+slack.Seconds()), low), Max)
}

// endRound draws the conclusions from the answers of about one round trip.
func (c *Controller) endRound(now time.Time) {
	r := c.round
	c.newRound(now)
	if !r.full {
		return // it was not the window that held back calls: the pace says nothing
	}
	pace := float64(r.answers) / max(now.Sub(r.start), time.Microsecond).Seconds()
	if len(c.paces) == paceRounds {
		c.paces = slices.Delete(c.paces, 0, 1)
	}
	c.paces = append(c.paces, pace)
	c.trial.round(pace)
	// The queue of a window that follows the pace is shorter than this: the way itself has become longer.
	if r.min > time.Duration(highGain*float64(c.base))+2*slack && c.size <= 1.05*c.target()+1 {
		c.longer++
	} else {
		c.longer = 0
	}
	if c.longer >= longerRounds {
		c.base, c.longer = r.min, 0
		c.trial = trial{high: true}
		c.paces = append(c.paces[:0], pace)
	}
	c.ceiling = min(c.ceiling*1.1, Max)
	if most := c.target(); c.size > most {
		c.size = max(most, 0.8*c.size, floor)
	}
}

// cut makes the window smaller, once for all the calls that were in flight together.
func (c *Controller) cut(now, sent time.Time) bool {
	if sent.Before(c.loss.cutAt) {
		return false
	}
	c.loss.cutAt = now
	c.size = max(0.7*c.size, floor)
	c.ceiling = max(c.size, low)
	return true
}

// judgeLoss looks at a cohort of calls when all of them have ended.
func (c *Controller) judgeLoss(now time.Time) {
	n, lost, ok := c.loss.cohortEnded()
	if !ok {
		return
	}
	switch p := float64(lost) / float64(n); c.loss.judge(p, c.size <= low) {
	case congestion:
		if c.cut(now, now.Add(-c.srtt)) {
			c.loss.cuts++
			c.loss.atCut = p
		}
	case chance:
		c.ceiling = Max
	}
	if c.sizer.results(n, lost) {
		c.loss.cuts = 0 // another size loses otherwise
	}
}

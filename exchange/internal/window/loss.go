package window

import "time"

// Loss that is taken for chance rather than for congestion; it adapts.
const (
	minTolerance = 0.05
	maxTolerance = 0.5
	lossSample   = 32
	maxSample    = 128
)

// loss judges lost calls by cohorts.
type loss struct {
	cohort    cohort
	tolerance float64
	atCut     float64 // loss when the window was last cut
	cuts      int     // one after the other
	cutAt     time.Time
}

// cohort is a number of calls that were sent one after the other. Loss is judged when all of them have ended: answers
// are quick and losses late, so that what ended lately would show the one or the other alone.
type cohort struct {
	id               uint
	sent, done, lost int
	full             bool // no more are taken in
}

func newLoss() loss { return loss{tolerance: minTolerance, cohort: cohort{id: 1}} }

// sent counts a call and says which cohort it belongs to; 0: none.
func (l *loss) sent(size int) uint {
	h := &l.cohort
	if h.full {
		return 0
	}
	h.sent++
	h.full = h.sent >= max(lossSample, min(size, maxSample))
	return h.id
}

func (l *loss) cancelled(part uint) {
	if part == l.cohort.id {
		l.cohort.sent--
	}
}

func (l *loss) ended(part uint, lost bool) {
	if part != l.cohort.id {
		return
	}
	l.cohort.done++
	if lost {
		l.cohort.lost++
	}
}

// cohortEnded gives the result of the cohort once, when it is complete and large enough to tell anything.
func (l *loss) cohortEnded() (n, lost int, ok bool) {
	h := l.cohort
	if !h.full || h.done < h.sent {
		return 0, 0, false
	}
	l.cohort = cohort{id: h.id + 1}
	return h.done, h.lost, h.done >= lossSample/2
}

type verdict uint8

const (
	tolerable verdict = iota
	congestion
	chance
)

// judge tells congestion from chance: where a smaller window does not lose less, it is the way that loses, and only
// more tolerance keeps the window open.
func (l *loss) judge(p float64, small bool) verdict {
	switch {
	case p <= l.tolerance:
		if p < l.tolerance/4 {
			l.tolerance = max(minTolerance, 0.9*l.tolerance)
		}
		l.cuts = 0
		return tolerable
	case small || l.cuts > 0 && p >= 0.7*l.atCut:
		l.tolerance = min(1.4*p+0.02, maxTolerance)
		l.cuts = 0
		return chance
	}
	return congestion
}

package window

// trial compares the two gains: where the low one brings as much, the rest is only a queue.
type trial struct {
	high   bool // the gain that is in use
	rounds int  // since it is
	phase  phase

	best float64 // pace, while the window grows
	flat int

	sum      [2]float64 // of the paces of the low and the high gain
	measured [2]int
}

type phase uint8

const (
	growing   phase = iota // at the high gain, until the pace grows no more
	measuring              // first one, then the other
	holding                // the better one
)

// round takes the pace of a round.
func (t *trial) round(pace float64) {
	t.rounds++
	switch t.phase {
	case growing:
		if pace > 1.1*t.best {
			t.best, t.flat = pace, 0
		} else if t.flat++; t.flat >= flatRounds {
			t.phase, t.rounds = measuring, settleRounds
		}
	case measuring:
		if t.rounds <= settleRounds {
			return
		}
		now := 0
		if t.high {
			now = 1
		}
		t.sum[now] += pace
		if t.measured[now]++; t.measured[now] < measureRounds {
			return
		}
		if t.measured[1-now] == 0 { // the other one's turn
			t.high, t.rounds = !t.high, 0
			return
		}
		*t = trial{high: t.sum[0] < enough*t.sum[1], phase: holding}
	case holding:
		if t.rounds >= holdRounds {
			t.phase, t.rounds = measuring, settleRounds
		}
	}
}

package window

// levels are the chunks of 1 KiB that one READ asks for. 30 fill an answer; 15 and 7 survive on ways that lose one
// datagram in a hundred, where an answer of 30 loses one in four.
var levels = [...]int{30, 15, 7}

const (
	sizeSample = 64   // results before a judgement
	sizeTrial  = 128  // results at a smaller size before it is judged
	sizeLoss   = 0.2  // loss from which a smaller size is tried
	sizeMore   = 0.28 // and from which an even smaller one is
	sizeGood   = 0.05 // loss below which the larger size is tried again
	sizeHold   = 512  // results during which a useless trial is not repeated
	sizeGain   = 0.75 // of the former loss must remain at most, for a smaller size to be kept
)

// sizer chooses the size of messages. It keeps a smaller size only where that lowers the loss.
type sizer struct {
	level   int
	n, lost int
	before  float64 // loss at the larger size
	kept    bool    // the smaller size has proved itself
	hold    int
}

func (s *sizer) chunks() int { return levels[s.level] }

// results counts a cohort of calls of the present size. It reports whether the size changes.
func (s *sizer) results(n, lost int) bool {
	level := s.level
	s.hold = max(0, s.hold-n)
	s.n += n
	s.lost += lost
	p := float64(s.lost) / float64(s.n)
	switch {
	case s.level > 0 && s.n >= sizeTrial:
		helps := sizeGain // to be kept at first; later it must only not be worse
		if s.kept {
			helps = 1
		}
		switch {
		case p > helps*s.before:
			s.hold = sizeHold
			s.set(s.level-1, 0)
		case p < sizeGood:
			s.set(s.level-1, 0)
		case p >= sizeMore && s.level < len(levels)-1 && s.hold == 0:
			s.set(s.level+1, p)
		default:
			s.n, s.lost, s.kept = 0, 0, true
		}
	case s.level == 0 && s.n >= sizeSample:
		if p >= sizeLoss && s.hold == 0 {
			s.set(1, p)
		} else {
			s.n, s.lost = 0, 0
		}
	}
	return s.level != level
}

func (s *sizer) set(level int, before float64) {
	s.level, s.n, s.lost, s.before, s.kept = level, 0, 0, before, false
}

package remote

import (
	"bufio"
	"errors"
	"io"
)

const (
	readBuffer = 256 << 10
	keepBuffer = 1 << 20 // of long lines
)

// errLongLine comes with the beginning of a line that is longer than allowed.
var errLongLine = errors.New("line is longer than allowed")

// lineReader reads lines of bounded length.
type lineReader struct {
	r    *bufio.Reader
	max  int
	long []byte
}

func newLineReader(r io.Reader, most int) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, readBuffer), max: most}
}

// next is the next line without its end, valid until the following call. An unfinished line at the end is an error.
func (l *lineReader) next() ([]byte, error) {
	if cap(l.long) > keepBuffer {
		l.long = nil
	}
	l.long = l.long[:0]
	for over := false; ; {
		part, err := l.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		switch {
		case over:
		case err == nil && len(l.long) == 0:
			line := part[:len(part)-1]
			if len(line) > l.max {
				return line, errLongLine
			}
			return line, nil
		case len(l.long)+len(part) > l.max+1:
			over = true
			if len(l.long) == 0 {
				l.long = append(l.long, part...)
			}
		default:
			l.long = append(l.long, part...)
		}
		if err == nil {
			if over {
				return l.long, errLongLine
			}
			return l.long[:len(l.long)-1], nil
		}
	}
}

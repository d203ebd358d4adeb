package remote

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// FuzzLines reads lines in pieces of any size, and compares with the plain meaning of lines.
func FuzzLines(f *testing.F) {
	const buffer = 16 // bytes, so that short inputs cross its end
	f.Add([]byte("a\nbb\n\nccc"), 2, 0)
	f.Add([]byte("\n\n"), 0, 1)
	f.Add([]byte(strings.Repeat("x", buffer)+"\nnext\n"), buffer, 2)
	f.Add([]byte(strings.Repeat("x", buffer+1)+"\nnext\n"), buffer, 0)
	f.Add([]byte(strings.Repeat("x", 3*buffer)+"\nnext\n"), 3*buffer, 0)
	f.Add([]byte(strings.Repeat("x", 3*buffer)+"\nnext\n"), buffer+5, 2)
	f.Fuzz(func(t *testing.T, data []byte, most, how int) {
		if most < 0 {
			return
		}
		var r io.Reader = bytes.NewReader(data)
		switch how {
		case 1:
			r = iotest.OneByteReader(r)
		case 2:
			r = iotest.HalfReader(r)
		}
		l := &lineReader{r: bufio.NewReaderSize(r, buffer), max: most}
		for rest := data; ; {
			want, after, ok := bytes.Cut(rest, []byte("\n"))
			got, err := l.next()
			switch {
			case !ok:
				if !errors.Is(err, io.EOF) {
					t.Fatalf("at the end: %q, %v", got, err)
				}
				return
			case len(want) > most:
				if !errors.Is(err, errLongLine) || !bytes.HasPrefix(want, bytes.TrimSuffix(got, []byte("\n"))) || len(got) > most+buffer {
					t.Fatalf("a line of %d bytes of at most %d: %d bytes, %v", len(want), most, len(got), err)
				}
			case err != nil || !bytes.Equal(got, want):
				t.Fatalf("got %d bytes, %v, want %d", len(got), err, len(want))
			}
			rest = after
		}
	})
}

// TestLongLinesLetGo checks that the memory of a long line is not kept.
func TestLongLinesLetGo(t *testing.T) {
	long := strings.Repeat("x", 2*keepBuffer)
	l := newLineReader(strings.NewReader(long+"\nshort\n"), 4*keepBuffer)
	var got []int
	for range 2 {
		line, err := l.next()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, len(line))
	}
	if d := cmp.Diff([]int{len(long), 5}, got); d != "" {
		t.Error(d)
	}
	if cap(l.long) > keepBuffer {
		t.Errorf("%d bytes are kept", cap(l.long))
	}
}

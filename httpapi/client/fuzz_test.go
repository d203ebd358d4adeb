package client

import (
	"bufio"
	"io"
	"strings"
	"testing"
)

// FuzzEventStream reads streams of any bytes: they end, in an error or in io.EOF, and events have what was in them.
func FuzzEventStream(f *testing.F) {
	for _, s := range []string{
		"id: 1\nevent: job\ndata: {\"seq\":1,\"type\":\"job\",\"job\":{\"id\":\"x\",\"state\":\"done\"}}\n\n",
		":\n\n:\n\ndata: {\"seq\":2}\r\n\r\n",
		"data: {\ndata: \"seq\":3}\n\ndata:{}\n\n",
		"data: [1]\n\n",
		"data\n\n\n\n",
		"retry: 5\nid\n",
		strings.Repeat("x", 100_000),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := &EventStream{io.NopCloser(strings.NewReader(s)), bufio.NewReader(strings.NewReader(s))}
		for range len(s) + 1 {
			if _, err := e.Next(); err != nil {
				return
			}
		}
		t.Errorf("%d bytes hold more than as many events", len(s))
	})
}

func TestEventStream(t *testing.T) {
	read := func(s string) *EventStream {
		return &EventStream{io.NopCloser(strings.NewReader(s)), bufio.NewReader(strings.NewReader(s))}
	}
	s := read(": comment\n\nid: 7\r\nevent: job\r\ndata: {\"seq\":7,\r\ndata:  \"type\":\"job\"}\r\n\r\ndata: {\"seq\":8}\n\n")
	if e, err := s.Next(); err != nil || e.Seq != 7 || e.Type != "job" {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err := s.Next(); err != nil || e.Seq != 8 || e.Type != "" {
		t.Errorf("%+v, %v: the second event holds what is of the first", e, err)
	}
	if _, err := s.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for what, text := range map[string]string{
		"long line":  "data: " + strings.Repeat("x", maxEvent+1) + "\n\n",
		"many lines": strings.Repeat("data: "+strings.Repeat("x", 1000)+"\n", maxEvent/1000+1) + "\n",
		"no JSON":    "data: x\n\n",
	} {
		if e, err := read(text).Next(); err == nil || err == io.EOF {
			t.Errorf("%s: %+v, %v", what, e, err)
		}
	}
}

func TestPath(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want string
	}{
		{[]string{"groups", "a/b", "files", "ä %.txt"}, "/v1/groups/a%2Fb/files/%C3%A4%20%25.txt"},
		{[]string{"..", ".", "..."}, "/v1/%2E%2E/%2E/..."},
		{[]string{"a?b#c"}, "/v1/a%3Fb%23c"},
	} {
		if got := path(c.in...); got != c.want {
			t.Errorf("%q: %s, want %s", c.in, got, c.want)
		}
	}
}

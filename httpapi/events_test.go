package httpapi_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/httpapi/client"
)

// nextOf reads events until one of a type comes.
func nextOf(t *testing.T, s *client.EventStream, typ string) backend.Event {
	t.Helper()
	for {
		e, err := s.Next()
		if err != nil {
			t.Fatalf("no event %s: %v", typ, err)
		}
		if e.Type == typ {
			return e
		}
	}
}

func TestEvents(t *testing.T) {
	d := prepare(t, network(t), "a")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	open := func(since *uint64) *client.EventStream {
		t.Helper()
		s, err := d.Events(ctx, since)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	fresh := open(nil)
	g := d.create("G")
	added := nextOf(t, fresh, backend.EventGroupAdded)
	if added.Group != g.Key || added.Seq == 0 || added.Time.IsZero() {
		t.Errorf("event: %+v", added)
	}
	later := open(nil) // sees nothing of what has been
	d.put("G", "a.txt", []byte("a"))
	if e, err := later.Next(); err != nil || e.Seq <= added.Seq || e.Type == backend.EventGroupAdded {
		t.Errorf("the first event from now on: %+v, %v", e, err)
	}
	var zero uint64
	all := open(&zero)
	for want := uint64(1); want <= added.Seq; want++ {
		if e, err := all.Next(); err != nil || e.Seq != want {
			t.Fatalf("event %+v, %v: want number %d", e, err, want)
		}
	}
	since := added.Seq
	if e, err := open(&since).Next(); err != nil || e.Seq != since+1 {
		t.Errorf("event %+v, %v: want number %d", e, err, since+1)
	}
	earlier := uint64(1 << 40) // of a run before the daemon was restarted
	s := open(&earlier)
	if e, err := s.Next(); err != nil || e.Type != backend.EventLost {
		t.Errorf("after a number of an earlier run: %+v, %v", e, err)
	}
	if e, err := s.Next(); err != nil || e.Seq != 1 {
		t.Errorf("then: %+v, %v", e, err)
	}
}

// TestEventStreamForm shows the bytes on the wire, as a browser reads them.
func TestEventStreamForm(t *testing.T) {
	d := prepare(t, network(t), "a")
	d.handler.SetTimes(time.Minute, 10*time.Millisecond)
	d.create("G")
	c, err := net.Dial("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	last, err := d.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Last-Event-ID is what a browser sends when it comes again: it counts more than the address it came with.
	fmt.Fprintf(c, "GET /v1/events?since=0 HTTP/1.1\r\nHost: dweb\r\nLast-Event-ID: %d\r\n\r\n", last.LastEvent-1)
	want := []string{"HTTP/1.1 200", "Content-Type: text/event-stream", fmt.Sprintf("id: %d", last.LastEvent), "event: ", `data: {"seq":`, ":"}
	for r := bufio.NewScanner(c); len(want) > 0 && r.Scan(); {
		if line := r.Text(); strings.HasPrefix(line, want[0]) && (want[0] != ":" || line == ":") {
			want = want[1:]
		}
	}
	if len(want) > 0 {
		t.Errorf("the stream lacks %q", want)
	}
}

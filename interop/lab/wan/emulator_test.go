//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// packet is an IP packet from slot src to slot dst with size bytes in all, marked by mark.
func packet(src, dst string, size int, mark byte) []byte {
	a, b := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	p := make([]byte, size)
	if a.Is4() {
		p[0] = 0x45
		copy(p[12:], a.AsSlice())
		copy(p[16:], b.AsSlice())
	} else {
		p[0] = 0x60
		copy(p[8:], a.AsSlice())
		copy(p[24:], b.AsSlice())
	}
	p[size-1] = mark
	return p
}

func TestSlots(t *testing.T) {
	for _, c := range []struct {
		name     string
		pkt      []byte
		src, dst int
	}{
		{"IPv4", packet("5.5.0.3", "5.5.0.20", 40, 0), 3, 20},
		{"IPv6", packet("2a05:5::3", "2a05:5::20", 60, 0), 3, 20}, // 0x20, which is written 20
		{"IPv6 that is no slot", packet("fe80::a1", "2a05:5::9999", 60, 0), 0, 0},
		{"short IPv4", packet("5.5.0.3", "5.5.0.20", 40, 0)[:19], 0, 0},
		{"short IPv6", packet("2a05:5::3", "2a05:5::20", 60, 0)[:39], 0, 0},
		{"other", []byte{0x10, 1, 2}, 0, 0},
		{"empty", nil, 0, 0},
	} {
		if src, dst := slots(c.pkt); src != c.src || dst != c.dst {
			t.Errorf("%s: slots %d and %d, want %d and %d", c.name, src, dst, c.src, c.dst)
		}
	}
}

// log of what came out, and when.
type sink struct {
	mu    sync.Mutex
	start time.Time
	got   []arrival
}

type arrival struct {
	Mark  byte
	After time.Duration
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, arrival{p[len(p)-1], time.Since(s.start)})
	return len(p), nil
}

// run sends the packets at once over links set by lines, and returns what arrived within a minute.
func run(t *testing.T, lines []string, pkts ...[]byte) (got []arrival, stats string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		out := &sink{start: time.Now()}
		e := newEmulator(out)
		for _, line := range lines {
			if a := e.answer(line); a != "ok" {
				t.Fatalf("%s: %s", line, a)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, p := range pkts {
			e.send(p, time.Now())
		}
		e.deliver(ctx)
		got, stats = out.got, e.answer("stats")
	})
	return got, stats
}

func TestLinks(t *testing.T) {
	const ms = time.Millisecond
	ab := func(mark byte) []byte { return packet("5.5.0.1", "5.5.0.2", 1000, mark) }
	bc := func(mark byte) []byte { return packet("2a05:5::2", "2a05:5::13", 1000, mark) }
	for _, c := range []struct {
		name  string
		lines []string
		pkts  [][]byte
		want  []arrival
		stats string
	}{
		{"nothing set", nil, [][]byte{ab(1), bc(2)}, []arrival{{1, 0}, {2, 0}}, "passed 2 lost 0 dropped 0 held 0"},
		{"both links count", []string{"all delay=40ms"}, [][]byte{ab(1)}, []arrival{{1, 80 * ms}}, "passed 1 lost 0 dropped 0 held 0"},
		{
			"one link of two, and the order of times", []string{"1 delay=100ms", "13 delay=30ms"},
			[][]byte{ab(1), bc(2)}, []arrival{{2, 30 * ms}, {1, 100 * ms}}, "passed 2 lost 0 dropped 0 held 0",
		},
		{
			"order is kept among equals", []string{"all delay=10ms"},
			[][]byte{ab(1), ab(2), ab(3)}, []arrival{{1, 20 * ms}, {2, 20 * ms}, {3, 20 * ms}}, "passed 3 lost 0 dropped 0 held 0",
		},
		{"all sets links that have their own", []string{"1 delay=1s", "all delay=1ms"}, [][]byte{ab(1)}, []arrival{{1, 2 * ms}}, "passed 1 lost 0 dropped 0 held 0"},
		{"down", []string{"2 down"}, [][]byte{ab(1), bc(2)}, nil, "passed 0 lost 2 dropped 0 held 0"},
		{"down and up again", []string{"2 down", "2 up"}, [][]byte{ab(1)}, []arrival{{1, 0}}, "passed 1 lost 0 dropped 0 held 0"},
		{"loss", []string{"13 loss=100"}, [][]byte{ab(1), bc(2)}, []arrival{{1, 0}}, "passed 1 lost 1 dropped 0 held 0"},
		{"copies", []string{"1 dup=100"}, [][]byte{ab(1)}, []arrival{{1, 0}, {1, ms}}, "passed 2 lost 0 dropped 0 held 0"},
		{
			"rate: 1,000 bytes take a second", []string{"1 rate=8kbit"},
			[][]byte{ab(1), ab(2)}, []arrival{{1, time.Second}, {2, 2 * time.Second}}, "passed 2 lost 0 dropped 0 held 0",
		},
		{"rate of mbit", []string{"2 rate=8mbit"}, [][]byte{ab(1)}, []arrival{{1, ms}}, "passed 1 lost 0 dropped 0 held 0"},
		{"overtaking", []string{"1 delay=1s", "1 reorder=100"}, [][]byte{ab(1)}, []arrival{{1, 0}}, "passed 1 lost 0 dropped 0 held 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, stats := run(t, c.lines, c.pkts...)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("arrivals (-want +got):\n%s", diff)
			}
			if stats != c.stats {
				t.Errorf("stats %q, want %q", stats, c.stats)
			}
		})
	}
}

func TestJitterStaysInBounds(t *testing.T) {
	var pkts [][]byte
	for i := range 200 {
		pkts = append(pkts, packet("5.5.0.1", "5.5.0.2", 100, byte(i)))
	}
	got, _ := run(t, []string{"1 delay=50ms jitter=20ms"}, pkts...)
	low, high := time.Hour, time.Duration(0)
	for _, a := range got {
		low, high = min(low, a.After), max(high, a.After)
	}
	if len(got) != 200 || low < 30*time.Millisecond || high > 70*time.Millisecond || high-low < 10*time.Millisecond {
		t.Errorf("%d packets after %v to %v, want 200 within 30 to 70 ms and well apart", len(got), low, high)
	}
}

func TestFullQueueDrops(t *testing.T) {
	var pkts [][]byte
	for range 400 { // 400,000 bytes at once into a queue of 256 KiB
		pkts = append(pkts, packet("5.5.0.1", "5.5.0.2", 1000, 1))
	}
	got, stats := run(t, []string{"1 rate=1mbit"}, pkts...)
	if len(got) != 263 || stats != "passed 263 lost 0 dropped 137 held 0" {
		t.Errorf("%d packets, %s: want what fits into 256 KiB and the one that fills it", len(got), stats)
	}
}

func TestHeldBytesAreBounded(t *testing.T) {
	e := newEmulator(&bytes.Buffer{})
	e.bytes = heldBytes - 1500
	for range 3 {
		e.send(packet("5.5.0.1", "5.5.0.2", 1000, 1), time.Now())
	}
	if got := e.answer("stats"); got != "passed 0 lost 0 dropped 2 held 1" {
		t.Errorf("%s, want one packet held and two dropped", got)
	}
}

func TestBadCommands(t *testing.T) {
	e := newEmulator(&bytes.Buffer{})
	for line, want := range map[string]string{
		"":                     "want all",
		"x loss=1":             "slot number",
		"0 loss=1":             "slot number",
		"255 loss=1":           "slot number",
		"all":                  "one or more",
		"1 speed=3":            `"speed=3"`,
		"1 loss=101":           "per cent",
		"1 loss=NaN":           "per cent",
		"1 delay=3":            "duration",
		"1 delay=-1s":          "duration",
		"1 jitter=2m":          "duration",
		"1 rate=3":             "kbit",
		"1 rate=-3mbit":        "kbit",
		"1 loss=7 delay=never": "delay",
	} {
		if got := e.answer(line); !strings.HasPrefix(got, "error: ") || !strings.Contains(got, want) {
			t.Errorf("%q: answer %q, want an error with %q", line, got, want)
		}
	}
	if p := e.link(1).profile; p != (profile{}) {
		t.Errorf("a refused line changed the link: %+v", p)
	}
}

func FuzzSlots(f *testing.F) {
	f.Add(packet("5.5.0.3", "5.5.0.20", 40, 0))
	f.Add(packet("2a05:5::3", "2a05:5::20", 60, 0))
	f.Add([]byte{0x45})
	f.Fuzz(func(t *testing.T, p []byte) {
		src, dst := slots(p)
		if src < 0 || src > 255 || dst < 0 || dst > 255 {
			t.Fatalf("slots %d and %d of %s", src, dst, hex.EncodeToString(p))
		}
	})
}

func FuzzCommand(f *testing.F) {
	for _, s := range []string{"all delay=40ms loss=1", "20 rate=128kbit dup=0.5", "21 down", "stats", "1 loss=1e999", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		e := newEmulator(&bytes.Buffer{})
		if a := e.answer(line); a == "" || strings.Contains(a, "\n") {
			t.Fatalf("%q: answer %q, want exactly one line", line, a)
		}
		for _, l := range e.links {
			if !(l.loss >= 0 && l.loss <= 100) || l.delay < 0 || l.rate < 0 {
				t.Fatalf("%q: profile %+v", line, l.profile)
			}
		}
	})
}

package main

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"rsc.io/qr"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/httpapi"
)

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{
		-1: "?", 0: "0 B", 999: "999 B", 1000: "1.0 kB", 9_949: "9.9 kB", 9_950: "10 kB", 999_499: "999 kB", 999_500: "1.0 MB",
		3_000_000: "3.0 MB", 12_345_678_901: "12 GB", math.MaxInt64: "9223372 TB",
	} {
		if got := bytesText(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for s, want := range map[string]float64{
		"0": 0, "4MB": 4e6, "500k": 5e5, "1.5GiB": 1.5 * (1 << 30), " 10 kB ": 1e4, "7b": 7, "2Ti": 2 << 40, "1m": 1e6,
	} {
		if got, err := parseBytes(s); err != nil || got != want {
			t.Errorf("%q is %v, %v: want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "MB", "-1", "4 apples", "1e30GB", "NaN", "5i", "iB", "Inf"} {
		if got, err := parseBytes(s); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
}

// TestClean shows that what a member wrote cannot take over a terminal.
func TestClean(t *testing.T) {
	for s, want := range map[string]string{
		"ä photo 🦊.jpg":         "ä photo 🦊.jpg",
		"\x1b[2Jgone":           "\uFFFD[2Jgone",
		"a\nb\tc\x00\x7f\u009b": "a\uFFFDb\uFFFDc\uFFFD\uFFFD\uFFFD",
		"gpj.\u202eexe":         "gpj.\uFFFDexe",
		"a\u2028b":              "a\uFFFDb",
	} {
		if got := clean(s); got != want {
			t.Errorf("%q is %q, want %q", s, got, want)
		}
	}
	var b bytes.Buffer
	table(&b, "NAME SIZE", [][]string{{"a\x1b[0m\tb", "1"}, {"long name", ""}})
	if want := "NAME       SIZE\na\uFFFD[0m\uFFFDb    1\nlong name\n"; b.String() != want {
		t.Errorf("table %q, want %q", b.String(), want)
	}
}

func TestQuote(t *testing.T) {
	for s, want := range map[string]string{"a/b.txt": "a/b.txt", "": "''", "my data": "'my data'", "it's": `'it'\''s'`, "$x": "'$x'"} {
		if got := quote(s); got != want {
			t.Errorf("%q is %s, want %s", s, got, want)
		}
	}
}

// TestDrawQR reads the drawing back.
func TestDrawQR(t *testing.T) {
	text := "save+dweb::?dht=" + strings.Repeat("x", 300)
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		t.Fatal(err)
	}
	for _, colour := range []bool{false, true} {
		drawing, err := drawQR(text, colour)
		if err != nil {
			t.Fatal(err)
		}
		if colour != strings.Contains(drawing, "\x1b[97;40m") {
			t.Errorf("colour %v: %q", colour, drawing[:20])
		}
		drawing = strings.NewReplacer("\x1b[97;40m", "", "\x1b[0m", "").Replace(drawing)
		lines := strings.Split(strings.TrimSuffix(drawing, "\n"), "\n")
		size := code.Size + 2*quietZone
		if len(lines) != (size+1)/2 {
			t.Fatalf("%d lines for %d modules", len(lines), size)
		}
		for i, line := range lines {
			runes := []rune(line)
			if len(runes) != size {
				t.Fatalf("line %d has %d characters, want %d", i, len(runes), size)
			}
			for j, r := range runes {
				x, y := j-quietZone, 2*i-quietZone
				light := map[rune][2]bool{'█': {true, true}, '▀': {true, false}, '▄': {false, true}, ' ': {}}[r]
				for k, l := range light {
					in := x >= 0 && x < code.Size && y+k >= 0 && y+k < code.Size
					if want := !in || !code.Black(x, y+k); l != want && y+k < code.Size+quietZone {
						t.Fatalf("module %d,%d is light: %v", x, y+k, l)
					}
				}
			}
		}
	}
	if _, err := drawQR(strings.Repeat("x", 5000), false); err == nil {
		t.Error("a text that is too long for a code was drawn")
	}
}

func TestJobDetail(t *testing.T) {
	running := backend.Job{State: backend.JobRunning, Total: 10_000_000, Done: 4_000_000}
	with := func(change func(*backend.Job)) httpapi.Job {
		j := running
		change(&j)
		return httpapi.Job{Job: j}
	}
	for _, c := range []struct {
		job  httpapi.Job
		want string
	}{
		{with(func(j *backend.Job) {}), ""},
		{with(func(j *backend.Job) { j.Rate, j.Providers = 2e6, 3 }), ": 2.0 MB/s from 3 members, 3s left"},
		{with(func(j *backend.Job) { j.Rate, j.Providers = 2e6, 1 }), ": 2.0 MB/s from 1 member, 3s left"},
		{with(func(j *backend.Job) { j.Waiting = "nobody\x1b" }), ": nobody\uFFFD"},
		{with(func(j *backend.Job) { j.State, j.Rate = backend.JobDone, 5 }), ""},
		{with(func(j *backend.Job) { j.Rate, j.Total = 1, math.MaxUint64 }), ": 1 B/s, " + time.Duration(1e17).String() + " left"},
	} {
		if got := jobDetail(c.job); got != c.want {
			t.Errorf("%+v: %q, want %q", c.job, got, c.want)
		}
	}
}

package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// table writes aligned rows. What members wrote is made harmless: see [clean].
func table(w io.Writer, head string, rows [][]string) {
	var buf bytes.Buffer
	t := tabwriter.NewWriter(&buf, 0, 0, 2, ' ', 0)
	if head != "" {
		fmt.Fprintln(t, strings.ReplaceAll(head, " ", "\t"))
	}
	for _, r := range rows {
		for i := range r {
			r[i] = clean(r[i])
		}
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	t.Flush() //nolint:errcheck // a buffer takes everything
	for line := range strings.Lines(buf.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

// clean replaces what could move a terminal's cursor, change its title or turn the text's direction.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' {
			return '\uFFFD'
		}
		return r
	}, s)
}

// bytesText is a number of bytes for people, in powers of 1000.
func bytesText[T int64 | uint64 | float64 | int](n T) string {
	f := float64(n)
	if f < 0 {
		return "?"
	}
	if f < 1000 {
		return strconv.FormatFloat(f, 'f', 0, 64) + " B"
	}
	for _, u := range []string{"kB", "MB", "GB", "TB"} {
		if f /= 1000; f < 999.5 || u == "TB" {
			prec := 0
			if f < 9.95 {
				prec = 1
			}
			return strconv.FormatFloat(f, 'f', prec, 64) + " " + u
		}
	}
	return ""
}

// parseBytes reads a number of bytes: 4MB, 500k, 1.5GiB, 0.
func parseBytes(s string) (float64, error) {
	t := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(s)), "b")
	unit, base := 1.0, 1000.0
	if strings.HasSuffix(t, "i") {
		t, base = strings.TrimSuffix(t, "i"), 1024
	}
	if t != "" {
		if i := strings.IndexByte("kmgt", t[len(t)-1]); i >= 0 {
			t = t[:len(t)-1]
			for range i + 1 {
				unit *= base
			}
		} else if base == 1024 {
			t = "" // "5i" is no number
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(t), 64)
	if err != nil || !(n >= 0 && n <= 1e18) {
		return 0, fmt.Errorf("%q is no amount: want a number and B, kB, MB or GB, such as 4MB", s)
	}
	return n * unit, nil
}

// timeText is a time for people: short, and none where it is unknown.
func timeText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04")
}

// shortKey is a key's beginning, enough to give it to a command.
func shortKey(k string) string {
	_, bare, ok := strings.Cut(k, ":")
	if !ok {
		bare = k
	}
	return bare[:min(8, len(bare))]
}

func yesNo(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// count is a number of things: "1 file", "2 files".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// quote is a word as a shell takes it.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_./=:+@", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

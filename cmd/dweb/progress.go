package main

import (
	"fmt"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/httpapi"
)

// bar shows how far something is: a line on a terminal, nothing elsewhere.
type bar struct {
	p    *progressbar.ProgressBar
	what string
}

func (a *app) bar(what string, total int64) *bar {
	if a.json || a.quiet || !isTerminal(a.err) {
		return &bar{}
	}
	return &bar{what: clean(what), p: progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(a.err),
		progressbar.OptionSetDescription(clean(what)),
		progressbar.OptionShowBytes(true),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionSetWidth(20),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionFullWidth(),
		progressbar.OptionClearOnFinish(),
	)}
}

// Write counts bytes; it never fails.
func (b *bar) Write(p []byte) (int, error) {
	if b.p != nil {
		b.p.Add(len(p)) //nolint:errcheck // a bar that cannot be drawn is no failure
	}
	return len(p), nil
}

// job shows how far a job is.
func (b *bar) job(j httpapi.Job) {
	if b.p == nil {
		return
	}
	if j.Total > 0 {
		b.p.ChangeMax64(int64(j.Total))
	}
	b.p.Describe(b.what + jobDetail(j))
	b.p.Set64(int64(j.Done)) //nolint:errcheck // a bar that cannot be drawn is no failure
}

func (b *bar) end() {
	if b.p != nil {
		b.p.Clear() //nolint:errcheck // a bar that cannot be drawn is no failure
	}
}

// jobDetail is what a bar cannot show: why nothing moves, or from how many it comes, how fast and how long still.
func jobDetail(j httpapi.Job) string {
	switch {
	case j.State != backend.JobRunning:
		return ""
	case j.Waiting != "":
		return ": " + clean(j.Waiting)
	case j.Rate < 1:
		return ""
	}
	s := ": " + bytesText(j.Rate) + "/s"
	if j.Providers > 0 {
		s += " from " + count(j.Providers, "member")
	}
	if j.Total > j.Done {
		s += fmt.Sprintf(", %v left", eta(j))
	}
	return s
}

func eta(j httpapi.Job) time.Duration {
	s := min(float64(j.Total-j.Done)/j.Rate, 1e8)
	return time.Duration(s * float64(time.Second)).Round(time.Second)
}

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

// maxWhat keeps the line of a bar on one line.
const maxWhat = 30

func (a *app) bar(what string, total int64, opts ...progressbar.Option) *bar {
	if a.json || a.quiet || !isTerminal(a.err) {
		return &bar{}
	}
	what = clean(what)
	if r := []rune(what); len(r) > maxWhat {
		what = string(r[:maxWhat-1]) + "…"
	}
	return &bar{what: what, p: progressbar.NewOptions64(total, append([]progressbar.Option{
		progressbar.OptionSetWriter(a.err),
		progressbar.OptionSetDescription(what),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionSetWidth(20),
		progressbar.OptionThrottle(100 * time.Millisecond),
		progressbar.OptionClearOnFinish(),
	}, opts...)...)}
}

// readBar shows how much of a file was read.
func (a *app) readBar(what string, size int64) *bar {
	return a.bar(what, size, progressbar.OptionShowBytes(true), progressbar.OptionShowCount())
}

// jobBar shows how far a job is. Rate and rest come from the job: it may go on where an earlier one ended.
func (a *app) jobBar(what string) *bar {
	return a.bar(what, 1, progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false))
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
	b.p.Describe(fmt.Sprintf("%s %s of %s%s", b.what, bytesText(j.Done), bytesText(j.Total), jobDetail(j)))
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

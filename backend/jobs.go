package backend

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/OpenArchive/save-dweb-go/exchange"
	"github.com/OpenArchive/save-dweb-go/group"
)

// ErrJobNotFound: there is no such job, or it ended long ago.
var ErrJobNotFound = errors.New("job not found")

// JobKind says what a job does.
type JobKind string

// The kinds of jobs.
const (
	JobFetch  JobKind = "fetch"  // bring one file here
	JobSync   JobKind = "sync"   // bring all files of a group, or of one repo, here
	JobVerify JobKind = "verify" // read everything and compare it with its hash
)

// JobState says how far a job is.
type JobState string

// The states of a job.
const (
	JobRunning  JobState = "running"
	JobDone     JobState = "done"
	JobFailed   JobState = "failed"
	JobCanceled JobState = "canceled"
)

// Job is work that somebody asked for. Sizes are bytes of sealed files.
type Job struct {
	ID        string    `json:"id"`
	Kind      JobKind   `json:"kind"`
	Group     string    `json:"group,omitempty"`
	Repo      string    `json:"repo,omitempty"`
	File      string    `json:"file,omitempty"`
	State     JobState  `json:"state"`
	Total     uint64    `json:"total"` // 0: not known yet
	Done      uint64    `json:"done"`
	Files     int       `json:"files,omitempty"`
	FilesDone int       `json:"files_done,omitempty"`
	Failed    int       `json:"failed,omitempty"`
	Rate      float64   `json:"rate"`              // bytes per second
	Providers int       `json:"providers"`         // members that send now
	Waiting   string    `json:"waiting,omitempty"` // why nothing moves
	Error     string    `json:"error,omitempty"`
	Started   time.Time `json:"started"`
	Ended     time.Time `json:"ended,omitzero"`

	err error
}

// Err is why the job failed; it matches what the operation itself would have returned.
func (j Job) Err() error { return j.err }

const (
	keepJobs     = 200              // ended ones
	collectDelay = 30 * time.Second // after files were removed
	jobPrefix    = "job/"           // in the table: jobs to go on with after a restart
)

// jobs runs and remembers jobs.
type jobs struct {
	b *Backend

	mu      sync.Mutex
	all     map[string]*job
	collect *time.Timer
	closed  bool
	wg      sync.WaitGroup
}

type job struct {
	Job
	cancel context.CancelFunc
	done   chan struct{}
}

func newJobs(b *Backend) *jobs { return &jobs{b: b, all: map[string]*job{}} }

// launch runs work as a job. The work reports by calling its argument, which changes the job under lock.
func (js *jobs) launch(spec Job, work func(ctx context.Context, report func(func(*Job))) error) (Job, error) {
	ctx, cancel := context.WithCancel(js.b.ctx)
	j := &job{Job: spec, cancel: cancel, done: make(chan struct{})}
	if j.ID == "" {
		j.ID = rand.Text()[:10]
	}
	j.State, j.Started = JobRunning, time.Now().UTC()
	js.mu.Lock()
	if js.closed {
		js.mu.Unlock()
		cancel()
		return Job{}, ErrClosed
	}
	js.all[j.ID] = j
	js.prune()
	js.wg.Add(1)
	first := j.Job
	js.mu.Unlock()
	js.tell(first)
	report := func(change func(*Job)) {
		js.mu.Lock()
		change(&j.Job)
		now := j.Job
		js.mu.Unlock()
		js.tell(now)
	}
	go func() {
		defer js.wg.Done()
		defer cancel()
		err := work(ctx, report)
		report(func(r *Job) {
			r.Ended, r.Rate, r.Providers, r.Waiting = time.Now().UTC(), 0, 0, ""
			switch {
			case err == nil:
				r.State = JobDone
			case errors.Is(err, context.Canceled) && ctx.Err() != nil:
				r.State = JobCanceled
			default:
				r.State, r.Error, r.err = JobFailed, err.Error(), err
			}
		})
		js.forget(j.ID)
		close(j.done)
	}()
	return first, nil
}

func (js *jobs) tell(j Job) {
	j.err = nil
	js.b.events.publish(Event{Type: EventJob, Group: j.Group, Repo: j.Repo, File: j.File, Job: &j})
}

// prune forgets the oldest of the ended jobs. Callers hold mu.
func (js *jobs) prune() {
	var ended []*job
	for _, j := range js.all {
		if j.State != JobRunning {
			ended = append(ended, j)
		}
	}
	slices.SortFunc(ended, func(a, b *job) int { return a.Ended.Compare(b.Ended) })
	for len(ended) > keepJobs {
		delete(js.all, ended[0].ID)
		ended = ended[1:]
	}
}

// remember lets a job go on after a restart.
func (js *jobs) remember(j Job) error {
	v, err := json.Marshal(j)
	if err != nil {
		return err
	}
	return js.b.cfg.Table.Put(map[string][]byte{jobPrefix + j.ID: v})
}

// forget drops what remember kept, unless the backend is closing: then the job goes on next time.
func (js *jobs) forget(id string) {
	js.mu.Lock()
	closed := js.closed
	js.mu.Unlock()
	if closed {
		return
	}
	if err := js.b.cfg.Table.Put(map[string][]byte{jobPrefix + id: nil}); err != nil {
		js.b.log.Warn("job will run again after a restart", "job", id, "err", err)
	}
}

// start goes on with the jobs that an earlier run did not end.
func (js *jobs) start() {
	var specs []Job
	err := js.b.cfg.Table.Each(jobPrefix, func(_ string, v []byte) error {
		var j Job
		if err := json.Unmarshal(v, &j); err == nil {
			specs = append(specs, Job{ID: j.ID, Kind: j.Kind, Group: j.Group, Repo: j.Repo, File: j.File})
		}
		return nil
	})
	if err != nil {
		js.b.log.Warn("jobs of the last run are lost", "err", err)
	}
	for _, s := range specs {
		var err error
		switch s.Kind {
		case JobFetch:
			_, err = js.b.resumeFetch(s)
		case JobSync:
			_, err = js.b.startSync(s)
		default:
			err = fmt.Errorf("a job of kind %q does not go on", s.Kind)
		}
		if err != nil {
			js.b.log.Warn("job does not go on", "job", s.ID, "err", err)
			js.forget(s.ID)
		}
	}
}

func (js *jobs) close() {
	js.mu.Lock()
	js.closed = true
	if js.collect != nil {
		js.collect.Stop()
	}
	for _, j := range js.all {
		j.cancel()
	}
	js.mu.Unlock()
	js.wg.Wait()
}

// Jobs lists the jobs that run and the latest that ended, newest first.
func (b *Backend) Jobs() []Job {
	b.jobs.mu.Lock()
	defer b.jobs.mu.Unlock()
	var out []Job
	for _, j := range b.jobs.all {
		out = append(out, j.Job)
	}
	slices.SortFunc(out, func(x, y Job) int {
		return cmp.Or(y.Started.Compare(x.Started), cmp.Compare(x.ID, y.ID))
	})
	return out
}

// Job is the present state of a job.
func (b *Backend) Job(id string) (Job, error) {
	b.jobs.mu.Lock()
	defer b.jobs.mu.Unlock()
	if j := b.jobs.all[id]; j != nil {
		return j.Job, nil
	}
	return Job{}, fmt.Errorf("%w: %q", ErrJobNotFound, id)
}

// CancelJob ends a job; what it has brought is kept. Cancelling one that has ended does nothing.
func (b *Backend) CancelJob(id string) error {
	b.jobs.mu.Lock()
	j := b.jobs.all[id]
	b.jobs.mu.Unlock()
	if j == nil {
		return fmt.Errorf("%w: %q", ErrJobNotFound, id)
	}
	j.cancel()
	return nil
}

// WaitJob waits until a job has ended.
func (b *Backend) WaitJob(ctx context.Context, id string) (Job, error) {
	b.jobs.mu.Lock()
	j := b.jobs.all[id]
	b.jobs.mu.Unlock()
	if j == nil {
		return Job{}, fmt.Errorf("%w: %q", ErrJobNotFound, id)
	}
	select {
	case <-j.done:
		return b.Job(id)
	case <-ctx.Done():
		return Job{}, ctx.Err()
	}
}

// Fetch starts to bring a file here, or tells of the job that does so already. It goes on over restarts until it is done
// or cancelled.
func (b *Backend) Fetch(r *group.Repo, name string) (Job, error) {
	f, err := r.File(b.ctx, name)
	if err != nil {
		return Job{}, err
	}
	spec := Job{Kind: JobFetch, Group: r.Group().ID().String(), Repo: r.ID().String(), File: f.Name, Total: f.BlobSize, Done: f.Held}
	// Who cancels a job means the transfer: a second one would go on behind his back.
	if j, ok := b.jobs.running(spec); ok {
		return j, nil
	}
	return b.startFetch(spec)
}

// running is the job that does the same already.
func (js *jobs) running(spec Job) (Job, bool) {
	js.mu.Lock()
	defer js.mu.Unlock()
	for _, j := range js.all {
		if j.State == JobRunning && j.Kind == spec.Kind && j.Group == spec.Group && j.Repo == spec.Repo && j.File == spec.File {
			return j.Job, true
		}
	}
	return Job{}, false
}

// resumeFetch goes on with a job of an earlier run.
func (b *Backend) resumeFetch(spec Job) (Job, error) {
	r, err := b.jobRepo(spec)
	if err != nil {
		return Job{}, err
	}
	if f, err := r.File(b.ctx, spec.File); err == nil {
		spec.Total, spec.Done = f.BlobSize, f.Held
	}
	return b.startFetch(spec)
}

func (b *Backend) startFetch(spec Job) (Job, error) {
	r, err := b.jobRepo(spec)
	if err != nil {
		return Job{}, err
	}
	return b.persist(spec, func(ctx context.Context, report func(func(*Job))) error {
		return r.Fetch(ctx, spec.File, func(p exchange.Progress) {
			report(func(j *Job) { j.take(p) })
		})
	})
}

func (j *Job) take(p exchange.Progress) {
	j.Done, j.Rate, j.Waiting, j.Providers = p.Done, p.Rate, p.Waiting, 0
	if p.Size > 0 {
		j.Total = p.Size
	}
	for _, x := range p.Providers {
		if x.State == "active" {
			j.Providers++
		}
	}
}

func (b *Backend) jobRepo(spec Job) (*group.Repo, error) {
	g, err := b.Group(spec.Group)
	if err != nil {
		return nil, err
	}
	return b.Repo(g, spec.Repo)
}

// Sync starts to bring all files of a group here, or of one of its repos. It goes on over restarts until it is done or
// cancelled.
func (b *Backend) Sync(g *group.Group, r *group.Repo) (Job, error) {
	spec := Job{Kind: JobSync, Group: g.ID().String()}
	if r != nil {
		spec.Repo = r.ID().String()
	}
	return b.startSync(spec)
}

func (b *Backend) startSync(spec Job) (Job, error) {
	g, err := b.Group(spec.Group)
	if err != nil {
		return Job{}, err
	}
	run := g.Sync
	if spec.Repo != "" {
		r, err := b.Repo(g, spec.Repo)
		if err != nil {
			return Job{}, err
		}
		run = r.Sync
	}
	return b.persist(spec, func(ctx context.Context, report func(func(*Job))) error {
		began, before := time.Now(), uint64(0)
		return run(ctx, group.SyncOptions{Progress: func(p group.SyncProgress) {
			report(func(j *Job) {
				if j.Total == 0 {
					before = p.BytesDone
				}
				j.Total, j.Done, j.Files, j.FilesDone, j.Failed = p.Bytes, p.BytesDone, p.Files, p.FilesDone, p.Failed
				if s := time.Since(began).Seconds(); s > 0.1 && p.BytesDone > before {
					j.Rate = float64(p.BytesDone-before) / s
				}
			})
		}})
	})
}

// persist launches a job that goes on over restarts.
func (b *Backend) persist(spec Job, work func(context.Context, func(func(*Job))) error) (Job, error) {
	if spec.ID == "" {
		spec.ID = rand.Text()[:10]
		if err := b.jobs.remember(spec); err != nil {
			return Job{}, err
		}
	}
	return b.jobs.launch(spec, work)
}

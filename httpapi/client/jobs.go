package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/httpapi"
)

// Jobs lists the jobs, newest first.
func (c *Client) Jobs(ctx context.Context) ([]httpapi.Job, error) {
	var l httpapi.JobList
	return l.Jobs, c.call(ctx, http.MethodGet, path("jobs"), nil, &l)
}

// Job is one job.
func (c *Client) Job(ctx context.Context, id string) (j httpapi.Job, err error) {
	return j, c.call(ctx, http.MethodGet, path("jobs", id), nil, &j)
}

// CancelJob ends a job; what it has brought is kept.
func (c *Client) CancelJob(ctx context.Context, id string) (j httpapi.Job, err error) {
	return j, c.call(ctx, http.MethodDelete, path("jobs", id), nil, &j)
}

// Fetch starts to bring a file to the device.
func (c *Client) Fetch(ctx context.Context, group, repo, name string) (j httpapi.Job, err error) {
	return j, c.call(ctx, http.MethodPost, path("groups", group, "repos", repo, "files", name, "fetch"), nil, &j)
}

// Sync starts to bring all files of a group to the device or, where repo is not empty, of one repo.
func (c *Client) Sync(ctx context.Context, group, repo string) (j httpapi.Job, err error) {
	return j, c.call(ctx, http.MethodPost, path("groups", group, "sync"), httpapi.SyncRequest{Repo: repo}, &j)
}

// Verify starts to compare every blob with its hash.
func (c *Client) Verify(ctx context.Context, repair bool) (j httpapi.Job, err error) {
	return j, c.call(ctx, http.MethodPost, path("verify"), httpapi.VerifyRequest{Repair: repair}, &j)
}

// maxEvent bounds one event of the stream.
const maxEvent = 1 << 20

// EventStream reads events. It is for one goroutine.
type EventStream struct {
	body io.ReadCloser
	r    *bufio.Reader
}

// Events opens the stream of events that follow sequence number since; nil: from now on. ctx ends it.
func (c *Client) Events(ctx context.Context, since *uint64) (*EventStream, error) {
	p := path("events")
	if since != nil {
		p += "?since=" + strconv.FormatUint(*since, 10)
	}
	req, err := c.request(ctx, http.MethodGet, p, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	res, err := c.do(req)
	if err != nil {
		return nil, err
	}
	return &EventStream{res.Body, bufio.NewReader(res.Body)}, nil
}

// Next waits for the next event. It returns io.EOF when the daemon ends.
func (s *EventStream) Next() (e backend.Event, err error) {
	var data strings.Builder
	for {
		line, err := s.line()
		if err != nil {
			return e, err
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && data.Len() > 0:
			if err := json.Unmarshal([]byte(data.String()), &e); err != nil {
				return e, fmt.Errorf("event: %w", err)
			}
			return e, nil
		case name == "data":
			if data.Len()+len(value) > maxEvent {
				return e, errors.New("event is too long")
			}
			if data.Len() > 0 {
				data.WriteByte('\n')
			}
			data.WriteString(value)
		}
	}
}

// line reads a line without its end.
func (s *EventStream) line() (string, error) {
	var line []byte
	for {
		part, err := s.r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return strings.TrimRight(string(line), "\r\n"), nil
		case errors.Is(err, bufio.ErrBufferFull) && len(line) <= maxEvent:
		case errors.Is(err, bufio.ErrBufferFull):
			return "", errors.New("event is too long")
		case errors.Is(err, io.ErrUnexpectedEOF):
			return "", io.EOF
		default:
			return "", err
		}
	}
}

// Close ends the stream.
func (s *EventStream) Close() error { return s.body.Close() }

// askAgain is how often Follow looks at a job beside what events tell.
const askAgain = 5 * time.Second

// Follow waits until a job has ended and tells how it goes on: at once, with every change, and its last state. The
// error is the job's own, or why it cannot be followed.
func (c *Client) Follow(ctx context.Context, id string, tell func(httpapi.Job)) (httpapi.Job, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := c.Events(ctx, nil)
	if err != nil {
		return httpapi.Job{}, err
	}
	defer events.Close()
	changed := make(chan backend.Job)
	ended := make(chan struct{})
	go func() { // ends with the stream, which ends with ctx
		defer close(ended)
		for {
			e, err := events.Next()
			if err != nil {
				return
			}
			if e.Job == nil || e.Job.ID != id {
				continue
			}
			select {
			case changed <- *e.Job:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() { cancel(); <-ended }()
	ask := time.NewTicker(askAgain)
	defer ask.Stop()
	for look := true; ; {
		if look {
			j, err := c.Job(ctx, id)
			if err != nil {
				return httpapi.Job{}, err
			}
			tell(j)
			if j.Over() {
				return j, j.Err()
			}
		}
		select {
		case j := <-changed:
			// Only the job itself knows the code of its error.
			if look = j.State != backend.JobRunning; !look {
				tell(httpapi.Job{Job: j})
			}
		case <-ask.C:
			look = true
		case <-ended:
			if ctx.Err() != nil {
				return httpapi.Job{}, ctx.Err()
			}
			return httpapi.Job{}, fmt.Errorf("%w any more: it was stopped; the job goes on when it is started again", ErrNoDaemon)
		case <-ctx.Done():
			return httpapi.Job{}, ctx.Err()
		}
	}
}

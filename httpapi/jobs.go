package httpapi

import (
	"net/http"
	"os"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/exchange"
	"github.com/OpenArchive/save-dweb-go/group"
)

func jobOf(j backend.Job) Job {
	out := Job{Job: j}
	if j.State == backend.JobFailed {
		out.Code = internal.Code
		if err := j.Err(); err != nil {
			out.Code = Classify(err).Code
		}
	}
	return out
}

func movingOf(p exchange.Progress) Moving {
	m := Moving{Blob: p.Hash.String(), Size: p.Size, Done: p.Done, Rate: p.Rate, Waiting: p.Waiting}
	for _, x := range p.Providers {
		if x.State == "active" {
			m.Providers++
		}
	}
	return m
}

func (h *Handler) status(w http.ResponseWriter, _ *http.Request) error {
	s := h.b.State()
	out := Status{
		Status: "running", Version: h.o.Version, PID: os.Getpid(), Started: h.started, Device: h.o.Device, Engine: h.o.Engine,
		Data: h.o.Data, Attached: string(s.Attachment.State), Ready: s.Ready, Route: s.Route, Groups: s.Groups,
		Pending: s.Pending, LastEvent: h.b.LastEvent(),
	}
	for _, j := range h.b.Jobs() {
		if j.State == backend.JobRunning {
			out.Jobs++
		}
	}
	for _, p := range h.b.Transfers() {
		out.Transfers = append(out.Transfers, movingOf(p))
	}
	return answer(w, out)
}

func (h *Handler) shutdown(w http.ResponseWriter, _ *http.Request) error {
	if h.o.Shutdown == nil {
		return &Error{Class{"unimplemented", http.StatusNotImplemented, ExitFailed}, "this program cannot be stopped from here"}
	}
	writeJSON(w, http.StatusAccepted, struct{}{})
	h.o.Shutdown()
	return nil
}

func (h *Handler) jobs(w http.ResponseWriter, _ *http.Request) error {
	out := JobList{Jobs: []Job{}}
	for _, j := range h.b.Jobs() {
		out.Jobs = append(out.Jobs, jobOf(j))
	}
	return answer(w, out)
}

func (h *Handler) job(w http.ResponseWriter, r *http.Request) error {
	j, err := h.b.Job(r.PathValue("id"))
	if err != nil {
		return err
	}
	return answer(w, jobOf(j))
}

func (h *Handler) cancel(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if err := h.b.CancelJob(id); err != nil {
		return err
	}
	j, err := h.b.WaitJob(r.Context(), id)
	if err != nil {
		return err
	}
	return answer(w, jobOf(j))
}

// started answers with a job that has begun.
func started(w http.ResponseWriter, j backend.Job, err error) error {
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusAccepted, jobOf(j))
	return nil
}

func (h *Handler) sync(w http.ResponseWriter, r *http.Request) error {
	g, err := h.theGroup(r)
	if err != nil {
		return err
	}
	var req SyncRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	var repo *group.Repo
	if req.Repo != "" {
		if repo, err = h.b.Repo(g, req.Repo); err != nil {
			return err
		}
	}
	j, err := h.b.Sync(g, repo)
	return started(w, j, err)
}

func (h *Handler) verify(w http.ResponseWriter, r *http.Request) error {
	var req VerifyRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	j, err := h.b.Verify(req.Repair)
	return started(w, j, err)
}

func (h *Handler) gc(w http.ResponseWriter, r *http.Request) error {
	c, err := h.b.Collect(r.Context())
	if err != nil {
		return err
	}
	return answer(w, Collected{c.Removed, c.RemovedBytes, c.Kept, c.KeptBytes})
}

func (h *Handler) fetchFile(w http.ResponseWriter, r *http.Request) error {
	repo, err := h.theRepo(r)
	if err != nil {
		return err
	}
	j, err := h.b.Fetch(repo, r.PathValue("name"))
	return started(w, j, err)
}

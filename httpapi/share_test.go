package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/group"
	"github.com/OpenArchive/save-dweb-go/httpapi"
)

// pair is two devices in one group: a made it, b joined by its link.
func pair(t *testing.T) (a, b *device) {
	t.Helper()
	net := network(t)
	a, b = start(t, net, "a"), start(t, net, "b")
	a.create("G")
	b.join(a, false)
	return a, b
}

func (d *device) join(of *device, readOnly bool) {
	d.t.Helper()
	i, err := of.Invite(d.t.Context(), "G", readOnly)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.Join(d.t.Context(), httpapi.JoinGroup{Link: i.Link, Name: "member " + d.dir}); err != nil {
		d.t.Fatal(err)
	}
	if g, err := d.Refresh(d.t.Context(), "G"); err != nil || g.Name != "G" || g.CanWrite == readOnly {
		d.t.Fatalf("joined %+v, %v", g, err)
	}
}

// seen waits until d lists a file of another member, and returns it.
func (d *device) seen(name string) (file httpapi.File) {
	d.t.Helper()
	d.until("sees "+name, func() bool {
		fs, err := d.Find(d.t.Context(), "G", name)
		if err != nil {
			d.t.Fatal(err)
		}
		if len(fs) > 0 {
			file = fs[0]
		}
		return len(fs) > 0
	})
	return file
}

func TestShare(t *testing.T) {
	a, b := pair(t)
	ctx := t.Context()
	data := bytesOf(3<<20 + 7)
	put := a.put("G", "film.mp4", data)
	f := b.seen("film.mp4")
	if f.Own || f.Local || f.Blob != put.Blob || f.Size != int64(len(data)) || f.MIME != "video/mp4" || f.Repo != put.Repo {
		t.Errorf("b lists %+v", f)
	}
	if _, _, err := b.Open(ctx, "G", f.Repo, f.Name, 0); !errors.Is(err, httpapi.ErrNotLocal) {
		t.Errorf("a file that is not here: %v", err)
	}
	if err := b.Delete(ctx, "G", f.Repo, f.Name); !errors.Is(err, group.ErrReadOnly) {
		t.Errorf("b deletes a's file: %v", err)
	}
	if _, err := b.RenameRepo(ctx, "G", f.Repo, "mine"); !errors.Is(err, group.ErrReadOnly) {
		t.Errorf("b renames a's repo: %v", err)
	}

	job, err := b.Fetch(ctx, "G", f.Repo, f.Name)
	if err != nil {
		t.Fatal(err)
	}
	if job.Kind != backend.JobFetch || job.File != f.Name || job.Total != f.BlobSize {
		t.Errorf("job: %+v", job)
	}
	states := 0
	end, err := b.Follow(ctx, job.ID, func(httpapi.Job) { states++ })
	if err != nil || end.State != backend.JobDone || end.Done != f.BlobSize || end.Ended.IsZero() || states == 0 {
		t.Errorf("job ended as %+v, %v, after %d reports", end, err, states)
	}
	if got := b.read("G", f.Repo, f.Name); !bytes.Equal(got, data) {
		t.Error("other bytes arrived")
	}

	for i := range 5 {
		b.put("G", strings.Repeat("x", i+1)+".jpg", bytesOf(5000+i))
	}
	a.seen("xxxxx.jpg")
	if job, err = a.Sync(ctx, "G", ""); err != nil {
		t.Fatal(err)
	}
	if end, err = a.Follow(ctx, job.ID, func(httpapi.Job) {}); err != nil || end.FilesDone != end.Files || end.Failed != 0 {
		t.Errorf("sync ended as %+v, %v", end, err)
	}
	files, err := a.Files(ctx, "G", "")
	if err != nil || len(files) != 6 {
		t.Errorf("%d files, %v: want 6", len(files), err)
	}
	for _, f := range files {
		if !f.Local {
			t.Errorf("%s is not here after sync", f.Name)
		}
	}
	pongs, err := a.Ping(ctx, "G")
	if err != nil || len(pongs) != 1 || pongs[0].Error != "" || pongs[0].Member.Own || pongs[0].Member.Device != "b" {
		t.Errorf("ping: %+v, %v", pongs, err)
	}
}

func TestReadOnlyMember(t *testing.T) {
	net := network(t)
	a, b := start(t, net, "a"), start(t, net, "b")
	a.create("G")
	a.put("G", "a.txt", []byte("hello"))
	b.join(a, true)
	f := b.seen("a.txt")
	job, err := b.Fetch(t.Context(), "G", f.Repo, f.Name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Follow(t.Context(), job.ID, func(httpapi.Job) {}); err != nil {
		t.Fatal(err)
	}
	if got := b.read("G", f.Repo, f.Name); string(got) != "hello" {
		t.Errorf("read %q", got)
	}
	if res, body := b.raw("PUT", "/v1/groups/G/files/b.txt", "x"); res.StatusCode != 403 || !strings.Contains(body, `"read_only"`) {
		t.Errorf("a reader puts a file: %s, %s", res.Status, body)
	}
	if _, err := b.Invite(t.Context(), "G", false); !errors.Is(err, group.ErrReadOnly) {
		t.Errorf("a reader invites members: %v", err)
	}
	if i, err := b.Invite(t.Context(), "G", true); err != nil || !i.ReadOnly {
		t.Errorf("a reader invites readers: %+v, %v", i.ReadOnly, err)
	}
	name := "other"
	if _, err := b.ChangeGroup(t.Context(), "G", httpapi.ChangeGroup{Name: &name}); !errors.Is(err, group.ErrReadOnly) {
		t.Errorf("a reader renames the group: %v", err)
	}
}

// TestCancelWhileWaiting shows that a job that nobody can serve says so, and ends when it is told to.
func TestCancelWhileWaiting(t *testing.T) {
	a, b := pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	a.put("G", "film.mp4", bytesOf(2<<20))
	f := b.seen("film.mp4")
	if err := a.backend.Close(ctx); err != nil {
		t.Fatal(err)
	}
	job, err := b.Fetch(ctx, "G", f.Repo, f.Name)
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan string, 1)
	done := make(chan error, 1)
	var end httpapi.Job
	go func() {
		var err error
		end, err = b.Follow(ctx, job.ID, func(j httpapi.Job) {
			if j.Waiting != "" {
				select {
				case waiting <- j.Waiting:
				default:
				}
			}
		})
		done <- err
	}()
	select {
	case <-waiting:
	case err := <-done:
		t.Fatalf("the job ended: %+v, %v", end, err)
	}
	if s, err := b.Status(ctx); err != nil || s.Jobs != 1 || len(s.Transfers) != 1 || s.Transfers[0].Waiting == "" {
		t.Errorf("status: %+v, %v", s, err)
	}
	if j, err := b.Fetch(ctx, "G", f.Repo, f.Name); err != nil || j.ID != job.ID {
		t.Errorf("asked twice, another job began: %+v, %v", j, err)
	}
	if j, err := b.CancelJob(ctx, job.ID); err != nil || j.State != backend.JobCanceled {
		t.Errorf("cancelled: %+v, %v", j, err)
	}
	if err := <-done; err != nil || end.State != backend.JobCanceled {
		t.Errorf("the follower was told %+v, %v", end, err)
	}
	if j, err := b.CancelJob(ctx, job.ID); err != nil || j.State != backend.JobCanceled {
		t.Errorf("cancelled again: %+v, %v", j, err)
	}
}

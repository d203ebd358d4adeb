package httpapi_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/group"
	"github.com/OpenArchive/save-dweb-go/group/invite"
	"github.com/OpenArchive/save-dweb-go/httpapi"
)

func ptr[T any](v T) *T { return &v }

func TestGroups(t *testing.T) {
	d := start(t, network(t), "a")
	ctx := t.Context()
	if gs, err := d.Groups(ctx); err != nil || len(gs) != 0 {
		t.Fatalf("groups of a new device: %v, %v", gs, err)
	}
	g, err := d.CreateGroup(ctx, httpapi.NewGroup{Name: "Trip / Jahr?", Member: "Ann"})
	if err != nil {
		t.Fatal(err)
	}
	if g.Name != "Trip / Jahr?" || !g.CanWrite || !g.Legacy || g.Members != 1 || g.Repo == "" || !strings.HasPrefix(g.Key, "VLD0:") {
		t.Errorf("new group: %+v", g)
	}
	_, bare, _ := strings.Cut(g.Key, ":")
	for _, ref := range []string{g.Key, bare, bare[:6], g.Name} {
		if got, err := d.Group(ctx, ref); err != nil || got.Key != g.Key {
			t.Errorf("group %q: %+v, %v", ref, got, err)
		}
	}
	if _, err := d.Group(ctx, "no such"); !errors.Is(err, backend.ErrGroupNotFound) {
		t.Errorf("got %v, want %v", err, backend.ErrGroupNotFound)
	}
	if g, err = d.ChangeGroup(ctx, bare, httpapi.ChangeGroup{Name: ptr("Reise"), Legacy: ptr(false)}); err != nil || g.Name != "Reise" || g.Legacy {
		t.Errorf("changed group: %+v, %v", g, err)
	}
	if _, err = d.ChangeGroup(ctx, bare, httpapi.ChangeGroup{Name: ptr(" ")}); !errors.Is(err, group.ErrBadName) {
		t.Errorf("got %v, want %v", err, group.ErrBadName)
	}
	if r, err := d.Repo(ctx, bare, "me"); err != nil || r.Name != "Ann" || !r.CanWrite {
		t.Errorf("own repo: %+v, %v", r, err)
	}
	if r, err := d.RenameRepo(ctx, bare, "Ann", "Anna"); err != nil || r.Name != "Anna" {
		t.Errorf("renamed repo: %+v, %v", r, err)
	}
	if _, err := d.Repo(ctx, bare, "Ann"); !errors.Is(err, group.ErrRepoNotFound) {
		t.Errorf("got %v, want %v", err, group.ErrRepoNotFound)
	}
	if ms, err := d.Members(ctx, bare); err != nil || len(ms) != 1 || ms[0].Name != "Anna" || !ms[0].Own || ms[0].Device != "a" {
		t.Errorf("members: %+v, %v", ms, err)
	}
	if rs, err := d.Repos(ctx, bare); err != nil || len(rs) != 1 || rs[0].Key != g.Repo {
		t.Errorf("repos: %+v, %v", rs, err)
	}
	if _, err := d.CreateGroup(ctx, httpapi.NewGroup{Name: "Reise"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Group(ctx, "Reise"); !errors.Is(err, backend.ErrAmbiguous) {
		t.Errorf("two groups of one name: got %v, want %v", err, backend.ErrAmbiguous)
	}
	if s, err := d.Status(ctx); err != nil || s.Groups != 2 || !s.Ready || s.Device != "a" || s.Version != "test" || s.LastEvent == 0 {
		t.Errorf("status: %+v, %v", s, err)
	}
	if err := d.Leave(ctx, bare); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Group(ctx, bare); !errors.Is(err, backend.ErrGroupNotFound) {
		t.Errorf("got %v after leaving, want %v", err, backend.ErrGroupNotFound)
	}
}

// TestInvite shows that links are right, and that no other answer holds what they hold.
func TestInvite(t *testing.T) {
	d := prepare(t, network(t), "a")
	g := d.create("G")
	for _, readOnly := range []bool{false, true} {
		i, err := d.Invite(t.Context(), g.Key, readOnly)
		if err != nil {
			t.Fatal(err)
		}
		l, err := invite.Parse(i.Link)
		if err != nil || l.ReadOnly() != readOnly || i.ReadOnly != readOnly || l.Group.Opaque().String() != g.Key {
			t.Errorf("read only %v: %v, %v", readOnly, l, err)
		}
	}
	full, err := d.Invite(t.Context(), g.Key, false)
	if err != nil {
		t.Fatal(err)
	}
	d.put("G", "a.txt", []byte("a"))
	_, query, _ := strings.Cut(full.Link, "?")
	for _, path := range []string{
		"/v1/status", "/v1/groups", "/v1/groups/G", "/v1/groups/G/members", "/v1/groups/G/repos", "/v1/groups/G/files", "/v1/jobs",
	} {
		res, body := d.raw("GET", path, "")
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, res.Status)
		}
		for _, p := range strings.Split(query, "&") {
			name, secret, _ := strings.Cut(p, "=")
			if name == "dht" { // its first half is the public key, its second opens the record
				_, secret, _ = strings.Cut(secret, "%3A")
			}
			if strings.Contains(body, secret) {
				t.Errorf("%s tells %s of the link", path, name)
			}
		}
	}
}

func TestJoinRefusals(t *testing.T) {
	d := prepare(t, network(t), "a")
	g := d.create("G")
	i, err := d.Invite(t.Context(), g.Key, false)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := d.Join(t.Context(), httpapi.JoinGroup{Link: i.Link}); err != nil || again.Key != g.Key {
		t.Errorf("joined again: %+v, %v", again, err)
	}
	secret := i.Link[strings.Index(i.Link, "enc=")+4:][:20]
	for _, link := range []string{"", "hello", i.Link[:len(i.Link)-3], strings.Replace(i.Link, "enc="+secret, "enc=zz"+secret[2:], 1)} {
		_, err := d.Join(t.Context(), httpapi.JoinGroup{Link: link})
		var told *httpapi.Error
		if !errors.As(err, &told) || told.Code != "bad_link" || told.Exit != httpapi.ExitUsage {
			t.Errorf("a wrong link: %v", err)
		}
		if err != nil && strings.Contains(err.Error(), secret[2:]) {
			t.Errorf("the error quotes a secret: %v", err)
		}
	}
}

func TestOffline(t *testing.T) {
	d := prepare(t, network(t), "a") // the backend was not started
	g := d.create("G")
	for what, err := range map[string]error{
		"ping":    second(d.Ping(t.Context(), g.Key)),
		"refresh": second(d.Refresh(t.Context(), g.Key)),
	} {
		if !errors.Is(err, backend.ErrOffline) {
			t.Errorf("%s: got %v, want %v", what, err, backend.ErrOffline)
		}
	}
	if f := d.put("G", "a.txt", []byte("a")); f.Published || !f.Local {
		t.Errorf("a file that was put offline: %+v", f)
	}
	if g, err := d.Group(t.Context(), "G"); err != nil || g.Published {
		t.Errorf("group: %+v, %v", g, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestBadRequests(t *testing.T) {
	d := prepare(t, network(t), "a")
	d.create("G")
	const json = "application/json"
	for _, c := range []struct {
		method, path, body string
		header             []string
		status             int
		code               string
	}{
		{"GET", "/", "", nil, 404, "no_such_route"},
		{"GET", "/v1/nothing", "", nil, 404, "no_such_route"},
		{"PUT", "/v1/groups/G/files/", "x", nil, 404, "no_such_route"},
		{"PATCH", "/v1/status", "", nil, 405, "method_not_allowed"},
		{"POST", "/v1/groups", `{"name":`, nil, 400, "bad_request"},
		{"POST", "/v1/groups", `{"nome":"x"}`, nil, 400, "bad_request"},
		{"POST", "/v1/groups", `{"name":1}`, nil, 400, "bad_request"},
		{"POST", "/v1/groups", `{"name":"x"} {}`, nil, 400, "bad_request"},
		{"POST", "/v1/groups", `{"name":"x"}`, []string{"Content-Type", "text/plain"}, 400, "bad_request"},
		{"POST", "/v1/groups", `{"name":"` + strings.Repeat("x", httpapi.MaxBody) + `"}`, []string{"Content-Type", json}, 413, "body_too_large"},
		{"POST", "/v1/groups", "", nil, 400, "bad_name"},
		{"GET", "/v1/groups/G/invite?read_only=maybe", "", nil, 400, "bad_request"},
		{"GET", "/v1/events?since=yesterday", "", nil, 400, "bad_request"},
		{"GET", "/v1/jobs/none", "", nil, 404, "job_not_found"},
		{"DELETE", "/v1/jobs/none", "", nil, 404, "job_not_found"},
		{"POST", "/v1/groups/G/sync", `{"repo":"nobody"}`, nil, 404, "repo_not_found"},
		{"POST", "/v1/groups/X/sync", ``, nil, 404, "group_not_found"},
		{"GET", "/v1/groups/G/repos/me/files/none", "", nil, 404, "file_not_found"},
		{"DELETE", "/v1/groups/G/repos/me/files/none", "", nil, 404, "file_not_found"},
		{"POST", "/v1/groups/G/repos/me/files/none/fetch", "", nil, 404, "file_not_found"},
		{"PUT", "/v1/groups/G/files/a%2Fb", "x", nil, 400, "bad_name"},
		{"PUT", "/v1/groups/G/files/%2E%2E", "x", nil, 400, "bad_name"},
		{"PUT", "/v1/groups/G/files/a%00", "x", nil, 400, "bad_name"},
		{"PUT", "/v1/groups/G/files/" + strings.Repeat("n", 256), "x", nil, 400, "bad_name"},
		{"PUT", "/v1/groups/G/files/a", "x", []string{"If-None-Match", `"abc"`}, 400, "bad_request"},
		{"PUT", "/v1/groups/G/files/a", "x", []string{"Content-Range", "bytes 0-0/5"}, 400, "bad_request"},
		{"PUT", "/v1/groups/G/files/a", "x", []string{httpapi.HeaderModified, "today"}, 400, "bad_request"},
	} {
		res, body := d.raw(c.method, c.path, c.body, c.header...)
		if res.StatusCode != c.status || !strings.Contains(body, `"status":"error"`) || !strings.Contains(body, `"code":"`+c.code+`"`) ||
			res.Header.Get("Content-Type") != json {
			t.Errorf("%s %.60s %.40q: %s, %.200s: want %d, %s", c.method, c.path, c.body, res.Status, body, c.status, c.code)
		}
		if c.status == 405 && !strings.Contains(res.Header.Get("Allow"), "GET") {
			t.Errorf("%s %s: Allow is %q", c.method, c.path, res.Header.Get("Allow"))
		}
	}
	if fs, err := d.Files(t.Context(), "G", ""); err != nil || len(fs) != 0 {
		t.Errorf("files after refused uploads: %+v, %v", fs, err)
	}
	if gs, err := d.Groups(t.Context()); err != nil || len(gs) != 1 {
		t.Errorf("groups after refused requests: %+v, %v", gs, err)
	}
}

func TestShutdown(t *testing.T) {
	d := prepare(t, network(t), "a")
	if err := d.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.stopped:
	case <-t.Context().Done():
		t.Fatal("nobody was told")
	}
	h := httpapi.New(d.backend, httpapi.Options{})
	s := httpapi.NewServer(h, nil)
	if err := d.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(d.socket); err != nil {
		t.Fatal(err)
	}
	defer s.Stop(t.Context()) //nolint:errcheck // the test is over
	var told *httpapi.Error
	if err := d.Shutdown(t.Context()); !errors.As(err, &told) || told.Code != "unimplemented" {
		t.Errorf("a program that cannot be stopped says %v", err)
	}
}

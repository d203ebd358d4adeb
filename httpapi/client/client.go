// Package client asks a daemon over its unix socket. Its methods may be called from any goroutine. A failure that the
// daemon told of is an [*httpapi.Error], which matches the errors of its code; [ErrNoDaemon] means that none answers.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/OpenArchive/save-dweb-go/httpapi"
)

// ErrNoDaemon: no daemon answers at the socket.
var ErrNoDaemon = errors.New("no daemon is running")

// maxAnswer bounds the JSON of an answer.
const maxAnswer = 256 << 20

// Client asks one daemon.
type Client struct {
	socket string
	http   *http.Client
}

// New makes a client of the daemon that listens at a socket. It connects when it is first used.
func New(socket string) *Client {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
		ExpectContinueTimeout: 5 * time.Second,
		IdleConnTimeout:       time.Minute,
		DisableCompression:    true,
	}}}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// path joins segments to a path, each escaped.
func path(segments ...string) string {
	var b strings.Builder
	b.WriteString("/v1")
	for _, s := range segments {
		e := url.PathEscape(s)
		if s == "." || s == ".." { // else they would be taken for steps
			e = strings.ReplaceAll(s, ".", "%2E")
		}
		b.WriteString("/" + e)
	}
	return b.String()
}

// call sends a request with a JSON body, if in is not nil, and reads the answer's JSON into out, if that is not nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := c.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return decode(res.Body, out)
}

func decode(r io.Reader, out any) error {
	b, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("the daemon's answer broke off: %w", err)
	}
	if len(b) > maxAnswer {
		return fmt.Errorf("the daemon's answer is longer than %d bytes", maxAnswer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("the daemon's answer cannot be read; is it of another version? %w", err)
	}
	return nil
}

func (c *Client) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, method, "http://dweb"+path, body)
}

// do sends a request and turns failures into errors. The caller closes the body.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.transportError(err)
	}
	if res.StatusCode < 300 {
		return res, nil
	}
	defer res.Body.Close()
	var told struct{ Error, Code string }
	b, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if json.Unmarshal(b, &told) != nil || told.Error == "" {
		told.Error = fmt.Sprintf("the daemon answers %s", res.Status)
	}
	return nil, httpapi.ErrorOf(res.StatusCode, told.Code, told.Error)
}

// transportError says in a person's words that there is no daemon, or what else went wrong.
func (c *Client) transportError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the made-up address
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w at %s", ErrNoDaemon, c.socket)
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("socket %s belongs to another user: %w", c.socket, err)
	}
	return err
}

// Status asks what the daemon is doing.
func (c *Client) Status(ctx context.Context) (s httpapi.Status, err error) {
	return s, c.call(ctx, http.MethodGet, path("status"), nil, &s)
}

// Shutdown asks the daemon to end; it answers before it does.
func (c *Client) Shutdown(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, path("shutdown"), nil, nil)
}

// Groups lists the groups.
func (c *Client) Groups(ctx context.Context) ([]httpapi.Group, error) {
	var l httpapi.GroupList
	return l.Groups, c.call(ctx, http.MethodGet, path("groups"), nil, &l)
}

// CreateGroup makes a group.
func (c *Client) CreateGroup(ctx context.Context, req httpapi.NewGroup) (g httpapi.Group, err error) {
	return g, c.call(ctx, http.MethodPost, path("groups"), req, &g)
}

// Group is one group.
func (c *Client) Group(ctx context.Context, group string) (g httpapi.Group, err error) {
	return g, c.call(ctx, http.MethodGet, path("groups", group), nil, &g)
}

// ChangeGroup renames a group or changes its settings.
func (c *Client) ChangeGroup(ctx context.Context, group string, req httpapi.ChangeGroup) (g httpapi.Group, err error) {
	return g, c.call(ctx, http.MethodPatch, path("groups", group), req, &g)
}

// Leave ends the membership in a group.
func (c *Client) Leave(ctx context.Context, group string) error {
	return c.call(ctx, http.MethodDelete, path("groups", group), nil, nil)
}

// Join takes part in the group of a link.
func (c *Client) Join(ctx context.Context, req httpapi.JoinGroup) (g httpapi.Group, err error) {
	return g, c.call(ctx, http.MethodPost, path("join"), req, &g)
}

// Invite is the link to a group, with its secrets.
func (c *Client) Invite(ctx context.Context, group string, readOnly bool) (i httpapi.Invite, err error) {
	p := path("groups", group, "invite")
	if readOnly {
		p += "?read_only=1"
	}
	return i, c.call(ctx, http.MethodGet, p, nil, &i)
}

// Members lists a group's members.
func (c *Client) Members(ctx context.Context, group string) ([]httpapi.Member, error) {
	var l httpapi.MemberList
	return l.Members, c.call(ctx, http.MethodGet, path("groups", group, "members"), nil, &l)
}

// Ping calls the other members of a group.
func (c *Client) Ping(ctx context.Context, group string) ([]httpapi.Pong, error) {
	var l httpapi.PongList
	return l.Pongs, c.call(ctx, http.MethodPost, path("groups", group, "ping"), nil, &l)
}

// Refresh reads a group again from the network and publishes what is pending.
func (c *Client) Refresh(ctx context.Context, group string) (g httpapi.Group, err error) {
	return g, c.call(ctx, http.MethodPost, path("groups", group, "refresh"), nil, &g)
}

// Repos lists a group's repos.
func (c *Client) Repos(ctx context.Context, group string) ([]httpapi.Repo, error) {
	var l httpapi.RepoList
	return l.Repos, c.call(ctx, http.MethodGet, path("groups", group, "repos"), nil, &l)
}

// Repo is one repo.
func (c *Client) Repo(ctx context.Context, group, repo string) (r httpapi.Repo, err error) {
	return r, c.call(ctx, http.MethodGet, path("groups", group, "repos", repo), nil, &r)
}

// RenameRepo renames the own repo.
func (c *Client) RenameRepo(ctx context.Context, group, repo, name string) (r httpapi.Repo, err error) {
	return r, c.call(ctx, http.MethodPatch, path("groups", group, "repos", repo), httpapi.ChangeRepo{Name: name}, &r)
}

// Collect removes what no repo keeps.
func (c *Client) Collect(ctx context.Context) (g httpapi.Collected, err error) {
	return g, c.call(ctx, http.MethodPost, path("gc"), nil, &g)
}

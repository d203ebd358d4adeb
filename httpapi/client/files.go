package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/OpenArchive/save-dweb-go/httpapi"
)

// Files lists the files of all members of a group or, where repo is not empty, of one.
func (c *Client) Files(ctx context.Context, group, repo string) ([]httpapi.File, error) {
	var l httpapi.FileList
	p := path("groups", group, "files")
	if repo != "" {
		p = path("groups", group, "repos", repo, "files")
	}
	return l.Files, c.call(ctx, http.MethodGet, p, nil, &l)
}

// Find lists the files of this name among all members of a group.
func (c *Client) Find(ctx context.Context, group, name string) ([]httpapi.File, error) {
	var l httpapi.FileList
	return l.Files, c.call(ctx, http.MethodGet, path("groups", group, "files")+"?name="+url.QueryEscape(name), nil, &l)
}

// File is one file.
func (c *Client) File(ctx context.Context, group, repo, name string) (f httpapi.File, err error) {
	return f, c.call(ctx, http.MethodGet, path("groups", group, "repos", repo, "files", name, "info"), nil, &f)
}

// PutOptions say what is known of a file beside its bytes.
type PutOptions struct {
	MIME      string    // "": by the name's extension
	Modified  time.Time // zero: now
	NoReplace bool      // fail rather than replace a file of that name
	Size      int64     // -1: not known; the upload must then end by itself
}

// Put streams a file into the own repo. The daemon answers when it is durable there.
func (c *Client) Put(ctx context.Context, group, name string, src io.Reader, o PutOptions) (f httpapi.File, err error) {
	if name == "" {
		return f, fmt.Errorf("%w: the file has no name", httpapi.ErrBadRequest)
	}
	req, err := c.request(ctx, http.MethodPut, path("groups", group, "files", name), io.NopCloser(src))
	if err != nil {
		return f, err
	}
	if req.ContentLength = o.Size; o.Size == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("Expect", "100-continue") // a refusal comes before the bytes are sent
	if o.MIME != "" {
		req.Header.Set("Content-Type", o.MIME)
	}
	if !o.Modified.IsZero() {
		req.Header.Set(httpapi.HeaderModified, o.Modified.UTC().Format(time.RFC3339Nano))
	}
	if o.NoReplace {
		req.Header.Set("If-None-Match", "*")
	}
	res, err := c.do(req)
	if err != nil {
		return f, err
	}
	defer res.Body.Close()
	return f, decode(res.Body, &f)
}

// Delete takes a file out of a repo, which must be the own one.
func (c *Client) Delete(ctx context.Context, group, repo, name string) error {
	return c.call(ctx, http.MethodDelete, path("groups", group, "repos", repo, "files", name), nil, nil)
}

// Open streams the plaintext of a file that is on the device, from an offset to its end, and tells its whole size. A
// stream that breaks off because the file cannot be read says so by the error that its reader returns.
func (c *Client) Open(ctx context.Context, group, repo, name string, offset int64) (io.ReadCloser, int64, error) {
	d := &download{c: c, ctx: ctx, path: path("groups", group, "repos", repo, "files", name), at: offset}
	if err := d.open(); err != nil {
		return nil, 0, err
	}
	return d, d.size, nil
}

// download reads a file's bytes and asks again, once at each place, when the stream breaks off.
type download struct {
	c    *Client
	ctx  context.Context
	path string
	etag string
	at   int64 // next byte
	size int64 // of the file
	body io.ReadCloser
}

func (d *download) open() error {
	req, err := d.c.request(d.ctx, http.MethodGet, d.path, nil)
	if err != nil {
		return err
	}
	if d.at > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.at))
	}
	if d.etag != "" {
		req.Header.Set("If-Match", d.etag)
	}
	res, err := d.c.do(req)
	if err != nil {
		return err
	}
	if d.at > 0 && res.StatusCode != http.StatusPartialContent {
		res.Body.Close()
		return fmt.Errorf("the daemon does not go on at byte %d: it answers %s", d.at, res.Status)
	}
	d.body, d.etag, d.size = res.Body, res.Header.Get("ETag"), d.at+res.ContentLength
	return nil
}

// Read reads on.
func (d *download) Read(p []byte) (int, error) {
	n, err := d.read(p)
	switch {
	case n > 0 || err == nil:
		return n, nil
	case err == io.EOF && d.at == d.size:
		return 0, io.EOF
	case d.ctx.Err() != nil:
		return 0, d.ctx.Err()
	}
	// Asking for the rest either goes on or tells why it cannot.
	d.body.Close()
	if again := d.open(); again != nil {
		var told *httpapi.Error
		if errors.As(again, &told) {
			return 0, told
		}
		return 0, d.broke(errors.Join(err, again))
	}
	if n, err = d.read(p); n == 0 && err != nil {
		return 0, d.broke(err)
	}
	return n, nil
}

func (d *download) read(p []byte) (int, error) {
	n, err := d.body.Read(p)
	d.at += int64(n)
	return n, err
}

func (d *download) broke(err error) error {
	return fmt.Errorf("the stream broke off at byte %d: %w", d.at, err)
}

// Close ends the stream.
func (d *download) Close() error { return d.body.Close() }

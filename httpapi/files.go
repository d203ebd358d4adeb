package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/group"
)

// HeaderModified holds, in RFC 3339, when a file that is put was last changed.
const HeaderModified = "X-Modified"

func fileOf(r *group.Repo, f group.File) File {
	return File{
		Repo: r.ID().String(), Member: r.Name(), Own: r.CanWrite(), Name: f.Name, Size: f.Size, MIME: f.MIME, Created: f.Created,
		Modified: f.Modified, Blob: f.Blob.String(), BlobSize: f.BlobSize, Held: f.Held, Local: f.Local, Published: f.Published,
	}
}

func appendFiles(ctx context.Context, out []File, r *group.Repo) ([]File, error) {
	files, err := r.Files(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		out = append(out, fileOf(r, f))
	}
	return out, nil
}

func (h *Handler) groupFiles(w http.ResponseWriter, r *http.Request) error {
	g, err := h.theGroup(r)
	if err != nil {
		return err
	}
	out := FileList{Files: []File{}}
	name := r.URL.Query().Get("name")
	for _, repo := range g.Repos() {
		if name == "" {
			out.Files, err = appendFiles(r.Context(), out.Files, repo)
		} else {
			var f group.File
			if f, err = repo.File(r.Context(), name); err == nil {
				out.Files = append(out.Files, fileOf(repo, f))
			} else if errors.Is(err, group.ErrFileNotFound) {
				err = nil
			}
		}
		if err != nil {
			return err
		}
	}
	return answer(w, out)
}

func (h *Handler) repoFiles(w http.ResponseWriter, r *http.Request) error {
	repo, err := h.theRepo(r)
	if err != nil {
		return err
	}
	out := FileList{}
	if out.Files, err = appendFiles(r.Context(), []File{}, repo); err != nil {
		return err
	}
	return answer(w, out)
}

func (h *Handler) fileInfo(w http.ResponseWriter, r *http.Request) error {
	repo, err := h.theRepo(r)
	if err != nil {
		return err
	}
	f, err := repo.File(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return answer(w, fileOf(repo, f))
}

func (h *Handler) deleteFile(w http.ResponseWriter, r *http.Request) error {
	repo, err := h.theRepo(r)
	if err != nil {
		return err
	}
	if err := repo.Delete(r.Context(), r.PathValue("name")); err != nil {
		return err
	}
	return answer(w, struct{}{})
}

func (h *Handler) putFile(w http.ResponseWriter, r *http.Request) error {
	g, err := h.theGroup(r)
	if err != nil {
		return err
	}
	repo, err := h.b.Repo(g, "me")
	if err != nil {
		if !g.Keys().CanWrite() {
			err = fmt.Errorf("this device was invited to read only: %w", group.ErrReadOnly)
		}
		return err
	}
	opts, err := putOptions(r)
	if err != nil {
		return err
	}
	body := &upload{r: r.Body, rc: http.NewResponseController(w), stall: h.stall}
	f, err := repo.Put(r.Context(), r.PathValue("name"), body, opts)
	if err != nil {
		// The server reads on for a while, so that the client sees the answer; not for ever.
		body.rc.SetReadDeadline(time.Now().Add(min(h.stall, drainLimit))) //nolint:errcheck // a test's recorder has none
		return err
	}
	body.rc.SetReadDeadline(time.Time{}) //nolint:errcheck // as above
	writeJSON(w, http.StatusCreated, fileOf(repo, f))
	return nil
}

func putOptions(r *http.Request) (o group.PutOptions, err error) {
	if r.Header.Get("Content-Range") != "" {
		return o, fmt.Errorf("%w: a file is put as a whole, without Content-Range", ErrBadRequest)
	}
	switch m := r.Header.Get("If-None-Match"); m {
	case "":
	case "*":
		o.NoReplace = true
	default:
		return o, fmt.Errorf("%w: If-None-Match can only be *", ErrBadRequest)
	}
	if s := r.Header.Get(HeaderModified); s != "" {
		if o.Modified, err = time.Parse(time.RFC3339, s); err != nil {
			return o, fmt.Errorf("%w: %s must be a time of RFC 3339", ErrBadRequest, HeaderModified)
		}
	}
	switch m, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); {
	case err != nil, m == "application/octet-stream", m == "application/x-www-form-urlencoded":
		// What programs say that do not know; the name's extension tells more.
	default:
		o.MIME = m
	}
	return o, nil
}

// upload reads a body that may be long, but must not stand still for ever.
type upload struct {
	r     io.Reader
	rc    *http.ResponseController
	stall time.Duration
}

func (u *upload) Read(p []byte) (int, error) {
	u.rc.SetReadDeadline(time.Now().Add(u.stall)) //nolint:errcheck // a test's recorder has none
	n, err := u.r.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w: nothing came for %v", ErrStalled, u.stall)
	}
	return n, err
}

func (h *Handler) getFile(w http.ResponseWriter, r *http.Request) error {
	repo, err := h.theRepo(r)
	if err != nil {
		return err
	}
	name := r.PathValue("name")
	f, err := repo.File(r.Context(), name)
	if err != nil {
		return err
	}
	if !f.Local {
		return fmt.Errorf("file %q: %w", name, ErrNotLocal)
	}
	rd, err := repo.Open(r.Context(), name)
	if errors.Is(err, blobs.ErrNotFound) { // gone since
		err = fmt.Errorf("file %q: %w", name, ErrNotLocal)
	}
	if err != nil {
		return err
	}
	defer rd.Close()
	head := w.Header()
	before := head.Clone()
	head.Set("ETag", `"`+f.Blob.String()+`"`)
	head.Set("Cache-Control", "private, no-cache")
	head.Set("Content-Type", safeType(f.MIME))
	head.Set("Content-Disposition", disposition(f))
	// A member's file must not act in the name of whoever shows it.
	head.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	src := &watched{ReaderAt: rd}
	out := &lateHeader{ResponseWriter: w, rc: http.NewResponseController(w), stall: h.stall}
	http.ServeContent(out, r, "", f.Modified, io.NewSectionReader(src, 0, rd.Size))
	switch {
	case src.err == nil:
		out.flush()
		return nil
	case !out.sent:
		clear(head)
		for k, v := range before {
			head[k] = v
		}
		return fmt.Errorf("file %q: %w", name, src.err)
	}
	// The answer has begun: only breaking the connection says that it is not whole. Who asks for the rest is told why.
	h.log.Warn("download broke off", "err", src.err)
	panic(http.ErrAbortHandler)
}

// watched keeps the first error of reading, which ServeContent swallows.
type watched struct {
	io.ReaderAt
	err error
}

func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.ReaderAt.ReadAt(p, off)
	if err != nil && err != io.EOF && w.err == nil {
		w.err = err
	}
	return n, err
}

// lateHeader sends the header with the first bytes, so that a file whose first bytes cannot be read gets an error.
type lateHeader struct {
	http.ResponseWriter
	rc     *http.ResponseController
	stall  time.Duration
	status int
	sent   bool
}

func (l *lateHeader) WriteHeader(status int) { l.status = status }

func (l *lateHeader) Write(p []byte) (int, error) {
	l.flush()
	l.rc.SetWriteDeadline(time.Now().Add(l.stall)) //nolint:errcheck // a test's recorder has none
	return l.ResponseWriter.Write(p)
}

func (l *lateHeader) flush() {
	if l.sent {
		return
	}
	l.sent = true
	if l.status != 0 {
		l.ResponseWriter.WriteHeader(l.status)
	}
}

// safeType is a file's media type, if it is one: a member may have written anything.
func safeType(s string) string {
	m, params, err := mime.ParseMediaType(s)
	if err != nil || !strings.Contains(m, "/") {
		return "application/octet-stream"
	}
	if t := mime.FormatMediaType(m, params); t != "" {
		return t
	}
	return "application/octet-stream"
}

// disposition lets pictures, sound and films be shown and everything else be saved, under a name without a path.
func disposition(f group.File) string {
	kind := "attachment"
	for _, p := range []string{"image/", "audio/", "video/"} {
		if m := safeType(f.MIME); strings.HasPrefix(m, p) && !strings.HasPrefix(m, "image/svg") {
			kind = "inline"
		}
	}
	name := strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' {
			return '_'
		}
		return r
	}, f.Name)
	if d := mime.FormatMediaType(kind, map[string]string{"filename": name}); d != "" && group.CheckFileName(name) == nil {
		return d
	}
	return kind
}

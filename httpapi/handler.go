package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/OpenArchive/save-dweb-go/backend"
)

// Limits of requests.
const (
	maxBody      = 64 << 10 // of JSON
	bodyTimeout  = 30 * time.Second
	writeTimeout = 5 * time.Minute // of one piece of an answer, to a client that does not read
	uploadStall  = 15 * time.Minute
	drainLimit   = 5 * time.Second // for the rest of an upload that was refused
	pingTimeout  = 30 * time.Second
	refreshLimit = 2 * time.Minute
)

// Options are what a handler tells of its surroundings.
type Options struct {
	Version  string
	Device   string
	Engine   string // how it was chosen, without secrets
	Data     string // the data folder
	Log      *slog.Logger
	Shutdown func() // asked for by POST /v1/shutdown; nil: refused
}

// Handler serves a backend. It is ready to be mounted in any server.
type Handler struct {
	b       *backend.Backend
	o       Options
	log     *slog.Logger
	started time.Time
	mux     *http.ServeMux
	stall   time.Duration // how long an upload may bring nothing
	beat    time.Duration // of the event stream
}

// New makes the handler of a backend.
func New(b *backend.Backend, o Options) *Handler {
	h := &Handler{b: b, o: o, log: o.Log, started: time.Now().UTC(), mux: http.NewServeMux(), stall: uploadStall, beat: heartbeat}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.routes()
	return h
}

// routes lists everything there is, with bodies and answers.
func (h *Handler) routes() {
	for pattern, serve := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /v1/status":       h.status,   // Status
		"POST /v1/shutdown":    h.shutdown, // {}
		"GET /v1/events":       h.events,   // server-sent events; ?since= or Last-Event-ID
		"POST /v1/verify":      h.verify,   // VerifyRequest -> Job
		"POST /v1/gc":          h.gc,       // Collected
		"POST /v1/join":        h.join,     // JoinGroup -> Group
		"GET /v1/jobs":         h.jobs,     // JobList
		"GET /v1/jobs/{id}":    h.job,      // Job
		"DELETE /v1/jobs/{id}": h.cancel,   // Job

		"GET /v1/groups":              h.groups,      // GroupList
		"POST /v1/groups":             h.createGroup, // NewGroup -> Group
		"GET /v1/groups/{g}":          h.group,       // Group
		"PATCH /v1/groups/{g}":        h.changeGroup, // ChangeGroup -> Group
		"DELETE /v1/groups/{g}":       h.leaveGroup,  // {}
		"GET /v1/groups/{g}/invite":   h.invite,      // ?read_only=1; Invite, the only answer that holds secrets
		"GET /v1/groups/{g}/members":  h.members,     // MemberList
		"POST /v1/groups/{g}/ping":    h.ping,        // PongList
		"POST /v1/groups/{g}/refresh": h.refresh,     // Group
		"POST /v1/groups/{g}/sync":    h.sync,        // SyncRequest -> Job

		"GET /v1/groups/{g}/repos":       h.repos,      // RepoList
		"GET /v1/groups/{g}/repos/{r}":   h.repo,       // Repo
		"PATCH /v1/groups/{g}/repos/{r}": h.changeRepo, // ChangeRepo -> Repo

		"GET /v1/groups/{g}/files":                         h.groupFiles, // ?name=; FileList of all members
		"PUT /v1/groups/{g}/files/{name}":                  h.putFile,    // bytes -> File; Content-Type, X-Modified, If-None-Match: *
		"GET /v1/groups/{g}/repos/{r}/files":               h.repoFiles,  // FileList
		"GET /v1/groups/{g}/repos/{r}/files/{name}":        h.getFile,    // bytes, ranges; 409 not_local
		"DELETE /v1/groups/{g}/repos/{r}/files/{name}":     h.deleteFile, // {}
		"GET /v1/groups/{g}/repos/{r}/files/{name}/info":   h.fileInfo,   // File
		"POST /v1/groups/{g}/repos/{r}/files/{name}/fetch": h.fetchFile,  // Job
	} {
		h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := serve(w, r); err != nil {
				h.fail(w, r, err)
			}
		})
	}
}

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	serve, pattern := h.mux.Handler(r)
	if pattern == "" {
		h.noRoute(w, r, serve)
		return
	}
	began := time.Now()
	h.mux.ServeHTTP(w, r)
	// The pattern, not the path: names of groups and files are nobody's business who reads a log.
	h.log.Debug("request", "route", pattern, "took", time.Since(began))
}

// noRoute turns the router's own answers, 404 and 405, into ours.
func (h *Handler) noRoute(w http.ResponseWriter, r *http.Request, serve http.Handler) {
	rec := &headOnly{header: http.Header{}, status: http.StatusOK}
	serve.ServeHTTP(rec, r)
	if rec.status != http.StatusMethodNotAllowed {
		writeError(w, &Error{Class{"no_such_route", http.StatusNotFound, ExitNotFound}, "no such path; see GET /v1/status"})
		return
	}
	allow := rec.header.Get("Allow")
	w.Header().Set("Allow", allow)
	writeError(w, &Error{Class{"method_not_allowed", rec.status, ExitUsage}, "this path knows " + allow})
}

// headOnly keeps an answer's status and header.
type headOnly struct {
	header http.Header
	status int
}

func (h *headOnly) Header() http.Header         { return h.header }
func (h *headOnly) Write(b []byte) (int, error) { return len(b), nil }
func (h *headOnly) WriteHeader(status int)      { h.status = status }

// fail tells the client of an error.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Classify(err), err.Error()}
	}
	if e.Status >= 500 {
		h.log.Warn("request failed", "route", r.Pattern, "code", e.Code, "err", err)
	}
	writeError(w, e)
}

func writeError(w http.ResponseWriter, e *Error) {
	writeJSON(w, e.Status, errorReply{"error", e.Message, e.Code})
}

// writeJSON answers with a JSON value. An answer that cannot be written has no reader any more.
func writeJSON(w http.ResponseWriter, status int, v any) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) //nolint:errcheck // a test's recorder has none
	w.WriteHeader(status)
	w.Write(buf.Bytes()) //nolint:errcheck // nobody is left to tell
}

func answer(w http.ResponseWriter, v any) error {
	writeJSON(w, http.StatusOK, v)
	return nil
}

// readJSON reads a request's body, an empty one as an empty object. Fields that it does not know are refused, so that a
// misspelt one does not pass for a default.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	if t := r.Header.Get("Content-Type"); t != "" {
		if m, _, err := mime.ParseMediaType(t); err != nil || m != "application/json" {
			return fmt.Errorf("%w: the body must be application/json", ErrBadRequest)
		}
	}
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(bodyTimeout)) //nolint:errcheck // a test's recorder has none
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	rc.SetReadDeadline(time.Time{}) //nolint:errcheck // as above
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return fmt.Errorf("%w: at most %d bytes", ErrBodyTooLarge, large.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: the body did not come", ErrStalled)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%w: %s", ErrBadRequest, jsonProblem(err))
	}
	if dec.More() {
		return fmt.Errorf("%w: more than one JSON value", ErrBadRequest)
	}
	return nil
}

// jsonProblem says what is wrong without quoting the body: it may be a link.
func jsonProblem(err error) string {
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		return fmt.Sprintf("field %q must be a %s", wrong.Field, wrong.Type)
	case strings.HasPrefix(err.Error(), "json: unknown field"):
		return strings.TrimPrefix(err.Error(), "json: ")
	}
	return "the body is not valid JSON"
}

// flag reads a yes or no of the query.
func flag(r *http.Request, name string) (bool, error) {
	switch v := r.URL.Query().Get(name); v {
	case "", "0", "false":
		return false, nil
	case "1", "true":
		return true, nil
	default:
		return false, fmt.Errorf("%w: %s=%q: want 1 or 0", ErrBadRequest, name, v)
	}
}

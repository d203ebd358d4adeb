package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/OpenArchive/save-dweb-go/backend"
)

// heartbeat keeps the stream of events alive through proxies and finds out that its reader has gone.
const heartbeat = 15 * time.Second

// drainKey is where a [Server] keeps the context that ends when it begins to stop.
type drainKey struct{}

// events streams what happens, from now on, or after the sequence number that the client has seen: Last-Event-ID, as
// browsers send it when they come again, or else ?since=, with 0 for all that is kept. An event of type "lost" says that
// some are missing, because they were too many or because the daemon was restarted: ask for the state again.
func (h *Handler) events(w http.ResponseWriter, r *http.Request) error {
	since, err := h.since(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if drain, ok := ctx.Value(drainKey{}).(context.Context); ok {
		defer context.AfterFunc(drain, cancel)()
	}
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead || rc.Flush() != nil {
		return nil
	}
	send := func(b []byte) bool {
		rc.SetWriteDeadline(time.Now().Add(4 * h.beat)) //nolint:errcheck // the write itself tells
		_, err := w.Write(b)
		return err == nil && rc.Flush() == nil
	}
	if last := h.b.LastEvent(); since > last { // numbers of an earlier run
		since = 0
		if !send(encodeEvent(backend.Event{Time: time.Now().UTC(), Type: backend.EventLost})) {
			return nil
		}
	}
	for {
		wait, stop := context.WithTimeout(ctx, h.beat)
		evs, err := h.b.Events(wait, since)
		stop()
		switch {
		case err == nil:
			var b []byte
			for _, e := range evs {
				b = append(b, encodeEvent(e)...)
				since = e.Seq
			}
			if !send(b) {
				return nil
			}
		case ctx.Err() != nil, errors.Is(err, backend.ErrClosed):
			return nil
		default:
			if !send([]byte(":\n\n")) {
				return nil
			}
		}
	}
}

// since is the sequence number after which the stream begins.
func (h *Handler) since(r *http.Request) (uint64, error) {
	s := r.Header.Get("Last-Event-ID")
	if s == "" {
		s = r.URL.Query().Get("since")
	}
	if s == "" {
		return h.b.LastEvent(), nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: since=%q: want the number of an event", ErrBadRequest, s)
	}
	return n, nil
}

// encodeEvent writes an event in the form of server-sent events. Its JSON has no line breaks.
func encodeEvent(e backend.Event) []byte {
	b, err := json.Marshal(e)
	if err != nil {
		b = []byte("{}")
	}
	return fmt.Appendf(nil, "id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Type, b)
}

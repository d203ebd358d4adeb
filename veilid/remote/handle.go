package remote

import (
	"context"
	"sync"
)

// handle is a table or transaction at the server. The server gives the number of a released handle to the next one, so
// a handle ends only when no operation on it is on its way, and is never used again.
type handle struct {
	s  *session
	id uint32

	mu    sync.Mutex
	users int
	ended bool
	idle  chan struct{} // closed when the last user leaves an ended handle
}

func newHandle(s *session, id uint32) *handle {
	return &handle{s: s, id: id, idle: make(chan struct{})}
}

// enter begins a use, unless the handle has ended.
func (h *handle) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return false
	}
	h.users++
	return true
}

func (h *handle) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users--; h.ended && h.users == 0 {
		close(h.idle)
	}
}

// end ends the handle and waits for its users. It reports whether this was the call that ended it; if ctx ends first,
// the handle is usable as before.
func (h *handle) end(ctx context.Context) (bool, error) {
	h.mu.Lock()
	if h.ended {
		h.mu.Unlock()
		return false, nil
	}
	h.ended = true
	idle := h.idle
	wait := h.users > 0
	h.mu.Unlock()
	if !wait {
		return true, nil
	}
	select {
	case <-idle:
		return true, nil
	case <-ctx.Done():
		h.revive()
		return false, ctx.Err()
	}
}

// revive makes an ended handle usable again.
func (h *handle) revive() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = false
	h.idle = make(chan struct{})
}

package remote

import (
	"context"
	"sync"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/jsonapi"
)

// maxContexts is how many routing contexts a session keeps at the server for later use.
const maxContexts = 64

// contexts are a session's routing contexts at the server, by their selection.
type contexts struct {
	mu     sync.Mutex
	byName map[veilid.SafetySelection]*contextHandle
	clock  uint64
}

// contextHandle is one of them. It is released only while nobody uses it.
type contextHandle struct {
	ready chan struct{} // closed when id or err is set
	id    uint32
	err   error
	users int    // under contexts.mu
	used  uint64 // clock of the last use
}

// context finds or makes the handle of a selection, whose defaults are filled in. The caller calls done after use.
func (s *session) context(ctx context.Context, sel veilid.SafetySelection) (*contextHandle, error) {
	c := &s.contexts
	c.mu.Lock()
	h := c.byName[sel]
	if h == nil {
		s.evict()
		h = &contextHandle{ready: make(chan struct{}), users: 1} // its maker
		c.byName[sel] = h
		s.mu.Lock()
		if s.err == nil { // else close may be waiting already
			s.wg.Go(func() { s.makeContext(sel, h) })
		} else {
			h.err = s.err
			close(h.ready) // the session is of no use any more, nor is the entry
		}
		s.mu.Unlock()
	}
	h.users++
	c.clock++
	h.used = c.clock
	c.mu.Unlock()
	select {
	case <-h.ready:
	case <-ctx.Done():
		s.done(h)
		return nil, ctx.Err()
	}
	if h.err != nil {
		s.done(h)
		return nil, h.err
	}
	return h, nil
}

func (s *session) done(h *contextHandle) {
	s.contexts.mu.Lock()
	h.users--
	s.contexts.mu.Unlock()
}

// evict releases the handle that was idle longest where there are many. The caller holds the lock.
func (s *session) evict() {
	c := &s.contexts
	if len(c.byName) < maxContexts {
		return
	}
	var oldest veilid.SafetySelection
	var found *contextHandle
	for sel, h := range c.byName {
		if h.users == 0 && (found == nil || h.used < found.used) {
			oldest, found = sel, h
		}
	}
	if found == nil {
		return
	}
	delete(c.byName, oldest)
	s.tell(jsonapi.ReleaseRC{RC: jsonapi.RC{ID: found.id}})
}

// makeContext asks the server for a routing context. It belongs to the session, not to the call that needs it first.
func (s *session) makeContext(sel veilid.SafetySelection, h *contextHandle) {
	ctx := context.Background() // ends with the connection
	h.err = func() error {
		var base uint32
		if err := s.request(ctx, jsonapi.NewRoutingContext{}, &base, nil); err != nil {
			return err
		}
		rc := jsonapi.RC{ID: base}
		err := s.request(ctx, jsonapi.WithSafety{RC: rc, Selection: jsonapi.SafetySelection(sel)}, &h.id, nil)
		s.tell(jsonapi.ReleaseRC{RC: rc})
		return err
	}()
	s.contexts.mu.Lock()
	if h.err != nil {
		delete(s.contexts.byName, sel)
	}
	h.users--
	s.contexts.mu.Unlock()
	close(h.ready)
}

package remote

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/jsonapi"
)

// handshakeTimeout bounds the first exchange with a server, which is with a process on this machine as a rule.
const handshakeTimeout = 15 * time.Second

// session is a connection with what is known of the node at its other end, and the handles that belong to it.
type session struct {
	*conn
	version  [3]uint32
	nodeIDs  []veilid.NodeID
	start    bootTime
	contexts contexts
	early    []veilid.Update // came during the handshake
	spawned  int             // how often the process had been started, where it is ours
}

// bootTime is when a node began, by two clocks of ours: a change of one of them alone is not a new beginning.
type bootTime struct {
	uptime time.Duration
	at     time.Time // with the monotonic clock
}

// bootTolerance is what clocks may differ by over the life of a connection.
const bootTolerance = 2 * time.Second

// before reports whether c is of a later beginning than b.
func (b bootTime) before(c bootTime) bool {
	if c.uptime < b.uptime {
		return true
	}
	grown := c.uptime - b.uptime
	return c.at.Sub(b.at)-grown > bootTolerance && c.at.Round(0).Sub(b.at.Round(0))-grown > bootTolerance
}

// restartedSince reports whether the node is another than at the time of an earlier session.
func (s *session) restartedSince(before *session) bool {
	if s.spawned != before.spawned || before.start.before(s.start) {
		return true
	}
	return len(s.nodeIDs) > 0 && len(before.nodeIDs) > 0 && !slices.Equal(s.nodeIDs, before.nodeIDs)
}

// open connects and learns who is at the other end. The session reads nothing more until begin.
func open(ctx context.Context, a dialer, maxLine int, log *slog.Logger) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	raw, err := a.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the Veilid node: %w", err)
	}
	s := &session{conn: newConn(raw, maxLine, log)}
	s.contexts.byName = map[veilid.SafetySelection]*contextHandle{}
	s.onUpdate = func(u veilid.Update) { s.early = append(s.early, u) }
	s.startWriter()
	stop := context.AfterFunc(ctx, func() { s.fail(lost(context.Cause(ctx))) })
	err = s.handshake()
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		s.close(err)
		return nil, fmt.Errorf("greet the Veilid node at %s: %w", a, err)
	}
	return s, nil
}

func (s *session) handshake() error {
	version, err := s.ask(jsonapi.VeilidVersion{})
	if err != nil {
		return err
	}
	s.version = version.Version
	answer, err := s.ask(jsonapi.GetState{})
	if err != nil {
		return err
	}
	var state jsonapi.State
	if err := answer.Decode(&state); err != nil {
		return err
	}
	s.nodeIDs = state.Network.NodeIDs
	s.start = bootTime{uptime: state.Attachment.Veilid().Uptime, at: time.Now()}
	return nil
}

// ask is response for the time before begin: it reads the connection itself.
func (s *session) ask(req jsonapi.Request) (jsonapi.Response, error) {
	id, w, err := s.register(false, nil)
	if err != nil {
		return jsonapi.Response{}, err
	}
	line := getLine()
	if *line, err = jsonapi.AppendRequest(*line, id, req); err != nil {
		return jsonapi.Response{}, err
	}
	_ = s.out.put(context.Background(), s.dead, line, true) // never waits
	for {
		select {
		case r := <-w.reply:
			if r.err != nil {
				return jsonapi.Response{}, r.err
			}
			return parse(r)
		default:
			s.fail(s.step())
		}
	}
}

// begin starts to read. Updates go to onUpdate, first those that came meanwhile.
func (s *session) begin(onUpdate func(veilid.Update)) {
	for _, u := range s.early {
		onUpdate(u)
	}
	s.early = nil
	s.onUpdate = onUpdate
	s.wg.Go(func() {
		for s.fail(s.step()) {
		}
	})
}

// close ends the session for this reason and waits for its goroutines.
func (s *session) close(reason error) {
	s.fail(reason)
	s.wg.Wait()
}

// reason is why the session ended.
func (s *session) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *session) isDead() bool {
	select {
	case <-s.dead:
		return true
	default:
		return false
	}
}

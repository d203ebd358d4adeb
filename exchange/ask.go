package exchange

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/exchange/internal/frame"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// controlTimeout bounds the small questions, finding the route included.
const controlTimeout = 15 * time.Second

// question asks a peer something small and turns every status but OK into an error.
func (x *Exchange) question(ctx context.Context, l *link, op frame.Op, body []byte) (answer []byte, rtt time.Duration, err error) {
	status, answer, rtt, err := x.questionStatus(ctx, l, op, body)
	switch {
	case err != nil:
		return nil, rtt, err
	case status == frame.OK:
		return answer, rtt, nil
	case status == frame.Denied:
		return nil, rtt, ErrDenied
	case status == frame.Busy:
		return nil, rtt, fmt.Errorf("%w: ask again in %v", ErrBusy, frame.ParseBusy(answer))
	}
	return nil, rtt, fmt.Errorf("peer answers with status %d", status)
}

// questionStatus asks a peer something outside of its window.
func (x *Exchange) questionStatus(ctx context.Context, l *link, op frame.Op, body []byte) (status frame.Status, answer []byte, rtt time.Duration, err error) {
	g := x.served(l.key.group)
	if g == nil {
		return 0, nil, 0, ErrUnknownGroup
	}
	ctx, stop := x.within(ctx)
	defer stop()
	route, err := l.ready(ctx)
	if err != nil {
		return 0, nil, 0, err
	}
	q, err := g.keys.Seal(op, route, body)
	if err != nil {
		return 0, nil, 0, err
	}
	begun := time.Now()
	raw, err := x.rc.AppCall(ctx, veilid.RouteTarget(route), q)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return 0, nil, 0, cause
		}
		if k := veilid.KindOf(err); k == veilid.ErrInvalidTarget || k == veilid.ErrNoConnection {
			l.failed(route, err)
		}
		return 0, nil, 0, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	rtt = time.Since(begun)
	status, answer, err = frame.ParseAnswer(raw)
	if err == nil {
		l.mu.Lock()
		l.answered(time.Now())
		l.mu.Unlock()
	}
	if errors.Is(err, frame.ErrLegacy) {
		l.isLegacy()
		err = ErrLegacyPeer
	}
	return status, answer, rtt, err
}

// within is ctx, ended by Close too and after controlTimeout.
func (x *Exchange) within(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(x.ctx, func() { cancel(context.Cause(x.ctx)) })
	ctx, end := context.WithTimeout(ctx, controlTimeout)
	return ctx, func() { end(); stop(); cancel(nil) }
}

// failed notes that a route cannot be used.
func (l *link) failed(route veilid.RouteID, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.route == route && l.state == linkReady {
		l.suspend(time.Now(), linkSuspended, why)
	}
}

// isLegacy notes that the peer does not know this protocol.
func (l *link) isLegacy() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == linkReady {
		l.suspend(time.Now(), linkLegacy, ErrLegacyPeer)
	}
}

func isDenied(err error) bool { return errors.Is(err, ErrDenied) || errors.Is(err, ErrUnknownGroup) }

// Ping is the round-trip time of a call to a peer.
func (x *Exchange) Ping(ctx context.Context, g GroupID, p Peer) (time.Duration, error) {
	_, rtt, err := x.question(ctx, x.link(g, p), frame.OpPing, nil)
	if err != nil {
		return 0, fmt.Errorf("ping %s: %w", p.ID, err)
	}
	return rtt, nil
}

// Hello exchanges greetings with a peer, and tells it our route.
func (x *Exchange) Hello(ctx context.Context, g GroupID, p Peer) (Greeting, error) {
	s := x.served(g)
	if s == nil {
		return Greeting{}, fmt.Errorf("hello %s: %w", p.ID, ErrUnknownGroup)
	}
	answer, _, err := x.question(ctx, x.link(g, p), frame.OpHello, x.hello(s).Append(nil))
	if err != nil {
		return Greeting{}, fmt.Errorf("hello %s: %w", p.ID, err)
	}
	h, err := frame.ParseHello(answer)
	if err != nil {
		return Greeting{}, fmt.Errorf("hello %s: %w", p.ID, err)
	}
	return Greeting{Device: h.Device, Repo: h.Repo}, nil
}

// hello is what we say of ourselves to a group.
func (x *Exchange) hello(s *served) frame.Hello {
	h := frame.Hello{Version: frame.Version}
	if g := s.group(); g.Greet != nil {
		e := g.Greet()
		h.Device, h.Repo = e.Device, e.Repo
	}
	if b := x.routes.get().Blob; len(b) <= frame.MaxRouteBlob {
		h.Route = b
	}
	return h
}

// Have asks a peer which of these blobs it holds, wholly or in part; the answer runs parallel to the question.
func (x *Exchange) Have(ctx context.Context, g GroupID, p Peer, hashes []blobs.Hash) ([]Held, error) {
	l := x.link(g, p)
	all := make([]Held, 0, len(hashes))
	for rest := hashes; len(rest) > 0; {
		n := min(len(rest), frame.MaxHashes)
		held, err := x.haveAll(ctx, l, rest[:n])
		if err != nil {
			return nil, fmt.Errorf("have %s: %w", p.ID, err)
		}
		all, rest = append(all, held...), rest[n:]
	}
	return all, nil
}

func (x *Exchange) haveAll(ctx context.Context, l *link, hashes []blobs.Hash) ([]Held, error) {
	answer, _, err := x.question(ctx, l, frame.OpHave, frame.AppendHashes(nil, hashes))
	if err != nil {
		return nil, err
	}
	fs, err := frame.ParseHeld(answer, len(hashes))
	if err != nil {
		return nil, err
	}
	held := make([]Held, len(hashes))
	for i, f := range fs {
		held[i] = Held{Hash: hashes[i], Complete: f.Complete, Size: f.Size, Have: f.Have}
	}
	return held, nil
}

func (x *Exchange) have(ctx context.Context, l *link, h blobs.Hash) (Held, error) {
	held, err := x.haveAll(ctx, l, []blobs.Hash{h})
	if err != nil {
		return Held{}, err
	}
	return held[0], nil
}

// SendNews tells peers that our repo has changed. It is a hint: arrival is not confirmed. Peers that are away are left
// out; the error tells of the others that could not be told.
func (x *Exchange) SendNews(ctx context.Context, g GroupID, to []Peer, n News) error {
	s := x.served(g)
	if s == nil {
		return fmt.Errorf("news: %w", ErrUnknownGroup)
	}
	body := frame.News{Version: n.Version, Repo: n.Repo, Root: n.Root, From: x.hello(s).Repo}.Append(nil)
	errs := make([]error, len(to))
	gate := make(chan struct{}, newsAtOnce)
	done := make(chan struct{})
	for i, p := range to {
		go func() {
			defer func() { done <- struct{}{} }()
			gate <- struct{}{}
			defer func() { <-gate }()
			if err := x.tell(ctx, s, x.link(g, p), body); err != nil && !errors.Is(err, ErrAway) {
				errs[i] = fmt.Errorf("news to %s: %w", p.ID, err)
			}
		}()
	}
	for range to {
		<-done
	}
	return errors.Join(errs...)
}

// newsAtOnce bounds how many peers are told at the same time.
const newsAtOnce = 16

func (x *Exchange) tell(ctx context.Context, s *served, l *link, body []byte) error {
	ctx, stop := x.within(ctx)
	defer stop()
	route, err := l.ready(ctx)
	if err != nil {
		return err
	}
	m, err := s.keys.Seal(frame.OpNews, route, body)
	if err != nil {
		return err
	}
	err = x.rc.AppMessage(ctx, veilid.RouteTarget(route), m)
	if k := veilid.KindOf(err); k == veilid.ErrInvalidTarget || k == veilid.ErrNoConnection {
		l.failed(route, err)
	}
	return err
}

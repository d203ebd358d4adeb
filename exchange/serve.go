package exchange

import (
	"context"
	"errors"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
	"github.com/OpenArchive/save-dweb-go/exchange/internal/frame"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// How much is answered at the same time, and how long a question may wait: the asker gives up after about 5 s.
const (
	readWorkers    = 8
	controlWorkers = 2
	maxBacklog     = 1500 * time.Millisecond
	tooOld         = 4 * time.Second
)

// denied is what strangers get, whatever they ask.
var denied = []byte{byte(frame.Denied)}

// listen sorts what comes in on our routes. It does nothing that waits.
func (x *Exchange) listen(sub veilid.Subscription) {
	for {
		u, err := sub.Next(x.ctx)
		if err != nil {
			return
		}
		switch u := u.(type) {
		case *veilid.AppCall:
			if x.routes.isOurs(u.Route) {
				x.sort(u)
			}
		case *veilid.AppMessage:
			if x.routes.isOurs(u.Route) {
				x.takeMessage(u)
			}
		case *veilid.Lagged:
			x.log.Warn("calls lost: more came than could be taken", "count", u.Count)
		}
	}
}

// sort checks who asks before anything is done for it.
func (x *Exchange) sort(c *veilid.AppCall) {
	now := time.Now()
	f, err := frame.Parse(c.Message)
	if errors.Is(err, frame.ErrForeign) {
		if x.cfg.Legacy != nil && x.cfg.Legacy(c) {
			return
		}
		x.calls.control(incoming{call: c, at: now, say: []byte{frame.LegacyRefusal}})
		return
	}
	g := x.tagged(f.Tag)
	if err != nil || g == nil || !g.keys.Verify(f, c.Route) {
		x.calls.control(incoming{call: c, at: now, say: denied})
		return
	}
	in := incoming{call: c, group: g, frame: f, at: now}
	if f.Op != frame.OpRead {
		if wait := g.allow(now); wait > 0 {
			in.say = frame.BusyAnswer(wait)
		}
		if !x.calls.control(in) {
			x.log.Warn("a question went unanswered: too many wait", "op", f.Op)
		}
		return
	}
	if wait := x.up.backlog(x.calls.len() * readSize); wait > maxBacklog {
		in.say = frame.BusyAnswer(wait - maxBacklog/2)
		x.calls.control(in)
		return
	}
	if n, ok := x.calls.push(in); !ok {
		// By then half of what waits is answered, at the pace of a busy but healthy node.
		in.say = frame.BusyAnswer(time.Duration(n) * time.Millisecond)
		x.calls.control(in)
	}
}

// takeMessage handles NEWS; everything else is dropped, since nothing answers a message.
func (x *Exchange) takeMessage(m *veilid.AppMessage) {
	f, err := frame.Parse(m.Message)
	if err != nil || f.Op != frame.OpNews {
		return
	}
	s := x.tagged(f.Tag)
	if s == nil || !s.keys.Verify(f, m.Route) {
		return
	}
	n, err := frame.ParseNews(f.Body)
	if err != nil {
		return
	}
	g := s.group()
	x.repoHeard(g.ID, n.From, nil)
	if s.isNew(n) && g.OnNews != nil {
		g.OnNews(n.From, News{Repo: n.Repo, Root: n.Root, Version: n.Version})
	}
}

func (x *Exchange) serveReads() {
	for {
		in, ok := x.calls.pop()
		if !ok {
			return
		}
		if time.Since(in.at) > tooOld {
			x.reply(in, frame.BusyAnswer(time.Second))
			continue
		}
		answer := x.answerRead(in.group.group(), in.frame.Body)
		if x.up.await(x.ctx, len(answer)) != nil {
			return
		}
		x.reply(in, answer)
	}
}

func (x *Exchange) serveControls() {
	for {
		select {
		case <-x.ctx.Done():
			return
		case in := <-x.calls.controls:
			if in.say == nil {
				in.say = x.answerControl(in)
			}
			x.reply(in, in.say)
		}
	}
}

func (x *Exchange) reply(in incoming, answer []byte) {
	ctx, cancel := context.WithTimeout(x.ctx, 5*time.Second)
	defer cancel()
	if err := x.cfg.Node.AppCallReply(ctx, in.call.CallID, answer); err != nil && x.ctx.Err() == nil {
		x.log.Debug("answer not sent", "err", err)
	}
}

func status(s frame.Status) []byte { return []byte{byte(s)} }

// answerControl answers everything but READs.
func (x *Exchange) answerControl(in incoming) []byte {
	g := in.group.group()
	switch in.frame.Op {
	case frame.OpPing:
		return status(frame.OK)
	case frame.OpHello:
		h, err := frame.ParseHello(in.frame.Body)
		if err != nil {
			return status(frame.BadRequest)
		}
		if in.group.mayHello(h.Repo, in.at) {
			var route []byte
			if len(h.Route) > 0 {
				route = append(route, h.Route...) // the message is not kept for it
			}
			x.repoHeard(g.ID, h.Repo, route)
			if g.OnHello != nil {
				g.OnHello(Greeting{Device: h.Device, Repo: h.Repo}, route)
			}
		}
		return x.hello(in.group).Append(status(frame.OK))
	case frame.OpHave:
		hashes, err := frame.ParseHashes(in.frame.Body)
		if err != nil {
			return status(frame.BadRequest)
		}
		return x.answerHave(g, hashes)
	}
	return status(frame.BadRequest)
}

func (x *Exchange) answerHave(g Group, hashes []blobs.Hash) []byte {
	b := status(frame.OK)
	for i, h := range hashes {
		limit := veilid.MaxMessageSize - len(b) - (len(hashes) - i - 1) // each needs one byte at least
		b = frame.AppendHeld(b, x.held(g, h), limit)
	}
	return b
}

// held is what we hold of a blob, as far as the group may see it.
func (x *Exchange) held(g Group, h blobs.Hash) frame.Held {
	if g.Visible == nil || !g.Visible(h) {
		return frame.Held{}
	}
	info, err := x.cfg.Store.Info(x.ctx, h)
	switch {
	case err != nil:
		return frame.Held{}
	case info.Complete:
		return frame.Held{Complete: true, Size: info.Size}
	case info.Proven:
		return frame.Held{Size: info.Size, Have: info.Have}
	}
	return frame.Held{}
}

// answerRead answers a READ. Whether the group may see a blob is looked at before the store is.
func (x *Exchange) answerRead(g Group, body []byte) []byte {
	req, err := parseRead(body)
	if err != nil {
		return status(frame.BadRequest)
	}
	if req.many != nil {
		return x.answerMany(g, req.many)
	}
	if g.Visible == nil || !g.Visible(req.hash) {
		return status(frame.NotFound)
	}
	b, err := x.cache.open(x.ctx, req.hash)
	if err != nil {
		return x.cannotRead(req.hash, err)
	}
	defer b.release()
	return x.encode(b, b.Info(), req)
}

func (x *Exchange) cannotRead(h blobs.Hash, err error) []byte {
	if !errors.Is(err, blobs.ErrNotFound) && x.ctx.Err() == nil {
		x.log.Error("blob cannot be read", "hash", h.Short(), "err", err)
	}
	return status(frame.NotFound)
}

// encode answers with as much of what was asked as is here and fits.
func (x *Exchange) encode(b *openBlob, info blobs.Info, req readRequest) []byte {
	chunks := bao.Chunks(info.Size)
	last := req.ranges.Contains(bao.LastChunk)
	want := req.ranges.Clamp(chunks)
	if !info.Complete {
		if !info.Proven || last && !info.Have.Contains(chunks-1) {
			return frame.AppendShortened(nil, 0)
		}
		if lacks, ok := want.Subtract(info.Have).First(); ok {
			want = want.Intersect(bao.Span(0, lacks))
			if last {
				want = want.Union(bao.Span(chunks-1, chunks))
			}
			// What comes after the first gap is not sent, except for the last chunk.
			chunks = lacks
		}
	}
	eff, n := bao.Shorten(info.Size, want, frame.MaxAnswer-10, last)
	n = min(n, chunks)
	var out []byte
	switch {
	case len(eff) == 0:
		return frame.AppendShortened(nil, 0)
	case n >= bao.Chunks(info.Size):
		out = make([]byte, 1, 1+bao.EncodedSize(info.Size, eff))
	default:
		out = make([]byte, 0, 11+bao.EncodedSize(info.Size, eff))
		out = frame.AppendShortened(out, n)
	}
	w := appendWriter(out)
	if err := b.Encode(&w, eff); err != nil {
		x.cache.forget(b)
		return x.cannotRead(req.hash, err)
	}
	return w
}

type appendWriter []byte

func (w *appendWriter) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}

// answerMany answers a READ of many whole blobs with those that are here, in order, until no more fit.
func (x *Exchange) answerMany(g Group, hashes []blobs.Hash) []byte {
	head := 1 + 2 + (len(hashes)+7)/8
	var has []bool
	all := true
	var body appendWriter
	for _, h := range hashes {
		got, full := x.appendWhole(g, h, &body, veilid.MaxMessageSize-head)
		if full {
			all = false
			break
		}
		has = append(has, got)
		all = all && got
	}
	if all {
		return append(status(frame.OK), body...)
	}
	return append(frame.AppendShortenedMany(nil, has), body...)
}

// appendWhole appends the response for all of a blob. full reports that it is here but does not fit any more.
func (x *Exchange) appendWhole(g Group, h blobs.Hash, body *appendWriter, limit int) (got, full bool) {
	if g.Visible == nil || !g.Visible(h) {
		return false, false
	}
	b, err := x.cache.open(x.ctx, h)
	if err != nil {
		x.cannotRead(h, err)
		return false, false
	}
	defer b.release()
	info := b.Info()
	if !info.Complete {
		return false, false
	}
	if bao.EncodedSize(info.Size, bao.All()) > uint64(limit-len(*body)) {
		// One that fits no answer at all is as good as not here: it is to be asked for in parts.
		return false, len(*body) > 0
	}
	n := len(*body)
	if err := b.Encode(body, bao.All()); err != nil {
		*body = (*body)[:n]
		x.cache.forget(b)
		x.cannotRead(h, err)
		return false, false
	}
	return true, false
}

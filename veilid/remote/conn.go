package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/jsonapi"
)

// maxGarbage is how many lines in a row that mean nothing end a connection.
const maxGarbage = 16

// conn is one connection: it finds the caller for each response and hands updates on.
type conn struct {
	raw      net.Conn
	in       *lineReader
	out      *outbox
	log      *slog.Logger
	onUpdate func(veilid.Update) // called by the reader; must not wait
	garbage  int                 // only the reader
	dead     chan struct{}       // closed when the connection is lost or closed
	wg       sync.WaitGroup
	waiters  sync.Pool // of *waiter

	mu      sync.Mutex
	last    uint32
	waiting map[uint32]*waiter
	err     error // why it is dead
}

// waiter is a caller that waits for a response.
type waiter struct {
	bytes bool       // the value is a byte string: decoded by the reader
	reply chan reply // room for one
	// undo makes a request from a response that came when the caller had given up, to release what it made.
	undo func(jsonapi.Response) jsonapi.Request
	late bool // the caller gave up
}

// reply is a response: a byte string or null already decoded, or a line to parse.
type reply struct {
	value []byte
	line  []byte
	err   error
}

func newConn(raw net.Conn, maxLine int, log *slog.Logger) *conn {
	return &conn{
		raw: raw, in: newLineReader(raw, maxLine), out: newOutbox(), log: log,
		dead: make(chan struct{}), waiting: map[uint32]*waiter{},
		waiters: sync.Pool{New: func() any { return &waiter{reply: make(chan reply, 1)} }},
	}
}

func (c *conn) startWriter() {
	c.wg.Go(func() { c.fail(c.out.run(c.raw, c.dead)) })
}

// fail ends the connection for this reason; nil is none. It reports whether the connection lives.
func (c *conn) fail(err error) bool {
	if err == nil {
		return true
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return false
	}
	c.err = err
	waiting := c.waiting
	c.waiting = nil
	c.mu.Unlock()
	close(c.dead)
	_ = c.raw.Close() // wakes reader and writer
	for _, w := range waiting {
		if !w.late {
			w.reply <- reply{err: err}
		}
	}
	return false
}

// lost is the error of calls that a lost connection leaves without an answer.
func lost(err error) error {
	if errors.Is(err, io.EOF) {
		err = errors.New("closed by the node")
	}
	return veilid.Errorf(veilid.ErrNoConnection, "connection to the Veilid node is lost: %v", err)
}

// step reads and handles one line.
func (c *conn) step() error {
	line, err := c.in.next()
	switch {
	case errors.Is(err, errLongLine):
		c.tooLong(line)
		return nil
	case err != nil:
		return lost(err)
	}
	if c.handle(line) {
		c.garbage = 0
		return nil
	}
	if line = bytes.TrimSpace(line); len(line) == 0 {
		return nil
	}
	c.garbage++
	c.log.Warn("the Veilid node sent a line that is no message", "bytes", len(line))
	if c.garbage == maxGarbage {
		return lost(errors.New("the other side does not speak Veilid's JSON API"))
	}
	return nil
}

// tooLong fails the call whose answer is too long, if it is one.
func (c *conn) tooLong(line []byte) {
	c.log.Warn("the Veilid node sent a line that is too long", "limit", c.in.max)
	if id, ok := jsonapi.IDOf(line); ok {
		if w := c.take(id); w != nil && !w.late {
			w.reply <- reply{err: veilid.Errorf(veilid.ErrInternal, "the node's answer is longer than %d bytes: raise MaxLine", c.in.max)}
		}
	}
}

// handle hands one line on. It reports whether the line was a message.
func (c *conn) handle(line []byte) bool {
	if u, ok := jsonapi.ScanUpdate(line); ok {
		c.onUpdate(u)
		return true
	}
	id, ok := jsonapi.IDOf(line)
	if !ok {
		h, err := jsonapi.ParseHead(line)
		if err != nil {
			return false
		}
		if h.Update {
			u, err := jsonapi.ParseUpdate(line)
			if err != nil {
				c.log.Warn("an update of the Veilid node is not understood", "error", err)
			} else if u != nil {
				c.onUpdate(u)
			}
			return true
		}
		id = h.ID
	}
	w := c.take(id)
	switch {
	case w == nil: // nobody waits any more
	case w.late:
		c.undo(w, line)
	case w.bytes:
		if s, ok := jsonapi.ScanResponse(line); ok {
			if b, ok := s.Bytes(); ok {
				w.reply <- reply{value: b}
				return true
			}
		}
		fallthrough
	default:
		w.reply <- reply{line: bytes.Clone(line)}
	}
	return true
}

func (c *conn) take(id uint32) *waiter {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.waiting[id]
	delete(c.waiting, id)
	return w
}

func (c *conn) undo(w *waiter, line []byte) {
	r, err := jsonapi.ParseResponse(line)
	if err != nil {
		return
	}
	if req := w.undo(r); req != nil {
		c.tell(req)
	}
}

// tell sends a request whose answer does not matter. It does not wait.
func (c *conn) tell(req jsonapi.Request) {
	line := getLine()
	var err error
	if *line, err = jsonapi.AppendRequest(*line, 0, req); err != nil {
		c.log.Warn("a request cannot be written", "error", err)
		return
	}
	_ = c.out.put(context.Background(), c.dead, line, true)
}

// register makes a waiter and finds an id for its request.
func (c *conn) register(isBytes bool, undo func(jsonapi.Response) jsonapi.Request) (uint32, *waiter, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, nil, c.err
	}
	for {
		c.last++
		if _, used := c.waiting[c.last]; !used && c.last != 0 { // 0 is for requests whose answer does not matter
			break
		}
	}
	w := c.waiters.Get().(*waiter)
	w.bytes, w.undo = isBytes, undo
	c.waiting[c.last] = w
	return c.last, w, nil
}

// roundTrip sends the line of a registered request and waits for the response.
func (c *conn) roundTrip(ctx context.Context, id uint32, w *waiter, line *[]byte) (reply, error) {
	if err := c.out.put(ctx, c.dead, line, false); err != nil {
		if c.take(id) == nil {
			<-w.reply // of a connection that failed at the same time
		}
		c.release(w)
		return reply{}, err
	}
	select {
	case r := <-w.reply:
		c.release(w)
		return r, r.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	if c.waiting[id] != w { // the reader has the answer in hand
		c.mu.Unlock()
		r := <-w.reply
		c.release(w)
		return r, r.err
	}
	if w.undo != nil {
		w.late = true // stays, and is not used again
		c.mu.Unlock()
		return reply{}, ctx.Err()
	}
	delete(c.waiting, id)
	c.mu.Unlock()
	c.release(w)
	return reply{}, ctx.Err()
}

func (c *conn) release(w *waiter) {
	w.undo, w.late = nil, false
	c.waiters.Put(w)
}

// request asks and decodes the value of the answer into out. If ctx ends before the answer, undo releases later what
// the request made; nil where it made nothing.
func (c *conn) request(ctx context.Context, req jsonapi.Request, out any, undo func(jsonapi.Response) jsonapi.Request) error {
	r, err := c.response(ctx, req, undo)
	if err == nil {
		err = r.Decode(out)
	}
	if err != nil {
		return fmt.Errorf("veilid %s: %w", jsonapi.Name(req), err)
	}
	return nil
}

func (c *conn) response(ctx context.Context, req jsonapi.Request, undo func(jsonapi.Response) jsonapi.Request) (jsonapi.Response, error) {
	r, err := c.exchange(ctx, req, false, undo)
	if err != nil {
		return jsonapi.Response{}, err
	}
	return parse(r)
}

// requestBytes asks for a byte string; nil stands for null.
func (c *conn) requestBytes(ctx context.Context, req jsonapi.Request) ([]byte, error) {
	r, err := c.exchange(ctx, req, true, nil)
	if err == nil {
		r.value, err = bytesOf(r)
	}
	if err != nil {
		return nil, fmt.Errorf("veilid %s: %w", jsonapi.Name(req), err)
	}
	return r.value, nil
}

func (c *conn) exchange(ctx context.Context, req jsonapi.Request, isBytes bool, undo func(jsonapi.Response) jsonapi.Request) (reply, error) {
	if err := ctx.Err(); err != nil {
		return reply{}, err
	}
	id, w, err := c.register(isBytes, undo)
	if err != nil {
		return reply{}, err
	}
	line := getLine()
	if *line, err = jsonapi.AppendRequest(*line, id, req); err != nil {
		c.take(id)
		return reply{}, err
	}
	return c.roundTrip(ctx, id, w, line)
}

// parse reads a reply in the general way. A line that cannot be read is the fault of the node.
func parse(r reply) (jsonapi.Response, error) {
	resp, err := jsonapi.ParseResponse(r.line)
	if err != nil {
		return resp, veilid.Errorf(veilid.ErrParse, "%v", err)
	}
	return resp, nil
}

// bytesOf is the byte string of a reply that was asked for with bytes, nil for null.
func bytesOf(r reply) ([]byte, error) {
	if r.line == nil {
		return r.value, nil
	}
	resp, err := parse(r)
	if err != nil {
		return nil, err
	}
	var b jsonapi.Bytes
	err = resp.Decode(&b)
	return b, err
}

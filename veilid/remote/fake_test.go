package remote

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/jsonapi"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	beNode() // does not return where this process is to be one
	goleak.VerifyTestMain(m)
}

const (
	nodeID  = "VLD0:A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
	routeID = "VLD0:Kay64UG8yvCyLhqU000LxzYeUm0L_hLIl5S8kyKWbdc"
	otherID = "VLD0:tAtE39l-eoSplqka-LhRiMZsEmlAunqtLnrms4VAKqI"
	secret  = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
)

func must[T any, P veilid.Text[T]](t testing.TB, s string) T {
	t.Helper()
	v, err := veilid.Parse[T, P](s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// fake speaks the server's side of the protocol over pipes, so that it works in a bubble. It answers the greeting and
// keeps handles as a server does; everything else goes to serve.
type fake struct {
	t testing.TB
	// serve handles one request, in the order of arrival. It may keep c and answer later.
	serve func(c *fakeConn, id uint32, r jsonapi.Request)

	// refuse tells selections that the server does not allow; nil: none.
	refuse func(jsonapi.SafetySelection) bool

	// greet handles the first request of a connection in place of its answer; nil: it is answered.
	greet func(*fakeConn)

	mu       sync.Mutex
	down     bool // refuses connections
	boot     time.Time
	attempts int
	conns    []*fakeConn
	seen     []string // types of the requests but for the greeting
}

// fakeConn is a connection as the server sees it.
type fakeConn struct {
	f   *fake
	raw net.Conn
	out sync.Mutex

	// Routing contexts: what they select, by id. Only the reading goroutine.
	contexts map[uint32]*jsonapi.SafetySelection
}

func (f *fake) String() string { return "fake" }

func (f *fake) dial(context.Context) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attempts++
	if f.down {
		return nil, errors.New("down")
	}
	here, there := net.Pipe()
	c := &fakeConn{f: f, raw: there, contexts: map[uint32]*jsonapi.SafetySelection{}}
	f.conns = append(f.conns, c)
	go c.run() // ends with the connection, which every test closes
	return here, nil
}

// last is the latest connection.
func (f *fake) last() *fakeConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conns[len(f.conns)-1]
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// count is how many requests of this type came.
func (f *fake) count(name string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.seen {
		if s == name {
			n++
		}
	}
	return n
}

func (c *fakeConn) run() {
	defer c.raw.Close()
	in := bufio.NewReaderSize(c.raw, 1<<20)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		id, r, err := jsonapi.ParseRequest(line)
		if err != nil {
			c.f.t.Errorf("the server would close the connection: %v", err)
			return
		}
		c.request(id, r)
	}
}

func (c *fakeConn) request(id uint32, r jsonapi.Request) {
	switch r.(type) {
	case jsonapi.VeilidVersion, jsonapi.GetState:
	default:
		c.f.set(func() { c.f.seen = append(c.f.seen, typeName(r)) })
	}
	switch r := r.(type) {
	case jsonapi.VeilidVersion:
		c.f.mu.Lock()
		greet := c.f.greet
		c.f.mu.Unlock()
		if greet != nil {
			greet(c)
			return
		}
		c.send(`{"type":"Response","id":%d,"op":"VeilidVersion","major":0,"minor":5,"patch":8}`, id)
		return
	case jsonapi.GetState:
		c.f.mu.Lock()
		up := time.Since(c.f.boot).Microseconds()
		c.f.mu.Unlock()
		c.value(id, `{"attachment":{"state":"AttachedGood","public_internet_ready":true,"local_network_ready":true,"uptime":"%d",`+
			`"attached_uptime":null,"reliable_peer_count":"1","live_peer_count":"2","estimated_network_size":"3"},`+
			`"network":{"started":true,"bps_down":"0","bps_up":"0","peers":[],"node_ids":["%s"]},"config":{}}`, up, nodeID)
		return
	case jsonapi.NewRoutingContext:
		c.value(id, "%d", c.newContext(nil))
	case jsonapi.WithSafety:
		c.known(r.RC)
		if c.f.refuse != nil && c.f.refuse(r.Selection) {
			c.fail(id, veilid.ErrGeneric, "")
		} else {
			c.value(id, "%d", c.newContext(&r.Selection))
		}
	case jsonapi.ReleaseRC:
		c.known(r.RC)
		delete(c.contexts, r.ID)
	case jsonapi.AppCall:
		c.known(r.RC)
		c.f.serve(c, id, r)
	case jsonapi.SetDHTValue:
		c.known(r.RC)
		c.f.serve(c, id, r)
	default:
		c.f.serve(c, id, r)
	}
}

// typeName is a request's type without its package.
func typeName(r jsonapi.Request) string { return strings.TrimPrefix(fmt.Sprintf("%T", r), "jsonapi.") }

// newContext is the smallest free number.
func (c *fakeConn) newContext(sel *jsonapi.SafetySelection) uint32 {
	for id := uint32(1); ; id++ {
		if _, used := c.contexts[id]; !used {
			c.contexts[id] = sel
			return id
		}
	}
}

func (c *fakeConn) known(rc jsonapi.RC) {
	if _, ok := c.contexts[rc.ID]; !ok {
		c.f.t.Errorf("routing context %d is used, but not there", rc.ID)
	}
}

// send writes a line. A client that is gone is no error.
func (c *fakeConn) send(format string, args ...any) {
	c.out.Lock()
	defer c.out.Unlock()
	_, _ = fmt.Fprintf(c.raw, format+"\n", args...)
}

// value answers with a value in JSON.
func (c *fakeConn) value(id uint32, format string, args ...any) {
	c.send(`{"type":"Response","id":%d,"op":"X","value":%s}`, id, fmt.Sprintf(format, args...))
}

func (c *fakeConn) bytes(id uint32, b []byte) {
	c.value(id, `"%s"`, base64.RawURLEncoding.EncodeToString(b))
}

func (c *fakeConn) fail(id uint32, k veilid.Kind, context string) {
	c.send(`{"type":"Response","id":%d,"op":"X","error":{"kind":"%s","message":"m","context":"%s"}}`, id, k, context)
}

// echo answers app calls with their question, and what else tests need in passing.
func echo(c *fakeConn, id uint32, r jsonapi.Request) {
	switch r := r.(type) {
	case jsonapi.AppCall:
		c.bytes(id, r.Message)
	case jsonapi.NewCustomPrivateRoute:
		c.value(id, `{"route_id":"%s","blob":"AAEC"}`, routeID)
	case jsonapi.ImportRemotePrivateRoute:
		c.value(id, `"%s"`, otherID)
	default:
		c.value(id, "null")
	}
}

// bubble runs a test in a bubble with a node at a fake server.
func bubble(t *testing.T, serve func(*fakeConn, uint32, jsonapi.Request), opts Options, run func(*testing.T, *Node, *fake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		opts.Log = slog.New(slog.DiscardHandler)
		f := &fake{t: t, serve: serve, boot: time.Now().Add(-time.Hour)}
		n, err := connect(t.Context(), f, opts)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		run(t, n, f)
	})
}

func target(t *testing.T) veilid.Target {
	return veilid.RouteTarget(must[veilid.RouteID](t, routeID))
}

// next is the next update of a subscription.
func next(t *testing.T, s veilid.Subscription) veilid.Update {
	t.Helper()
	u, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

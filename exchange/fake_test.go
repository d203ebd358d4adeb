package exchange

import (
	"context"
	"sync"
	"testing/synctest"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/exchange/internal/frame"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// fake is a member that answers as the test says. It has a store and an exchange that is not started.
type fake struct {
	*member
	mu    sync.Mutex
	asked map[frame.Op]int
}

// fake adds one. answer gets each question and what an honest member would say; nil is silence.
func (w *world) fake(name string, answer func(f frame.Frame, honest []byte) []byte) *fake {
	w.t.Helper()
	m := &fake{
		member: &member{w: w, name: name, node: w.net.NewNode(name), store: newSpyStore(), hidden: map[blobs.Hash]bool{}},
		asked:  map[frame.Op]int{},
	}
	var err error
	if m.x, err = New(Config{Node: m.node, Store: m.store}); err != nil {
		w.t.Fatal(err)
	}
	m.x.AddGroup(m.group(7))
	w.all = append(w.all, m.member)
	b, err := m.node.NewPrivateRoute(context.Background(), veilid.PrivateSpec{})
	if err != nil {
		w.t.Fatal(err)
	}
	m.routes = append(m.routes, b)
	sub := m.node.Subscribe(veilid.AppCalls)
	go func() {
		for {
			u, err := sub.Next(context.Background())
			if err != nil {
				return
			}
			c, ok := u.(*veilid.AppCall)
			if !ok {
				continue
			}
			f, err := frame.Parse(c.Message)
			if err != nil {
				w.t.Errorf("%s: %v", name, err)
			}
			m.mu.Lock()
			m.asked[f.Op]++
			m.mu.Unlock()
			g := m.x.tagged(f.Tag)
			if g == nil || !g.keys.Verify(f, c.Route) {
				w.t.Errorf("%s was asked by a stranger", name)
				continue
			}
			var honest []byte
			if f.Op == frame.OpRead {
				honest = m.x.answerRead(g.group(), f.Body)
			} else {
				honest = m.x.answerControl(incoming{call: c, group: g, frame: f})
			}
			if a := answer(f, honest); a != nil {
				m.node.AppCallReply(context.Background(), c.CallID, a)
			}
		}
	}()
	synctest.Wait()
	return m
}

func (m *fake) count(op frame.Op) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked[op]
}

// onlyReads changes the answers to READs and leaves the others honest.
func onlyReads(f func(honest []byte) []byte) func(frame.Frame, []byte) []byte {
	return func(q frame.Frame, honest []byte) []byte {
		if q.Op != frame.OpRead {
			return honest
		}
		return f(honest)
	}
}

package exchange

import (
	"sync"
	"time"

	"github.com/OpenArchive/save-dweb-go/exchange/internal/frame"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// served is a group that we belong to.
type served struct {
	keys *frame.Keys

	mu    sync.Mutex
	g     Group
	news  map[veilid.OpaqueRecordKey]uint64 // newest version that was told, by repo
	spent float64                           // small questions lately, see allow
	at    time.Time
	hello map[string]time.Time // last HELLO by repo
}

// Bounds of what members may cause.
const (
	maxNewsRepos  = 1024
	controlRate   = 200.0 // small questions per second of one group
	controlBurst  = 400.0
	helloInterval = 200 * time.Millisecond // of one repo
	maxHelloRepos = 1024
)

// AddGroup begins to serve a group, or replaces what was said of it.
func (x *Exchange) AddGroup(g Group) {
	x.groupsMu.Lock()
	defer x.groupsMu.Unlock()
	if s := x.byID[g.ID]; s != nil && s.group().Secret.Equal(g.Secret) {
		s.mu.Lock()
		s.g = g
		s.mu.Unlock()
		return
	}
	x.removeLocked(g.ID)
	s := &served{
		keys: frame.NewKeys(g.Secret), g: g, at: time.Now(),
		news: map[veilid.OpaqueRecordKey]uint64{}, hello: map[string]time.Time{},
	}
	x.byID[g.ID] = s
	x.byTag[s.keys.Tag()] = s
}

// RemoveGroup ends serving a group.
func (x *Exchange) RemoveGroup(id GroupID) {
	x.groupsMu.Lock()
	defer x.groupsMu.Unlock()
	x.removeLocked(id)
}

func (x *Exchange) removeLocked(id GroupID) {
	if s := x.byID[id]; s != nil {
		delete(x.byID, id)
		if x.byTag[s.keys.Tag()] == s {
			delete(x.byTag, s.keys.Tag())
		}
	}
}

func (x *Exchange) served(id GroupID) *served {
	x.groupsMu.RLock()
	defer x.groupsMu.RUnlock()
	return x.byID[id]
}

func (x *Exchange) tagged(t frame.Tag) *served {
	x.groupsMu.RLock()
	defer x.groupsMu.RUnlock()
	return x.byTag[t]
}

func (s *served) group() Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.g
}

// allow counts a small question; where there were too many it says how long to wait.
func (s *served) allow(now time.Time) (wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spent = max(0, s.spent-controlRate*now.Sub(s.at).Seconds())
	s.at = now
	if s.spent >= controlBurst {
		return time.Duration((s.spent - controlBurst + 1) / controlRate * float64(time.Second))
	}
	s.spent++
	return 0
}

// isNew notes news and reports whether it is news.
func (s *served) isNew(n frame.News) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.news[n.Repo]
	if ok && n.Version <= known {
		return false
	}
	if !ok && len(s.news) >= maxNewsRepos {
		for k := range s.news { // any one: a repeated message is no harm
			delete(s.news, k)
			break
		}
	}
	s.news[n.Repo] = n.Version
	return true
}

// mayHello reports whether a HELLO of this repo is to be acted upon, not just answered.
func (s *served) mayHello(repo string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.hello[repo]; ok && now.Sub(at) < helloInterval {
		return false
	}
	if len(s.hello) >= maxHelloRepos {
		clear(s.hello)
	}
	s.hello[repo] = now
	return true
}

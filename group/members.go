package group

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/exchange"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Member is a member of a group as this device knows it.
type Member struct {
	Repo     veilid.OpaqueRecordKey
	Name     string
	Own      bool
	Device   string    // as the member's device calls itself
	LastSeen time.Time // when it last said so; zero: never
	Away     bool      // it has withdrawn its routes
	Gone     bool      // no slot of the group names it any more
	Legacy   bool      // it uses the Rust app
	Files    int
	Bytes    uint64 // of plaintext
}

// Members lists the group's members, the own device first. It needs no network.
func (g *Group) Members() []Member {
	var ms []Member
	for _, r := range g.Repos() {
		ms = append(ms, r.member())
	}
	return ms
}

func (r *Repo) member() Member {
	m := Member{Repo: r.id, Name: r.Name(), Own: r.CanWrite()}
	r.mu.Lock()
	m.Gone, m.Legacy, m.Files = r.gone, r.legacy, len(r.entries)
	for _, e := range r.entries {
		m.Bytes += e.Size
	}
	r.mu.Unlock()
	if m.Own {
		m.Device, m.LastSeen = r.g.d.Device, time.Now()
		return m
	}
	var s status
	if b := r.rec.value(statusSubkey); len(b) > 0 && openValue(r.g.keys.Secret, statusContext, r.id, b, &s) == nil {
		m.Device, m.LastSeen = plainName(s.Device), time.Unix(s.LastSeen, 0).UTC()
	}
	m.Away = true
	for _, n := range routeSubkeys {
		if len(r.rec.value(n)) > 0 {
			m.Away = false
		}
	}
	return m
}

// Routes are the route blobs by which the group's other members can be reached, by repo.
func (g *Group) Routes() map[veilid.OpaqueRecordKey][][]byte {
	out := map[veilid.OpaqueRecordKey][][]byte{}
	for _, r := range g.Repos() {
		if routes := r.Routes(); len(routes) > 0 {
			out[r.id] = routes
		}
	}
	return out
}

// Pong is what a ping of a member's device tells.
type Pong struct {
	Member Member
	RTT    time.Duration
	Err    error // nil: it answered
}

// Ping calls every other member, all at once, and tells their round-trip times.
func (g *Group) Ping(ctx context.Context) []Pong {
	var (
		mu  sync.Mutex
		wg  sync.WaitGroup
		out []Pong
	)
	for _, r := range g.Repos() {
		if r.CanWrite() {
			continue
		}
		m := r.member()
		for _, p := range r.peers() {
			wg.Go(func() {
				rtt, err := g.d.Exchange.Ping(ctx, g.id, p)
				mu.Lock()
				defer mu.Unlock()
				out = append(out, Pong{m, rtt, err})
			})
		}
	}
	wg.Wait()
	return out
}

// Holders asks the other members which of them hold a file, wholly or in part.
func (g *Group) Holders(ctx context.Context, r *Repo, name string) ([]Member, error) {
	h, err := r.Blob(name)
	if err != nil {
		return nil, err
	}
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		out  []Member
		errs []error
	)
	for _, other := range g.Repos() {
		if other.CanWrite() {
			continue
		}
		for _, p := range other.peers() {
			wg.Go(func() {
				held, err := g.d.Exchange.Have(ctx, g.id, p, []blobs.Hash{h})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil && !errors.Is(err, exchange.ErrAway):
					errs = append(errs, err)
				case err == nil && len(held) == 1 && (held[0].Complete || len(held[0].Have) > 0):
					out = append(out, other.member())
				}
			})
		}
	}
	wg.Wait()
	if len(out) > 0 {
		errs = nil // somebody answered: that is what was asked
	}
	return out, errors.Join(errs...)
}

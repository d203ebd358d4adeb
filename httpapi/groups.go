package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/group"
)

// publishWait is how long the making of a group waits for the network.
const publishWait = 10 * time.Second

func groupOf(g *group.Group) Group {
	out := Group{
		Key: g.ID().String(), Name: g.Name(), CanWrite: g.Keys().CanWrite(), Legacy: g.Legacy(), Published: g.Published(),
	}
	if own := g.Own(); own != nil {
		out.Repo = own.ID().String()
	}
	for _, m := range g.Members() {
		out.Members++
		out.Files += m.Files
		out.Bytes += m.Bytes
	}
	return out
}

func memberOf(m group.Member) Member {
	return Member{
		Repo: m.Repo.String(), Name: m.Name, Own: m.Own, Device: m.Device, LastSeen: m.LastSeen, Away: m.Away, Gone: m.Gone,
		Legacy: m.Legacy, Files: m.Files, Bytes: m.Bytes,
	}
}

func repoOf(r *group.Repo) Repo {
	out := Repo{Key: r.ID().String(), Name: r.Name(), CanWrite: r.CanWrite(), Published: r.Published()}
	if root := r.Root(); root != (blobs.Hash{}) {
		out.Root = root.String()
	}
	if err := r.Problem(); err != nil {
		out.Problem = err.Error()
	}
	for _, m := range r.Group().Members() {
		if m.Repo == r.ID() {
			out.Files, out.Bytes = m.Files, m.Bytes
		}
	}
	return out
}

// theGroup is the group that the path names.
func (h *Handler) theGroup(r *http.Request) (*group.Group, error) { return h.b.Group(r.PathValue("g")) }

// theRepo is the repo that the path names.
func (h *Handler) theRepo(r *http.Request) (*group.Repo, error) {
	g, err := h.theGroup(r)
	if err != nil {
		return nil, err
	}
	return h.b.Repo(g, r.PathValue("r"))
}

func (h *Handler) groups(w http.ResponseWriter, _ *http.Request) error {
	out := GroupList{Groups: []Group{}}
	for _, g := range h.b.Groups() {
		out.Groups = append(out.Groups, groupOf(g))
	}
	return answer(w, out)
}

func (h *Handler) createGroup(w http.ResponseWriter, r *http.Request) error {
	var req NewGroup
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	g, err := h.b.CreateGroup(r.Context(), req.Name, req.Member)
	if err != nil {
		return err
	}
	// So that a link works as soon as it is handed out. Where there is no network, the group says that it is pending.
	if h.b.State().Ready {
		ctx, cancel := context.WithTimeout(r.Context(), publishWait)
		defer cancel()
		g.Flush(ctx) //nolint:errcheck // the answer tells whether it is published
	}
	writeJSON(w, http.StatusCreated, groupOf(g))
	return nil
}

func (h *Handler) join(w http.ResponseWriter, r *http.Request) error {
	var req JoinGroup
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	g, err := h.b.Join(r.Context(), req.Link, req.Name)
	if err != nil {
		return err
	}
	return answer(w, groupOf(g))
}

func (h *Handler) group(w http.ResponseWriter, r *http.Request) error {
	g, err := h.theGroup(r)
	if err != nil {
		return err
	}
	return answer(w, groupOf(g))
}

func (h *Handler) changeGroup(w http.ResponseWriter, r *http.Request) error {
	g, err := h.theGroup(r)
	if err != nil {
		return err
	}
	var req ChangeGroup
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	if req.Name != nil {
		if err := g.SetName(*req.Name); err != nil {
			return err
		}
	}
	if req.Legacy != nil {
		if err := g.SetLegacy(r.Context(), *req.Legacy); err != nil {
			return err
		}
	}
	return answer(w, groupOf(g))
}

func (h *Handler) leaveGroup(w http.ResponseWriter, r *http.Request) error {
	g, err := h.theGroup(r)
	if err != nil {
		return err
	}
	// A client that goes away must not leave the group half left.
	if err := h.b.Leave(context.WithoutCancel(r.Context()), g.ID()); err != nil {
		return err
	}
	return answer(w, struct{}{})
}

func (h *Handler) invite(w http.ResponseWriter, r *http.Request) error {
	g, err := h.theGroup(r)
	if err != nil {
		return err
	}
	readOnly, err := flag(r, "read_only")
	if err != nil {
		return err
	}
	link, err := g.Link(readOnly)
	if err != nil {
		return err
	}
	return answer(w, Invite{Link: link.Reveal(), ReadOnly: link.ReadOnly()})
}

func (h *Handler) members(w http.ResponseWriter, r *http.Request) error {
	g, err := h.theGroup(r)
	if err != nil {
		return err
	}
	out := MemberList{Members: []Member{}}
	for _, m := range g.Members() {
		out.Members = append(out.Members, memberOf(m))
	}
	return answer(w, out)
}

func (h *Handler) ping(w http.ResponseWriter, r *http.Request) error {
	g, err := h.theGroup(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), pingTimeout)
	defer cancel()
	pongs, err := h.b.Ping(ctx, g)
	if err != nil {
		return err
	}
	out := PongList{Pongs: []Pong{}}
	for _, p := range pongs {
		x := Pong{Member: memberOf(p.Member), RTT: float64(p.RTT) / float64(time.Millisecond)}
		if p.Err != nil {
			x.RTT, x.Error, x.Code = 0, p.Err.Error(), Classify(p.Err).Code
		}
		out.Pongs = append(out.Pongs, x)
	}
	return answer(w, out)
}

func (h *Handler) refresh(w http.ResponseWriter, r *http.Request) error {
	g, err := h.theGroup(r)
	if err != nil {
		return err
	}
	if !h.b.State().Ready {
		return backend.ErrOffline
	}
	ctx, cancel := context.WithTimeout(r.Context(), refreshLimit)
	defer cancel()
	if err := g.Refresh(ctx); err != nil {
		return fmt.Errorf("refresh: %w", err)
	}
	return answer(w, groupOf(g))
}

func (h *Handler) repos(w http.ResponseWriter, r *http.Request) error {
	g, err := h.theGroup(r)
	if err != nil {
		return err
	}
	out := RepoList{Repos: []Repo{}}
	for _, x := range g.Repos() {
		out.Repos = append(out.Repos, repoOf(x))
	}
	return answer(w, out)
}

func (h *Handler) repo(w http.ResponseWriter, r *http.Request) error {
	x, err := h.theRepo(r)
	if err != nil {
		return err
	}
	return answer(w, repoOf(x))
}

func (h *Handler) changeRepo(w http.ResponseWriter, r *http.Request) error {
	x, err := h.theRepo(r)
	if err != nil {
		return err
	}
	var req ChangeRepo
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	if err := x.SetName(req.Name); err != nil {
		return err
	}
	return answer(w, repoOf(x))
}

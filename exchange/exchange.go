// Package exchange moves blobs between the members of a group over Veilid app calls: who has what, verified windows,
// a scheduler over many providers at once.
package exchange

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Errors of transfers.
var (
	// ErrUnreachable: no provider can be reached now; what arrived is kept, and a later Fetch goes on from there.
	ErrUnreachable = errors.New("no provider can be reached")
	// ErrNotHeld: every provider that answered says that it does not hold the blob.
	ErrNotHeld = errors.New("no provider holds the blob")
	// ErrDenied: the peer does not count us as a member of the group.
	ErrDenied = errors.New("peer denied the request")
	// ErrBusy: the peer is at its limit.
	ErrBusy = errors.New("peer is busy")
	// ErrLegacyPeer: the peer speaks only the Rust app's tunnels.
	ErrLegacyPeer = errors.New("peer speaks only the tunnels of the Rust app")
	// ErrAway: the member has withdrawn its route.
	ErrAway = errors.New("member is away")
)

// GroupID names a group: its record's key.
type GroupID = veilid.OpaqueRecordKey

// Group is what the exchange must know of a group to serve its members.
type Group struct {
	ID      GroupID
	Secret  veilid.SharedSecret       // the group secret; keys of MACs and tags are derived from it
	Visible func(h blobs.Hash) bool   // whether members may have this blob; called often, must be quick
	OnNews  func(from string, n News) // news that a member sent; called in order, must not block
	Greet   func() Greeting           // what we tell others in HELLO
}

// Greeting is what a HELLO tells about a device.
type Greeting struct {
	Device string // name of the device, as its owner called it
	Repo   string // bare opaque key of the member's repo
}

// News says that a member's repo has a new manifest.
type News struct {
	Repo    veilid.OpaqueRecordKey
	Root    blobs.Hash
	Version uint64
}

// Peer is a device of another member. ID is stable while routes come and go.
type Peer struct {
	ID string
	// Route is the peer's route blob: from memory, or read again from the DHT where fresh is set. ErrAway where it is
	// withdrawn.
	Route func(ctx context.Context, fresh bool) ([]byte, error)
}

// Request asks for one blob.
type Request struct {
	Group    GroupID
	Hash     blobs.Hash
	MaxSize  uint64         // largest size to accept; 0: the limit of Config
	Peers    func() []Peer  // who may have it; called again while the transfer runs
	Progress func(Progress) // may be nil; calls are serial and throttled, the last one always comes
}

// Progress is how far a transfer is.
type Progress struct {
	Hash      blobs.Hash
	Size      uint64  // 0 until proven
	Done      uint64  // bytes in the store, those of earlier attempts included
	Fetched   uint64  // bytes that this transfer received
	Rate      float64 // bytes per second, smoothed
	Providers []ProviderProgress
	Waiting   string // why nothing moves; empty while something does
}

// ProviderProgress is one provider's part of a transfer.
type ProviderProgress struct {
	Peer     string
	Bytes    uint64
	InFlight int
	RTT      time.Duration
	State    string // "active", "suspended", "missing", "denied", "liar", "legacy", "away"
}

// Config is what New needs; zero limits mean the defaults.
type Config struct {
	Node    veilid.Node
	Store   blobs.Store
	OnRoute func(veilid.RouteBlob) // our private route is new: publish it. Called in order, may block
	Hops    int                    // of our routes and safety routes, 1 to 4; 0: 1
	MaxBlob uint64                 // largest blob to fetch; 0: 64 GiB
	MaxRate float64                // bytes per second in each direction; 0: none
	Log     *slog.Logger
}

// Exchange serves the groups' blobs on one private route and fetches blobs from others.
type Exchange struct{}

// New makes an exchange; Start lets it work.
func New(cfg Config) (*Exchange, error) { panic("") }

// Start allocates our private route, and a new one whenever it dies, and answers calls until Close.
func (x *Exchange) Start(ctx context.Context) error { panic("") }

// Close stops serving, ends transfers (what arrived is kept) and releases our route.
func (x *Exchange) Close() error { panic("") }

// Route is our private route, if there is one now.
func (x *Exchange) Route() (veilid.RouteBlob, bool) { panic("") }

// AddGroup begins to serve a group, or replaces what was said of it.
func (x *Exchange) AddGroup(g Group) { panic("") }

// RemoveGroup ends serving a group.
func (x *Exchange) RemoveGroup(id GroupID) { panic("") }

// Fetch brings a blob into the store, from many providers at once, and returns when it is complete. While nobody can
// be reached it waits and tries again, until ctx ends. Two fetches of one hash share one transfer. It returns a
// temporary tag that keeps the blob until it is released.
func (x *Exchange) Fetch(ctx context.Context, req Request) (*blobs.TempTag, error) { panic("") }

// FetchSmall brings many blobs into the store whose sizes are known, several in one answer where they are small.
func (x *Exchange) FetchSmall(ctx context.Context, req Request, hashes []blobs.Hash, sizes []uint64) ([]*blobs.TempTag, error) {
	panic("")
}

// Ping is the round-trip time of a call to a peer.
func (x *Exchange) Ping(ctx context.Context, g GroupID, p Peer) (time.Duration, error) { panic("") }

// Hello exchanges greetings with a peer, and tells it our route.
func (x *Exchange) Hello(ctx context.Context, g GroupID, p Peer) (Greeting, error) { panic("") }

// Held is a peer's answer about one blob.
type Held struct {
	Hash     blobs.Hash
	Complete bool
	Size     uint64
	Have     bao.Ranges // of a partial blob
}

// Have asks a peer which of these blobs it holds, wholly or in part; the answer runs parallel to the question.
func (x *Exchange) Have(ctx context.Context, g GroupID, p Peer, hashes []blobs.Hash) ([]Held, error) {
	panic("")
}

// SendNews tells peers that our repo has changed. It is a hint: arrival is not confirmed.
func (x *Exchange) SendNews(ctx context.Context, g GroupID, to []Peer, n News) error { panic("") }

// Transfers lists the transfers that run.
func (x *Exchange) Transfers() []Progress { panic("") }

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
	// ErrUnknownGroup: the group was not added to the exchange.
	ErrUnknownGroup = errors.New("group is not known to the exchange")
	// ErrClosed: the exchange is closed.
	ErrClosed = errors.New("exchange is closed")
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
	OnHello func(Greeting, []byte)    // a member said HELLO, with its route blob; may be nil, must not block
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
	State    string // "connecting", "active", "suspended", "missing", "denied", "liar", "legacy", "away"
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

	// MaxInFlight bounds the answers that are asked for or not yet stored, over all transfers, in bytes; 0: 32 MiB.
	MaxInFlight int
	// Legacy takes calls on our route that are not of this protocol, such as the Rust app's tunnels. It reports whether
	// it will answer; otherwise the call is refused as the Rust app would. Called in order, must not block; may be nil.
	Legacy func(*veilid.AppCall) bool
}

// State is how the exchange does.
type State struct {
	Route    veilid.RouteBlob // zero while there is none
	Since    time.Time        // when the route, or its absence, began
	Degraded string           // why others cannot reach us; empty while they can
	Attached bool             // what the node last said of itself
}

// Held is a peer's answer about one blob.
type Held struct {
	Hash     blobs.Hash
	Complete bool
	Size     uint64     // of a partial blob 0 where it is not proven
	Have     bao.Ranges // of a partial blob
}

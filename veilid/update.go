package veilid

import "time"

// Update is an event of the node. It is one of the pointer types below, whose names are those of veilid-core.
type Update interface{ update() }

// AppMessage is a message that arrived, without a way to answer.
type AppMessage struct {
	Sender  NodeID  // zero over private routes
	Route   RouteID // our route that it came on
	Message []byte
}

// AppCall is a question that waits for [Node.AppCallReply] within the caller's time-out, about 5 s.
type AppCall struct {
	AppMessage
	CallID uint64
}

// AttachmentState says how well a node is connected.
type AttachmentState string

// The attachment states of veilid-core 0.5, from worst to best.
const (
	Detached       AttachmentState = "Detached"
	Detaching      AttachmentState = "Detaching"
	Attaching      AttachmentState = "Attaching"
	AttachedWeak   AttachmentState = "AttachedWeak"
	AttachedFair   AttachmentState = "AttachedFair"
	AttachedGood   AttachmentState = "AttachedGood"
	AttachedStrong AttachmentState = "AttachedStrong"
	AttachedFull   AttachmentState = "AttachedFull"
)

// IsAttached reports whether the state is one of AttachedWeak to AttachedFull.
func (s AttachmentState) IsAttached() bool {
	switch s {
	case AttachedWeak, AttachedFair, AttachedGood, AttachedStrong, AttachedFull:
		return true
	}
	return false
}

// Attachment tells that the attachment changed.
type Attachment struct {
	State               AttachmentState
	PublicInternetReady bool
	LocalNetworkReady   bool
	Uptime              time.Duration
	AttachedUptime      time.Duration // zero while detached
	ReliablePeers       uint64
	LivePeers           uint64
	EstimatedNetwork    uint64 // nodes
}

// Ready reports whether routes and the DHT can be used.
func (a Attachment) Ready() bool { return a.State.IsAttached() && a.PublicInternetReady }

// Network tells traffic and peers from time to time.
type Network struct {
	Started        bool
	BPSDown, BPSUp uint64 // bytes per second
	Peers          int
	NodeIDs        []NodeID
}

// RouteChange tells routes that died: our own, and imported ones.
type RouteChange struct {
	DeadRoutes       []RouteID
	DeadRemoteRoutes []RouteID
}

// ValueChange tells that a watched record changed. Count is how many more changes the watch will report. Empty
// Subkeys and a Count of 0 mean that the watch died. Value is set only where a single subkey changed.
type ValueChange struct {
	Key     RecordKey // perhaps without its encryption key: compare Opaque
	Subkeys SubkeyRanges
	Count   uint32
	Value   *ValueData
}

// Log is a line of the node's own log, where the engine forwards it.
type Log struct{ Level, Message string }

// Shutdown is the last update of a node.
type Shutdown struct{}

// Lagged tells a subscriber that it read too slowly and lost Count updates at this point.
type Lagged struct{ Count int }

// Reconnected tells that the way to the node was lost and is there again; updates in between are lost. Records and
// watches may have to be opened anew where Restarted is true, since the node itself began again.
type Reconnected struct{ Restarted bool }

func (*AppMessage) update()  {}
func (*AppCall) update()     {}
func (*Attachment) update()  {}
func (*Network) update()     {}
func (*RouteChange) update() {}
func (*ValueChange) update() {}
func (*Log) update()         {}
func (*Shutdown) update()    {}
func (*Lagged) update()      {}
func (*Reconnected) update() {}

// UpdateKinds chooses updates by kind; see [Node.Subscribe].
type UpdateKinds uint

// The kinds of updates that can be subscribed to. Lagged, Reconnected and Shutdown always arrive.
const (
	AppMessages UpdateKinds = 1 << iota
	AppCalls
	Attachments
	Networks
	RouteChanges
	ValueChanges
	Logs

	AllUpdates = AppMessages | AppCalls | Attachments | Networks | RouteChanges | ValueChanges | Logs
)

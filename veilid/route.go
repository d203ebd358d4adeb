package veilid

// Sequencing says whether messages must keep their order, which chooses between datagrams and connections.
type Sequencing string

// The sequencings of veilid-core 0.5.
const (
	PreferUnordered Sequencing = "PreferUnordered"
	PreferOrdered   Sequencing = "PreferOrdered"
	EnsureOrdered   Sequencing = "EnsureOrdered"
)

// Stability says what hops to prefer.
type Stability string

// The stabilities of veilid-core 0.5.
const (
	LowLatency Stability = "LowLatency"
	Reliable   Stability = "Reliable"
)

// MaxRouteHops is the most hops that a route may have.
const MaxRouteHops = 4

// SafetySpec says how the sender hides behind a safety route.
type SafetySpec struct {
	PreferredRoute RouteID // zero: any
	HopCount       int     // 0: the node's default (1)
	Stability      Stability
	Sequencing     Sequencing
}

// SafetySelection is a [SafetySpec], or no safety route at all. The zero value is the node's default, which is safe.
type SafetySelection struct {
	Unsafe     bool       // send without a safety route: shows the sender's address; refused by release nodes
	Sequencing Sequencing // of an unsafe selection
	Spec       SafetySpec // of a safe one
}

// Safe is the selection of a safety route with this spec.
func Safe(s SafetySpec) SafetySelection { return SafetySelection{Spec: s} }

// PrivateSpec says what private route to allocate. Its zero value is the node's default.
type PrivateSpec struct {
	HopCount   int // 0: the node's default (1)
	Stability  Stability
	Sequencing Sequencing
}

// RouteBlob is a private route: its id here, and the bytes by which others import it.
type RouteBlob struct {
	ID   RouteID
	Blob []byte
}

// Target is whom an app call or message goes to: an imported route, or a node where that is allowed.
type Target struct {
	Route RouteID
	Node  NodeID // only where Route is zero; refused by release nodes
}

// RouteTarget is the target behind an imported private route.
func RouteTarget(r RouteID) Target { return Target{Route: r} }

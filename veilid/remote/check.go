package remote

import (
	"strconv"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// The server closes the connection, with every handle and call on it, where it cannot parse a request. So what has no
// valid text is refused here. What can be said and is wrong, the server answers itself.

func checkKind(argument string, k veilid.Key32) error {
	if k.Kind != veilid.VLD0 {
		return veilid.InvalidArgument("unsupported cryptosystem", argument, strconv.QuoteToASCII(k.Kind.String()))
	}
	return nil
}

func checkKey(k veilid.RecordKey) error {
	if e := k.Encryption(); !e.IsZero() && e.Kind() != veilid.VLD0 {
		return veilid.InvalidArgument("unsupported cryptosystem", "key", k.String())
	}
	return checkKind("key", k.Opaque().Key32)
}

// checkPair accepts the zero pair, which is none.
func checkPair(argument string, p veilid.KeyPair) error {
	switch {
	case p.IsZero() && p.Secret.IsZero():
		return nil
	case p.Secret.IsZero():
		return veilid.InvalidArgument("key pair without its secret half", argument, p.String())
	case p.Secret.Kind() != veilid.VLD0:
		return veilid.InvalidArgument("unsupported cryptosystem", argument, p.String())
	}
	return checkKind(argument, p.Public.Key32)
}

// checkRanges refuses reversed ranges: the server drops them, and takes none for all.
func checkRanges(r veilid.SubkeyRanges) error {
	for _, x := range r {
		if x.First > x.Last {
			return veilid.InvalidArgument("range ends before it begins", "subkeys", strconv.Itoa(int(x.First))+"-"+strconv.Itoa(int(x.Last)))
		}
	}
	return nil
}

func checkScope(s veilid.ReportScope) error {
	switch s {
	case veilid.ScopeLocal, veilid.ScopeSyncGet, veilid.ScopeSyncSet, veilid.ScopeUpdateGet, veilid.ScopeUpdateSet:
		return nil
	}
	return veilid.InvalidArgument("unknown scope", "scope", strconv.QuoteToASCII(string(s)))
}

func checkSequencing(s veilid.Sequencing) error {
	switch s {
	case "", veilid.PreferUnordered, veilid.PreferOrdered, veilid.EnsureOrdered:
		return nil
	}
	return veilid.InvalidArgument("unknown sequencing", "sequencing", strconv.QuoteToASCII(string(s)))
}

// checkRoute checks what private and safety routes have in common. Zero values mean the node's default; too many hops
// are the server's to refuse.
func checkRoute(hops int, st veilid.Stability, sq veilid.Sequencing) error {
	switch st {
	case "", veilid.LowLatency, veilid.Reliable:
	default:
		return veilid.InvalidArgument("unknown stability", "stability", strconv.QuoteToASCII(string(st)))
	}
	if hops < 0 {
		return veilid.InvalidArgument("negative number of hops", "hop_count", strconv.Itoa(hops))
	}
	return checkSequencing(sq)
}

func checkSelection(s veilid.SafetySelection) error {
	if s.Unsafe {
		return checkSequencing(s.Sequencing)
	}
	if !s.Spec.PreferredRoute.IsZero() {
		if err := checkKind("preferred_route", s.Spec.PreferredRoute.Key32); err != nil {
			return err
		}
	}
	return checkRoute(s.Spec.HopCount, s.Spec.Stability, s.Spec.Sequencing)
}

func checkTarget(to veilid.Target) error {
	switch {
	case !to.Route.IsZero():
		return checkKind("target", to.Route.Key32)
	case !to.Node.IsZero():
		return checkKind("target", to.Node.Key32)
	}
	return veilid.Errorf(veilid.ErrInvalidTarget, "the target names neither a route nor a node")
}

// checkMessage answers as veilid-core does, without the way there.
func checkMessage(what string, b []byte) error {
	if len(b) > veilid.MaxMessageSize {
		return veilid.Errorf(veilid.ErrInternal, "%s of %d bytes is too long: at most %d", what, len(b), veilid.MaxMessageSize)
	}
	return nil
}

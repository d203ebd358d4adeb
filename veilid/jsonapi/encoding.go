package jsonapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

var (
	base64url = base64.RawURLEncoding.Strict()

	errBase64 = errors.New("not unpadded base64url")
)

// decodeBytes decodes unpadded base64url into memory of just that size. It keeps neither text nor quotes it.
func decodeBytes(text []byte) ([]byte, error) {
	b := make([]byte, base64url.DecodedLen(len(text)))
	n, err := base64url.Decode(b, text)
	if err != nil || base64url.EncodedLen(n) != len(text) { // the decoder passes over line ends
		return nil, errBase64
	}
	return b, nil
}

// Bytes is a byte string in unpadded base64url. A nil one that was read stood for null.
type Bytes []byte

// MarshalText is unpadded base64url; nil is the empty string.
func (b Bytes) MarshalText() ([]byte, error) {
	return base64url.AppendEncode(make([]byte, 0, base64url.EncodedLen(len(b))), b), nil
}

// UnmarshalJSON reads a string of unpadded base64url, or null.
func (b *Bytes) UnmarshalJSON(text []byte) (err error) {
	if string(text) == "null" {
		*b = nil
		return nil
	}
	if len(text) >= 2 && text[0] == '"' && bytes.IndexByte(text, '\\') < 0 {
		*b, err = decodeBytes(text[1 : len(text)-1])
		return err
	}
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return errBase64
	}
	*b, err = decodeBytes([]byte(s))
	return err
}

// U64 is a number that JSON carries as a decimal string.
type U64 uint64

// MarshalText is the decimal number.
func (n U64) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(n), 10), nil }

// UnmarshalText reads a decimal number without sign.
func (n *U64) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 10, 64)
	*n = U64(v)
	return err
}

// micros is a duration in µs as the API gives it, cut to what time.Duration holds.
func (n U64) micros() time.Duration {
	const most = U64(1<<63-1) / 1000
	return time.Duration(min(n, most)) * time.Microsecond
}

// RecordKey is sent in full: it is the capability to read the record.
type RecordKey struct{ veilid.RecordKey }

// MarshalText is the full typed form.
func (k RecordKey) MarshalText() ([]byte, error) { return []byte(k.Reveal()), nil }

// KeyPair is sent with its secret half.
type KeyPair struct{ veilid.KeyPair }

// MarshalText is "VLD0:public:secret".
func (p KeyPair) MarshalText() ([]byte, error) { return []byte(p.Reveal()), nil }

// OptionalKeyPair is the pair, or nil for the zero pair.
func OptionalKeyPair(p veilid.KeyPair) *KeyPair {
	if p.IsZero() {
		return nil
	}
	return &KeyPair{p}
}

// SharedSecret is sent in clear.
type SharedSecret struct{ veilid.SharedSecret }

// MarshalText is "VLD0:secret".
func (s SharedSecret) MarshalText() ([]byte, error) { return []byte(s.Reveal()), nil }

// SecretKey is sent in clear.
type SecretKey struct{ veilid.SecretKey }

// MarshalText is "VLD0:secret".
func (s SecretKey) MarshalText() ([]byte, error) { return []byte(s.Reveal()), nil }

// Target is {"RouteId": …} or {"NodeId": …}.
type Target veilid.Target

type target struct {
	Route *veilid.RouteID `json:"RouteId,omitempty"`
	Node  *veilid.NodeID  `json:"NodeId,omitempty"`
}

// MarshalJSON writes the route if there is one, else the node.
func (t Target) MarshalJSON() ([]byte, error) {
	if t.Route.IsZero() {
		return json.Marshal(target{Node: &t.Node})
	}
	return json.Marshal(target{Route: &t.Route})
}

// UnmarshalJSON reads either form.
func (t *Target) UnmarshalJSON(b []byte) error {
	var x target
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	if (x.Route == nil) == (x.Node == nil) {
		return errors.New("target: want one of RouteId and NodeId")
	}
	*t = Target{}
	if x.Route != nil {
		t.Route = *x.Route
	} else {
		t.Node = *x.Node
	}
	return nil
}

// SafetySelection is {"Unsafe": sequencing} or {"Safe": spec}.
type SafetySelection veilid.SafetySelection

type safetySelection struct {
	Unsafe veilid.Sequencing `json:",omitempty"`
	Safe   *safetySpec       `json:",omitempty"`
}

type safetySpec struct {
	PreferredRoute *veilid.RouteID   `json:"preferred_route"`
	HopCount       int               `json:"hop_count"`
	Stability      veilid.Stability  `json:"stability"`
	Sequencing     veilid.Sequencing `json:"sequencing"`
}

// orDefault fills what is unset with veilid-core's defaults.
func orDefault(st veilid.Stability, sq veilid.Sequencing) (veilid.Stability, veilid.Sequencing) {
	if st == "" {
		st = veilid.Reliable
	}
	if sq == "" {
		sq = veilid.PreferOrdered
	}
	return st, sq
}

// MarshalJSON writes every field, with veilid-core's default where one is unset.
func (s SafetySelection) MarshalJSON() ([]byte, error) {
	if s.Unsafe {
		_, sq := orDefault("", s.Sequencing)
		return json.Marshal(safetySelection{Unsafe: sq})
	}
	spec := safetySpec{HopCount: s.Spec.HopCount}
	spec.Stability, spec.Sequencing = orDefault(s.Spec.Stability, s.Spec.Sequencing)
	if !s.Spec.PreferredRoute.IsZero() {
		spec.PreferredRoute = &s.Spec.PreferredRoute
	}
	return json.Marshal(safetySelection{Safe: &spec})
}

// UnmarshalJSON reads either form.
func (s *SafetySelection) UnmarshalJSON(b []byte) error {
	var x safetySelection
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	switch {
	case (x.Safe == nil) == (x.Unsafe == ""):
		return errors.New("safety selection: want one of Safe and Unsafe")
	case x.Safe == nil:
		*s = SafetySelection{Unsafe: true, Sequencing: x.Unsafe}
	default:
		*s = SafetySelection{Spec: veilid.SafetySpec{HopCount: x.Safe.HopCount}}
		s.Spec.Stability, s.Spec.Sequencing = orDefault(x.Safe.Stability, x.Safe.Sequencing)
		if x.Safe.PreferredRoute != nil {
			s.Spec.PreferredRoute = *x.Safe.PreferredRoute
		}
	}
	return nil
}

// PrivateSpec says what route to allocate. No crypto kinds mean all.
type PrivateSpec struct {
	CryptoKinds []veilid.CryptoKind `json:"crypto_kinds"`
	HopCount    int                 `json:"hop_count"`
	Stability   veilid.Stability    `json:"stability"`
	Sequencing  veilid.Sequencing   `json:"sequencing"`
}

// NewPrivateSpec fills what is unset with veilid-core's defaults.
func NewPrivateSpec(s veilid.PrivateSpec) PrivateSpec {
	p := PrivateSpec{CryptoKinds: []veilid.CryptoKind{veilid.VLD0}, HopCount: s.HopCount}
	p.Stability, p.Sequencing = orDefault(s.Stability, s.Sequencing)
	return p
}

// Schema is {"kind":"DFLT","o_cnt":n} or {"kind":"SMPL","o_cnt":n,"members":[{"m_key","m_cnt"}…]}.
type Schema veilid.Schema

type schema struct {
	Kind    veilid.SchemaKind `json:"kind"`
	Owner   uint16            `json:"o_cnt"`
	Members *[]schemaMember   `json:"members,omitempty"`
}

type schemaMember struct {
	Key   Bytes  `json:"m_key"`
	Count uint16 `json:"m_cnt"`
}

// MarshalJSON writes members for SMPL only.
func (s Schema) MarshalJSON() ([]byte, error) {
	x := schema{Kind: s.Kind, Owner: s.OwnerCount}
	if s.Kind == veilid.SMPL {
		m := make([]schemaMember, len(s.Members))
		for i := range m {
			m[i] = schemaMember{s.Members[i].ID[:], s.Members[i].Count}
		}
		x.Members = &m
	}
	return json.Marshal(x)
}

// UnmarshalJSON reads either form. It does not check the counts; see veilid.Schema.Check.
func (s *Schema) UnmarshalJSON(b []byte) error {
	var x schema
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	*s = Schema{Kind: x.Kind, OwnerCount: x.Owner}
	if x.Kind != veilid.SMPL || x.Members == nil {
		return nil
	}
	for _, m := range *x.Members {
		if len(m.Key) != veilid.KeySize {
			return fmt.Errorf("schema member of %d bytes: want %d", len(m.Key), veilid.KeySize)
		}
		s.Members = append(s.Members, veilid.SchemaMember{ID: [veilid.KeySize]byte(m.Key), Count: m.Count})
	}
	return nil
}

// Ranges is a list of inclusive pairs [[first,last]…]. None is null where it is optional, and means all.
type Ranges veilid.SubkeyRanges

// MarshalJSON writes pairs, or null for none.
func (r Ranges) MarshalJSON() ([]byte, error) {
	if len(r) == 0 {
		return []byte("null"), nil
	}
	pairs := make([][2]uint32, len(r))
	for i, x := range r {
		pairs[i] = [2]uint32{x.First, x.Last}
	}
	return json.Marshal(pairs)
}

// UnmarshalJSON reads pairs, or null. Reversed pairs are dropped, as veilid-core does.
func (r *Ranges) UnmarshalJSON(b []byte) error {
	var pairs [][]uint32
	if err := json.Unmarshal(b, &pairs); err != nil {
		return err
	}
	*r = nil
	for _, p := range pairs {
		if len(p) != 2 {
			return fmt.Errorf("range of %d numbers: want 2", len(p))
		}
		if p[0] <= p[1] {
			*r = append(*r, veilid.SubkeyRange{First: p[0], Last: p[1]})
		}
	}
	return nil
}

// CheckText refuses what JSON cannot carry unchanged.
func CheckText(argument, s string) error {
	if !utf8.ValidString(s) {
		return veilid.InvalidArgument("text must be UTF-8", argument, strconv.QuoteToASCII(s))
	}
	return nil
}

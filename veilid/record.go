package veilid

import (
	"errors"
	"log/slog"
	"slices"
	"time"
)

// Limits of DHT records (veilid-core 0.5).
const (
	MaxValueSize   = 32768   // bytes of one subkey; less where a record has more than 32 subkeys, see [Schema.MaxValueSize]
	MaxRecordSize  = 1 << 20 // bytes of all subkeys of a record
	MaxSubkeys     = 1024
	MaxMembers     = 256
	MaxTransaction = 32    // records in one DHT transaction
	MaxMessageSize = 32768 // bytes of an app message, an app call's question or its answer
)

// RecordKey names a DHT record and, where it was created by Veilid 0.5, holds the key that decrypts its values: it is
// a capability and prints without that part. Its text form is "VLD0:key" or "VLD0:key:encryption"; the bare form
// leaves the kind away.
type RecordKey struct {
	opaque OpaqueRecordKey
	enc    SharedSecret
}

// NewRecordKey joins a record's name with the key to its values; the zero SharedSecret means that they are in clear.
func NewRecordKey(o OpaqueRecordKey, enc SharedSecret) RecordKey { return RecordKey{o, enc} }

// Opaque is the record's name without the key to its values: comparable, printable.
func (k RecordKey) Opaque() OpaqueRecordKey { return k.opaque }

// Encryption is the key to the record's values; zero where they are in clear.
func (k RecordKey) Encryption() SharedSecret { return k.enc }

// IsZero reports whether k names no record.
func (k RecordKey) IsZero() bool { return k.opaque.IsZero() }

// Equal compares name and encryption key.
func (k RecordKey) Equal(l RecordKey) bool { return k.opaque == l.opaque && k.enc.Equal(l.enc) }

// String is the name without the key to the values.
func (k RecordKey) String() string { return k.opaque.String() }

// LogValue is the name without the key to the values.
func (k RecordKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Reveal is the full typed text form, the capability to read the record.
func (k RecordKey) Reveal() string { return k.opaque.Kind.String() + ":" + k.RevealBare() }

// RevealBare is the full form without the kind, "key:encryption", as group slots and links hold it.
func (k RecordKey) RevealBare() string {
	if k.enc.IsZero() {
		return k.opaque.Bare()
	}
	return k.opaque.Bare() + ":" + k.enc.RevealBare()
}

// MarshalText refuses, so that no capability reaches a file or a log unasked; use Reveal.
func (k RecordKey) MarshalText() ([]byte, error) { return nil, errSecretText }

// UnmarshalText reads the typed or the bare form, with or without the encryption key.
func (k *RecordKey) UnmarshalText(b []byte) error {
	kind, parts, err := splitTyped(string(b), 1, 2)
	if err != nil {
		return err
	}
	*k = RecordKey{}
	k.opaque.Kind = kind
	err = decodeBare(k.opaque.Value[:], parts[0])
	if err == nil && len(parts) == 2 {
		err = k.enc.decode(kind, parts[1])
	}
	return err
}

// SchemaKind tells the two DHT schemas apart.
type SchemaKind string

// The schemas of veilid-core 0.5.
const (
	DFLT SchemaKind = "DFLT" // the owner writes every subkey
	SMPL SchemaKind = "SMPL" // the owner writes the first ones, then each member its own range
)

// SchemaMember is a writer in an SMPL schema and how many subkeys are its own.
type SchemaMember struct {
	ID    [KeySize]byte // value of the MemberID
	Count uint16
}

// Schema says how many subkeys a record has and who may write which.
type Schema struct {
	Kind       SchemaKind
	OwnerCount uint16
	Members    []SchemaMember // SMPL only
}

// DFLTSchema is a record of n subkeys that only its owner writes.
func DFLTSchema(n uint16) Schema { return Schema{Kind: DFLT, OwnerCount: n} }

// Subkeys is the number of subkeys.
func (s Schema) Subkeys() int {
	n := int(s.OwnerCount)
	for _, m := range s.Members {
		n += int(m.Count)
	}
	return n
}

// MaxValueSize is the most bytes that one subkey of such a record takes.
func (s Schema) MaxValueSize() int { return min(MaxValueSize, MaxRecordSize/max(1, s.Subkeys())) }

// Check says what is wrong with a schema, as an [ErrInvalidArgument].
func (s Schema) Check() error {
	switch n := s.Subkeys(); {
	case s.Kind != DFLT && s.Kind != SMPL:
		return InvalidArgument("schema", "kind", string(s.Kind))
	case s.Kind == DFLT && len(s.Members) > 0:
		return InvalidArgument("DFLT schema has no members", "members", "")
	case len(s.Members) > MaxMembers:
		return InvalidArgument("too many members", "members", "")
	case n < 1 || n > MaxSubkeys:
		return InvalidArgument("schema must have 1 to 1024 subkeys", "o_cnt", "")
	}
	return nil
}

// RecordDescriptor is what opening or creating a record tells about it. OwnerSecret is zero unless it was opened or
// created with the owner as writer.
type RecordDescriptor struct {
	Key         RecordKey
	Owner       PublicKey
	OwnerSecret SecretKey
	Schema      Schema
}

// OwnerKeyPair is the owner's key pair, or the zero pair where the secret is not known.
func (d RecordDescriptor) OwnerKeyPair() KeyPair {
	if d.OwnerSecret.IsZero() {
		return KeyPair{}
	}
	return KeyPair{d.Owner, d.OwnerSecret}
}

// ValueData is one version of a subkey. Seq grows with each write, from 0.
type ValueData struct {
	Seq    uint32
	Data   []byte
	Writer PublicKey
}

// SubkeyRange is a range of subkeys, both ends included.
type SubkeyRange struct{ First, Last uint32 }

// SubkeyRanges is a set of subkeys; an empty set means all of them where it is an argument.
type SubkeyRanges []SubkeyRange

// Subkey is the set of one subkey.
func Subkey(n uint32) SubkeyRanges { return SubkeyRanges{{n, n}} }

// Contains reports whether n is in the set.
func (r SubkeyRanges) Contains(n uint32) bool {
	return slices.ContainsFunc(r, func(x SubkeyRange) bool { return x.First <= n && n <= x.Last })
}

// All yields the subkeys of the set, in its order, but none from limit on: the set may come from a peer.
func (r SubkeyRanges) All(limit uint32) func(yield func(uint32) bool) {
	return func(yield func(uint32) bool) {
		for _, x := range r {
			for n := x.First; n <= x.Last && n < limit; n++ {
				if !yield(n) {
					return
				}
			}
		}
	}
}

// ReportScope says whose sequence numbers an inspection compares (veilid-core's DHTReportScope).
type ReportScope string

// The scopes of [RoutingContext.InspectDHTRecord].
const (
	ScopeLocal     ReportScope = "Local"     // only what is here: needs no network
	ScopeSyncGet   ReportScope = "SyncGet"   // what the network holds, as a get would find it
	ScopeSyncSet   ReportScope = "SyncSet"   // what the network holds, as a set would find it
	ScopeUpdateGet ReportScope = "UpdateGet" // what of it is newer than here, as a get would find it
	ScopeUpdateSet ReportScope = "UpdateSet" // what of it a set would meet
)

// Report is the result of an inspection. LocalSeqs and NetworkSeqs run parallel to the flattened Subkeys; nil means
// never written.
type Report struct {
	Subkeys        SubkeyRanges
	OfflineSubkeys SubkeyRanges // written here, not yet published
	LocalSeqs      []*uint32
	NetworkSeqs    []*uint32
}

// OpenOptions are the choices of [RoutingContext.OpenDHTRecord].
type OpenOptions struct {
	Writer    KeyPair // zero: read only, even where this node created the record
	Rehydrate bool    // push the local copy back to the network in the background
}

// SetOptions are the choices of [RoutingContext.SetDHTValue].
type SetOptions struct {
	Writer    KeyPair // zero: the writer the record was opened with
	NoOffline bool    // fail with ErrTryAgain rather than queue the write while the network is out of reach
	MinSeq    *uint32 // the write's sequence number is at least this
}

// WatchOptions are the choices of [RoutingContext.WatchDHTValues].
type WatchOptions struct {
	Subkeys    SubkeyRanges // empty: all
	Expiration time.Time    // zero: as long as the network allows
	Count      *uint32      // how many changes to report; nil: unlimited
}

// ErrNotOpen is the InvalidArgument that record operations return for a record that is not open.
var ErrNotOpen = errors.New("record not open")

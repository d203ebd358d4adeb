package veilid

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Sizes of VLD0 values in bytes.
const (
	KeySize       = 32 // public, secret and shared keys, hashes, node, route and member ids
	SignatureSize = 64
	NonceSize     = 24
	AEADOverhead  = 16
)

var base64url = base64.RawURLEncoding.Strict()

// Key32 is a public 32-byte value with its crypto kind: the common part of the typed keys. Its text form is
// "VLD0:" and 43 characters of unpadded base64url; its binary form is the 4 kind bytes and the 32 value bytes.
type Key32 struct {
	Kind  CryptoKind
	Value [KeySize]byte
}

// The typed keys that are not secret. They are comparable and may serve as map keys.
type (
	// PublicKey verifies signatures and names a DHT record's owner or writer.
	PublicKey struct{ Key32 }
	// NodeID names a node; for VLD0 it is the bytes of the node's public key.
	NodeID struct{ Key32 }
	// RouteID names a private route, our own or an imported one.
	RouteID struct{ Key32 }
	// MemberID names a writer in an SMPL schema; for VLD0 it is the bytes of the writer's public key.
	MemberID struct{ Key32 }
	// HashDigest is a BLAKE3 hash.
	HashDigest struct{ Key32 }
	// EncapsulationKey is the public half of an HPKE key pair.
	EncapsulationKey struct{ Key32 }
	// OpaqueRecordKey names a DHT record without the key that decrypts its values. It is what appears on the wire.
	OpaqueRecordKey struct{ Key32 }
)

// Signature is a VLD0 signature (Ed25519ph with context "VLD0_SIGN").
type Signature struct {
	Kind  CryptoKind
	Value [SignatureSize]byte
}

// Nonce is a bare 24-byte nonce.
type Nonce [NonceSize]byte

// IsZero reports whether k is the zero value, which names nothing.
func (k Key32) IsZero() bool { return k == Key32{} }

// String is the typed text form, "VLD0:…".
func (k Key32) String() string { return k.Kind.String() + ":" + k.Bare() }

// Bare is the value alone in unpadded base64url.
func (k Key32) Bare() string { return base64url.EncodeToString(k.Value[:]) }

// Bytes is the typed binary form, 36 bytes: kind and value.
func (k Key32) Bytes() []byte { return append(k.Kind[:], k.Value[:]...) }

// MarshalText is the typed text form.
func (k Key32) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the typed text form; without a kind, VLD0 is assumed.
func (k *Key32) UnmarshalText(b []byte) error {
	kind, parts, err := splitTyped(string(b), 1, 1)
	if err != nil {
		return err
	}
	k.Kind = kind
	return decodeBare(k.Value[:], parts[0])
}

// UnmarshalBinary reads the typed binary form of 36 bytes.
func (k *Key32) UnmarshalBinary(b []byte) error {
	if len(b) != len(k.Kind)+KeySize {
		return fmt.Errorf("typed key of %d bytes: want %d", len(b), len(k.Kind)+KeySize)
	}
	copy(k.Kind[:], b)
	copy(k.Value[:], b[len(k.Kind):])
	return nil
}

// String is the typed text form, "VLD0:…".
func (s Signature) String() string {
	return s.Kind.String() + ":" + base64url.EncodeToString(s.Value[:])
}

// MarshalText is the typed text form.
func (s Signature) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the typed text form; without a kind, VLD0 is assumed.
func (s *Signature) UnmarshalText(b []byte) error {
	kind, parts, err := splitTyped(string(b), 1, 1)
	if err != nil {
		return err
	}
	s.Kind = kind
	return decodeBare(s.Value[:], parts[0])
}

// String is the nonce in unpadded base64url.
func (n Nonce) String() string { return base64url.EncodeToString(n[:]) }

// MarshalText is the nonce in unpadded base64url.
func (n Nonce) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads unpadded base64url of 24 bytes.
func (n *Nonce) UnmarshalText(b []byte) error { return decodeBare(n[:], string(b)) }

// Text is a typed value that can be read from its text form.
type Text[T any] interface {
	*T
	UnmarshalText([]byte) error
}

// Parse reads any typed value of this package from its text form: Parse[RouteID]("VLD0:…").
func Parse[T any, P Text[T]](s string) (T, error) {
	var v T
	err := P(&v).UnmarshalText([]byte(s))
	if err != nil {
		var zero T
		return zero, err
	}
	return v, nil
}

// splitTyped cuts "KIND:a:b" into its kind and between least and most values. A text that does not begin with a kind
// of four characters gets VLD0, the only kind in use, as veilid-core does.
func splitTyped(s string, least, most int) (CryptoKind, []string, error) {
	kind := VLD0
	parts := strings.Split(s, ":")
	if len(parts[0]) == len(kind) {
		copy(kind[:], parts[0])
		parts = parts[1:]
	}
	if kind != VLD0 {
		return kind, nil, fmt.Errorf("crypto kind %q is not supported: want VLD0", kind)
	}
	if len(parts) < least || len(parts) > most {
		return kind, nil, fmt.Errorf("typed value has %d parts: want %d to %d", len(parts), least, most)
	}
	return kind, parts, nil
}

// decodeBare fills dst from unpadded base64url of exactly that size. The error does not quote the text: it may be secret.
func decodeBare(dst []byte, s string) error {
	if want := base64url.EncodedLen(len(dst)); len(s) != want {
		return fmt.Errorf("key of %d characters: want %d (base64url of %d bytes)", len(s), want, len(dst))
	}
	n, err := base64url.Decode(dst, []byte(s))
	if err != nil {
		return fmt.Errorf("key is not base64url: %w", err)
	}
	if n != len(dst) { // the decoder passes over line ends
		return errors.New("key is not base64url: line end in it")
	}
	return nil
}

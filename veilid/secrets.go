package veilid

import (
	"crypto/subtle"
	"errors"
	"log/slog"
)

// errSecretText keeps secrets out of JSON and logs by accident; use Reveal where the secret is what was asked for.
var errSecretText = errors.New("a secret is not marshalled: call Reveal")

// secret32 is a 32-byte secret with its kind. It is not comparable (use Equal, which takes constant time), prints
// as "redacted" and refuses to be marshalled.
type secret32 struct {
	_    [0]func()
	kind CryptoKind
	p    **[KeySize]byte // because in somebody's unexported field fmt prints an array, and what one pointer points to
}

func newSecret(k CryptoKind, v [KeySize]byte) secret32 {
	p := &v
	return secret32{kind: k, p: &p}
}

// The typed keys that are secret.
type (
	// SecretKey is an Ed25519 seed.
	SecretKey struct{ secret32 }
	// SharedSecret is a symmetric key.
	SharedSecret struct{ secret32 }
	// DecapsulationKey is the secret half of an HPKE key pair.
	DecapsulationKey struct{ secret32 }
)

// NewSecretKey is the secret key with these bytes.
func NewSecretKey(k CryptoKind, v [KeySize]byte) SecretKey {
	return SecretKey{newSecret(k, v)}
}

// NewSharedSecret is the shared secret with these bytes.
func NewSharedSecret(k CryptoKind, v [KeySize]byte) SharedSecret {
	return SharedSecret{newSecret(k, v)}
}

// NewDecapsulationKey is the decapsulation key with these bytes.
func NewDecapsulationKey(k CryptoKind, v [KeySize]byte) DecapsulationKey {
	return DecapsulationKey{newSecret(k, v)}
}

// Kind is the crypto system the secret belongs to.
func (s secret32) Kind() CryptoKind { return s.kind }

// Bytes is a copy of the secret's 32 bytes.
func (s secret32) Bytes() (b [KeySize]byte) {
	if s.p != nil {
		b = **s.p
	}
	return b
}

// IsZero reports whether s was never set.
func (s secret32) IsZero() bool { return s.p == nil }

// Equal compares in constant time.
func (s secret32) equal(t secret32) bool {
	a, b := s.Bytes(), t.Bytes()
	return s.kind == t.kind && s.IsZero() == t.IsZero() && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// Equal compares in constant time.
func (s SecretKey) Equal(t SecretKey) bool { return s.equal(t.secret32) }

// Equal compares in constant time.
func (s SharedSecret) Equal(t SharedSecret) bool { return s.equal(t.secret32) }

// Equal compares in constant time.
func (s DecapsulationKey) Equal(t DecapsulationKey) bool { return s.equal(t.secret32) }

// Reveal is the typed text form, "VLD0:…", with the secret in clear.
func (s secret32) Reveal() string { return s.kind.String() + ":" + s.RevealBare() }

// RevealBare is the secret alone in unpadded base64url.
func (s secret32) RevealBare() string {
	b := s.Bytes()
	return base64url.EncodeToString(b[:])
}

// String never shows the secret.
func (s secret32) String() string { return "redacted" }

// GoString never shows the secret.
func (s secret32) GoString() string { return "redacted" }

// LogValue never shows the secret.
func (s secret32) LogValue() slog.Value { return slog.StringValue("redacted") }

// MarshalText refuses, so that no secret reaches a file or a log unasked.
func (s secret32) MarshalText() ([]byte, error) { return nil, errSecretText }

// UnmarshalText reads the typed text form; without a kind, VLD0 is assumed.
func (s *secret32) UnmarshalText(b []byte) error {
	kind, parts, err := splitTyped(string(b), 1, 1)
	if err != nil {
		return err
	}
	return s.decode(kind, parts[0])
}

func (s *secret32) decode(kind CryptoKind, bare string) error {
	var v [KeySize]byte
	if err := decodeBare(v[:], bare); err != nil {
		return err
	}
	*s = newSecret(kind, v)
	return nil
}

// KeyPair is a signing key with its public half. Its text form is "VLD0:public:secret".
type KeyPair struct {
	Public PublicKey
	Secret SecretKey
}

// IsZero reports whether the pair was never set.
func (p KeyPair) IsZero() bool { return p.Public.IsZero() }

// Reveal is the text form with the secret in clear.
func (p KeyPair) Reveal() string { return p.Public.String() + ":" + p.Secret.RevealBare() }

// String shows the public half only.
func (p KeyPair) String() string { return p.Public.String() + ":redacted" }

// LogValue shows the public half only.
func (p KeyPair) LogValue() slog.Value { return slog.StringValue(p.String()) }

// UnmarshalText reads "VLD0:public:secret".
func (p *KeyPair) UnmarshalText(b []byte) error {
	kind, parts, err := splitTyped(string(b), 2, 2)
	if err != nil {
		return err
	}
	p.Public.Kind = kind
	return errors.Join(decodeBare(p.Public.Value[:], parts[0]), p.Secret.decode(kind, parts[1]))
}

package veilid

import "fmt"

// CryptoKind names a crypto system by four ASCII characters.
type CryptoKind [4]byte

// VLD0 is the crypto system of every Veilid 0.5 network: Ed25519, X25519, XChaCha20-Poly1305, BLAKE3, Argon2id.
var VLD0 = CryptoKind{'V', 'L', 'D', '0'}

// String is the kind's four characters.
func (k CryptoKind) String() string { return string(k[:]) }

// ParseCryptoKind reads a kind of exactly four characters.
func ParseCryptoKind(s string) (CryptoKind, error) {
	var k CryptoKind
	if len(s) != len(k) {
		return k, fmt.Errorf("crypto kind %q: want 4 characters", s)
	}
	copy(k[:], s)
	return k, nil
}

// MarshalText is the kind's four characters.
func (k CryptoKind) MarshalText() ([]byte, error) { return k[:], nil }

// UnmarshalText reads a kind of exactly four characters.
func (k *CryptoKind) UnmarshalText(b []byte) (err error) {
	*k, err = ParseCryptoKind(string(b))
	return err
}

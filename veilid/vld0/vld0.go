// Package vld0 is the VLD0 crypto system of Veilid 0.5 in pure Go: Ed25519ph signatures, X25519 key agreement over
// the signing keys, XChaCha20(-Poly1305), BLAKE3, Argon2id and HPKE; and the names that follow from keys: record
// keys, member ids, node ids, route ids.
//
// The formats are those of veilid-core 0.5.8; the tests hold values that it computed.
package vld0

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"fmt"

	"filippo.io/edwards25519"
	"github.com/OpenArchive/save-dweb-go/veilid"
	"lukechampine.com/blake3"
)

// System is the crypto system. It holds no state; its methods may be called from any goroutine.
type System struct{}

var _ veilid.CryptoSystem = System{}

// The domains that keep one use of a key apart from another.
const (
	signContext  = "VLD0_SIGN"
	dhDomain     = "VLD0_CRYPT"
	sharedDomain = "VEILID_API"
)

var signOptions = &ed25519.Options{Hash: crypto.SHA512, Context: signContext}

// Kind is VLD0.
func (System) Kind() veilid.CryptoKind { return veilid.VLD0 }

// GenerateKeyPair is a fresh signing key pair.
func (System) GenerateKeyPair() veilid.KeyPair {
	p, err := KeyPairFromSeed(random32())
	if err != nil {
		panic(err) // no seed is invalid
	}
	return p
}

// KeyPairFromSeed is the signing key pair of a 32-byte seed, which is the secret key itself.
func KeyPairFromSeed(seed [veilid.KeySize]byte) (veilid.KeyPair, error) {
	secret := veilid.NewSecretKey(veilid.VLD0, seed)
	pub, err := PublicKeyOf(secret)
	return veilid.KeyPair{Public: pub, Secret: secret}, err
}

// PublicKeyOf is the public half of a secret key.
func PublicKeyOf(secret veilid.SecretKey) (veilid.PublicKey, error) {
	if err := checkSecret(secret.Kind(), secret.IsZero()); err != nil {
		return veilid.PublicKey{}, err
	}
	priv := privateKey(secret)
	var pub veilid.PublicKey
	pub.Kind = veilid.VLD0
	copy(pub.Value[:], priv[ed25519.SeedSize:])
	return pub, nil
}

// RandomSharedSecret is a fresh symmetric key.
func (System) RandomSharedSecret() veilid.SharedSecret {
	return veilid.NewSharedSecret(veilid.VLD0, random32())
}

// RandomNonce is a fresh nonce.
func (System) RandomNonce() (n veilid.Nonce) {
	rand.Read(n[:]) // never fails
	return n
}

// GenerateHash is the BLAKE3 hash of data.
func (System) GenerateHash(data []byte) veilid.HashDigest {
	return veilid.HashDigest{Key32: key32(blake3.Sum256(data))}
}

// Sign signs data with Ed25519ph. The pair's halves must belong together: a signature under a foreign public key
// could reveal the secret.
func (System) Sign(pair veilid.KeyPair, data []byte) (veilid.Signature, error) {
	priv, err := checkedPair(pair)
	if err != nil {
		return veilid.Signature{}, err
	}
	sum := sha512.Sum512(data)
	raw, err := priv.Sign(nil, sum[:], signOptions)
	if err != nil {
		return veilid.Signature{}, fmt.Errorf("sign: %w", err)
	}
	sig := veilid.Signature{Kind: veilid.VLD0}
	copy(sig.Value[:], raw)
	return sig, nil
}

// Verify reports, as an error, a signature that is not key's over data. Like veilid-core it refuses keys and
// commitments of small order, under which one signature fits many messages.
func (System) Verify(key veilid.PublicKey, data []byte, sig veilid.Signature) error {
	if key.Kind != veilid.VLD0 || sig.Kind != veilid.VLD0 {
		return badKind(key.Kind, sig.Kind)
	}
	for _, p := range [][]byte{key.Value[:], sig.Value[:32]} {
		point, err := new(edwards25519.Point).SetBytes(p)
		if err != nil {
			return veilid.Errorf(veilid.ErrGeneric, "signature or key %s is no curve point", key)
		}
		if point.MultByCofactor(point).Equal(edwards25519.NewIdentityPoint()) == 1 {
			return veilid.Errorf(veilid.ErrGeneric, "signature or key %s is of small order", key)
		}
	}
	sum := sha512.Sum512(data)
	if err := ed25519.VerifyWithOptions(key.Value[:], sum[:], sig.Value[:], signOptions); err != nil {
		return veilid.Errorf(veilid.ErrGeneric, "signature does not match key %s", key)
	}
	return nil
}

// ValidateKeyPair reports, as an error, a secret key that does not belong to the public one.
func (System) ValidateKeyPair(pair veilid.KeyPair) error {
	_, err := checkedPair(pair)
	return err
}

// ComputeDH is the key that the holder of secret shares with the holder of key's secret half.
func (System) ComputeDH(key veilid.PublicKey, secret veilid.SecretKey) (veilid.SharedSecret, error) {
	z, err := computeDH(key, secret)
	if err != nil {
		return veilid.SharedSecret{}, err
	}
	return veilid.NewSharedSecret(veilid.VLD0, z), nil
}

// GenerateSharedSecret is ComputeDH separated by a domain of the application.
func (System) GenerateSharedSecret(key veilid.PublicKey, secret veilid.SecretKey, domain []byte) (veilid.SharedSecret, error) {
	z, err := computeDH(key, secret)
	if err != nil {
		return veilid.SharedSecret{}, err
	}
	return veilid.NewSharedSecret(veilid.VLD0, hash(z[:], domain, []byte(sharedDomain))), nil
}

func computeDH(key veilid.PublicKey, secret veilid.SecretKey) (out [32]byte, err error) {
	pub, err := montgomery(key)
	if err != nil {
		return out, err
	}
	priv, err := scalar(secret)
	if err != nil {
		return out, err
	}
	z, err := priv.ECDH(pub)
	if err != nil {
		return out, veilid.Errorf(veilid.ErrGeneric, "key agreement with %s: %v", key, err)
	}
	return hash([]byte(dhDomain), z), nil
}

// montgomery is the X25519 form of an Ed25519 public key.
func montgomery(key veilid.PublicKey) (*ecdh.PublicKey, error) {
	if key.Kind != veilid.VLD0 {
		return nil, badKind(key.Kind)
	}
	p, err := new(edwards25519.Point).SetBytes(key.Value[:])
	if err != nil {
		return nil, veilid.Errorf(veilid.ErrGeneric, "key %s is no curve point", key)
	}
	return ecdh.X25519().NewPublicKey(p.BytesMontgomery())
}

// scalar is the X25519 form of an Ed25519 secret key; X25519 itself clamps it.
func scalar(secret veilid.SecretKey) (*ecdh.PrivateKey, error) {
	if err := checkSecret(secret.Kind(), secret.IsZero()); err != nil {
		return nil, err
	}
	seed := secret.Bytes()
	sum := sha512.Sum512(seed[:])
	return ecdh.X25519().NewPrivateKey(sum[:32])
}

func privateKey(secret veilid.SecretKey) ed25519.PrivateKey {
	seed := secret.Bytes()
	return ed25519.NewKeyFromSeed(seed[:])
}

func checkedPair(pair veilid.KeyPair) (ed25519.PrivateKey, error) {
	if pair.Public.Kind != veilid.VLD0 {
		return nil, badKind(pair.Public.Kind)
	}
	if err := checkSecret(pair.Secret.Kind(), pair.Secret.IsZero()); err != nil {
		return nil, err
	}
	priv := privateKey(pair.Secret)
	if [ed25519.PublicKeySize]byte(priv[ed25519.SeedSize:]) != pair.Public.Value {
		return nil, veilid.Errorf(veilid.ErrGeneric, "secret key does not belong to public key %s", pair.Public)
	}
	return priv, nil
}

func checkSecret(kind veilid.CryptoKind, unset bool) error {
	switch {
	case unset:
		return veilid.Errorf(veilid.ErrGeneric, "secret key is not set")
	case kind != veilid.VLD0:
		return badKind(kind)
	}
	return nil
}

func badKind(kinds ...veilid.CryptoKind) error {
	return veilid.Errorf(veilid.ErrGeneric, "crypto kind is %q, want %q", kinds, veilid.VLD0)
}

func random32() (b [32]byte) {
	rand.Read(b[:]) // never fails
	return b
}

func hash(parts ...[]byte) (out [32]byte) {
	h := blake3.New(32, nil)
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(out[:0])
	return out
}

func key32(v [32]byte) veilid.Key32 { return veilid.Key32{Kind: veilid.VLD0, Value: v} }

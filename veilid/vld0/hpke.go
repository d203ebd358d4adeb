package vld0

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// A sealed HPKE message is: version, kind, encapsulated key, ciphertext.
const (
	hpkeVersion = 1
	hpkeInfo    = "veilid-hpke/1VLD0"
	hpkeHeader  = "\x01VLD0"
	hpkeEnc     = 32
)

// GenerateKEMKeyPair is a fresh HPKE key pair.
func (System) GenerateKEMKeyPair() (veilid.EncapsulationKey, veilid.DecapsulationKey, error) {
	priv, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return veilid.EncapsulationKey{}, veilid.DecapsulationKey{}, err
	}
	return encapsulationKey(priv.PublicKey()), veilid.NewDecapsulationKey(veilid.VLD0, [32]byte(priv.Bytes())), nil
}

// EncapsulationKeyFor is the HPKE key that belongs to a signing key.
func (System) EncapsulationKeyFor(key veilid.PublicKey) (veilid.EncapsulationKey, error) {
	pub, err := montgomery(key)
	if err != nil {
		return veilid.EncapsulationKey{}, err
	}
	return encapsulationKey(pub), nil
}

// DecapsulationKeyFor is the HPKE key that belongs to a signing secret.
func (System) DecapsulationKeyFor(secret veilid.SecretKey) (veilid.DecapsulationKey, error) {
	priv, err := scalar(secret)
	if err != nil {
		return veilid.DecapsulationKey{}, err
	}
	return veilid.NewDecapsulationKey(veilid.VLD0, [32]byte(priv.Bytes())), nil
}

// HPKESeal encrypts to the holder of a decapsulation key, without saying who sent it.
func (System) HPKESeal(to veilid.EncapsulationKey, plaintext, ad []byte) ([]byte, error) {
	if to.Kind != veilid.VLD0 {
		return nil, badKind(to.Kind)
	}
	pub, err := hpke.DHKEM(ecdh.X25519()).NewPublicKey(to.Value[:])
	if err != nil {
		return nil, veilid.Errorf(veilid.ErrGeneric, "encapsulation key: %v", err)
	}
	enc, sender, err := hpke.NewSender(pub, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte(hpkeInfo))
	if err != nil {
		return nil, veilid.Errorf(veilid.ErrGeneric, "encapsulate: %v", err)
	}
	ct, err := sender.Seal(ad, plaintext)
	if err != nil {
		return nil, veilid.Errorf(veilid.ErrGeneric, "seal: %v", err)
	}
	return append(append([]byte(hpkeHeader), enc...), ct...), nil
}

// HPKEOpen decrypts what HPKESeal encrypted.
func (System) HPKEOpen(with veilid.DecapsulationKey, sealed, ad []byte) ([]byte, error) {
	if err := checkSecret(with.Kind(), with.IsZero()); err != nil {
		return nil, err
	}
	rest, ok := bytes.CutPrefix(sealed, []byte(hpkeHeader))
	if !ok || len(rest) < hpkeEnc+veilid.AEADOverhead {
		return nil, veilid.Errorf(veilid.ErrGeneric, "not a sealed message of version %d for VLD0", hpkeVersion)
	}
	secret := with.Bytes()
	priv, err := hpke.DHKEM(ecdh.X25519()).NewPrivateKey(secret[:])
	if err != nil {
		return nil, veilid.Errorf(veilid.ErrGeneric, "decapsulation key is not valid")
	}
	r, err := hpke.NewRecipient(rest[:hpkeEnc], priv, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte(hpkeInfo))
	if err != nil {
		return nil, veilid.Errorf(veilid.ErrGeneric, "decapsulate: %v", err)
	}
	plain, err := r.Open(ad, rest[hpkeEnc:])
	if err != nil {
		return nil, veilid.Errorf(veilid.ErrGeneric, "cannot open the sealed message: wrong key or changed data")
	}
	return plain, nil
}

func encapsulationKey(pub *ecdh.PublicKey) veilid.EncapsulationKey {
	return veilid.EncapsulationKey{Key32: key32([32]byte(pub.Bytes()))}
}

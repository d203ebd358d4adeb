package vld0

import (
	"github.com/OpenArchive/save-dweb-go/veilid"
	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
)

// EncryptAEAD seals plaintext with XChaCha20-Poly1305; the result is veilid.AEADOverhead bytes longer. It panics on a
// key that was never set.
func (System) EncryptAEAD(key veilid.SharedSecret, nonce veilid.Nonce, plaintext, ad []byte) []byte {
	k := setKey(key)
	aead, err := chacha20poly1305.NewX(k[:])
	if err != nil {
		panic(err) // the key's length is right
	}
	return aead.Seal(nil, nonce[:], plaintext, ad)
}

// DecryptAEAD opens what EncryptAEAD sealed.
func (System) DecryptAEAD(key veilid.SharedSecret, nonce veilid.Nonce, ciphertext, ad []byte) ([]byte, error) {
	if err := checkSecret(key.Kind(), key.IsZero()); err != nil {
		return nil, err
	}
	k := key.Bytes()
	aead, err := chacha20poly1305.NewX(k[:])
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nonce[:], ciphertext, ad)
	if err != nil {
		return nil, veilid.Errorf(veilid.ErrGeneric, "cannot decrypt %d bytes: wrong key or changed data", len(ciphertext))
	}
	return plain, nil
}

// CryptNoAuth encrypts or decrypts with the bare XChaCha20 key stream: whoever changes the data is not noticed. It
// panics on a key that was never set.
func (System) CryptNoAuth(key veilid.SharedSecret, nonce veilid.Nonce, data []byte) []byte {
	k := setKey(key)
	c, err := chacha20.NewUnauthenticatedCipher(k[:], nonce[:])
	if err != nil {
		panic(err) // the lengths are right
	}
	out := make([]byte, len(data))
	c.XORKeyStream(out, data)
	return out
}

// setKey refuses the zero SharedSecret, which would encrypt under a key that everybody knows.
func setKey(key veilid.SharedSecret) [veilid.KeySize]byte {
	if err := checkSecret(key.Kind(), key.IsZero()); err != nil {
		panic(err)
	}
	return key.Bytes()
}

// Package seal encrypts what a group keeps under its group secret: names and small values in DHT records, and files.
//
// Names and files of up to 1 MiB have the Rust app's form (save-dweb-backend 0.3). Larger files have a form of ours that
// is written in one pass, read from any offset, and of which no part can be changed, moved or cut off unnoticed:
//
//	name      nonce 24 | XChaCha20-Poly1305 under the group secret
//	value     01 | nonce 24 | XChaCha20-Poly1305, AD = 01, key = BLAKE3 derive-key("... sealed value", secret | context)
//	file v1   "SAVE" 01 | nonce 24 | XChaCha20-Poly1305 of the whole file under the group secret
//	file v2   "SAVE" 02 | file id 24 | chunk 0 | chunk 1 | ... | last chunk
//	chunk     ChaCha20-Poly1305 of 65,536 bytes (the last: 1 to 65,536; none only in an empty file)
//	          key = BLAKE3 derive-key("... file chunks", secret | the 29 bytes before the first chunk)
//	          nonce = number of the chunk, 11 bytes big endian | 01 for the last chunk, else 00 (STREAM construction)
//
// File bytes without "SAVE" at their begin, or of 29 bytes or less, are plaintext of early versions of the Rust app:
// they are read as such, and marked.
package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"unicode/utf8"

	"golang.org/x/crypto/chacha20poly1305"
	"lukechampine.com/blake3"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Errors of what is opened.
var (
	// ErrTampered: the bytes were changed, cut or extended, or were sealed under another secret.
	ErrTampered = errors.New("sealed data was changed, or belongs to another group secret")
	// ErrVersion: a newer version of this program or of the Rust app sealed it.
	ErrVersion = errors.New("sealed data: Unsupported encryption version")
	// ErrTooShort: there is not even a nonce.
	ErrTooShort = errors.New("sealed data is too short")
	// ErrNoCiphertext: there is a nonce and nothing behind it.
	ErrNoCiphertext = errors.New("sealed data has no ciphertext")
	// ErrTooLarge: the file is sealed as a whole and larger than what may be held in memory.
	ErrTooLarge = errors.New("file is sealed as a whole and too large to open")
	// ErrNoSecret: the group secret is the zero value, which must never be a key.
	ErrNoSecret = errors.New("no group secret")
	// ErrName: a name is not UTF-8.
	ErrName = errors.New("name is not UTF-8")
)

const (
	nonceSize = chacha20poly1305.NonceSizeX
	tagSize   = chacha20poly1305.Overhead
)

// Bytes that sealing adds.
const (
	NameOverhead  = nonceSize + tagSize
	ValueOverhead = 1 + NameOverhead
)

// Names of keys derived from the group secret. A change makes everything sealed before unreadable.
const (
	deriveValue   = "save-dweb-go v1 sealed value"
	deriveChunks  = "save-dweb-go v1 file chunks"
	deriveContent = "save-dweb-go v1 content hash"
)

// valueVersion is the first byte of a sealed value.
const valueVersion = 1

// Encrypt seals data as the Rust app does: a random nonce and the ciphertext. Nothing tells what the data is for, so it
// is for names and for what the Rust app must read; use [Seal] for the rest.
func Encrypt(secret veilid.SharedSecret, plaintext []byte) ([]byte, error) {
	aead, err := groupAEAD(secret)
	if err != nil {
		return nil, err
	}
	b := make([]byte, nonceSize, NameOverhead+len(plaintext))
	rand.Read(b)
	return aead.Seal(b, b, plaintext, nil), nil
}

// Decrypt opens what [Encrypt] or the Rust app sealed.
func Decrypt(secret veilid.SharedSecret, sealed []byte) ([]byte, error) {
	nonce, ciphertext, err := split(sealed)
	if err != nil {
		return nil, err
	}
	aead, err := groupAEAD(secret)
	if err != nil {
		return nil, err
	}
	b, err := aead.Open(nil, nonce, ciphertext, nil)
	if err != nil {
		return nil, ErrTampered
	}
	return b, nil
}

// SealName seals the name of a group, repo or backup server.
func SealName(secret veilid.SharedSecret, name string) ([]byte, error) {
	if !utf8.ValidString(name) {
		return nil, ErrName
	}
	return Encrypt(secret, []byte(name))
}

// OpenName opens the name of a group, repo or backup server.
func OpenName(secret veilid.SharedSecret, sealed []byte) (string, error) {
	b, err := Decrypt(secret, sealed)
	if err != nil {
		return "", fmt.Errorf("open name: %w", err)
	}
	if !utf8.Valid(b) {
		return "", fmt.Errorf("open name: %w", ErrName)
	}
	return string(b), nil
}

// Seal seals a small value. Only Open with the same context opens it, so that a value cannot stand in for one of
// another kind.
func Seal(secret veilid.SharedSecret, context string, plaintext []byte) ([]byte, error) {
	aead, err := valueAEAD(secret, context)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 1+nonceSize, ValueOverhead+len(plaintext))
	b[0] = valueVersion
	rand.Read(b[1:])
	return aead.Seal(b, b[1:], plaintext, b[:1]), nil
}

// Open opens what Seal sealed with the same context.
func Open(secret veilid.SharedSecret, context string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, ErrTooShort
	}
	if sealed[0] != valueVersion {
		return nil, fmt.Errorf("%w %d of a value", ErrVersion, sealed[0])
	}
	nonce, ciphertext, err := split(sealed[1:])
	if err != nil {
		return nil, err
	}
	aead, err := valueAEAD(secret, context)
	if err != nil {
		return nil, err
	}
	b, err := aead.Open(nil, nonce, ciphertext, sealed[:1])
	if err != nil {
		return nil, ErrTampered
	}
	return b, nil
}

// split cuts a nonce from the ciphertext behind it.
func split(b []byte) (nonce, ciphertext []byte, err error) {
	switch {
	case len(b) < nonceSize:
		return nil, nil, fmt.Errorf("%w: %d bytes, a nonce alone has %d", ErrTooShort, len(b), nonceSize)
	case len(b) == nonceSize:
		return nil, nil, ErrNoCiphertext
	}
	return b[:nonceSize], b[nonceSize:], nil
}

// groupAEAD encrypts under the group secret itself.
func groupAEAD(secret veilid.SharedSecret) (cipher.AEAD, error) {
	if secret.IsZero() {
		return nil, ErrNoSecret
	}
	k := secret.Bytes()
	return chacha20poly1305.NewX(k[:])
}

// valueAEAD encrypts the values of one context.
func valueAEAD(secret veilid.SharedSecret, context string) (cipher.AEAD, error) {
	k, err := derive(secret, deriveValue, []byte(context))
	if err != nil {
		return nil, err
	}
	return chacha20poly1305.NewX(k[:])
}

// derive makes a key for one purpose. The secret has a fixed length, so that it and what follows are not confused.
func derive(secret veilid.SharedSecret, purpose string, more []byte) (k [32]byte, err error) {
	if secret.IsZero() {
		return k, ErrNoSecret
	}
	s := secret.Bytes()
	blake3.DeriveKey(k[:], purpose, append(s[:], more...))
	return k, nil
}

package vld0

import (
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"golang.org/x/crypto/argon2"
)

// Argon2id version 1.3 with the parameters that veilid-core writes.
const (
	argonMemory  = 19456 // KiB
	argonTime    = 2
	argonThreads = 1
	minSalt      = 8
	maxSalt      = 48
)

// What a PHC string that we did not write may ask for.
const (
	maxArgonMemory  = 256 << 10 // KiB
	maxArgonTime    = 16
	maxArgonThreads = 16
	maxArgonHash    = 64
)

var base64std = base64.RawStdEncoding.Strict()

// HashPassword is the PHC string "$argon2id$v=19$m=19456,t=2,p=1$salt$hash". The salt has 8 to 48 bytes.
func (System) HashPassword(password, salt []byte) (string, error) {
	if err := checkSalt(salt); err != nil {
		return "", err
	}
	sum := argon2.IDKey(password, salt, argonTime, argonMemory, argonThreads, veilid.KeySize)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
		base64std.EncodeToString(salt), base64std.EncodeToString(sum)), nil
}

// VerifyPassword reports whether the password is that of a PHC string; the error says that the string is none.
func (System) VerifyPassword(password []byte, phc string) (bool, error) {
	p, err := parsePHC(phc)
	if err != nil {
		return false, err
	}
	sum := argon2.IDKey(password, p.salt, p.time, p.memory, p.threads, uint32(len(p.hash)))
	return subtle.ConstantTimeCompare(sum, p.hash) == 1, nil
}

// DeriveSharedSecret is the key that a password and a salt of 8 to 48 bytes give.
func (System) DeriveSharedSecret(password, salt []byte) (veilid.SharedSecret, error) {
	if err := checkSalt(salt); err != nil {
		return veilid.SharedSecret{}, err
	}
	sum := argon2.IDKey(password, salt, argonTime, argonMemory, argonThreads, veilid.KeySize)
	return veilid.NewSharedSecret(veilid.VLD0, [veilid.KeySize]byte(sum)), nil
}

func checkSalt(salt []byte) error {
	if len(salt) < minSalt || len(salt) > maxSalt {
		return veilid.Errorf(veilid.ErrGeneric, "salt of %d bytes: want %d to %d", len(salt), minSalt, maxSalt)
	}
	return nil
}

type phc struct {
	memory, time uint32
	threads      uint8
	salt, hash   []byte
}

func parsePHC(s string) (phc, error) {
	var p phc
	bad := func(what string) (phc, error) {
		return phc{}, veilid.Errorf(veilid.ErrParse, "password hash: %s", what)
	}
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return bad("want $argon2id$v=19$m=…,t=…,p=…$salt$hash")
	}
	var n [3]uint32
	params := strings.Split(parts[3], ",")
	if len(params) != len(n) {
		return bad("want the parameters m, t and p")
	}
	for i, name := range []string{"m=", "t=", "p="} {
		v, ok := strings.CutPrefix(params[i], name)
		x, err := strconv.ParseUint(v, 10, 32)
		if !ok || err != nil {
			return bad("parameters are not m=…,t=…,p=…")
		}
		n[i] = uint32(x)
	}
	if n[0] < 8*n[2] || n[0] > maxArgonMemory || n[1] < 1 || n[1] > maxArgonTime || n[2] < 1 || n[2] > maxArgonThreads {
		return bad("parameters are out of range")
	}
	p.memory, p.time, p.threads = n[0], n[1], uint8(n[2])
	if len(parts[4]) > base64std.EncodedLen(maxSalt) || len(parts[5]) > base64std.EncodedLen(maxArgonHash) {
		return bad("salt or hash is too long")
	}
	var errSalt, errHash error
	p.salt, errSalt = base64std.DecodeString(parts[4])
	p.hash, errHash = base64std.DecodeString(parts[5])
	if errSalt != nil || errHash != nil || checkSalt(p.salt) != nil || len(p.hash) < 10 {
		return bad("salt or hash is not base64 of the right length")
	}
	return p, nil
}

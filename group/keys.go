package group

import (
	"encoding/hex"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/OpenArchive/save-dweb-go/group/invite"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Keys are what makes a member: the group's record, the secret that seals its contents, and the owner's key pair, whose
// secret half is zero for who was invited to read only.
type Keys struct {
	Record veilid.RecordKey
	Secret veilid.SharedSecret
	Owner  veilid.KeyPair
}

// CanWrite reports whether the keys allow to write the record.
func (k Keys) CanWrite() bool { return !k.Owner.Secret.IsZero() }

// KeysOf are the keys in a link.
func KeysOf(l invite.Link) Keys {
	return Keys{l.Group, l.Secret, veilid.KeyPair{Public: l.Owner, Secret: l.OwnerSecret}}
}

// Link is the invitation that hands these keys on, read-only where asked for.
func (k Keys) Link(readOnly bool) invite.Link {
	l := invite.Link{Group: k.Record, Secret: k.Secret, Owner: k.Owner.Public}
	if !readOnly {
		l.OwnerSecret = k.Owner.Secret
	}
	return l
}

// opaqueHex is the form of a record's name in the protected store of the Rust app, and so in our vault.
func opaqueHex(k veilid.OpaqueRecordKey) string { return hex.EncodeToString(k.Value[:]) }

// storedKeys is the CBOR form in which the Rust app stores keys: text values, in this order.
type storedKeys struct {
	ID            string  `cbor:"id"`
	PublicKey     string  `cbor:"public_key"`
	SecretKey     *string `cbor:"secret_key"`
	EncryptionKey string  `cbor:"encryption_key"`
}

var storedEncode = must(cbor.EncOptions{Sort: cbor.SortNone}.EncMode())

// EncodeKeys writes keys as the Rust app stores them.
func EncodeKeys(k Keys) ([]byte, error) {
	s := storedKeys{ID: k.Record.Reveal(), PublicKey: k.Owner.Public.String(), EncryptionKey: k.Secret.Reveal()}
	if k.CanWrite() {
		secret := k.Owner.Secret.Reveal()
		s.SecretKey = &secret
	}
	b, err := storedEncode.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode keys: %w", err)
	}
	return b, nil
}

// DecodeKeys reads keys as the Rust app stores them.
func DecodeKeys(b []byte) (k Keys, err error) {
	var s storedKeys
	if err := legacyDecode.Unmarshal(b, &s); err != nil {
		return k, fmt.Errorf("%w keys: %w", ErrMalformed, err)
	}
	if k.Record, err = veilid.Parse[veilid.RecordKey](s.ID); err != nil {
		return k, fmt.Errorf("%w keys: id: %w", ErrMalformed, err)
	}
	if k.Owner.Public, err = veilid.Parse[veilid.PublicKey](s.PublicKey); err != nil {
		return k, fmt.Errorf("%w keys: public_key: %w", ErrMalformed, err)
	}
	if s.SecretKey != nil {
		if k.Owner.Secret, err = veilid.Parse[veilid.SecretKey](*s.SecretKey); err != nil {
			return k, fmt.Errorf("%w keys: secret_key: %w", ErrMalformed, err)
		}
	}
	if k.Secret, err = veilid.Parse[veilid.SharedSecret](s.EncryptionKey); err != nil {
		return k, fmt.Errorf("%w keys: encryption_key: %w", ErrMalformed, err)
	}
	return k, nil
}

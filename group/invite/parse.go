package invite

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Limits of what Parse reads, in bytes. A link with all parameters and the longest name is below 2 KiB.
const (
	MaxLength     = 4096 // of the text
	MaxNameLength = 256  // of the name, after unescaping
)

// Parse reads a link. It takes what the Rust app writes and these variations of it: white space around or line breaks
// within, the scheme in any case, "save+dweb:?" and "save+dweb://?", an unescaped colon in dht, parameters in any
// order, unknown ones (ignored), repeated ones (the first counts), no sk (read only). Known older forms are a dht of 64
// hexadecimal digits (Veilid before 0.5) and a name that the Android app adds behind a second question mark.
//
// Everything else is an [*Error] that names the wrong parameter. When there is an owner secret, it must belong to pk.
func Parse(s string) (Link, error) {
	p, err := split(s)
	if err != nil {
		return Link{}, err
	}
	l := Link{RPC: p.has("rpc")}
	if l.Group, err = p.record("dht"); err != nil {
		return Link{}, err
	}
	enc, err := p.key("enc")
	if err != nil {
		return Link{}, err
	}
	l.Secret = veilid.NewSharedSecret(veilid.VLD0, enc)
	if l.Owner, l.OwnerSecret, err = p.pair("pk", "sk", p.has("sk")); err != nil {
		return Link{}, err
	}
	if p.has("repo") || p.has("rpk") || p.has("rsk") {
		if l.Repo, err = p.record("repo"); err != nil {
			return Link{}, err
		}
		if l.RepoOwner, l.RepoOwnerSecret, err = p.pair("rpk", "rsk", true); err != nil {
			return Link{}, err
		}
	}
	l.Name = p.name()
	return l, nil
}

// params are a link's parameters as they stand in it, still escaped.
type params map[string]string

// split cuts a link into its parameters.
func split(s string) (params, error) {
	if len(s) > MaxLength {
		return nil, &Error{Reason: fmt.Sprintf("%d bytes are too long: a link has at most %d", len(s), MaxLength)}
	}
	// Mail programs break long lines; browsers ignore such breaks in URLs.
	s = strings.NewReplacer("\n", "", "\r", "", "\t", "").Replace(strings.TrimSpace(s))
	head, query, ok := strings.Cut(s, "?")
	switch strings.ToLower(head) {
	case Scheme + "::", Scheme + ":", Scheme + "://":
	default:
		return nil, &Error{"scheme", "not a group link: it must begin with " + Scheme + "::?dht="}
	}
	if !ok {
		return nil, missing("dht")
	}
	query, _, _ = strings.Cut(query, "#")
	p := params{}
	for query != "" {
		var part string
		part, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(part, "=")
		if name != "name" {
			// "…&sk=<hex>?name=…": the Android app shares its links with a second query.
			var rest string
			if part, rest, ok = strings.Cut(part, "?"); ok {
				name, value, _ = strings.Cut(part, "=")
				query = rest + "&" + query
			}
		}
		if _, ok := p[name]; !ok && isKnown(name) {
			p[name] = value
		}
	}
	return p, nil
}

func isKnown(name string) bool {
	switch name {
	case "dht", "enc", "pk", "sk", "name", "rpc", "repo", "rpk", "rsk":
		return true
	}
	return false
}

func (p params) has(name string) bool {
	_, ok := p[name]
	return ok
}

func missing(name string) error {
	return &Error{name, "missing; copy the whole link"}
}

// value is a parameter unescaped.
func (p params) value(name string) (string, error) {
	v, ok := p[name]
	if !ok || v == "" {
		return "", missing(name)
	}
	v, err := url.QueryUnescape(v)
	if err != nil {
		return "", &Error{name, "has a broken percent escape; copy the whole link"}
	}
	return v, nil
}

// key reads 32 bytes in hexadecimal digits.
func (p params) key(name string) (k [veilid.KeySize]byte, err error) {
	v, err := p.value(name)
	if err != nil {
		return k, err
	}
	b, err := hex.DecodeString(v)
	if err != nil {
		return k, &Error{name, "Invalid hex for " + name}
	}
	if len(b) != len(k) {
		return k, &Error{name, fmt.Sprintf("has %d bytes, expected 32 bytes (64 hexadecimal digits)", len(b))}
	}
	copy(k[:], b)
	return k, nil
}

// pair reads an owner's public key and, if wanted, the secret key that belongs to it.
func (p params) pair(public, secret string, wantSecret bool) (pk veilid.PublicKey, sk veilid.SecretKey, err error) {
	pk.Kind = veilid.VLD0
	if pk.Value, err = p.key(public); err != nil || !wantSecret {
		return pk, sk, err
	}
	seed, err := p.key(secret)
	if err != nil {
		return pk, sk, err
	}
	derived := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
	if [veilid.KeySize]byte(derived) != pk.Value {
		return pk, sk, &Error{secret, "does not belong to " + public + ": the link is damaged"}
	}
	return pk, veilid.NewSecretKey(veilid.VLD0, seed), nil
}

// Lengths in characters of a record key's forms.
const (
	bareLen      = 43            // base64url of 32 bytes: the values are in clear
	bareWithKey  = 2*bareLen + 1 // the same, a colon, and the key to the values
	legacyHexLen = 64            // before Veilid 0.5
)

// record reads a record key in one of its three forms.
func (p params) record(name string) (k veilid.RecordKey, err error) {
	v, err := p.value(name)
	if err != nil {
		return k, err
	}
	switch {
	case len(v) == legacyHexLen:
		opaque := veilid.OpaqueRecordKey{Key32: veilid.Key32{Kind: veilid.VLD0}}
		if _, err := hex.Decode(opaque.Value[:], []byte(v)); err != nil {
			return k, &Error{name, "Invalid hex for " + name}
		}
		return veilid.NewRecordKey(opaque, veilid.SharedSecret{}), nil
	case len(v) == bareLen, len(v) == bareWithKey && v[bareLen] == ':':
	default:
		return k, &Error{name, fmt.Sprintf("has %d characters, expected %d, a colon and %[2]d (keys in base64url), or %[2]d alone", len(v), bareLen)}
	}
	if err := k.UnmarshalText([]byte(v)); err != nil {
		return veilid.RecordKey{}, &Error{name, "is not base64url; copy the whole link"}
	}
	return k, nil
}

// name reads the group's name. It is a hint that anybody may have added or cut: a name that is not fit to be shown is
// as good as none and does not make the link useless.
func (p params) name() string {
	v, err := p.value("name")
	if err != nil || !utf8.ValidString(v) || len(v) > MaxNameLength || strings.ContainsFunc(v, unicode.IsControl) {
		return ""
	}
	return v
}

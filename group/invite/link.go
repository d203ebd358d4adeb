// Package invite turns the links that members hand to each other into keys, and keys into links. The text form is the
// Rust app's (save-dweb-backend 0.3), so that its users and ours can invite each other:
//
//	save+dweb::?dht=<key>%3A<encryption>&enc=<64 hex>&pk=<64 hex>&sk=<64 hex>
//
// A link is a bearer secret: whoever has it reads the group, and with sk also writes its record.
package invite

import (
	"encoding/hex"
	"log/slog"
	"net/url"
	"strings"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Scheme is the scheme of every link, without the colon.
const Scheme = "save+dweb"

// Link is what an invitation holds. It prints without its secrets; Reveal is its text form.
type Link struct {
	Group       veilid.RecordKey    // dht: the group's record; without encryption key in links older than Veilid 0.5
	Secret      veilid.SharedSecret // enc: the group secret, which seals names and files
	Owner       veilid.PublicKey    // pk: owner of the group's record
	OwnerSecret veilid.SecretKey    // sk: writes the group's record; zero in a read-only link

	Name string // name: what the sender calls the group; a hint for the eye, not authenticated
	RPC  bool   // rpc: the record is a backup server's, not a group's

	// Repo and its owner are set only in a link that moves a member to a new device (repo, rpk, rsk). Such a link gives
	// away the member's own repo: it belongs into a file or a code sealed under a passphrase, never into an invitation.
	Repo            veilid.RecordKey
	RepoOwner       veilid.PublicKey
	RepoOwnerSecret veilid.SecretKey
}

// ReadOnly reports whether the link lacks the owner's secret: who has only that cannot advertise a repo.
func (l Link) ReadOnly() bool { return l.OwnerSecret.IsZero() }

// Migrates reports whether the link holds a member's own repo.
func (l Link) Migrates() bool { return !l.Repo.IsZero() }

// ForReader is the link without any secret to write: neither the group's nor a repo's.
func (l Link) ForReader() Link {
	l = l.ForMember()
	l.OwnerSecret = veilid.SecretKey{}
	return l
}

// ForMember is the link without a member's own repo, fit to be handed to others.
func (l Link) ForMember() Link {
	l.Repo, l.RepoOwner, l.RepoOwnerSecret = veilid.RecordKey{}, veilid.PublicKey{}, veilid.SecretKey{}
	return l
}

// Reveal is the link's text form with all its secrets. A link with neither name, rpc nor repo is byte for byte what
// the Rust app writes; the further parameters come last, where its parser ignores them.
func (l Link) Reveal() string {
	var b strings.Builder
	b.WriteString(Scheme + "::?")
	add := func(name, value string) {
		if b.Len() > len(Scheme)+3 {
			b.WriteByte('&')
		}
		b.WriteString(name + "=" + url.QueryEscape(value))
	}
	add("dht", l.Group.RevealBare())
	add("enc", secretHex(l.Secret.Bytes()))
	add("pk", hex.EncodeToString(l.Owner.Value[:]))
	if !l.OwnerSecret.IsZero() {
		add("sk", secretHex(l.OwnerSecret.Bytes()))
	}
	if l.Migrates() {
		add("repo", l.Repo.RevealBare())
		add("rpk", hex.EncodeToString(l.RepoOwner.Value[:]))
		add("rsk", secretHex(l.RepoOwnerSecret.Bytes()))
	}
	if l.Name != "" {
		add("name", l.Name)
	}
	if l.RPC {
		b.WriteString("&rpc")
	}
	return b.String()
}

func secretHex(b [veilid.KeySize]byte) string { return hex.EncodeToString(b[:]) }

// String names the group, without any secret.
func (l Link) String() string {
	var what string
	switch {
	case l.Migrates():
		what = ", with repo"
	case l.ReadOnly():
		what = ", read only"
	}
	return Scheme + " link to " + l.Group.String() + what + ", secrets redacted"
}

// GoString is String: no verb of fmt shows the secrets.
func (l Link) GoString() string { return l.String() }

// LogValue is String: no log shows the secrets.
func (l Link) LogValue() slog.Value { return slog.StringValue(l.String()) }

// MarshalText refuses, so that no link reaches a file or a log unasked; use Reveal.
func (l Link) MarshalText() ([]byte, error) {
	return nil, &Error{Reason: "a link is not marshalled: call Reveal"}
}

// Error says which part of a link is wrong. It never quotes the part: it may be secret.
type Error struct {
	Param  string // dht, enc, pk, sk, repo, rpk, rsk, or scheme; empty for the link as a whole
	Reason string
}

// Error names the part and says what it should be.
func (e *Error) Error() string {
	if e.Param == "" {
		return "invite link: " + e.Reason
	}
	return "invite link: " + e.Param + ": " + e.Reason
}

package invite

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Two links that save-dweb-backend 0.3.12 wrote in a closed test network.
const (
	rustLink = "save+dweb::?dht=Wszs_dkh5SpgaAESAV3aI8uyigs1FjZOj_-ELC0I-9I%3AO4p1QOfoV0QwbO4_vsQ3ZOKx0qw5446IrUP2Hy3CKMQ" +
		"&enc=9cecc2d1a8c9442254a8dd826a25c1dc9cbc9ff0456b67b1707e212ccfa2ae90" +
		"&pk=0452e845ca51c9d188e3dcb075586ba2f0fddbc8badac87a41d37e4b90498dfa" +
		"&sk=08ee4200d953614c1372037530a54aa01b1b26033ed75b04a422ae170ff547c6"
	rustLink2 = "save+dweb::?dht=4-fPJr2f_P0CJs4KrJNN5OtrOuKmbQfNQdoWWdafiOg%3Al6eeuAvIZ5z7ZRwtXs7OL5J2A_7z1tbXq-iqd0bunE8" +
		"&enc=5c8400c9380880810daa342b99a8470ff2d22cf61ee1b2d46c7f3c8e16c79184" +
		"&pk=ab9a391f52878e286f2c12cfe7c00d0a1630b97b355c36a2a7cdc8a7a3e107a8" +
		"&sk=10d94eb5ba686ea2a4126d71b93eea7ec6e9e7ede70efcf7a04297c3445f6702"
)

func mustParse(t *testing.T, s string) Link {
	t.Helper()
	l, err := Parse(s)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return l
}

// same compares links by all that they reveal, and by the legacy key form that Reveal turns into the new one.
func same(a, b Link) bool { return a.Reveal() == b.Reveal() }

func pair(t *testing.T, fill byte) (veilid.PublicKey, veilid.SecretKey) {
	t.Helper()
	seed := [32]byte{fill, 1, 2, 3}
	pub := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
	return veilid.PublicKey{Key32: veilid.Key32{Kind: veilid.VLD0, Value: [32]byte(pub)}}, veilid.NewSecretKey(veilid.VLD0, seed)
}

func TestRustLinks(t *testing.T) {
	for _, s := range []string{rustLink, rustLink2} {
		l := mustParse(t, s)
		if got := l.Reveal(); got != s {
			t.Errorf("Reveal = %s, want %s", got, s)
		}
		if l.ReadOnly() || l.Migrates() || l.RPC || l.Name != "" {
			t.Errorf("flags of a plain link: %+v", l)
		}
	}
	l := mustParse(t, rustLink)
	if got, want := l.Group.Reveal(), "VLD0:Wszs_dkh5SpgaAESAV3aI8uyigs1FjZOj_-ELC0I-9I:O4p1QOfoV0QwbO4_vsQ3ZOKx0qw5446IrUP2Hy3CKMQ"; got != want {
		t.Errorf("group = %s, want %s", got, want)
	}
	enc := l.Secret.Bytes()
	if got := hex.EncodeToString(enc[:]); got != rustLink[strings.Index(rustLink, "enc=")+4:][:64] {
		t.Errorf("secret = %s", got)
	}
}

// cut gives the parameters of the first Rust link.
func cut(t *testing.T) (dht, enc, pk, sk string) {
	t.Helper()
	_, q, _ := strings.Cut(rustLink, "?")
	v := map[string]string{}
	for p := range strings.SplitSeq(q, "&") {
		name, value, _ := strings.Cut(p, "=")
		v[name] = value
	}
	return v["dht"], v["enc"], v["pk"], v["sk"]
}

func TestParseVariations(t *testing.T) {
	dht, enc, pk, sk := cut(t)
	base := mustParse(t, rustLink)
	named := base
	named.Name = "Our Group ü"
	rpc := base
	rpc.RPC = true
	tests := []struct {
		name, in string
		want     Link
	}{
		{"white space", " \t\r\n" + rustLink + "\n", base},
		{"broken line", rustLink[:150] + "\r\n" + rustLink[150:], base},
		{"upper-case scheme", "SAVE+DWEB" + rustLink[9:], base},
		{"one colon", "save+dweb:" + rustLink[11:], base},
		{"slashes", "save+dweb://" + rustLink[11:], base},
		{"plain colon", strings.Replace(rustLink, "%3A", ":", 1), base},
		{"lower-case escape", strings.Replace(rustLink, "%3A", "%3a", 1), base},
		{"upper-case hex", "save+dweb::?dht=" + dht + "&enc=" + strings.ToUpper(enc) + "&pk=" + pk + "&sk=" + sk, base},
		{"other order", "save+dweb::?sk=" + sk + "&pk=" + pk + "&enc=" + enc + "&dht=" + dht, base},
		{"first of two counts", rustLink + "&sk=00&dht=x&enc=", base},
		{"unknown parameters", rustLink + "&future=%zz&x&=&&v=2", base},
		{"fragment", rustLink + "#top", base},
		{"read only", rustLink[:strings.Index(rustLink, "&sk=")], base.ForReader()},
		{"name", rustLink + "&name=Our+Group+%C3%BC", named},
		{"name with %20", rustLink + "&name=Our%20Group%20%C3%BC", named},
		{"Android share", rustLink + "?name=Our+Group+%C3%BC", named},
		{"Android share, read only", rustLink[:strings.Index(rustLink, "&sk=")] + "?name=Our+Group+%C3%BC", Link{
			Group: base.Group, Secret: base.Secret, Owner: base.Owner, Name: named.Name}},
		{"second question mark alone", rustLink + "?", base},
		{"rpc", rustLink + "&rpc", rpc},
		{"rpc with value", rustLink + "&rpc=", rpc},
		{"rpc and Android share", rustLink + "&rpc?name=", rpc},
		{"name too long", rustLink + "&name=" + strings.Repeat("a", MaxNameLength+1), base},
		{"name not UTF-8", rustLink + "&name=%ff", base},
		{"name with control character", rustLink + "&name=a%1b[2J", base},
		{"name with broken escape", rustLink + "&name=%4", base},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustParse(t, tt.in); !same(got, tt.want) {
				t.Errorf("got %s, want %s", got.Reveal(), tt.want.Reveal())
			}
		})
	}
}

func TestParseQuestionMarkInName(t *testing.T) {
	if l := mustParse(t, rustLink+"&name=What?"); l.Name != "What?" {
		t.Errorf("name = %q", l.Name)
	}
}

func TestParseLegacyKey(t *testing.T) {
	_, enc, pk, sk := cut(t)
	opaque := mustParse(t, rustLink).Group.Opaque()
	l := mustParse(t, fmt.Sprintf("save+dweb::?dht=%x&enc=%s&pk=%s&sk=%s", opaque.Value, enc, pk, sk))
	if l.Group.Opaque() != opaque || !l.Group.Encryption().IsZero() {
		t.Errorf("group = %s, want %s without encryption", l.Group.Reveal(), opaque)
	}
	// What we write of it is the short form of Veilid 0.5, which reads back as the same key.
	if again := mustParse(t, l.Reveal()); !again.Group.Equal(l.Group) {
		t.Errorf("again = %s", again.Group.Reveal())
	}
}

func TestParseErrors(t *testing.T) {
	dht, enc, pk, sk := cut(t)
	link := func(dht, enc, pk, sk string) string {
		return "save+dweb::?dht=" + dht + "&enc=" + enc + "&pk=" + pk + "&sk=" + sk
	}
	_, otherSecret := pair(t, 9)
	other := otherSecret.Bytes()
	tests := []struct {
		name, in, param string
		contains        []string
	}{
		{"not a url", "not a url", "scheme", nil},
		{"empty", "", "scheme", nil},
		{"other scheme", "https" + rustLink[9:], "scheme", []string{"save+dweb"}},
		{"host", "save+dweb://example.com" + rustLink[11:], "scheme", nil},
		{"no query", "save+dweb::", "dht", nil},
		{"empty query", "save+dweb::?", "dht", []string{"dht", "missing"}},
		{"too long", rustLink + "&x=" + strings.Repeat("a", MaxLength), "", []string{"too long"}},
		{"no enc", "save+dweb::?dht=" + dht + "&pk=" + pk, "enc", []string{"missing"}},
		{"no pk", "save+dweb::?dht=" + dht + "&enc=" + enc, "pk", []string{"missing"}},
		{"empty dht", link("", enc, pk, sk), "dht", []string{"missing"}},
		{"short dht", link(dht[:42], enc, pk, sk), "dht", []string{"42 characters", "expected 43"}},
		{"dht with encryption key cut", link(dht[:len(dht)-1], enc, pk, sk), "dht", []string{"expected 43"}},
		{"dht of 48 bytes", link(strings.Repeat("z", 64), enc, pk, sk), "dht", []string{"Invalid hex for dht"}},
		{"dht not base64url", link(strings.Repeat("=", 43), enc, pk, sk), "dht", []string{"base64url"}},
		{"dht with stray bits", link(strings.Repeat("_", 43), enc, pk, sk), "dht", []string{"base64url"}},
		{"dht without colon", link(strings.Repeat("A", 87), enc, pk, sk), "dht", nil},
		{"dht with plus", link("+"+dht[1:], enc, pk, sk), "dht", nil},
		{"dht with kind", link("VLD0:"+dht[:43], enc, pk, sk), "dht", nil},
		{"broken escape", link("%4", enc, pk, sk), "dht", []string{"percent"}},
		{"short pk", link(dht, enc, "abcd", sk), "pk", []string{"pk", "expected 32 bytes"}},
		{"16 bytes of pk", link(dht, enc, pk[:32], sk), "pk", []string{"expected 32 bytes"}},
		{"33 bytes of pk", link(dht, enc, pk+"00", sk), "pk", []string{"expected 32 bytes"}},
		{"pk not hex", link(dht, enc, "not-hex", sk), "pk", []string{"Invalid hex for pk"}},
		{"enc not hex", link(dht, "not-hex", pk, sk), "enc", []string{"Invalid hex for enc"}},
		{"short enc", link(dht, enc[:62], pk, sk), "enc", []string{"expected 32 bytes"}},
		{"sk empty", link(dht, enc, pk, ""), "sk", []string{"missing"}},
		{"sk not hex", link(dht, enc, pk, "x"+sk[1:]), "sk", []string{"Invalid hex for sk"}},
		{"sk cut", link(dht, enc, pk, sk[:20]), "sk", []string{"expected 32 bytes"}},
		{"sk of another", link(dht, enc, pk, hex.EncodeToString(other[:])), "sk", []string{"does not belong to pk"}},
		{"rpk without repo", rustLink + "&rpk=" + pk, "repo", []string{"missing"}},
		{"repo without rpk", rustLink + "&repo=" + dht, "rpk", []string{"missing"}},
		{"repo without rsk", rustLink + "&repo=" + dht + "&rpk=" + pk, "rsk", []string{"missing"}},
		{"rsk of another", rustLink + "&repo=" + dht + "&rpk=" + pk + "&rsk=" + hex.EncodeToString(other[:]), "rsk", []string{"does not belong to rpk"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.in)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error = %v, want an *Error", err)
			}
			if e.Param != tt.param {
				t.Errorf("names %q, want %q: %v", e.Param, tt.param, err)
			}
			for _, want := range tt.contains {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not contain %q", err, want)
				}
			}
			leaks(t, err.Error())
		})
	}
}

// leaks reports secrets of the first Rust link in s.
func leaks(t *testing.T, s string) {
	t.Helper()
	l := mustParse(t, rustLink)
	for _, k := range [][32]byte{l.Secret.Bytes(), l.OwnerSecret.Bytes(), l.Group.Encryption().Bytes()} {
		if strings.Contains(s, hex.EncodeToString(k[:4])) {
			t.Errorf("secret in %q", s)
		}
	}
	if strings.Contains(s, l.Group.Encryption().RevealBare()[:8]) {
		t.Errorf("encryption key in %q", s)
	}
}

func TestMigrationLink(t *testing.T) {
	l := mustParse(t, rustLink)
	l.Repo = mustParse(t, rustLink2).Group
	l.RepoOwner, l.RepoOwnerSecret = pair(t, 5)
	l.Name, l.RPC = "A & B = C?#%", true

	s := l.Reveal()
	if !strings.HasPrefix(s, rustLink+"&repo=") {
		t.Errorf("a migration link does not begin as the Rust app's: %s", s)
	}
	got := mustParse(t, s)
	if !same(got, l) || !got.Migrates() || !got.RepoOwnerSecret.Equal(l.RepoOwnerSecret) || got.Name != l.Name || !got.RPC {
		t.Errorf("got %s, want %s", got.Reveal(), s)
	}
	for what, part := range map[string]Link{"ForMember": l.ForMember(), "ForReader": l.ForReader()} {
		if r := part.Reveal(); part.Migrates() || strings.Contains(r, "rsk=") || strings.Contains(r, "repo=") {
			t.Errorf("%s gives the repo away: %s", what, r)
		}
	}
	if r := l.ForReader(); !r.ReadOnly() || strings.Contains(r.Reveal(), "sk=") {
		t.Errorf("ForReader can write: %s", r.Reveal())
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	l := mustParse(t, rustLink)
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "link", l)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "link", l, "pointer", &l)
	for _, s := range []string{l.String(), fmt.Sprintf("%v %+v %#v %s %q", l, l, l, l, l), fmt.Sprintf("%v %+v", &l, struct{ L Link }{l}), log.String()} {
		leaks(t, s)
		if !strings.Contains(s, l.Group.Opaque().Bare()) {
			t.Errorf("%q does not name the group", s)
		}
	}
	if b, err := json.Marshal(l); err == nil {
		t.Errorf("marshalled as %s", b)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(rustLink)
	f.Add(rustLink + "?name=x")
	f.Add(rustLink + "&rpc&name=%41")
	f.Add(rustLink[:strings.Index(rustLink, "&sk=")] + "&&?a?=??")
	f.Add("save+dweb:?dht=" + strings.Repeat("0", 64) + "&enc=" + strings.Repeat("1", 64) + "&pk=" + strings.Repeat("2", 64))
	f.Add("save+dweb://?dht=%")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := Parse(s)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v is no *Error", err)
			}
			return
		}
		text := l.Reveal()
		again, err := Parse(text)
		if err != nil {
			t.Fatalf("own link does not parse: %v", err)
		}
		if !same(again, l) || again.ReadOnly() != l.ReadOnly() {
			t.Fatalf("%s becomes %s", text, again.Reveal())
		}
	})
}

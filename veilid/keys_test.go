package veilid

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	textA = "VLD0:A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
	bareA = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
	bareS = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8" // bytes 0 to 31
)

func seed() (b [KeySize]byte) {
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// roundTrip reads a typed key from text, with and without its kind, and from JSON and bytes, and writes it again.
func roundTrip[T comparable, P interface {
	Text[T]
	UnmarshalBinary([]byte) error
}](t *testing.T, get func(T) Key32) {
	t.Helper()
	v, err := Parse[T, P](textA)
	if err != nil {
		t.Fatalf("%T: %v", v, err)
	}
	k := get(v)
	if k.Kind != VLD0 || k.Value[0] != 0x03 || k.Value[31] != 0xb8 {
		t.Errorf("%T: read as %v", v, k)
	}
	if fmt.Sprint(v) != textA || k.Bare() != bareA {
		t.Errorf("%T: text is %v, %s", v, v, k.Bare())
	}
	if bare, err := Parse[T, P](bareA); err != nil || bare != v {
		t.Errorf("%T: the bare form gives %v, %v", v, bare, err)
	}
	js, err := json.Marshal(v)
	if err != nil || string(js) != `"`+textA+`"` {
		t.Errorf("%T: JSON is %s, %v", v, js, err)
	}
	var back T
	if err := json.Unmarshal(js, &back); err != nil || back != v {
		t.Errorf("%T: from JSON %v, %v", v, back, err)
	}
	b := k.Bytes()
	if len(b) != 36 || !bytes.HasPrefix(b, []byte("VLD0\x03\xa1")) {
		t.Errorf("%T: bytes %x", v, b)
	}
	var bin T
	if err := P(&bin).UnmarshalBinary(b); err != nil || bin != v {
		t.Errorf("%T: from bytes %v, %v", v, bin, err)
	}
	for _, n := range []int{0, 32, 35, 37} {
		if err := P(&bin).UnmarshalBinary(make([]byte, n)); err == nil {
			t.Errorf("%T: took %d bytes", v, n)
		}
	}
	for _, bad := range badKeys {
		if got, err := Parse[T, P](bad); err == nil {
			t.Errorf("%T: took %q", v, bad)
		} else if zero := *new(T); got != zero {
			t.Errorf("%T: %q gave %v beside the error", v, bad, got)
		}
	}
}

var badKeys = []string{
	"", "VLD0", "VLD0:", "VLD1:" + bareA, "VLD0:VLD0:" + bareA, "vld0:" + bareA, bareA[:42], bareA + "A", "VLD0:" + bareA + "=",
	"VLD0:" + strings.Repeat("!", 43), "VLD0:" + bareA[:42] + "h", // its last bits are not zero
	"VLD0:" + strings.ReplaceAll(bareA, "_", "/"), "VLD0: " + bareA, "VLD0:" + bareA + "\n", "VLD0:" + bareA + ":" + bareA + ":" + bareA,
}

func TestTypedKeys(t *testing.T) {
	roundTrip[Key32](t, func(k Key32) Key32 { return k })
	roundTrip[PublicKey](t, func(k PublicKey) Key32 { return k.Key32 })
	roundTrip[NodeID](t, func(k NodeID) Key32 { return k.Key32 })
	roundTrip[RouteID](t, func(k RouteID) Key32 { return k.Key32 })
	roundTrip[MemberID](t, func(k MemberID) Key32 { return k.Key32 })
	roundTrip[HashDigest](t, func(k HashDigest) Key32 { return k.Key32 })
	roundTrip[EncapsulationKey](t, func(k EncapsulationKey) Key32 { return k.Key32 })
	roundTrip[OpaqueRecordKey](t, func(k OpaqueRecordKey) Key32 { return k.Key32 })
	if k, err := Parse[PublicKey](textA); err != nil || k.IsZero() || !(PublicKey{}).IsZero() {
		t.Error("IsZero is wrong")
	}
}

func TestSignatureAndNonce(t *testing.T) {
	const text = "VLD0:5IhEgrSZuDjSdKTXx--3GfXvyeqAQJi9Q5gTFGiMrb8nDJLgX0mDcJ7K0uWjBpoDINSOzXyp-5Hujagmr0giDA"
	sig, err := Parse[Signature](text)
	if err != nil || sig.Kind != VLD0 || sig.Value[0] != 0xe4 || sig.String() != text {
		t.Errorf("signature %v, %v", sig, err)
	}
	const nonceText = "ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7"
	nonce, err := Parse[Nonce](nonceText)
	if err != nil || nonce[0] != 100 || nonce[23] != 123 || nonce.String() != nonceText {
		t.Errorf("nonce %v, %v", nonce, err)
	}
	js, err := json.Marshal(map[string]any{"n": nonce, "s": sig})
	if want := `{"n":"` + nonceText + `","s":"` + text + `"}`; err != nil || string(js) != want {
		t.Errorf("JSON %s, %v, want %s", js, err, want)
	}
	for _, bad := range append(badKeys, textA) {
		if _, err := Parse[Signature](bad); err == nil {
			t.Errorf("took %q as a signature", bad)
		}
		if _, err := Parse[Nonce](bad); err == nil {
			t.Errorf("took %q as a nonce", bad)
		}
	}
}

func TestSecretsText(t *testing.T) {
	for _, text := range []string{"VLD0:" + bareS, bareS} {
		for _, v := range []interface {
			UnmarshalText([]byte) error
			Bytes() [KeySize]byte
			Reveal() string
			RevealBare() string
			IsZero() bool
		}{&SecretKey{}, &SharedSecret{}, &DecapsulationKey{}} {
			if !v.IsZero() {
				t.Errorf("%T: the zero value is not zero", v)
			}
			if err := v.UnmarshalText([]byte(text)); err != nil {
				t.Errorf("%T: %v", v, err)
			}
			if v.Bytes() != seed() || v.Reveal() != "VLD0:"+bareS || v.RevealBare() != bareS || v.IsZero() {
				t.Errorf("%T: wrong value", v)
			}
			for _, bad := range badKeys {
				if err := v.UnmarshalText([]byte(bad)); err == nil {
					t.Errorf("%T: took %q", v, bad)
				}
			}
		}
	}
	a, b := NewSecretKey(VLD0, seed()), NewSecretKey(VLD0, seed())
	if !a.Equal(b) || a.Equal(SecretKey{}) || a.Equal(NewSecretKey(CryptoKind{}, seed())) || NewSecretKey(VLD0, [32]byte{}).Equal(SecretKey{}) {
		t.Error("SecretKey.Equal is wrong")
	}
	if !NewSharedSecret(VLD0, seed()).Equal(NewSharedSecret(VLD0, seed())) || NewSharedSecret(VLD0, seed()).Equal(SharedSecret{}) {
		t.Error("SharedSecret.Equal is wrong")
	}
	if !NewDecapsulationKey(VLD0, seed()).Equal(NewDecapsulationKey(VLD0, seed())) || NewDecapsulationKey(VLD0, seed()).Equal(DecapsulationKey{}) {
		t.Error("DecapsulationKey.Equal is wrong")
	}
	copied := a.Bytes()
	copied[0]++
	if a.Bytes() != seed() {
		t.Error("Bytes gives the secret itself")
	}
}

func TestKeyPair(t *testing.T) {
	const text = textA + ":" + bareS
	for _, in := range []string{text, bareA + ":" + bareS} {
		p, err := Parse[KeyPair](in)
		if err != nil || p.Public.String() != textA || p.Secret.Bytes() != seed() || p.Reveal() != text || p.IsZero() {
			t.Errorf("%s gives %v, %v", in, p, err)
		}
	}
	var fromJSON KeyPair
	if err := json.Unmarshal([]byte(`"`+text+`"`), &fromJSON); err != nil || fromJSON.Reveal() != text {
		t.Errorf("from JSON: %v", err)
	}
	for _, bad := range append(badKeys[:len(badKeys)-1:len(badKeys)-1], textA, textA+":", textA+":"+bareS[1:], textA+":"+bareS+":"+bareS) {
		if p, err := Parse[KeyPair](bad); err == nil || !p.IsZero() {
			t.Errorf("took %q: %v", bad, p)
		}
	}
	if !(KeyPair{}).IsZero() {
		t.Error("the zero pair is not zero")
	}
}

func TestRecordKey(t *testing.T) {
	const full = textA + ":" + bareS
	for _, tt := range []struct{ in, reveal, bare string }{
		{textA, textA, bareA},
		{bareA, textA, bareA},
		{full, full, bareA + ":" + bareS},
		{bareA + ":" + bareS, full, bareA + ":" + bareS},
	} {
		k, err := Parse[RecordKey](tt.in)
		if err != nil || k.Reveal() != tt.reveal || k.RevealBare() != tt.bare || k.String() != textA || k.Opaque().String() != textA {
			t.Errorf("%s gives %v, %v", tt.in, k, err)
		}
		if k.Encryption().IsZero() == strings.HasSuffix(tt.in, bareS) {
			t.Errorf("%s: the encryption key is wrong", tt.in)
		}
		if !k.Equal(NewRecordKey(k.Opaque(), k.Encryption())) || k.Equal(NewRecordKey(k.Opaque(), NewSharedSecret(VLD0, [32]byte{9}))) || k.IsZero() {
			t.Errorf("%s: Equal or IsZero is wrong", tt.in)
		}
	}
	for _, bad := range append(badKeys, textA+":", full+":"+bareS, textA+":"+bareS[1:]) {
		if k, err := Parse[RecordKey](bad); err == nil {
			t.Errorf("took %q: %v", bad, k)
		}
	}
	// A key read over another one keeps nothing of it.
	k, err := Parse[RecordKey](full)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.UnmarshalText([]byte(textA)); err != nil || !k.Encryption().IsZero() {
		t.Error("the encryption key of an earlier value stayed")
	}
}

func TestCryptoKind(t *testing.T) {
	if k, err := ParseCryptoKind("VLD0"); err != nil || k != VLD0 || k.String() != "VLD0" {
		t.Errorf("%v, %v", k, err)
	}
	for _, bad := range []string{"", "VLD", "VLD00"} {
		if k, err := ParseCryptoKind(bad); err == nil {
			t.Errorf("took %q as %v", bad, k)
		}
	}
	var m map[CryptoKind]int
	if err := json.Unmarshal([]byte(`{"VLD0":1}`), &m); err != nil || cmp.Diff(map[CryptoKind]int{VLD0: 1}, m) != "" {
		t.Errorf("from JSON %v, %v", m, err)
	}
	if js, err := json.Marshal(m); err != nil || string(js) != `{"VLD0":1}` {
		t.Errorf("JSON %s, %v", js, err)
	}
}

// FuzzParse checks that whatever is taken as text has exactly one typed form.
func FuzzParse(f *testing.F) {
	for _, s := range append(badKeys, textA, bareA, textA+":"+bareS, bareA+":"+bareS) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		same := func(what, text string) {
			if text != s && text != "VLD0:"+s {
				t.Errorf("%s: %q became %q", what, s, text)
			}
		}
		if v, err := Parse[PublicKey](s); err == nil {
			same("key", v.String())
		}
		if v, err := Parse[SecretKey](s); err == nil {
			same("secret", v.Reveal())
		} else if len(s) > 8 && strings.Contains(err.Error(), s) {
			t.Errorf("the error quotes %q", s)
		}
		if v, err := Parse[KeyPair](s); err == nil {
			same("pair", v.Reveal())
		}
		if v, err := Parse[RecordKey](s); err == nil {
			same("record key", v.Reveal())
		}
		if v, err := Parse[Signature](s); err == nil {
			same("signature", v.String())
		}
		if v, err := Parse[Nonce](s); err == nil && v.String() != s {
			t.Errorf("nonce: %q became %q", s, v)
		}
	})
}

package vld0

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/google/go-cmp/cmp"
)

var sys System

// count is n bytes that count up from first.
func count(first, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(first + i)
	}
	return b
}

func pair(t testing.TB, first int) veilid.KeyPair {
	t.Helper()
	p, err := KeyPairFromSeed([32]byte(count(first, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The inputs of the golden values: two pairs, a nonce, a secret, a message.
func golden(t testing.TB) (a, b veilid.KeyPair, n veilid.Nonce, s veilid.SharedSecret, msg []byte) {
	return pair(t, 0), pair(t, 32), veilid.Nonce(count(100, 24)), veilid.NewSharedSecret(veilid.VLD0, [32]byte(count(64, 32))), []byte("hello veilid")
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func hex32(b [32]byte) string { return hex.EncodeToString(b[:]) }

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestGolden compares with what veilid-core 0.5.8 computed.
func TestGolden(t *testing.T) {
	a, b, n, s, m := golden(t)
	sig, key := must[veilid.Signature](t), must[veilid.SharedSecret](t)
	smpl := veilid.Schema{Kind: veilid.SMPL, OwnerCount: 1, Members: []veilid.SchemaMember{{ID: MemberID(b.Public).Value, Count: 2}}}
	seqOwner := veilid.PublicKey{Key32: key32([32]byte(count(0, 32)))}
	for _, tt := range []struct{ name, got, want string }{
		{"public A", a.Public.Bare(), "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"},
		{"public B", b.Public.Bare(), "Kay64UG8yvCyLhqU000LxzYeUm0L_hLIl5S8kyKWbdc"},
		{"hash", sys.GenerateHash(count(0, 5)).Bare(), "tAtE39l-eoSplqka-LhRiMZsEmlAunqtLnrms4VAKqI"},
		{"sign", sig(sys.Sign(a, m)).String(), "VLD0:5IhEgrSZuDjSdKTXx--3GfXvyeqAQJi9Q5gTFGiMrb8nDJLgX0mDcJ7K0uWjBpoDINSOzXyp-5Hujagmr0giDA"},
		{"sign hello", sig(sys.Sign(a, []byte("hello"))).String(), "VLD0:pXaE9IIaXgUXvFsuDJbHSOkvj0h5AgUX1vEZFtvql7AxfwzciZTJZ1Gt1aOPaHK43VVf8y8u2xSjiJDA1Ss6BQ"},
		{"dh", key(sys.ComputeDH(b.Public, a.Secret)).RevealBare(), "BAnf07fesoNzqC1-aEA23aVjBK_VJ-vYY_DMFl2BQIA"},
		{"dh reversed", key(sys.ComputeDH(a.Public, b.Secret)).RevealBare(), "BAnf07fesoNzqC1-aEA23aVjBK_VJ-vYY_DMFl2BQIA"},
		{"shared secret", key(sys.GenerateSharedSecret(b.Public, a.Secret, []byte("test"))).RevealBare(), "ukQVefE-a9BNSVnQsaQqTVIvSMJVOSo-dZoUMpOvrII"},
		{"aead", b64(sys.EncryptAEAD(s, n, m, nil)), "a5XnZ7hc-rkcAlvlwOu1AkFBYLDy_bTYXIFyzg"},
		{"aead with data", b64(sys.EncryptAEAD(s, n, m, []byte("ad"))), "a5XnZ7hc-rkcAlvlEaGYiH2PBNbFxjwWbGSwnA"},
		{"no auth", b64(sys.CryptNoAuth(s, n, m)), "SOzBuhwc9rkynFjY"},
		{"encapsulation key", must[veilid.EncapsulationKey](t)(sys.EncapsulationKeyFor(a.Public)).Bare(), "RwHQhIhFH1RaQJ-1iuPlhYHKQKw_fxFGmM1x3qxzygE"},
		{"decapsulation key", must[veilid.DecapsulationKey](t)(sys.DecapsulationKeyFor(a.Secret)).RevealBare(), "PZTupJxYCu-BaTV2K-BJVZ1tFEDe3hLmoSXxhB__jm8"},
		{"password", must[string](t)(sys.HashPassword([]byte("password"), count(200, 16))), "$argon2id$v=19$m=19456,t=2,p=1$yMnKy8zNzs/Q0dLT1NXW1w$B+CO2yqfa5VS7Ms/Mw95uD5sryluI5EaGiOJvwsFaRo"},
		{"derived secret", key(sys.DeriveSharedSecret([]byte("password"), count(200, 16))).RevealBare(), "B-CO2yqfa5VS7Ms_Mw95uD5sryluI5EaGiOJvwsFaRo"},
		{"record DFLT 1", RecordKey(a.Public, veilid.DFLTSchema(1)).Bare(), "cc-Efq02a6kj3vjA3TLYQufzEFQBgXokzYWV4sDDStc"},
		{"record DFLT 2", RecordKey(a.Public, veilid.DFLTSchema(2)).Bare(), "HgYe16JsLuPiMGkWFP9H2_Qx5lVi9tWHFuu_96gBh3A"},
		{"record DFLT 3", RecordKey(a.Public, veilid.DFLTSchema(3)).Bare(), "KeeeUQAmFi_pkWsr_If4Pdw1tSYF-LVJwYR59ZSrKxw"},
		{"record SMPL", RecordKey(a.Public, smpl).Bare(), "waJgWbHUuWtaHjEIxS4mLWyH-GGsjDmMim3tqVgQjI8"},
		{"record of bytes", hex32(RecordKey(seqOwner, veilid.DFLTSchema(1)).Value), "98a1ade2cb472a35a2efbab77ec2a848e0615e82f7011e035e0b1f6dc6eb5cc8"},
		{"route", hex32(RouteID(seqOwner).Value), "e528e95798037df410543d9f31e396ecdd458d71b157d6014398bae32fb56c65"},
		{"member", MemberID(b.Public).String(), "VLD0:Kay64UG8yvCyLhqU000LxzYeUm0L_hLIl5S8kyKWbdc"},
		{"node", NodeID(b.Public).Bare(), "Kay64UG8yvCyLhqU000LxzYeUm0L_hLIl5S8kyKWbdc"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.name, tt.got, tt.want)
		}
	}
}

// TestGoldenLow compares with a second set of values, made by another program around the same crate.
func TestGoldenLow(t *testing.T) {
	a, b := pair(t, 1), pair(t, 101)
	m := []byte("hello veilid")
	sig := must[veilid.Signature](t)(sys.Sign(a, m))
	dh := must[veilid.SharedSecret](t)(sys.ComputeDH(b.Public, a.Secret))
	dom := must[veilid.SharedSecret](t)(sys.GenerateSharedSecret(b.Public, a.Secret, []byte("dom")))
	derived := must[veilid.SharedSecret](t)(sys.DeriveSharedSecret([]byte("password"), []byte("0123456789abcdef")))
	hashed, dhBytes, domBytes, derivedBytes := sys.GenerateHash(m), dh.Bytes(), dom.Bytes(), derived.Bytes()
	for _, tt := range []struct {
		name string
		got  []byte
		want string
	}{
		{"public A", a.Public.Value[:], "79b5562e8fe654f94078b112e8a98ba7901f853ae695bed7e0e3910bad049664"},
		{"public B", b.Public.Value[:], "da29e95b02e00ffa15645775fb1d2ba222a1943395eea06b94e2c057b7be69d0"},
		{"sign", sig.Value[:], "336c98eee2fc09e5e97e30b30dab8d86abc4bdd12a697dceca09d17831a4dc944eef8403700818c0fd1672cc19484254fbe5abe32ec1c40e51d4da96358ccd07"},
		{"dh", dhBytes[:], "861f3f402ea1adf17d7eb0c899af4e8523bc49342167c649a8d1a262d6746ece"},
		{"shared secret", domBytes[:], "31afa95abcc1e2d0904d683ab85da51807537a4b46d94ac41ac3f4963654bb85"},
		{"hash", hashed.Value[:], "c8bb52becb406ca8e01272229757f8c2eda7a921ef80305c97c2224f6c68a172"},
		{"derived", derivedBytes[:], "d2ab07b39ef7f8b806227cd86fbb11aa5393066a98e17eacacd126eb26e9276d"},
		{"aead", sys.EncryptAEAD(dh, veilid.Nonce(count(0, 24)), m, []byte("ad")), "d027595302c584edf9849820ad12ca0f373eec46aba0b20cf22f5ba6"},
	} {
		if got := hex.EncodeToString(tt.got); got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
	const text = "VLD0:ebVWLo_mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmQ:AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA"
	if a.Reveal() != text {
		t.Errorf("key pair's text is %s, want %s", a.Reveal(), text)
	}
	if want := "VLD0:M2yY7uL8CeXpfjCzDauNhqvEvdEqaX3OygnReDGk3JRO74QDcAgYwP0WcswZSEJU--Wr4y7BxA5R1NqWNYzNBw"; sig.String() != want {
		t.Errorf("signature's text is %s, want %s", sig, want)
	}
}

func TestHPKE(t *testing.T) {
	const golden = "AVZMRDBnFo2p447djtyX2JH6hDMjJo7uAFWFqzEhUotFNkOXMktwzy8oRK2aS110llo_Vd-uVI5wr3gunX3mY38"
	blob, err := base64.RawURLEncoding.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	a := pair(t, 0)
	dk := must[veilid.DecapsulationKey](t)(sys.DecapsulationKeyFor(a.Secret))
	if got, err := sys.HPKEOpen(dk, blob, []byte("ad")); err != nil || string(got) != "hello veilid" {
		t.Errorf("the golden blob opens to %q, %v", got, err)
	}
	if _, err := sys.HPKEOpen(dk, blob, []byte("a")); !errors.Is(err, veilid.ErrGeneric) {
		t.Errorf("other associated data: %v, want Generic", err)
	}
	ek, own, err := sys.GenerateKEMKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, 40000} {
		plain := bytes.Repeat([]byte{7}, size)
		sealed := must[[]byte](t)(sys.HPKESeal(ek, plain, nil))
		if got, err := sys.HPKEOpen(own, sealed, nil); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("round trip of %d bytes: %v", size, err)
		}
		if _, err := sys.HPKEOpen(dk, sealed, nil); err == nil {
			t.Error("another's key opened the message")
		}
		for _, i := range []int{0, 3, 5, 36, len(sealed) - 1} {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1
			if _, err := sys.HPKEOpen(own, bad, nil); err == nil {
				t.Errorf("opened with byte %d changed", i)
			}
		}
	}
	for n := range len(blob) {
		if _, err := sys.HPKEOpen(dk, blob[:n], []byte("ad")); err == nil {
			t.Errorf("opened the first %d bytes", n)
		}
	}
}

func TestSignatures(t *testing.T) {
	a, b, _, _, m := golden(t)
	sig := must[veilid.Signature](t)(sys.Sign(a, m))
	if err := sys.Verify(a.Public, m, sig); err != nil {
		t.Fatal(err)
	}
	changed := sig
	changed.Value[63] ^= 0x10
	kind := sig
	kind.Kind = veilid.CryptoKind{'N', 'O', 'N', 'E'}
	// The identity is a point of small order: under it, R=identity and S=0 would be a signature of every message.
	small := veilid.PublicKey{Key32: key32([32]byte{1})}
	forged := veilid.Signature{Kind: veilid.VLD0, Value: [64]byte{1}}
	noPoint := veilid.PublicKey{Key32: key32([32]byte{2})}
	for name, err := range map[string]error{
		"other data":       sys.Verify(a.Public, []byte("hello veilie"), sig),
		"other key":        sys.Verify(b.Public, m, sig),
		"changed":          sys.Verify(a.Public, m, changed),
		"other kind":       sys.Verify(a.Public, m, kind),
		"small order":      sys.Verify(small, m, forged),
		"small commitment": sys.Verify(a.Public, m, forged),
		"no point":         sys.Verify(noPoint, m, sig),
		"empty":            sys.Verify(veilid.PublicKey{}, m, veilid.Signature{}),
	} {
		if !errors.Is(err, veilid.ErrGeneric) {
			t.Errorf("Verify of %s: %v, want Generic", name, err)
		}
	}
	mixed := veilid.KeyPair{Public: b.Public, Secret: a.Secret}
	for name, err := range map[string]error{
		"mixed pair":   sys.ValidateKeyPair(mixed),
		"zero pair":    sys.ValidateKeyPair(veilid.KeyPair{}),
		"no secret":    sys.ValidateKeyPair(veilid.KeyPair{Public: a.Public}),
		"mixed signer": second(sys.Sign(mixed, m)),
		"dh no point":  second(sys.ComputeDH(noPoint, a.Secret)),
		"dh small":     second(sys.ComputeDH(small, a.Secret)),
		"dh no secret": second(sys.ComputeDH(a.Public, veilid.SecretKey{})),
	} {
		if !errors.Is(err, veilid.ErrGeneric) {
			t.Errorf("%s: %v, want Generic", name, err)
		}
	}
	if err := sys.ValidateKeyPair(sys.GenerateKeyPair()); err != nil {
		t.Errorf("a fresh pair is not valid: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestCiphers(t *testing.T) {
	_, _, n, s, m := golden(t)
	ct := sys.EncryptAEAD(s, n, m, []byte("ad"))
	if len(ct) != len(m)+veilid.AEADOverhead {
		t.Errorf("ciphertext of %d bytes for %d", len(ct), len(m))
	}
	if got, err := sys.DecryptAEAD(s, n, ct, []byte("ad")); err != nil || !bytes.Equal(got, m) {
		t.Errorf("DecryptAEAD = %q, %v", got, err)
	}
	if _, err := sys.DecryptAEAD(s, n, ct, nil); !errors.Is(err, veilid.ErrGeneric) {
		t.Errorf("other associated data: %v", err)
	}
	if _, err := sys.DecryptAEAD(s, n, ct[:5], nil); !errors.Is(err, veilid.ErrGeneric) {
		t.Errorf("too short: %v", err)
	}
	if _, err := sys.DecryptAEAD(veilid.SharedSecret{}, n, ct, nil); !errors.Is(err, veilid.ErrGeneric) {
		t.Errorf("unset key: %v", err)
	}
	if got := sys.CryptNoAuth(s, n, sys.CryptNoAuth(s, n, m)); !bytes.Equal(got, m) {
		t.Errorf("CryptNoAuth twice = %q", got)
	}
	for name, f := range map[string]func(){
		"EncryptAEAD": func() { sys.EncryptAEAD(veilid.SharedSecret{}, n, m, nil) },
		"CryptNoAuth": func() { sys.CryptNoAuth(veilid.SharedSecret{}, n, m) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s under an unset key did not panic", name)
				}
			}()
			f()
		}()
	}
	if n1, n2 := sys.RandomNonce(), sys.RandomNonce(); n1 == n2 || sys.RandomSharedSecret().Equal(sys.RandomSharedSecret()) {
		t.Error("random values repeat")
	}
}

func TestPasswords(t *testing.T) {
	const phc = "$argon2id$v=19$m=19456,t=2,p=1$yMnKy8zNzs/Q0dLT1NXW1w$B+CO2yqfa5VS7Ms/Mw95uD5sryluI5EaGiOJvwsFaRo"
	for password, want := range map[string]bool{"password": true, "passworD": false, "": false} {
		if got, err := sys.VerifyPassword([]byte(password), phc); got != want || err != nil {
			t.Errorf("VerifyPassword(%q) = %v, %v, want %v", password, got, err, want)
		}
	}
	for _, bad := range badPHC {
		if _, err := sys.VerifyPassword(nil, bad); !errors.Is(err, veilid.ErrParse) {
			t.Errorf("VerifyPassword with %q: %v, want ParseError", bad, err)
		}
	}
	for _, n := range []int{0, 7, 49} {
		if _, err := sys.HashPassword(nil, make([]byte, n)); !errors.Is(err, veilid.ErrGeneric) {
			t.Errorf("HashPassword with a salt of %d bytes: %v, want Generic", n, err)
		}
		if _, err := sys.DeriveSharedSecret(nil, make([]byte, n)); !errors.Is(err, veilid.ErrGeneric) {
			t.Errorf("DeriveSharedSecret with a salt of %d bytes: %v, want Generic", n, err)
		}
	}
}

var badPHC = []string{
	"", "password", "$argon2i$v=19$m=19456,t=2,p=1$yMnKy8zNzs/Q0dLT1NXW1w$B+CO2yqfa5VS7Ms/Mw95uA",
	"$argon2id$v=18$m=19456,t=2,p=1$yMnKy8zNzs/Q0dLT1NXW1w$B+CO2yqfa5VS7Ms/Mw95uA",
	"$argon2id$v=19$m=99999999,t=2,p=1$yMnKy8zNzs/Q0dLT1NXW1w$B+CO2yqfa5VS7Ms/Mw95uA",
	"$argon2id$v=19$m=19456,t=99,p=1$yMnKy8zNzs/Q0dLT1NXW1w$B+CO2yqfa5VS7Ms/Mw95uA",
	"$argon2id$v=19$m=19456,t=2,p=0$yMnKy8zNzs/Q0dLT1NXW1w$B+CO2yqfa5VS7Ms/Mw95uA",
	"$argon2id$v=19$m=19456,t=2$yMnKy8zNzs/Q0dLT1NXW1w$B+CO2yqfa5VS7Ms/Mw95uA",
	"$argon2id$v=19$t=2,m=19456,p=1$yMnKy8zNzs/Q0dLT1NXW1w$B+CO2yqfa5VS7Ms/Mw95uA",
	"$argon2id$v=19$m=19456,t=2,p=1$yMnK$B+CO2yqfa5VS7Ms/Mw95uA",
	"$argon2id$v=19$m=19456,t=2,p=1$yMnKy8zNzs/Q0dLT1NXW1w$",
	"$argon2id$v=19$m=19456,t=2,p=1$yMnKy8zNzs/Q0dLT1NXW1w$!!!!",
}

func FuzzParsePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$yMnKy8zNzs/Q0dLT1NXW1w$B+CO2yqfa5VS7Ms/Mw95uD5sryluI5EaGiOJvwsFaRo")
	for _, s := range badPHC {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePHC(s)
		if err != nil {
			return
		}
		if p.memory > maxArgonMemory || p.time > maxArgonTime || p.threads > maxArgonThreads || p.threads == 0 || p.time == 0 {
			t.Errorf("%q asks for m=%d t=%d p=%d", s, p.memory, p.time, p.threads)
		}
		if len(p.salt) > maxSalt || len(p.hash) > maxArgonHash || len(p.hash) == 0 {
			t.Errorf("%q has a salt of %d and a hash of %d bytes", s, len(p.salt), len(p.hash))
		}
	})
}

func TestRouteIDOfSeveralKeys(t *testing.T) {
	a, b := pair(t, 0).Public, pair(t, 32).Public
	if RouteID(a, b) != RouteID(b, a) {
		t.Error("the id depends on the order of the keys")
	}
	if RouteID(a, b) == RouteID(a) {
		t.Error("the second key does not count")
	}
}

func TestSchemaBytes(t *testing.T) {
	id := [32]byte(count(0, 32))
	tests := []struct {
		schema veilid.Schema
		hex    string
	}{
		{veilid.DFLTSchema(0x0201), "44464c540102"},
		{
			veilid.Schema{Kind: veilid.SMPL, OwnerCount: 1, Members: []veilid.SchemaMember{{ID: id, Count: 0x0102}}},
			"534d504c0100" + hex.EncodeToString(id[:]) + "0201",
		},
	}
	for _, tt := range tests {
		b := SchemaBytes(tt.schema)
		if got := hex.EncodeToString(b); got != tt.hex {
			t.Errorf("SchemaBytes(%v) = %s, want %s", tt.schema, got, tt.hex)
		}
		got, err := ParseSchema(b)
		if d := cmp.Diff(tt.schema, got); err != nil || d != "" {
			t.Errorf("ParseSchema(%s): %v\n%s", tt.hex, err, d)
		}
	}
	for _, bad := range []string{"", "44464c54", "44464c540000", "58585858" + "0100", "44464c5401", "534d504c0100" + "00", "44464c540100" + hex.EncodeToString(make([]byte, 34))} {
		b, err := hex.DecodeString(bad)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := ParseSchema(b); err == nil {
			t.Errorf("ParseSchema(%s) = %v, want an error", bad, s)
		}
	}
}

func FuzzParseSchema(f *testing.F) {
	f.Add([]byte("DFLT\x01\x00"))
	f.Add(SchemaBytes(veilid.Schema{Kind: veilid.SMPL, OwnerCount: 1, Members: []veilid.SchemaMember{{Count: 1}, {Count: 2}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSchema(b)
		if err != nil {
			return
		}
		if n := s.Subkeys(); n < 1 || n > veilid.MaxSubkeys {
			t.Errorf("accepted %d subkeys", n)
		}
		if got := SchemaBytes(s); !bytes.Equal(got, b) {
			t.Errorf("%x came back as %x", b, got)
		}
	})
}

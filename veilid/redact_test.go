package veilid

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestRedaction prints, marshals and logs everything that holds a secret, in every way that happens by accident.
func TestRedaction(t *testing.T) {
	var secret [KeySize]byte
	for i := range secret {
		secret[i] = byte(0xa1 + 3*i)
	}
	sk, ss, dk := NewSecretKey(VLD0, secret), NewSharedSecret(VLD0, secret), NewDecapsulationKey(VLD0, secret)
	pair := KeyPair{Public: PublicKey{Key32{Kind: VLD0, Value: [KeySize]byte{1, 2, 3}}}, Secret: sk}
	key := NewRecordKey(OpaqueRecordKey{Key32{Kind: VLD0, Value: [KeySize]byte{4, 5, 6}}}, ss)
	desc := RecordDescriptor{Key: key, Owner: pair.Public, OwnerSecret: sk}

	type hidden struct {
		sk   SecretKey
		ss   SharedSecret
		dk   DecapsulationKey
		pair KeyPair
		key  RecordKey
		desc *RecordDescriptor
		list []KeyPair
		m    map[string]RecordKey
		any  any
	}
	type shown struct {
		SK   SecretKey
		Pair *KeyPair
		Key  RecordKey
		Opts SetOptions
	}
	values := map[string]any{
		"secret key": sk, "shared secret": ss, "decapsulation key": dk, "pair": pair, "record key": key, "descriptor": desc,
		"pointer to secret": &sk, "pointer to pair": &pair, "pointer to key": &key,
		"unexported fields": hidden{sk, ss, dk, pair, key, &desc, []KeyPair{pair}, map[string]RecordKey{"k": key}, pair},
		"exported fields":   shown{sk, &pair, key, SetOptions{Writer: pair}},
		"pointer to fields": &shown{sk, &pair, key, SetOptions{Writer: pair}},
		"open options":      OpenOptions{Writer: pair}, "transact options": TransactOptions{Signer: pair},
		"slice": []any{sk, pair, key}, "map": map[string]any{"a": ss, "b": pair},
		"error":         InvalidArgument(ErrNotOpen.Error(), "record_key", key.String()),
		"wrapped error": fmt.Errorf("open %v with %v: %w", key, pair, ErrTryAgain),
	}
	decimal := strings.Trim(fmt.Sprint(secret[:5]), "[]")
	leaks := []string{
		sk.RevealBare()[:8], hex.EncodeToString(secret[:4]), strings.ToUpper(hex.EncodeToString(secret[:4])), decimal,
		strings.ReplaceAll(decimal, " ", ", "), strings.ReplaceAll(decimal, " ", ","), "0xa1, 0xa4", string(secret[:4]),
	}
	check := func(how, out string) {
		t.Helper()
		for _, leak := range leaks {
			if strings.Contains(out, leak) {
				t.Errorf("%s shows the secret: %s", how, out)
				return
			}
		}
	}
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x", "%08b"} {
			check(name+" with "+verb, fmt.Sprintf(verb, v))
		}
		js, err := json.Marshal(v)
		check(name+" as JSON", string(js))
		if err != nil {
			check(name+"'s JSON error", err.Error())
		}
		var b bytes.Buffer
		_ = gob.NewEncoder(&b).Encode(v) // whether it works is not the question
		check(name+" as gob", b.String())
		for _, h := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
			l := slog.New(h)
			l.Info("value", "v", v, slog.Group("g", "v", v))
			l.With("v", v).Info("with")
		}
		check(name+" in a log", b.String())
	}
	// The counter-proof: the leaks would be found.
	for _, out := range []string{sk.Reveal(), pair.Reveal(), key.RevealBare(), fmt.Sprintf("%x", sk.Bytes()), fmt.Sprint(sk.Bytes())} {
		found := false
		for _, leak := range leaks {
			found = found || strings.Contains(out, leak)
		}
		if !found {
			t.Errorf("the test does not see the secret in %q", out)
		}
	}
}

func TestSecretsRefuseMarshalling(t *testing.T) {
	for _, v := range []any{
		NewSecretKey(VLD0, seed()), NewSharedSecret(VLD0, seed()), NewDecapsulationKey(VLD0, seed()), KeyPair{}, RecordKey{},
		RecordDescriptor{}, map[string]any{"k": SecretKey{}},
	} {
		if js, err := json.Marshal(v); !errors.Is(err, errSecretText) {
			t.Errorf("%T: JSON %s, %v, want the refusal", v, js, err)
		}
	}
}

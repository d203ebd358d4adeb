package seal

import (
	"bytes"
	"errors"
	"testing"
)

// Every change of an envelope v2 is found, by OpenFile or by the read that meets it.
func TestTamperV2(t *testing.T) {
	const n = 2*chunkSize + 100
	plain := pattern(n)
	b := sealAll(t, secretOf(1), plain, true)
	chunk := func(i int) []byte { return b[29+i*sealedSize : min(len(b), 29+(i+1)*sealedSize)] }
	other := sealAll(t, secretOf(1), plain, true)
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	flip := func(i int) []byte {
		c := bytes.Clone(b)
		c[i] ^= 0x80
		return c
	}
	var emptyLast [24]byte
	tests := map[string][]byte{
		"file id":                   flip(5),
		"version":                   append([]byte("SAVE\x01"), b[5:]...),
		"first chunk":               flip(29),
		"tag of first chunk":        flip(29 + sealedSize - 1),
		"middle":                    flip(29 + sealedSize + 5),
		"last byte":                 flip(len(b) - 1),
		"cut by a byte":             b[:len(b)-1],
		"cut in the last tag":       b[:len(b)-105],
		"cut to a chunk boundary":   b[:29+2*sealedSize],
		"cut to one chunk":          b[:29+sealedSize],
		"extended by a byte":        append(bytes.Clone(b), 0),
		"extended by its last":      cat(b, chunk(2)),
		"extended by a chunk":       cat(b[:29], chunk(0), chunk(1), chunk(1), chunk(2)),
		"chunks swapped":            cat(b[:29], chunk(1), chunk(0), chunk(2)),
		"chunk repeated":            cat(b[:29], chunk(0), chunk(0), chunk(2)),
		"chunk missing":             cat(b[:29], chunk(0), chunk(2)),
		"chunk of another file":     cat(b[:29], chunk(0), other[29+sealedSize:29+2*sealedSize], chunk(2)),
		"header of another file":    cat(other[:29], b[29:]),
		"empty last chunk":          envelopeV2(t, secretOf(1), emptyLast, plain[:chunkSize], nil),
		"short chunk in the middle": envelopeV2(t, secretOf(1), emptyLast, plain[:100], plain[:200]),
	}
	for name, b := range tests {
		if _, _, err := openAll(secretOf(1), b); !errors.Is(err, ErrTampered) {
			t.Errorf("%s: %v, want ErrTampered", name, err)
		}
	}
	if _, _, err := openAll(secretOf(2), b); !errors.Is(err, ErrTampered) {
		t.Errorf("another secret: %v, want ErrTampered", err)
	}
	// A wrong size, truncated or extended, is found before anything is read.
	for _, d := range []int64{-1, -116, -sealedSize, 1} {
		if _, err := OpenFile(secretOf(1), bytes.NewReader(b), int64(len(b))+d); !errors.Is(err, ErrTampered) {
			t.Errorf("size off by %d: %v, want ErrTampered", d, err)
		}
	}
}

func TestTamperV1(t *testing.T) {
	b := sealAll(t, secretOf(1), []byte("hello"), false)
	for i := 5; i < len(b); i++ {
		c := bytes.Clone(b)
		c[i] ^= 1
		if _, _, err := openAll(secretOf(1), c); !errors.Is(err, ErrTampered) {
			t.Errorf("byte %d: %v, want ErrTampered", i, err)
		}
	}
	if _, _, err := openAll(secretOf(1), b[:len(b)-1]); !errors.Is(err, ErrTampered) {
		t.Errorf("cut: %v, want ErrTampered", err)
	}
}

// A read that fails leaves nothing behind that a later read could take for plaintext.
func TestFailedReadLeavesCacheGood(t *testing.T) {
	plain := pattern(3 * chunkSize)
	b := sealAll(t, secretOf(1), plain, true)
	b[29+sealedSize+7] ^= 1
	f, err := OpenFile(secretOf(1), bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 10)
	for _, off := range []int64{5, chunkSize + 5, 5, chunkSize + 5, 2*chunkSize + 5} {
		bad := off/chunkSize == 1
		n, err := f.ReadAt(p, off)
		if bad && (n != 0 || !errors.Is(err, ErrTampered)) {
			t.Errorf("%d bytes at %d, %v, want ErrTampered", n, off, err)
		}
		if !bad && (err != nil || !bytes.Equal(p, plain[off:off+10])) {
			t.Errorf("at %d: %x, %v, want %x", off, p, err, plain[off:off+10])
		}
	}
}

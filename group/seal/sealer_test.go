package seal

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

var errBroken = errors.New("broken")

// What breaks off must not look like a file that ends, whatever error it breaks off with.
func TestSealerSourceFails(t *testing.T) {
	for _, cause := range []error{errBroken, io.ErrUnexpectedEOF} {
		for _, n := range []int{0, 10, MaxV1, MaxV1 + 1, 2*MaxV1 + 1, 3 * MaxV1} {
			s := NewSealer(secretOf(1), io.MultiReader(bytes.NewReader(pattern(n)), iotest.ErrReader(cause)))
			b, err := io.ReadAll(s)
			if !errors.Is(err, cause) {
				t.Errorf("after %d bytes: %v, want %v", n, err, cause)
			}
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, cause) {
				t.Errorf("after the error: %v", err)
			}
			if _, f, err := openAll(secretOf(1), b); err == nil && !f.Plaintext() {
				t.Errorf("what was sealed of a broken source of %d bytes opens", n)
			}
		}
	}
	if _, err := io.ReadAll(NewSealer(secretOf(1), stuck{})); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a source without progress: %v", err)
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// The buffers do not grow with the file.
func TestSealerMemory(t *testing.T) {
	const n = 16 << 20
	s := NewSealer(secretOf(1), io.LimitReader(zeros{}, n))
	var sealed int64
	buf := make([]byte, 32<<10)
	for {
		m, err := s.Read(buf)
		sealed += int64(m)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if sealed != EnvelopeSize(n) || s.PlainSize() != n {
		t.Errorf("%d bytes sealed of %d, want %d", sealed, s.PlainSize(), EnvelopeSize(n))
	}
	if held := cap(s.in) + cap(s.chunk); held > 3<<20 {
		t.Errorf("holds %d bytes", held)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func BenchmarkSeal(b *testing.B) {
	const n = 64 << 20
	b.SetBytes(n)
	for b.Loop() {
		if _, err := io.Copy(io.Discard, NewSealer(secretOf(1), io.LimitReader(zeros{}, n))); err != nil {
			b.Fatal(err)
		}
	}
}

package seal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"

	"golang.org/x/crypto/chacha20poly1305"
	"lukechampine.com/blake3"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// pattern is n bytes that do not repeat with the chunk size.
func pattern(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// sealAll is the envelope of plain; forced to v2 where always2 is set.
func sealAll(t testing.TB, secret veilid.SharedSecret, plain []byte, always2 bool) []byte {
	t.Helper()
	s := NewSealer(secret, bytes.NewReader(plain))
	if always2 {
		s.v1Limit = -1
	}
	b, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func openAll(secret veilid.SharedSecret, envelope []byte) ([]byte, *File, error) {
	f, err := OpenFile(secret, bytes.NewReader(envelope), int64(len(envelope)))
	if err != nil {
		return nil, nil, err
	}
	b, err := io.ReadAll(f.NewReader())
	return b, f, err
}

// envelopeV2 makes an envelope as the package comment describes it, by other means than the package's.
func envelopeV2(t testing.TB, secret veilid.SharedSecret, id [24]byte, chunks ...[]byte) []byte {
	t.Helper()
	b := append([]byte("SAVE\x02"), id[:]...)
	k := secret.Bytes()
	var key [32]byte
	blake3.DeriveKey(key[:], "save-dweb-go v1 file chunks", append(k[:], b...))
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range chunks {
		nonce := binary.BigEndian.AppendUint64(make([]byte, 3), uint64(i))
		if i == len(chunks)-1 {
			nonce = append(nonce, 1)
		} else {
			nonce = append(nonce, 0)
		}
		b = aead.Seal(b, nonce, c, nil)
	}
	return b
}

var sizes = []int{0, 1, 29, 1000, chunkSize - 1, chunkSize, chunkSize + 1, 3*chunkSize - 1, 3 * chunkSize, 3*chunkSize + 1,
	MaxV1 - 1, MaxV1, MaxV1 + 1, MaxV1 + chunkSize, 2*MaxV1 - 1, 2 * MaxV1, 2*MaxV1 + 1, 2*MaxV1 + chunkSize, 5<<20 + 77}

func TestSealAndOpen(t *testing.T) {
	for _, n := range sizes {
		for _, always2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d,%v", n, always2), func(t *testing.T) {
				plain := pattern(n)
				// A source that yields odd pieces, its last one with io.EOF.
				s := NewSealer(secretOf(1), iotest.DataErrReader(&pieces{b: plain}))
				want := V1
				if always2 {
					s.v1Limit = -1
				}
				if always2 || n > MaxV1 {
					want = V2
				}
				envelope, err := io.ReadAll(s)
				if err != nil {
					t.Fatal(err)
				}
				if !always2 && EnvelopeSize(int64(n)) != int64(len(envelope)) {
					t.Errorf("envelope of %d bytes, EnvelopeSize says %d", len(envelope), EnvelopeSize(int64(n)))
				}
				if s.Envelope() != want || s.PlainSize() != int64(n) {
					t.Errorf("sealed %d bytes in %v, want %d in %v", s.PlainSize(), s.Envelope(), n, want)
				}
				h, err := NewContentHash(secretOf(1))
				if err != nil {
					t.Fatal(err)
				}
				h.Write(plain)
				if got := s.ContentHash(); !bytes.Equal(got[:], h.Sum(nil)) || got == blake3.Sum256(plain) {
					t.Errorf("content hash %x, want %x", got, h.Sum(nil))
				}
				got, f, err := openAll(secretOf(1), envelope)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, plain) || f.Size() != int64(n) || f.Envelope() != want || f.Plaintext() {
					t.Errorf("opened %d bytes (size %d) of %v", len(got), f.Size(), f.Envelope())
				}
				if want == V2 && !bytes.Equal(envelope, reference(t, secretOf(1), envelope, plain)) {
					t.Error("envelope differs from its description")
				}
			})
		}
	}
}

// reference is the envelope that plain must have under the file id of the given one.
func reference(t *testing.T, secret veilid.SharedSecret, envelope, plain []byte) []byte {
	var chunks [][]byte
	for c := range slicesChunk(plain) {
		chunks = append(chunks, c)
	}
	return envelopeV2(t, secret, [24]byte(envelope[5:29]), chunks...)
}

func slicesChunk(b []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for {
			n := min(len(b), chunkSize)
			if !yield(b[:n]) || n == len(b) {
				return
			}
			b = b[n:]
		}
	}
}

// pieces yields b in pieces of growing size, and sometimes nothing.
type pieces struct {
	b []byte
	n int
}

func (r *pieces) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	r.n = (r.n + 4099) % 70001
	n := copy(p, r.b[:min(r.n%50000, len(r.b))])
	r.b = r.b[n:]
	return n, nil
}

// The format is for ever: an envelope written down once.
func TestGoldenV2(t *testing.T) {
	var id [24]byte
	for i := range id {
		id[i] = byte(i)
	}
	const want = "5341564502000102030405060708090a0b0c0d0e0f1011121314151617d4666c0cfd2127509731e9d6007cdbc76c0fcb6e97"
	got := envelopeV2(t, secretOf(0x42), id, []byte("hello"))
	if hex.EncodeToString(got) != want {
		t.Errorf("envelope = %x", got)
	}
	plain, f, err := openAll(secretOf(0x42), unhex(t, want))
	if err != nil || string(plain) != "hello" || f.Envelope() != V2 {
		t.Errorf("opened %q, %v", plain, err)
	}
}

func TestGoldenContentHash(t *testing.T) {
	s := NewSealer(secretOf(0x42), bytes.NewReader([]byte("hello")))
	if _, err := io.Copy(io.Discard, s); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%x", s.ContentHash()), "a128f2e2f98cf7f77a4940a3ba4c485329c9d3766734daad1daf687e7445da18"; got != want {
		t.Errorf("content hash = %s, want %s", got, want)
	}
}

func TestRustFile(t *testing.T) {
	r, secret := loadRust(t)
	plain, f, err := openAll(secret, unhex(t, r.FileSealed))
	if err != nil {
		t.Fatal(err)
	}
	if h := blake3.Sum256(plain); hex.EncodeToString(h[:]) != r.FileBlake3 || f.Envelope() != V1 || f.Plaintext() {
		t.Errorf("opened %d bytes, BLAKE3 %x, want %s", len(plain), h, r.FileBlake3)
	}
}

func TestSealedTwiceDiffers(t *testing.T) {
	for _, always2 := range []bool{false, true} {
		a, b := sealAll(t, secretOf(1), []byte("same"), always2), sealAll(t, secretOf(1), []byte("same"), always2)
		if bytes.Equal(a[5:29], b[5:29]) || bytes.Equal(a[29:], b[29:]) {
			t.Errorf("v2 %v: %x and %x", always2, a, b)
		}
	}
}

// The cases that the Rust app's tests name, and their neighbours.
func TestOpenFileKinds(t *testing.T) {
	head := func(v byte) []byte { return append([]byte{'S', 'A', 'V', 'E', v}, make([]byte, 24)...) }
	tests := []struct {
		name  string
		in    []byte
		plain bool
		err   error
	}{
		{"nothing", nil, true, nil},
		{"legacy plaintext", []byte("a plain photo, much longer than any header would ever be"), true, nil},
		{"short, begins like an envelope", []byte("SAVE\x01short"), true, nil},
		{"header alone", head(1), true, nil},
		{"header of v2 alone", head(2), true, nil},
		{"header of v9 alone", head(9), true, nil},
		{"v1 and garbage", append(head(1), make([]byte, 40)...), false, ErrTampered},
		{"v1 and one byte", append(head(1), 0), false, ErrTampered},
		{"v2 and garbage", append(head(2), make([]byte, 40)...), false, ErrTampered},
		{"v2 and one byte", append(head(2), 0), false, ErrTampered},
		{"v0 and data", append(head(0), 0), false, ErrVersion},
		{"v3 and data", append(head(3), 0), false, ErrVersion},
		{"v255 and data", append(head(255), make([]byte, 100)...), false, ErrVersion},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, f, err := openAll(secretOf(1), tt.in)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error = %v, want %v", err, tt.err)
			}
			if tt.plain && (!f.Plaintext() || !bytes.Equal(got, tt.in) || f.Size() != int64(len(tt.in))) {
				t.Errorf("opened %q, plaintext %v", got, f.Plaintext())
			}
		})
	}
}

func TestMaxWhole(t *testing.T) {
	b := sealAll(t, secretOf(1), pattern(1000), false)
	open := func(limit int64) error {
		_, err := OpenFile(secretOf(1), bytes.NewReader(b), int64(len(b)), MaxWhole(limit))
		return err
	}
	if err := open(1045); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if err := open(1044); !errors.Is(err, ErrTooLarge) {
		t.Errorf("above the limit: %v, want ErrTooLarge", err)
	}
	// The limit holds before memory is taken: the claim is a file of 1 EiB.
	if _, err := OpenFile(secretOf(1), bytes.NewReader(b), 1<<60); !errors.Is(err, ErrTooLarge) {
		t.Errorf("1 EiB: %v, want ErrTooLarge", err)
	}
}

// counter tells which bytes were read.
type counter struct {
	io.ReaderAt
	mu   sync.Mutex
	read int
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read += len(p)
	return c.ReaderAt.ReadAt(p, off)
}

func TestRandomAccess(t *testing.T) {
	const n = 3<<20 + 12345
	plain := pattern(n)
	for _, want := range []Envelope{Plain, V1, V2} {
		t.Run(want.String(), func(t *testing.T) {
			var b []byte
			switch want {
			case Plain:
				b = plain
			case V1:
				sealed, err := Encrypt(secretOf(1), plain)
				if err != nil {
					t.Fatal(err)
				}
				b = append([]byte("SAVE\x01"), sealed...)
			case V2:
				b = sealAll(t, secretOf(1), plain, false)
			}
			c := &counter{ReaderAt: bytes.NewReader(b)}
			f, err := OpenFile(secretOf(1), c, int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			if f.Envelope() != want || f.Size() != n {
				t.Fatalf("%v of %d bytes", f.Envelope(), f.Size())
			}
			if want == V2 && c.read > headerSize+sealedSize {
				t.Errorf("opening reads %d bytes", c.read)
			}
			var wg sync.WaitGroup
			for g := range uint64(4) {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(g, 0))
					for range 100 {
						off, size := rnd.Int64N(n+10), rnd.IntN(200_000)>>rnd.IntN(16)
						p := make([]byte, size)
						got, err := f.ReadAt(p, off)
						exp := plain[min(off, n):min(off+int64(size), n)]
						if !bytes.Equal(p[:got], exp) {
							t.Errorf("%d bytes at %d: wrong, %d read", size, off, got)
						}
						if (err == io.EOF) != (got < size || off >= n) && err != nil {
							t.Errorf("%d bytes at %d: %d, %v", size, off, got, err)
						}
						if got < size && err != io.EOF {
							t.Errorf("%d of %d bytes at %d without io.EOF: %v", got, size, off, err)
						}
					}
				})
			}
			wg.Wait()
			c.read = 0
			if _, err := f.ReadAt(make([]byte, 10), chunkSize*20+5); err != nil {
				t.Fatal(err)
			}
			if want == V2 && c.read > sealedSize {
				t.Errorf("ten bytes cost %d", c.read)
			}
			if _, err := f.ReadAt(make([]byte, 1), -1); err == nil || err == io.EOF {
				t.Errorf("negative offset: %v", err)
			}
			r := f.NewReader()
			if _, err := r.Seek(-100, io.SeekEnd); err != nil {
				t.Fatal(err)
			}
			if tail, err := io.ReadAll(r); err != nil || !bytes.Equal(tail, plain[n-100:]) {
				t.Errorf("tail: %d bytes, %v", len(tail), err)
			}
			if err := iotest.TestReader(io.NewSectionReader(f, 70_000, 3000), plain[70_000:73_000]); err != nil {
				t.Error(err)
			}
		})
	}
}

// Small sequential reads, as io.Copy makes them, open each chunk once.
func TestSequentialReadsOnce(t *testing.T) {
	plain := pattern(10 * chunkSize)
	b := sealAll(t, secretOf(1), plain, true)
	c := &counter{ReaderAt: bytes.NewReader(b)}
	f, err := OpenFile(secretOf(1), c, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	c.read = 0
	got := bytes.NewBuffer(nil)
	if _, err := io.CopyBuffer(struct{ io.Writer }{got}, struct{ io.Reader }{f.NewReader()}, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), plain) {
		t.Error("wrong plaintext")
	}
	if c.read > len(b) {
		t.Errorf("%d bytes read of an envelope of %d", c.read, len(b))
	}
}

func TestReadErrorsOfFile(t *testing.T) {
	b := sealAll(t, secretOf(1), pattern(3*chunkSize), true)
	bad := &failing{ReaderAt: bytes.NewReader(b)}
	f, err := OpenFile(secretOf(1), bad, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	bad.err = errBroken
	if _, err := f.ReadAt(make([]byte, 10), 0); !errors.Is(err, errBroken) || errors.Is(err, ErrTampered) {
		t.Errorf("read: %v, want errBroken", err)
	}
	// An error is not kept: the missing part may arrive later.
	bad.err = nil
	if _, err := f.ReadAt(make([]byte, 10), 0); err != nil {
		t.Errorf("read again: %v", err)
	}
	bad.err = errBroken
	if _, err := OpenFile(secretOf(1), bad, int64(len(b))); !errors.Is(err, errBroken) {
		t.Errorf("open: %v, want errBroken", err)
	}
}

type failing struct {
	io.ReaderAt
	err error
}

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

func FuzzOpenFile(f *testing.F) {
	r, _ := loadRust(f)
	f.Add(unhex(f, r.FileSealed))
	f.Add([]byte("SAVE\x01short"))
	f.Add(append([]byte("SAVE\x03"), make([]byte, 50)...))
	f.Add(sealAll(f, secretOf(1), []byte("hello"), false))
	f.Add(sealAll(f, secretOf(1), []byte("hello"), true))
	f.Add(sealAll(f, secretOf(1), pattern(chunkSize+5), true))
	own := map[string]bool{"hello": true, string(pattern(chunkSize + 5)): true}
	f.Fuzz(func(t *testing.T, b []byte) {
		plain, file, err := openAll(secretOf(1), b)
		switch {
		case err != nil:
			return
		case int64(len(plain)) != file.Size():
			t.Fatalf("%d bytes of %d", len(plain), file.Size())
		case file.Plaintext() && !bytes.Equal(plain, b):
			t.Fatal("plaintext was changed")
		case !file.Plaintext() && !own[string(plain)]:
			t.Fatalf("forged file of %d bytes", len(plain))
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	const n = 64 << 20
	sealed := sealAll(b, secretOf(1), make([]byte, n), false)
	f, err := OpenFile(secretOf(1), bytes.NewReader(sealed), int64(len(sealed)))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(n)
	for b.Loop() {
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, f.NewReader(), make([]byte, 128<<10)); err != nil {
			b.Fatal(err)
		}
	}
}

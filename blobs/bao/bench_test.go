package bao

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"lukechampine.com/blake3"
	"lukechampine.com/blake3/guts"
)

const benchSize = 64 << 20

func benchData() []byte {
	return bytes.Repeat(sample()[:1<<20], benchSize>>20)
}

func BenchmarkGutsOneCore(b *testing.B) {
	data := benchData()
	b.SetBytes(benchSize)
	for b.Loop() {
		for i := 0; i < len(data); i += GroupSize {
			guts.ChainingValue(guts.CompressBuffer((*[GroupSize]byte)(data[i:]), GroupSize, &guts.IV, uint64(i/ChunkSize), 0))
		}
	}
}

func BenchmarkSum256(b *testing.B) {
	data := benchData()
	b.SetBytes(benchSize)
	for b.Loop() {
		blake3.Sum256(data)
	}
}

func BenchmarkRoot(b *testing.B) {
	data := benchData()
	b.SetBytes(benchSize)
	for b.Loop() {
		Root(data)
	}
}

func BenchmarkHasherCopy(b *testing.B) {
	data := benchData()
	b.SetBytes(benchSize)
	for b.Loop() {
		h := NewHasher(&Spill{Limit: 1 << 20})
		if _, err := h.Copy(context.Background(), nil, bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
		if _, _, err := h.Finish(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAddFile compares hashing while writing with hashing and then writing.
func BenchmarkAddFile(b *testing.B) {
	data := benchData()
	dir := b.TempDir()
	write := func(b *testing.B, save func(f *os.File) error) {
		f, err := os.Create(filepath.Join(dir, "file"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		if err := save(f); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("together", func(b *testing.B) {
		b.SetBytes(benchSize)
		for b.Loop() {
			write(b, func(f *os.File) error {
				h := NewHasher(&Spill{Limit: 1 << 20})
				if _, err := h.Copy(context.Background(), f, bytes.NewReader(data)); err != nil {
					return err
				}
				_, _, err := h.Finish()
				return err
			})
		}
	})
	b.Run("hash", func(b *testing.B) {
		b.SetBytes(benchSize)
		for b.Loop() {
			Root(data)
		}
	})
	b.Run("write", func(b *testing.B) {
		b.SetBytes(benchSize)
		for b.Loop() {
			write(b, func(f *os.File) error { _, err := f.Write(data); return err })
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	data := benchData()
	root, outboard := NewOutboard(data)
	for name, trust := range map[string]bool{"trust": true, "verify": false} {
		b.Run(name, func(b *testing.B) {
			src := Source{root, benchSize, bytes.NewReader(data), bytes.NewReader(outboard), trust}
			b.SetBytes(benchSize)
			for b.Loop() {
				if err := Encode(io.Discard, src, All()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAnswer is what a provider and a receiver do for one call of 29 chunks.
func BenchmarkAnswer(b *testing.B) {
	data := benchData()
	root, outboard := NewOutboard(data)
	ranges, end := FitRanges(benchSize, 29, 32<<10, false)
	src := Source{Root: root, Size: benchSize, Data: bytes.NewReader(data), Outboard: bytes.NewReader(outboard)}
	var out bytes.Buffer
	if err := Encode(&out, src, ranges); err != nil {
		b.Fatal(err)
	}
	payload := int64(end-29) * ChunkSize
	b.Run("encode", func(b *testing.B) {
		b.SetBytes(payload)
		for b.Loop() {
			var out bytes.Buffer
			out.Grow(32 << 10)
			if err := Encode(&out, src, ranges); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(payload)
		for b.Loop() {
			if _, _, err := Decode(root, out.Bytes(), ranges, Visitor{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("fit", func(b *testing.B) {
		for b.Loop() {
			FitRanges(benchSize, 29, 32<<10, false)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	data := benchData()
	root, outboard := NewOutboard(data)
	var response bytes.Buffer
	src := Source{Root: root, Size: benchSize, Data: bytes.NewReader(data), Outboard: bytes.NewReader(outboard)}
	if err := Encode(&response, src, All()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(benchSize)
	for b.Loop() {
		if _, _, err := Decode(root, response.Bytes(), All(), Visitor{}); err != nil {
			b.Fatal(err)
		}
	}
}

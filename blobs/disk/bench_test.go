package disk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"lukechampine.com/blake3"

	"github.com/OpenArchive/save-dweb-go/blobs/storetest"
)

const benchSize = 64 << 20

// changing reads data whose first bytes differ each time, so that no blob is there already.
func changing(data []byte, i int) io.Reader {
	var head [8]byte
	binary.LittleEndian.PutUint64(head[:], uint64(i)+1)
	return io.MultiReader(bytes.NewReader(head[:]), bytes.NewReader(data[8:]))
}

func BenchmarkAdd(b *testing.B) {
	s := openStore(b, b.TempDir())
	data := storetest.Data(benchSize, 90)
	b.SetBytes(benchSize)
	for i := 0; b.Loop(); i++ {
		tag, _, err := s.Add(b.Context(), changing(data, i))
		if err != nil {
			b.Fatal(err)
		}
		tag.Release()
		b.StopTimer()
		if err := s.Delete(b.Context(), tag.Hash); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// What Add is compared with: hash the buffer, write a file and sync it, one after the other.
func BenchmarkHashAndWrite(b *testing.B) {
	data := storetest.Data(benchSize, 90)
	path := filepath.Join(b.TempDir(), "file")
	b.SetBytes(benchSize)
	for b.Loop() {
		blake3.Sum256(data)
		f, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.Write(data); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		f.Close()
		b.StopTimer()
		os.Remove(path)
		b.StartTimer()
	}
}

func BenchmarkAddAgain(b *testing.B) {
	s := openStore(b, b.TempDir())
	data := storetest.Data(benchSize, 91)
	storetest.Add(b, s, data)
	b.SetBytes(benchSize)
	for b.Loop() {
		storetest.Add(b, s, data)
	}
}

func BenchmarkAddSmall(b *testing.B) {
	for _, workers := range []int{1, 32} {
		b.Run(fmt.Sprint("workers=", workers), func(b *testing.B) {
			s := openStore(b, b.TempDir())
			data := storetest.Data(4000, 92)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range workers {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						tag, _, err := s.Add(b.Context(), changing(data, int(i)))
						if err != nil {
							b.Error(err)
							return
						}
						tag.Release()
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "adds/s")
		})
	}
}

func BenchmarkPartialWrite(b *testing.B) {
	s := openStore(b, b.TempDir())
	f := storetest.NewFeed(storetest.Data(benchSize, 93))
	b.SetBytes(benchSize)
	for b.Loop() {
		p, err := f.Start(b.Context(), s)
		if err != nil {
			b.Fatal(err)
		}
		for i := range f.Groups() {
			if err := f.Write(p, i); err != nil {
				b.Fatal(err)
			}
		}
		if done, err := p.Complete(b.Context()); !done || err != nil {
			b.Fatal(err)
		}
		p.Close()
		b.StopTimer()
		if err := s.Delete(b.Context(), f.Hash); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkRead(b *testing.B) {
	s := openStore(b, b.TempDir())
	h := storetest.Add(b, s, storetest.Data(benchSize, 94))
	for _, hot := range []bool{false, true} {
		b.Run(fmt.Sprint("hot=", hot), func(b *testing.B) {
			b.SetBytes(benchSize)
			buf := make([]byte, 128<<10)
			blob, err := s.Open(b.Context(), h)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if !hot {
					blob.Close()
					if blob, err = s.Open(b.Context(), h); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.NewSectionReader(blob, 0, benchSize), buf); err != nil {
					b.Fatal(err)
				}
			}
			blob.Close()
		})
	}
}

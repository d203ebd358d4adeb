package main

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"lukechampine.com/blake3"

	"github.com/OpenArchive/save-dweb-go/blobs/disk"
)

// storeAdd compares adding 1 GiB with hashing the same buffer and writing it, each done apart.
func storeAdd(ctx context.Context, print func(figure)) (err error) {
	const size = 1 << 30
	dir, err := os.MkdirTemp("", "dweb-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(data)

	const rounds = 3
	best, bestApart := time.Duration(1<<62), time.Duration(1<<62)
	for range rounds { // alternating, so that what else the machine does meets both
		began := time.Now()
		blake3.Sum256(data)
		if err := writeFile(filepath.Join(dir, "apart"), data); err != nil {
			return err
		}
		bestApart = min(bestApart, time.Since(began))
		if err := os.Remove(filepath.Join(dir, "apart")); err != nil {
			return err
		}
		took, err := addOnce(ctx, filepath.Join(dir, "store"), data)
		if err != nil {
			return err
		}
		best = min(best, took)
	}
	mbs := func(d time.Duration) float64 { return size / 1e6 / d.Seconds() }
	print(figure{Name: "store.add", Value: mbs(best), Unit: "MB/s", Reference: mbs(bestApart), Note: "reference: BLAKE3 of the buffer, then writing it; best of 3"})
	return nil
}

func addOnce(ctx context.Context, dir string, data []byte) (took time.Duration, err error) {
	s, err := disk.Open(ctx, dir, disk.Options{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close(), os.RemoveAll(dir)) }()
	began := time.Now()
	tag, _, err := s.Add(ctx, bytes.NewReader(data))
	tag.Release()
	return time.Since(began), err
}

func writeFile(path string, data []byte) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

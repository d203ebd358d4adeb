// Command demo does the main job on this machine, closed off from every other: it starts a network of ten real Veilid
// nodes, lets device A make a group and put files into it, lets device B join by the link and get them, and compares.
//
//	demo [FILE...]
//
// Without files it makes a photo on the spot and a film of 300 MiB.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/OpenArchive/save-dweb-go/interop/e2e"
	"github.com/OpenArchive/save-dweb-go/interop/lab"
)

const filmSize = 300 << 20

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, files []string) (err error) {
	dir, err := os.MkdirTemp("", "dweb-demo")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if len(files) == 0 {
		if files, err = samples(dir); err != nil {
			return err
		}
	}
	say("Building dweb.")
	bin, err := e2e.Build(ctx, dir)
	if err != nil {
		return err
	}
	say("Starting a closed network of ten Veilid nodes (the first time this may build the node, which takes minutes).")
	began := time.Now()
	l, err := lab.StartMain(ctx, 10, os.Stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	say("The network is ready after %.1f s. Nothing can leave it.", time.Since(began).Seconds())

	a, err := up(ctx, bin, dir, "A", l.Socket(2))
	if err != nil {
		return err
	}
	defer down(a)
	b, err := up(ctx, bin, dir, "B", l.Socket(3))
	if err != nil {
		return err
	}
	defer down(b)
	return share(ctx, a, b, dir, files)
}

func up(ctx context.Context, bin, dir, name, sock string) (*e2e.Device, error) {
	d, err := e2e.NewDevice(bin, dir, name, sock, "--max-rate", "0") // nobody else's machine is on the way
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return d, d.Up(ctx)
}

func down(d *e2e.Device) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := d.Down(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
	}
}

// share is the main job: A puts, B joins and gets.
func share(ctx context.Context, a, b *e2e.Device, dir string, files []string) error {
	if _, err := a.Run(ctx, "group", "create", "Demo"); err != nil {
		return err
	}
	link, err := a.Run(ctx, "invite", "Demo")
	if err != nil {
		return err
	}
	link = strings.TrimSpace(link)
	say("Device A made the group \"Demo\". Its link: %s", link)
	say("(This link is for this demonstration alone. Who has a group's link is a member.)")
	for _, f := range files {
		began := time.Now()
		if _, err := a.Run(ctx, "put", "Demo", f); err != nil {
			return err
		}
		info, err := os.Stat(f)
		if err != nil {
			return err
		}
		say("Device A put %s, %s, sealed and stored at %s.", filepath.Base(f), size(info.Size()), rate(info.Size(), time.Since(began)))
	}
	began := time.Now()
	if _, err := b.Run(ctx, "join", link); err != nil {
		return err
	}
	say("Device B joined by the link in %.1f s.", time.Since(began).Seconds())
	for _, f := range files {
		if err := receive(ctx, b, dir, f); err != nil {
			return err
		}
	}
	say("All files arrived, verified chunk by chunk on the way and equal at the end.")
	return nil
}

// receive lets b get a file, and compares it with the one that was put.
func receive(ctx context.Context, b *e2e.Device, dir, path string) error {
	name := filepath.Base(path)
	lctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := b.Listed(lctx, "Demo", name); err != nil {
		return err
	}
	out := filepath.Join(dir, "received-"+name)
	began := time.Now()
	if _, err := b.Run(ctx, "get", "Demo", name, "-o", out); err != nil {
		return err
	}
	took := time.Since(began)
	want, n, err := sum(path)
	if err != nil {
		return err
	}
	got, _, err := sum(out)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s arrived with SHA-256 %s, sent was %s", name, got, want)
	}
	say("Device B got %s, %s in %.1f s, %s. SHA-256 %s on both sides.", name, size(n), took.Seconds(), rate(n, took), want[:16]+"…")
	return os.Remove(out)
}

func sum(path string) (string, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), n, err
}

// samples makes a photo and a film.
func samples(dir string) ([]string, error) {
	photo, film := filepath.Join(dir, "photo.jpg"), filepath.Join(dir, "film.mp4")
	img := image.NewRGBA(image.Rect(0, 0, 1600, 1200))
	for y := range 1200 {
		for x := range 1600 {
			img.SetRGBA(x, y, color.RGBA{uint8(x * y >> 9), uint8(x>>3 ^ y>>2), uint8((x + y) >> 4), 255})
		}
	}
	if err := write(photo, func(w io.Writer) error { return jpeg.Encode(w, img, &jpeg.Options{Quality: 92}) }); err != nil {
		return nil, err
	}
	err := write(film, func(w io.Writer) error {
		_, err := io.CopyN(w, rand.NewChaCha8([32]byte{1}), filmSize)
		return err
	})
	return []string{photo, film}, err
}

func write(path string, fill func(io.Writer) error) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := fill(w); err != nil {
		return err
	}
	return w.Flush()
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func size(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}

func rate(n int64, d time.Duration) string {
	return fmt.Sprintf("%.1f MB/s", float64(n)/1e6/max(d.Seconds(), 1e-3))
}

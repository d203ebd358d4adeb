package e2e

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/OpenArchive/save-dweb-go/interop/lab"
)

// stage is a lab with the binary and devices on its nodes.
type stage struct {
	t   *testing.T
	ctx context.Context
	lab *lab.Lab
	dir string
	bin string
}

func newStage(t *testing.T) *stage {
	l := lab.Start(t, 10)
	s := &stage{t: t, lab: l, dir: t.TempDir()}
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	var err error
	s.bin, err = Build(s.ctx, s.dir)
	s.check(err)
	return s
}

func (s *stage) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// device starts a device on node k.
func (s *stage) device(name string, k int, args ...string) *Device {
	s.t.Helper()
	d, err := NewDevice(s.bin, filepath.Join(s.dir, "devices"), name, s.lab.Socket(k), append(args, "--max-rate", "0", "--log-level", "debug")...)
	s.check(err)
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := d.Down(ctx); err != nil {
			s.t.Errorf("down: %v", err)
		}
		if s.t.Failed() {
			s.t.Logf("log of %s:\n%s", name, d.LogTail())
		}
	})
	s.check(d.Up(s.ctx))
	return d
}

func (s *stage) run(d *Device, args ...string) string {
	s.t.Helper()
	out, err := d.Run(s.ctx, args...)
	s.check(err)
	return strings.TrimSpace(out)
}

// group makes a group on the first device and lets the others join.
func (s *stage) group(ds ...*Device) {
	s.t.Helper()
	s.run(ds[0], "group", "create", "Trip")
	link := s.run(ds[0], "invite", "Trip")
	var g errgroup.Group
	for _, d := range ds[1:] {
		g.Go(func() error {
			_, err := d.Run(s.ctx, "join", link)
			return err
		})
	}
	s.check(g.Wait())
}

// file makes a file of random bytes.
func (s *stage) file(name string, size int64) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	f, err := os.Create(path)
	s.check(err)
	_, err = io.CopyN(f, rand.NewChaCha8(sha256.Sum256([]byte(name))), size) // no two files are the same
	s.check(errors.Join(err, f.Close()))
	return path
}

func (s *stage) same(a, b string) {
	s.t.Helper()
	sa, err := checksum(a)
	s.check(err)
	sb, err := checksum(b)
	s.check(err)
	if sa != sb {
		s.t.Fatalf("%s and %s differ", a, b)
	}
}

func checksum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return fmt.Sprintf("%d %x", n, h.Sum(nil)), err
}

// listed waits until a device lists a file.
func (s *stage) listed(d *Device, name string) {
	s.t.Helper()
	s.check(d.Listed(s.ctx, "Trip", name))
}

// get brings a file and compares it.
func (s *stage) get(d *Device, name, want string) {
	s.t.Helper()
	s.listed(d, name)
	out := filepath.Join(s.dir, d.Name+"-"+name)
	s.run(d, "get", "Trip", name, "-o", out)
	s.same(want, out)
	s.check(os.Remove(out))
}

// TestLabTwoDevices: files of all sizes, both ways, over real nodes, by the binary alone.
func TestLabTwoDevices(t *testing.T) {
	s := newStage(t)
	a, b := s.device("a", 2), s.device("b", 3)
	s.group(a, b)
	for _, size := range []int64{0, 1, 1000, 320 << 10, 1 << 20, 1<<20 + 1, 50 << 20} {
		there, back := fmt.Sprintf("there-%d.bin", size), fmt.Sprintf("back-%d.bin", size)
		s.run(a, "put", "Trip", s.file(there, size))
		s.run(b, "put", "Trip", s.file(back, size))
		s.get(b, there, filepath.Join(s.dir, there))
		s.get(a, back, filepath.Join(s.dir, back))
	}
	if out := s.run(a, "ping", "Trip"); !strings.Contains(out, "ms") {
		t.Errorf("ping prints %q", out)
	}
	s.run(a, "rm", "Trip", "there-1.bin")
	s.run(b, "group", "rename", "Trip", "Trip")
	s.run(a, "verify")
}

// TestLabTwoWays: the same pair downloads from each other at the same time.
func TestLabTwoWays(t *testing.T) {
	s := newStage(t)
	a, b := s.device("a", 2), s.device("b", 3)
	s.group(a, b)
	fa, fb := s.file("a.bin", 16<<20), s.file("b.bin", 16<<20+7)
	s.run(a, "put", "Trip", fa)
	s.run(b, "put", "Trip", fb)
	s.listed(a, "b.bin")
	s.listed(b, "a.bin")
	var g errgroup.Group
	g.Go(func() error { _, err := b.Run(s.ctx, "get", "Trip", "a.bin", "-o", fa+".got"); return err })
	g.Go(func() error { _, err := a.Run(s.ctx, "get", "Trip", "b.bin", "-o", fb+".got"); return err })
	s.check(g.Wait())
	s.same(fa, fa+".got")
	s.same(fb, fb+".got")
}

// TestLabRestarts: each device, and each device's node, is restarted in the middle of a transfer.
func TestLabRestarts(t *testing.T) {
	s := newStage(t)
	a, b := s.device("a", 2), s.device("b", 3)
	s.group(a, b)
	const size = 40 << 20
	interrupt := map[string]func(){
		"receiver is killed": func() { b.Kill(); s.check(b.Up(s.ctx)) },
		"receiver restarts":  func() { s.check(b.Down(s.ctx)); s.check(b.Up(s.ctx)) },
		"provider is killed": func() { a.Kill(); s.check(a.Up(s.ctx)) },
		"receiver's node":    func() { s.check(s.lab.Restart(3)); s.check(s.lab.Ready(s.ctx, 3)) },
		"provider's node":    func() { s.check(s.lab.Restart(2)); s.check(s.lab.Ready(s.ctx, 2)) },
	}
	for what, f := range interrupt {
		t.Run(what, func(t *testing.T) {
			s.t = t
			name := strings.NewReplacer(" ", "-", "'", "").Replace(what) + ".bin"
			path := s.file(name, size)
			s.run(a, "put", "Trip", path)
			s.listed(b, name)
			out := path + ".got"
			first := make(chan error, 1)
			go func() {
				_, err := b.Run(s.ctx, "get", "Trip", name, "-o", out)
				first <- err
			}()
			s.check(b.Until(s.ctx, name, 4<<20))
			f()
			if err := <-first; err != nil { // the receiver went away under it: once more
				t.Logf("the first get ended with: %v", err)
				s.run(b, "get", "Trip", name, "-o", out)
			}
			s.same(path, out)
		})
	}
}

// TestLabProviders: three devices; one of two providers is killed in the middle, the other one serves the rest.
func TestLabProviders(t *testing.T) {
	s := newStage(t)
	a, b, c := s.device("a", 2), s.device("b", 3), s.device("c", 4)
	s.group(a, b, c)
	path := s.file("film.bin", 48<<20)
	s.run(a, "put", "Trip", path)
	s.get(b, "film.bin", path)
	s.listed(c, "film.bin")
	first := make(chan error, 1)
	go func() {
		_, err := c.Run(s.ctx, "get", "Trip", "film.bin", "-o", path+".got")
		first <- err
	}()
	s.check(c.Until(s.ctx, "film.bin", 8<<20))
	a.Kill()
	s.check(<-first)
	s.same(path, path+".got")
}

// TestLabFive: five devices, each with files for all others.
func TestLabFive(t *testing.T) {
	s := newStage(t)
	var ds []*Device
	for i := range 5 {
		ds = append(ds, s.device(fmt.Sprintf("d%d", i), 2+i))
	}
	s.group(ds...)
	for _, d := range ds {
		s.run(d, "put", "Trip", s.file(d.Name+".jpg", 300_000), s.file(d.Name+".txt", 500))
	}
	var g errgroup.Group
	for _, d := range ds {
		for _, from := range ds {
			s.listed(d, from.Name+".txt")
		}
		g.Go(func() error { _, err := d.Run(s.ctx, "sync", "Trip"); return err })
	}
	s.check(g.Wait())
	for _, d := range ds {
		for _, from := range ds {
			for _, ext := range []string{".jpg", ".txt"} {
				s.get(d, from.Name+ext, filepath.Join(s.dir, from.Name+ext))
			}
		}
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/OpenArchive/save-dweb-go/interop/e2e"
	"github.com/OpenArchive/save-dweb-go/interop/lab"
)

// stage is a lab with daemons on its nodes: the binary as users start it.
type stage struct {
	lab     *lab.Lab
	dir     string
	bin     string
	devices []*e2e.Device // devices[i] is on node 2+i
}

// onStage starts a lab of n nodes with daemons on some of them, all members of one group.
func onStage(ctx context.Context, n, devices int, f func(s *stage) error) (err error) {
	s := &stage{}
	if s.dir, err = os.MkdirTemp("", "dweb-bench"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if s.bin, err = e2e.Build(ctx, s.dir); err != nil {
		return err
	}
	if s.lab, err = lab.StartMain(ctx, n, os.Stderr); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.lab.Close()) }()
	defer func() {
		for _, d := range s.devices {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			err = errors.Join(err, d.Down(ctx))
			cancel()
		}
	}()
	for i := range devices {
		d, err := e2e.NewDevice(s.bin, s.dir, fmt.Sprint("d", i), s.lab.Socket(2+i), "--max-rate", "0")
		if err != nil {
			return err
		}
		uctx, cancel := context.WithTimeout(ctx, time.Minute)
		err = d.Up(uctx)
		cancel()
		if err != nil {
			return err
		}
		s.devices = append(s.devices, d)
	}
	if _, err := s.devices[0].Run(ctx, "group", "create", "Bench"); err != nil {
		return err
	}
	link, err := s.devices[0].Run(ctx, "invite", "Bench")
	if err != nil {
		return err
	}
	for _, d := range s.devices[1:] {
		if _, err := d.Run(ctx, "join", strings.TrimSpace(link)); err != nil {
			return err
		}
	}
	return f(s)
}

// put lets device i put a file of random bytes.
func (s *stage) put(ctx context.Context, i int, name string, size int64) error {
	path := filepath.Join(s.dir, name)
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32.32s", name)))), size)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if _, err := s.devices[i].Run(ctx, "put", "Bench", path); err != nil {
		return err
	}
	return os.Remove(path)
}

// fetch lets device i bring a file, and returns how long the job took.
func (s *stage) fetch(ctx context.Context, i int, name string) (time.Duration, error) {
	d := s.devices[i]
	if err := s.listed(ctx, i, name); err != nil {
		return 0, err
	}
	out := filepath.Join(s.dir, "got-"+name)
	if _, err := d.Run(ctx, "get", "Bench", name, "-o", out); err != nil {
		return 0, err
	}
	if err := os.Remove(out); err != nil {
		return 0, err
	}
	var jobs []struct {
		File, State    string
		Started, Ended time.Time
	}
	if err := d.JSON(ctx, &jobs, "jobs"); err != nil {
		return 0, err
	}
	for _, j := range jobs {
		if j.File == name && j.State == "done" {
			return j.Ended.Sub(j.Started), nil
		}
	}
	return 0, fmt.Errorf("no job fetched %s", name)
}

// listed waits until device i lists a file.
func (s *stage) listed(ctx context.Context, i int, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return s.devices[i].Listed(ctx, "Bench", name)
}

// withPlain runs f with bare calls from device 1's node to device 0's.
func (s *stage) withPlain(ctx context.Context, f func(p *plain) error) error {
	p, err := newPlain(ctx, s.lab.Socket(3), s.lab.Socket(2))
	if err != nil {
		return err
	}
	return errors.Join(f(p), p.close())
}

const transferSize = 64 << 20

func mbps(bytes int64, d time.Duration) float64 { return float64(bytes) / 1e6 / d.Seconds() }

// compare measures bare calls, transfers and bare calls again, and takes the best of each: the machine is noisy.
func (s *stage) compare(ctx context.Context, name string, windows []int, calls func(int) int, print func(figure)) (ours, ref float64, err error) {
	var at int
	measure := func() error {
		return s.withPlain(ctx, func(p *plain) error {
			r, w, err := p.best(ctx, windows, calls)
			if r/1e6 > ref {
				ref, at = r/1e6, w
			}
			return err
		})
	}
	for i := range 2 {
		if err := measure(); err != nil {
			return 0, 0, err
		}
		file := fmt.Sprintf("%s-%d.bin", name, i)
		if err := s.put(ctx, 0, file, transferSize); err != nil {
			return 0, 0, err
		}
		took, err := s.fetch(ctx, 1, file)
		if err != nil {
			return 0, 0, err
		}
		ours = max(ours, mbps(transferSize, took))
	}
	print(figure{Name: name, Value: ours, Unit: "MB/s", Reference: ref, Note: fmt.Sprintf("64 MiB; reference: plain 32 KiB app calls, best with %d in flight; best of 2 each", at)})
	return ours, ref, nil
}

func transferLoopback(ctx context.Context, print func(figure)) error {
	return onStage(ctx, 10, 2, func(s *stage) error {
		_, _, err := s.compare(ctx, "transfer.loopback", []int{4, 8, 16, 32}, func(int) int { return 768 }, print)
		return err
	})
}

var farWindows = []int{32, 64, 128, 256}

func farCalls(window int) int { return 6 * window }

func transferFar(ctx context.Context, print func(figure)) error {
	return onStage(ctx, 10, 2, func(s *stage) error {
		if err := s.lab.Wan("all delay=40ms"); err != nil {
			return err
		}
		ours, best, err := s.compare(ctx, "transfer.40ms", farWindows, farCalls, print)
		if err != nil {
			return err
		}
		return s.withPlain(ctx, func(p *plain) error {
			r, err := p.rate(ctx, 28, 1, 30)
			if err != nil {
				return err
			}
			print(figure{Name: "transfer.40ms-vs-stop-and-wait", Value: ours, Unit: "MB/s", Reference: r / 1e6, Note: fmt.Sprintf("reference: 28 KiB calls one after the other, the Rust app's way; the best plain calls are %.0f times as fast", best*1e6/r)})
			return nil
		})
	})
}

func transferLossy(ctx context.Context, print func(figure)) error {
	return onStage(ctx, 10, 2, func(s *stage) error {
		if err := s.lab.Wan("all delay=40ms loss=1"); err != nil {
			return err
		}
		_, _, err := s.compare(ctx, "transfer.40ms-1pc", farWindows, farCalls, print)
		return err
	})
}

// threeProviders compares one provider with three, each behind a link of the same rate.
func threeProviders(ctx context.Context, print func(figure)) error {
	const size, rate = 24 << 20, "16mbit"
	for k := 2; k <= 4; k++ { // their links carry their own traffic only: nobody's route leads over them
		if err := os.Setenv(fmt.Sprint("EXTRA_", k), "--disable ROUT"); err != nil {
			return err
		}
		defer os.Unsetenv(fmt.Sprint("EXTRA_", k)) //nolint:errcheck // the next lab may do without
	}
	return onStage(ctx, 14, 4, func(s *stage) error {
		for _, name := range []string{"one.bin", "three.bin"} {
			if err := s.put(ctx, 0, name, size); err != nil {
				return err
			}
		}
		for i := 1; i < 3; i++ {
			if _, err := s.fetch(ctx, i, "three.bin"); err != nil {
				return err
			}
		}
		if err := s.listed(ctx, 3, "one.bin"); err != nil {
			return err
		}
		if err := s.lab.Wan("2 rate="+rate, "3 rate="+rate, "4 rate="+rate); err != nil {
			return err
		}
		one, err := s.fetch(ctx, 3, "one.bin")
		if err != nil {
			return err
		}
		three, err := s.fetch(ctx, 3, "three.bin")
		if err != nil {
			return err
		}
		print(figure{Name: "providers.3", Value: mbps(size, three), Unit: "MB/s", Reference: mbps(size, one), Note: "24 MiB; reference: one provider; each provider's link " + rate})
		return nil
	})
}

// bigFile watches the daemons' memory while 4 GiB go through both.
func bigFile(ctx context.Context, print func(figure)) error {
	const size = 4 << 30
	return onStage(ctx, 10, 2, func(s *stage) error {
		var base [2]uint64
		for i, d := range s.devices {
			var err error
			if base[i], err = d.RSS(); err != nil {
				return err
			}
		}
		if err := s.put(ctx, 0, "big.bin", size); err != nil {
			return err
		}
		took, err := s.fetch(ctx, 1, "big.bin")
		if err != nil {
			return err
		}
		var worst float64
		for i, d := range s.devices {
			peak, err := d.PeakRSS()
			if err != nil {
				return err
			}
			worst = max(worst, (float64(peak)-float64(base[i]))/(1<<20))
		}
		print(figure{Name: "rss.4GiB", Value: worst, Unit: "MiB", Note: fmt.Sprintf("peak over base, the worse of provider and receiver; the transfer ran at %.1f MB/s", mbps(size, took))})
		return nil
	})
}

package httpapi_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/httpapi"
	"github.com/OpenArchive/save-dweb-go/httpapi/client"
)

// shortDir is a folder whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dweb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func get(socket string) (string, error) {
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) },
	}}
	res, err := c.Get("http://dweb/")
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

func TestServerAgainAndAgain(t *testing.T) {
	socket := filepath.Join(shortDir(t), "new", "s")
	s := httpapi.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }), nil)
	for range 3 {
		if err := s.Start(socket); err != nil {
			t.Fatal(err)
		}
		if got, err := get(socket); err != nil || got != "hello" {
			t.Fatalf("got %q, %v", got, err)
		}
		for path, want := range map[string]os.FileMode{socket: 0o600, filepath.Dir(socket): 0o700} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: mode %v, %v: want %v", path, info.Mode().Perm(), err, want)
			}
		}
		if err := s.Start(socket); err == nil {
			t.Error("a running server was started again")
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("socket is there after Stop: %v", err)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Errorf("second Stop: %v", err)
		}
	}
}

func TestServerRefusals(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(dir string) (socket string)
		want string // part of the error; "": it starts
	}{
		{"stale socket", func(dir string) string {
			path := filepath.Join(dir, "s")
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			l.Close()
			return path
		}, ""},
		{"living socket", func(dir string) string {
			path := filepath.Join(dir, "s")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			return path
		}, "another process answers"},
		{"other file", func(dir string) string {
			path := filepath.Join(dir, "s")
			if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}, "no socket"},
		{"open folder", func(dir string) string {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			return filepath.Join(dir, "s")
		}, "chmod 700"},
		{"long path", func(dir string) string { return filepath.Join(dir, strings.Repeat("x", 100)) }, "too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httpapi.NewServer(http.NotFoundHandler(), nil)
			socket := c.make(shortDir(t))
			err := s.Start(socket)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := get(socket); err != nil {
					t.Error(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if err := s.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestServerStop shows that requests may end, and that those which do not are cut off.
func TestServerStop(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	var cut error
	s := httpapi.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		select {
		case <-release:
			io.WriteString(w, "done")
		case <-r.Context().Done():
			cut = r.Context().Err()
		}
	}), nil)
	socket := filepath.Join(shortDir(t), "s")

	for _, graceful := range []bool{true, false} {
		if err := s.Start(socket); err != nil {
			t.Fatal(err)
		}
		type result struct {
			body string
			err  error
		}
		answer := make(chan result, 1)
		go func() {
			body, err := get(socket)
			answer <- result{body, err}
		}()
		<-begun
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() { stopped <- s.Stop(ctx) }()
		if graceful {
			release <- struct{}{}
		} else {
			cancel()
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		cancel()
		if got := <-answer; graceful != (got.body == "done" && got.err == nil) {
			t.Errorf("graceful %v: got %q, %v", graceful, got.body, got.err)
		}
	}
	if cut == nil {
		t.Error("the request did not see that it was cut off")
	}
}

func TestNoDaemon(t *testing.T) {
	c := client.New(filepath.Join(shortDir(t), "nobody"))
	defer c.Close()
	if _, err := c.Status(t.Context()); !errors.Is(err, client.ErrNoDaemon) {
		t.Errorf("got %v, want %v", err, client.ErrNoDaemon)
	}
}

// TestStopEndsStreams shows that a stream of events, which has no end of its own, does not hold up a stop.
func TestStopEndsStreams(t *testing.T) {
	d := prepare(t, network(t), "a")
	events, err := d.Events(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := d.server.Stop(ctx); err != nil || ctx.Err() != nil {
		t.Fatalf("stop: %v, %v", err, ctx.Err())
	}
	if e, err := events.Next(); err != io.EOF {
		t.Errorf("got %+v, %v after the stop, want the stream's end", e, err)
	}
}

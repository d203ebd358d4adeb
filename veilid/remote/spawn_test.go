//go:build unix

package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/google/go-cmp/cmp"
)

// output is what a node writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func spawnOptions(t *testing.T, mode string) (SpawnOptions, *output) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "rt") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	out := &output{}
	o := SpawnOptions{Path: self, Socket: filepath.Join(dir, "s"), Log: out, Dir: dir}
	o.Env = append(os.Environ(), beNodeAt+"="+o.Socket, beNodeHow+"="+mode)
	return o, out
}

// pid asks a spawned node for its process.
func pid(t *testing.T, n *Node) int {
	t.Helper()
	s, err := n.Debug(t.Context(), "pid")
	var p int
	if err == nil {
		_, err = fmt.Sscan(s, &p)
	}
	if err != nil || p <= 1 {
		t.Fatalf("pid %q: %v", s, err)
	}
	return p
}

func TestSpawn(t *testing.T) {
	o, out := spawnOptions(t, "")
	if err := os.WriteFile(o.Socket, nil, 0o600); err != nil { // left by another, long gone
		t.Fatal(err)
	}
	n, err := Spawn(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if v, err := n.Version(t.Context()); err != nil || v != [3]uint32{0, 5, 8} {
		t.Errorf("version %v, %v", v, err)
	}
	if _, err := Spawn(t.Context(), o); err == nil || !strings.Contains(err.Error(), "another process serves") {
		t.Errorf("a second node on the same socket: %v", err)
	}

	sub := n.Subscribe(0)
	first := pid(t, n)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(veilid.Update(&veilid.Reconnected{Restarted: true}), next(t, sub)); d != "" {
		t.Errorf("after kill -9 (-want +got)\n%s", d)
	}
	second := pid(t, n)
	if second == first {
		t.Error("the node is the same process")
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(second, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("after Close the process is there: %v", err)
	}
	if got := strings.Count(out.String(), "here I am"); got != 2 {
		t.Errorf("the log has %d greetings, want 2: %q", got, out)
	}
}

func TestSpawnBroken(t *testing.T) {
	o, _ := spawnOptions(t, "broken")
	_, err := Spawn(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no disk, no node") {
		t.Errorf("%v, want its exit status and last words", err)
	}
	o.Path += "-missing"
	if _, err := Spawn(t.Context(), o); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such program: %v", err)
	}
	if _, err := Spawn(t.Context(), SpawnOptions{}); err == nil {
		t.Error("nothing was spawned")
	}
}

// TestSpawnStubborn has a node that ignores SIGTERM, and a start that is given up.
func TestSpawnStubborn(t *testing.T) {
	o, _ := spawnOptions(t, "stubborn")
	o.stopAfter = 50 * time.Millisecond
	n, err := Spawn(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	p := pid(t, n)
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(p, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("after Close the process is there: %v", err)
	}

	o, _ = spawnOptions(t, "")
	o.Socket += "-elsewhere" // never served
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Spawn(ctx, o); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want DeadlineExceeded", err)
	}
}

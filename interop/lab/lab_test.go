package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The test binary is also the program that tests run in a slot, and the owner of a lab that they kill.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv("LAB_TEST_DIAL") != "":
		dial(os.Getenv("LAB_TEST_DIAL"))
	case os.Getenv("LAB_TEST_OWN") != "":
		own()
	default:
		os.Exit(m.Run())
	}
}

// dial prints how long a TCP connection takes, which is one round trip.
func dial(address string) {
	start := time.Now()
	conn, err := net.DialTimeout("tcp", address, 20*time.Second)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(time.Since(start))
	conn.Close()
}

// own starts a lab, says where, and waits to be killed.
func own() {
	l, err := begin(context.Background(), 2, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.dir, l.prefix)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// roundTrip is the best of five, of a program in slot from to address.
func roundTrip(t *testing.T, l *Lab, from int, address string) time.Duration {
	t.Helper()
	best := time.Hour
	for range 5 {
		cmd := l.Exec(t.Context(), from, os.Args[0])
		cmd.Env = append(cmd.Env, "LAB_TEST_DIAL="+address, "GORACE=atexit_sleep_ms=0")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("dial %s from slot %d: %v: %s", address, from, err, &stderr)
		}
		d, err := time.ParseDuration(strings.TrimSpace(string(out)))
		if err != nil {
			t.Fatal(err)
		}
		best = min(best, d)
	}
	return best
}

// nodeIDs are the keys by which the network knows node k.
func nodeIDs(t *testing.T, l *Lab, k int) string {
	t.Helper()
	value, err := ask(t.Context(), l.Socket(k), map[string]any{"op": "GetState"})
	if err != nil {
		t.Fatal(err)
	}
	var state struct {
		Network struct {
			NodeIDs []string `json:"node_ids"`
		} `json:"network"`
	}
	if err := json.Unmarshal(value, &state); err != nil {
		t.Fatal(err)
	}
	if len(state.Network.NodeIDs) == 0 {
		t.Fatalf("node %d has no node id", k)
	}
	return strings.Join(state.Network.NodeIDs, " ")
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestLab(t *testing.T) {
	l := Start(t, 10)

	t.Run("all ready", func(t *testing.T) {
		for k := 1; k <= l.Nodes(); k++ {
			if err := l.Ready(within(t, 10*time.Second), k); err != nil {
				t.Error(err)
			}
		}
	})

	t.Run("slot", func(t *testing.T) {
		if err := l.Slot(20); err != nil {
			t.Fatal(err)
		}
		for _, address := range []string{
			fmt.Sprintf("%v:%d", l.Addr(3), Port), fmt.Sprintf("[%v]:%d", l.Addr6(10), Port),
		} {
			if d := roundTrip(t, l, 20, address); d > 100*time.Millisecond {
				t.Errorf("round trip to %s takes %v without a delay", address, d)
			}
		}
		cmd := l.Exec(t.Context(), 20, os.Args[0])
		cmd.Env = append(cmd.Env, "LAB_TEST_DIAL=192.0.2.1:80") // kept for documentation, so nobody's
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "unreachable") {
			t.Errorf("a way out of the lab: %v %s", err, out)
		}
		if err := l.Slot(20); err == nil {
			t.Error("the same slot twice: want an error")
		}
	})

	t.Run("kill and restart", func(t *testing.T) {
		before := nodeIDs(t, l, 3)
		if err := l.Kill(3); err != nil {
			t.Fatal(err)
		}
		if err := l.Ready(within(t, time.Second), 3); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ready while killed: %v", err)
		}
		if err := l.Kill(3); err == nil || !strings.Contains(err.Error(), "not running") {
			t.Errorf("killed twice: %v", err)
		}
		start := time.Now()
		if err := l.StartNode(3); err != nil {
			t.Fatal(err)
		}
		if err := l.Ready(within(t, 90*time.Second), 3); err != nil {
			t.Fatalf("%v\n%s", err, l.Log(3, 20))
		}
		t.Logf("ready %v after its start", time.Since(start).Round(time.Millisecond))
		if after := nodeIDs(t, l, 3); after != before {
			t.Errorf("node ids %s after the restart, %s before: it has lost its data", after, before)
		}
		if err := l.StartNode(3); err == nil || !strings.Contains(err.Error(), "is running") {
			t.Errorf("started twice: %v", err)
		}
	})

	t.Run("stop and restart", func(t *testing.T) {
		if err := l.Stop(4); err != nil {
			t.Fatal(err)
		}
		if err := l.StartNode(4); err != nil {
			t.Fatal(err)
		}
		if err := l.Restart(5); err != nil {
			t.Fatal(err)
		}
		for _, k := range []int{4, 5} {
			if err := l.Ready(within(t, 90*time.Second), k); err != nil {
				t.Errorf("%v\n%s", err, l.Log(k, 20))
			}
		}
	})

	t.Run("a further node", func(t *testing.T) {
		if err := l.StartNode(11); err != nil {
			t.Fatal(err)
		}
		if err := l.Ready(within(t, 90*time.Second), 11); err != nil {
			t.Fatalf("%v\n%s", err, l.Log(11, 20))
		}
	})

	t.Run("wan", func(t *testing.T) {
		address := fmt.Sprintf("%v:%d", l.Addr(2), Port)
		if err := l.Wan("all delay=40ms"); err != nil {
			t.Fatal(err)
		}
		if d := roundTrip(t, l, 20, address); d < 160*time.Millisecond || d > time.Second {
			t.Errorf("round trip %v, want 160 ms or little more: four times 40", d)
		}
		if err := l.Wan("all delay=0s", "20 delay=100ms"); err != nil {
			t.Fatal(err)
		}
		if d := roundTrip(t, l, 20, fmt.Sprintf("[%v]:%d", l.Addr6(2), Port)); d < 200*time.Millisecond || d > time.Second {
			t.Errorf("round trip %v, want 200 ms or little more: twice 100", d)
		}
		if err := l.Wan("all loss=200"); err == nil || !strings.Contains(err.Error(), "per cent") {
			t.Errorf("nonsense for the emulator: %v", err)
		}
	})

	pids := pids(t, l.dir)
	if len(pids) != 12 { // eleven nodes and the emulator
		t.Errorf("%d processes recorded, want 12", len(pids))
	}
	left := l.Exec(context.Background(), 20, "sleep", "600")
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := left.Wait(); err == nil {
		t.Error("a program left in a slot has come to its own end, want it killed")
	}
	nothingLeft(t, l.dir, l.prefix, pids)
}

// A lab whose owner dies without a word goes down as well.
func TestLabOwnerKilled(t *testing.T) {
	if os.Getenv("DWEB_LAB") != "1" {
		t.Skip("needs a lab of real nodes: make lab-test, or set DWEB_LAB=1")
	}
	if err := Available(t.Context()); err != nil {
		t.Skip(err)
	}
	owner := exec.CommandContext(t.Context(), os.Args[0])
	owner.Env = append(os.Environ(), "LAB_TEST_OWN=1")
	owner.Stderr = t.Output()
	stdin, err := owner.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	var dir, prefix string
	if _, err := fmt.Fscan(stdout, &dir, &prefix); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	pids := pids(t, dir)
	if len(pids) != 2 {
		t.Errorf("%d nodes, want 2", len(pids))
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	ctx := within(t, 30*time.Second)
	for {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			break // which is the last thing that goes
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("still up half a minute after its owner's death")
		}
	}
	nothingLeft(t, dir, prefix, pids)
}

// A start that is called off leaves nothing.
func TestLabCalledOff(t *testing.T) {
	if os.Getenv("DWEB_LAB") != "1" {
		t.Skip("needs a lab of real nodes: make lab-test, or set DWEB_LAB=1")
	}
	if err := Available(t.Context()); err != nil {
		t.Skip(err)
	}
	t.Setenv("TMPDIR", shortDir(t))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	l, err := StartMain(ctx, 10, nil)
	if err == nil {
		t.Fatal("ten nodes ready in 300 ms?", l.Close())
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want that of the context", err)
	}
	entries, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

// shortDir is a temporary folder whose name leaves room for a socket's, which t.TempDir's may not.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// pids are the recorded processes of the lab in dir.
func pids(t *testing.T, dir string) (pids []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "pid"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		pid, _, _ := strings.Cut(string(text), " ")
		pids = append(pids, pid)
	}
	return pids
}

func nothingLeft(t *testing.T, dir, prefix string, pids []string) {
	t.Helper()
	for _, pid := range pids {
		stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
		if err == nil && !strings.Contains(string(stat), ") Z ") { // a zombie waits for init alone
			t.Errorf("process %s is left: %s", pid, stat)
		}
	}
	spaces, err := filepath.Glob("/run/netns/" + prefix + "*")
	if err != nil || len(spaces) != 0 {
		t.Errorf("namespaces left: %v %v", spaces, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("folder %s is left: %v", dir, err)
	}
}

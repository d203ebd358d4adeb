// Package lab runs a network of real Veilid nodes on this machine, for tests, demonstrations and measurements. It
// drives lab.sh, which is in this folder and says what it needs and how the network is laid out.
//
// The nodes know only each other: their network namespaces have no way out. Programs that want to reach them by the
// JSON API open the unix socket [Lab.Socket] from anywhere; programs that want to be on the network run in a slot,
// see [Lab.Slot] and [Lab.Exec].
//
// Tests that need a lab are named TestLab...; they run with make lab-test and are skipped otherwise.
package lab

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What a foreign node must know of the network. These are keys of the lab alone.
const (
	Port         = 5150 // UDP, TCP and WS of every node
	Bootstrap    = "udp://5.5.0.1:5150"
	BootstrapKey = "VLD0:_kVLXlRRlTdKaAPDx5T2QCQiRU3vqyBimjr1C6u4BI8" // signs node 1's bootstrap record
)

const (
	maxSlot       = 254
	maxSocketPath = 107 // of a unix socket's address, without its end
	readyLimit    = 3 * time.Minute
	closeLimit    = time.Minute
)

// Lab is a running network. Its methods may be called from several goroutines.
type Lab struct {
	script string
	dir    string
	prefix string // of its namespaces
	nodes  int

	keeper *exec.Cmd // takes the network down when stdin ends, which it also does when this process is killed
	stdin  io.Closer
	ended  chan error

	close    sync.Once
	closeErr error
}

// Available says what this machine lacks for a lab; nil if nothing.
func Available(ctx context.Context) error {
	script, err := findScript()
	if err != nil {
		return err
	}
	return run(exec.CommandContext(ctx, "bash", script, "check"))
}

// Start is StartMain for a test, which it skips, with the reason, unless DWEB_LAB=1 is set and this machine can
// hold a lab. The network ends with the test; if the test has failed, the end of each node's log is in its output.
func Start(t testing.TB, n int) *Lab {
	t.Helper()
	if os.Getenv("DWEB_LAB") != "1" {
		t.Skip("needs a lab of real nodes: make lab-test, or set DWEB_LAB=1")
	}
	if err := Available(t.Context()); err != nil {
		t.Skip(err)
	}
	l, err := StartMain(t.Context(), n, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := os.Stat(l.dir); t.Failed() && err == nil {
			for k := range n {
				if text := l.Log(k+1, 15); text != "" { // a node says little unless something is wrong
					t.Logf("end of the log of node %d:\n%s", k+1, text)
				}
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// StartMain starts a network of nodes 1..n and returns when all are ready; ten or more make a network in which every
// DHT operation finds the nodes that it wants. The first lab on a machine may build the node, for which it takes
// minutes; progress hears of that, and may be nil. ctx bounds the start only. The caller must Close the network; if
// the process ends without, the network goes down as well.
func StartMain(ctx context.Context, n int, progress io.Writer) (*Lab, error) {
	l, err := begin(ctx, n, progress)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	for k := range n {
		if err := l.Ready(ctx, k+1); err != nil {
			err = fmt.Errorf("%w\nend of its log:\n%s", err, l.Log(k+1, 15))
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// begin starts a network and does not wait for its nodes.
func begin(ctx context.Context, n int, progress io.Writer) (*Lab, error) {
	if n < 1 || n > maxSlot {
		return nil, fmt.Errorf("lab: %d nodes: want 1 to %d", n, maxSlot)
	}
	script, err := findScript()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "dweb-lab")
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	l := &Lab{
		script: script, dir: dir, prefix: "dw" + hex.EncodeToString(random[:]) + "-", nodes: n,
		ended: make(chan error, 1),
	}
	if err := l.hold(ctx, progress); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: start of %d nodes: %w", n, err), os.RemoveAll(dir))
	}
	return l, nil
}

// hold starts the keeper and waits for its word that the nodes run.
func (l *Lab) hold(ctx context.Context, progress io.Writer) error {
	if longest := l.Socket(maxSlot); len(longest) > maxSocketPath {
		return fmt.Errorf("%s is too long for a unix socket: set TMPDIR to a shorter folder", longest)
	}
	if progress == nil {
		progress = io.Discard
	}
	said := &tail{limit: 4096}
	cmd := l.command(context.Background(), "hold", strconv.Itoa(l.nodes)) // outlives ctx
	cmd.Stderr = io.MultiWriter(said, progress)
	cmd.WaitDelay = 5 * time.Second
	ownSession(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { interrupt(cmd) })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if !stop() || err != nil {
		_ = stdin.Close()
		err = errors.Join(ctx.Err(), cmd.Wait())
		return fmt.Errorf("%w: %s", err, said)
	}
	if line != "up\n" {
		_ = stdin.Close()
		return errors.Join(fmt.Errorf("lab.sh says %q, want up", line), cmd.Wait())
	}
	l.keeper, l.stdin = cmd, stdin
	go func() { l.ended <- cmd.Wait() }() // ends with the keeper, for which Close waits
	return nil
}

// Close takes the network down and removes its folder. Later calls return the first one's result.
func (l *Lab) Close() error {
	l.close.Do(func() {
		_ = l.stdin.Close()
		timer := time.NewTimer(closeLimit)
		defer timer.Stop()
		var err error
		select {
		case err = <-l.ended:
		case <-timer.C:
			interrupt(l.keeper)
			err = errors.Join(fmt.Errorf("not down after %v", closeLimit), <-l.ended)
		}
		if _, statErr := os.Stat(filepath.Join(l.dir, "namespaces")); statErr == nil { // the keeper was killed
			ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
			defer cancel()
			err = errors.Join(err, run(l.command(ctx, "down")))
		}
		if err = errors.Join(err, os.RemoveAll(l.dir)); err != nil {
			l.closeErr = fmt.Errorf("lab: down: %w", err)
		}
	})
	return l.closeErr
}

// Nodes is how many nodes the network was started with.
func (l *Lab) Nodes() int { return l.nodes }

// Dir is the lab's folder, which Close removes. Node k's data are in its subfolder k.
func (l *Lab) Dir() string { return l.dir }

// Socket is the path of node k's JSON API.
func (l *Lab) Socket(k int) string { return filepath.Join(l.dir, strconv.Itoa(k), "api.sock") }

// Addr is the IPv4 address of slot k.
func (l *Lab) Addr(k int) netip.Addr { return netip.AddrFrom4([4]byte{5, 5, 0, byte(k)}) }

// Addr6 is the IPv6 address of slot k, whose last group is k written in decimal.
func (l *Lab) Addr6(k int) netip.Addr { return netip.MustParseAddr("2a05:5::" + strconv.Itoa(k)) }

// Kill ends node k at once, as kill -9. What it stored stays.
func (l *Lab) Kill(k int) error { return l.do("kill", k) }

// Stop ends node k in good order. What it stored stays.
func (l *Lab) Stop(k int) error { return l.do("stop", k) }

// StartNode starts node k again after Kill or Stop, with what it had stored, or a further node in a new slot. Ready
// says when it is of use.
func (l *Lab) StartNode(k int) error { return l.do("start", k) }

// Restart is Kill and StartNode.
func (l *Lab) Restart(k int) error { return l.do("restart", k) }

// Slot adds an empty slot k, for a program that Exec starts.
func (l *Lab) Slot(k int) error { return l.do("slot", k) }

// Exec prepares a command that runs in slot k's network and is otherwise like any other. Killing it kills the program.
func (l *Lab) Exec(ctx context.Context, k int, name string, args ...string) *exec.Cmd {
	return l.command(ctx, append([]string{"exec", strconv.Itoa(k), name}, args...)...)
}

// Wan sets what the links do, a line each: "all delay=40ms loss=1", "20 rate=1mbit", "3 down" (package wan has them
// all). The first call turns all traffic through the emulator. A packet crosses two links, so a delay of 40 ms makes
// a round trip of 160 ms, and a call through two hops one of 490 ms.
func (l *Lab) Wan(lines ...string) error {
	for _, line := range lines {
		cmd := l.command(context.Background(), append([]string{"wan"}, strings.Fields(line)...)...)
		if err := run(cmd); err != nil {
			return fmt.Errorf("lab: wan %s: %w", line, err)
		}
	}
	return nil
}

// Log is the last lines of node k's log.
func (l *Lab) Log(k, lines int) string {
	f, err := os.Open(filepath.Join(l.dir, strconv.Itoa(k), "log"))
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 64 << 10
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, size-most), io.SeekStart)
	}
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func (l *Lab) do(what string, k int) error {
	if err := run(l.command(context.Background(), what, strconv.Itoa(k))); err != nil {
		return fmt.Errorf("lab: %s %d: %w", what, k, err)
	}
	return nil
}

// command is a call of lab.sh for this lab.
func (l *Lab) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", append([]string{l.script}, args...)...)
	cmd.Env = append(os.Environ(), "RUN="+l.dir, "NS="+l.prefix)
	return cmd
}

// run runs cmd; what it says on standard error is the error.
func run(cmd *exec.Cmd) error {
	said := &tail{limit: 4096}
	cmd.Stderr = said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	return nil
}

// findScript finds lab.sh from anywhere in the checkout.
func findScript() (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	for dir := here; ; dir = filepath.Dir(dir) {
		script := filepath.Join(dir, "interop", "lab", "lab.sh")
		if _, err := os.Stat(script); err == nil {
			return script, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("lab: no interop/lab/lab.sh above %s: run from within a checkout of the project", here)
		}
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu    sync.Mutex
	limit int
	buf   []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - t.limit; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/httpapi"
	"github.com/OpenArchive/save-dweb-go/httpapi/client"
	"github.com/OpenArchive/save-dweb-go/vault"
	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/memory"
)

func TestMain(m *testing.M) {
	// A network of one node: for what a daemon does as a process of its own.
	furtherEngines = map[string]func(context.Context, string) (veilid.Node, error){
		"memory": func(context.Context, string) (veilid.Node, error) { return memory.NewNetwork().NewNode("alone"), nil },
	}
	testscript.Main(m, map[string]func(){"dweb": main})
}

// TestScripts runs testdata: commands as processes of their own, against daemons in this process that share a network
// in memory.
func TestScripts(t *testing.T) {
	root, err := os.MkdirTemp("", "dweb") // the test's own folder may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	testscript.Run(t, testscript.Params{
		Dir:         "testdata",
		WorkdirRoot: root,
		Setup: func(env *testscript.Env) error {
			w := &world{net: memory.NewNetwork(memory.WithTick(5 * time.Millisecond)), daemons: map[string]*inProcess{}, known: map[string]bool{}}
			env.Values[worldKey{}] = w
			env.Setenv("GORACE", "atexit_sleep_ms=10") // else every command takes a second longer under the race detector
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_DATA_HOME", filepath.Join(env.WorkDir, "share"))
			env.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
			env.Setenv("XDG_RUNTIME_DIR", "")
			env.Defer(w.close)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"daemon":  cmdDaemon,
			"code":    cmdCode,
			"file":    cmdFile,
			"shape":   cmdShape,
			"partway": cmdPartway,
			"until":   cmdUntil,
			"mode":    cmdMode,
		},
	})
}

type worldKey struct{}

// world is the network of one script, with its daemons.
type world struct {
	net     *memory.Network
	daemons map[string]*inProcess
	known   map[string]bool // nodes that ever were
}

// inProcess is a daemon in this process.
type inProcess struct {
	stop context.CancelFunc
	done chan error
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func (w *world) close() {
	for _, d := range w.daemons {
		d.stop()
		<-d.done
	}
	w.net.Close() //nolint:errcheck // the test is over
}

// cmdDaemon starts or ends a daemon: "daemon up NAME [RATE]", "daemon down NAME". Its data folder has its name.
func cmdDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: daemon up NAME [RATE] | daemon down NAME")
	}
	w, name := worldOf(ts), args[1]
	if args[0] == "down" {
		d := w.daemons[name]
		delete(w.daemons, name)
		d.stop()
		ts.Check(<-d.done)
		return
	}
	data := ts.MkAbs(name)
	c := daemonConfig{
		Data: data, Socket: socketIn(data), Device: name + "'s phone", Key: vault.DeviceFile(filepath.Join(data, "vault")), Engine: "memory",
		Log: slog.New(slog.DiscardHandler),
		Node: func(context.Context) (veilid.Node, error) {
			if w.known[name] {
				return w.net.Reopen(name), nil
			}
			w.known[name] = true
			return w.net.NewNode(name), nil
		},
	}
	if testing.Verbose() {
		f, err := os.OpenFile(ts.MkAbs(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		ts.Check(err)
		c.Log = slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if len(args) > 2 {
		var err error
		c.MaxRate, err = parseBytes(args[2])
		ts.Check(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d, err := startDaemon(ctx, c, stop)
	if err != nil {
		stop()
		ts.Fatalf("daemon %s: %v", name, err)
	}
	p := &inProcess{stop, make(chan error, 1)}
	w.daemons[name] = p
	go func() {
		<-ctx.Done()
		p.done <- d.Close(context.Background())
	}()
}

// cmdCode runs a command and compares its exit code: "code 3 dweb get G x".
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND [ARG...]")
	}
	got := 0
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s\n%s", got, args[0], ts.ReadFile("stderr"))
	}
}

// cmdFile makes a file of random bytes, the same for the same name: "file NAME SIZE".
func cmdFile(ts *testscript.TestScript, _ bool, args []string) {
	size, err := strconv.Atoi(args[1])
	ts.Check(err)
	b := make([]byte, size)
	var seed [32]byte
	copy(seed[:], args[0])
	rand.NewChaCha8(seed).Read(b) //nolint:errcheck // never fails
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// cmdShape compares the names and types of a JSON value with those in a file: "shape stdout FILE".
func cmdShape(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: shape FILE FILE")
	}
	var v any
	text := ts.ReadFile(args[0])
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		ts.Fatalf("%v in %q", err, text)
	}
	b, err := json.MarshalIndent(shape(v), "", "  ")
	ts.Check(err)
	if diff := cmp.Diff(strings.TrimSpace(ts.ReadFile(args[1])), string(b)); diff != "" {
		ts.Fatalf("%s has another shape (-want +got):\n%s", args[0], diff)
	}
}

// shape replaces values by their types, and lists by their first element.
func shape(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = shape(v[k])
		}
		return v
	case []any:
		return shapeList(v)
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "bool"
	}
	return v
}

func shapeList(v []any) any {
	if len(v) == 0 {
		return v
	}
	return []any{shape(v[0])}
}

const patience = 30 * time.Second

// cmdPartway waits until the job on a file holds so many bytes, or, with "first", looks whether it held them as soon as
// anything was known of it: "partway NAME FILE BYTES [first]".
func cmdPartway(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: partway NAME FILE BYTES [first]")
	}
	want, err := strconv.ParseUint(args[2], 10, 64)
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := client.New(socketIn(ts.MkAbs(args[0])))
	defer c.Close()
	var zero uint64
	events, err := c.Events(ctx, &zero)
	ts.Check(err)
	defer events.Close()
	for {
		e, err := events.Next()
		ts.Check(err)
		j := e.Job
		if j == nil || j.File != args[1] || j.Done == 0 {
			continue
		}
		if len(args) > 3 && j.Done < want {
			ts.Fatalf("the job began again: %d bytes of %d that were there", j.Done, want)
		}
		if j.State != backend.JobRunning {
			ts.Fatalf("the job is over: %+v", httpapi.Job{Job: *j})
		}
		if j.Done >= want {
			return
		}
	}
}

// cmdUntil runs a command until it succeeds and its output holds a text: "until TEXT COMMAND [ARG...]".
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until TEXT COMMAND [ARG...]")
	}
	deadline := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := ts.Exec(args[1], args[2:]...); err == nil && strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("never came: %q", args[0])
		}
	}
}

// cmdMode compares the permissions of files: "mode 600 FILE...".
func cmdMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: mode OCTAL FILE...")
	}
	for _, f := range args[1:] {
		info, err := os.Stat(ts.MkAbs(f))
		ts.Check(err)
		if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", f, got, args[0])
		}
	}
}

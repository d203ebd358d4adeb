package lab

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConstantsAreTheScripts(t *testing.T) {
	script, err := os.ReadFile("lab.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"SIGN_PUB=" + BootstrapKey + "\n", "--bootstrap " + Bootstrap + ")", "--listen :5150 "} {
		if !strings.Contains(string(script), want) {
			t.Errorf("lab.sh has no %q", want)
		}
	}
	if Port != 5150 {
		t.Errorf("port %d, in lab.sh 5150", Port)
	}
}

func TestScriptSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "lab.sh up N"},
		{[]string{"fly"}, "lab.sh up N"},
		{[]string{"kill", "3"}, "no lab is up in"},
		{[]string{"wan", "stats"}, "no lab is up in"},
		{[]string{"exec", "x"}, "slot number from 1 to 254"},
		{[]string{"start", "255"}, "slot number from 1 to 254"},
		{[]string{"start", "08"}, "slot number from 1 to 254"},
		{[]string{"slot"}, "slot number from 1 to 254"},
	} {
		l := &Lab{script: "lab.sh", dir: filepath.Join(t.TempDir(), "none"), prefix: "dwnone-"}
		out, err := l.command(t.Context(), c.args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !strings.Contains(string(out), c.want) {
			t.Errorf("%v: %v, says %q, want a failure and %q", c.args, err, out, c.want)
		}
	}
}

func TestVnodeOfTheEnvironment(t *testing.T) {
	t.Setenv("VNODE", "/none/such")
	out, err := exec.Command("bash", "lab.sh", "vnode").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "/none/such is not a program") {
		t.Errorf("%v %s", err, out)
	}
	self := os.Args[0]
	t.Setenv("VNODE", self)
	out, err = exec.Command("bash", "lab.sh", "vnode").Output()
	if err != nil || string(out) != self+"\n" {
		t.Errorf("%v %q, want %q", err, out, self)
	}
}

func TestTooLongTemporaryFolder(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", long)
	_, err := StartMain(t.Context(), 1, nil)
	if err == nil || !strings.Contains(err.Error(), "set TMPDIR") {
		t.Errorf("error %v, want one that says what to do", err)
	}
	if entries, err := os.ReadDir(long); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

func TestCounts(t *testing.T) {
	for _, n := range []int{-1, 0, 255} {
		if _, err := StartMain(t.Context(), n, nil); err == nil || !strings.Contains(err.Error(), "want 1 to 254") {
			t.Errorf("%d nodes: %v", n, err)
		}
	}
}

func TestFindScript(t *testing.T) {
	want, err := filepath.Abs("lab.sh")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := findScript(); err != nil || got != want {
		t.Errorf("%q %v, want %q", got, err, want)
	}
	t.Chdir(t.TempDir())
	if _, err := findScript(); err == nil || !strings.Contains(err.Error(), "checkout") {
		t.Errorf("outside: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	l := &Lab{dir: "d"}
	got := []string{l.Addr(20).String(), l.Addr6(20).String(), l.Addr6(254).String(), l.Socket(7)}
	want := []string{"5.5.0.20", "2a05:5::20", "2a05:5::254", filepath.Join("d", "7", "api.sock")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// serve is a node that gives each connection one of the answers, in order, and closes it.
func serve(t *testing.T, answers ...string) string {
	t.Helper()
	socket := filepath.Join(shortDir(t), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, answer := range answers {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			if !strings.HasSuffix(line, "}\n") || !strings.Contains(line, `"id":1`) {
				t.Errorf("request %q", line)
			}
			_, _ = io.WriteString(conn, answer)
			if answer == "" {
				_, _ = io.Copy(io.Discard, conn) // say nothing until the other side goes
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	return socket
}

func TestReady(t *testing.T) {
	const (
		update = `{"type":"Update","kind":"Network","id":1}` + "\n"
		other  = `{"type":"Response","id":2,"value":false}` + "\n"
		yes    = `{"type":"Response","id":1,"op":"WaitForAttachmentCondition","value":null}` + "\n"
		no     = `{"type":"Response","id":1,"op":"WaitForAttachmentCondition","error":{"kind":"Timeout"}}` + "\n"
	)
	for _, c := range []struct {
		name    string
		answers []string
		fails   bool // when the time is over
	}{
		{"ready", []string{yes}, false},
		{"behind updates", []string{update + other + yes}, false},
		{"at the second attempt", []string{no, yes}, false},
		{"closed, then ready", []string{update, yes}, false},
		{"garbage, then ready", []string{"{\n", yes}, false},
		{"not ready", []string{no}, true},
		{"silent", []string{""}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			limit := 20 * time.Second
			if c.fails {
				limit = 250 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			err := ready(ctx, serve(t, c.answers...))
			switch {
			case !c.fails && err != nil:
				t.Error(err)
			case c.fails && !errors.Is(err, context.DeadlineExceeded):
				t.Errorf("error %v, want the context's", err)
			}
		})
	}
}

func TestTail(t *testing.T) {
	s := &tail{limit: 8}
	for _, p := range []string{"abc", "defghij", "k\n"} {
		if n, err := io.WriteString(s, p); n != len(p) || err != nil {
			t.Errorf("%d %v", n, err)
		}
	}
	if got := s.String(); got != "efghijk" {
		t.Errorf("%q, want the last 8 bytes, trimmed", got)
	}
}

func TestLogTail(t *testing.T) {
	l := &Lab{dir: t.TempDir()}
	if got := l.Log(1, 2); !strings.Contains(got, "no such file") {
		t.Errorf("without a log: %q", got)
	}
	if err := os.Mkdir(filepath.Join(l.dir, "1"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("a long line of a log\n", 10_000) + "one\ntwo\n"
	if err := os.WriteFile(filepath.Join(l.dir, "1", "log"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := l.Log(1, 2); got != "one\ntwo" {
		t.Errorf("%q", got)
	}
	if got := l.Log(1, 100_000); len(got) > 64<<10 {
		t.Errorf("%d bytes, want at most 64 KiB", len(got))
	}
}

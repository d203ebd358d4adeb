package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// readyEnv tells a detached daemon the file descriptor by which it says that it runs, or why not.
const readyEnv = "DWEB_READY_FD"

const readyWord = "ready\n"

// readiness is the daemon's end of that.
type readiness struct {
	once sync.Once
	f    *os.File // nil: nobody waits
}

func readyPipe() *readiness {
	fd, err := strconv.Atoi(os.Getenv(readyEnv))
	if err != nil || fd < 3 {
		return &readiness{}
	}
	os.Unsetenv(readyEnv) //nolint:errcheck // a node that is started has no use for it
	f := os.NewFile(uintptr(fd), "ready")
	closeOnExec(f)
	return &readiness{f: f}
}

// tell says once how the start went.
func (r *readiness) tell(err error) {
	if r.f == nil {
		return
	}
	r.once.Do(func() {
		if err == nil {
			io.WriteString(r.f, readyWord) //nolint:errcheck // who waited has gone
		} else {
			io.WriteString(r.f, err.Error()) //nolint:errcheck // as above
		}
		r.f.Close()
	})
}

// detach starts the daemon as a process of its own and returns when it runs.
func (a *app) detach(ctx context.Context, f upFlags) error {
	data, err := filepath.Abs(a.data)
	if err != nil {
		return err
	}
	if _, err := a.config(withoutSecrets(f), io.Discard); err != nil { // a wrong command line is told here
		return err
	}
	if err := makeFolder(data); err != nil {
		return err
	}
	if f.logFile == "" {
		f.logFile = filepath.Join(data, "dweb.log")
	}
	log, closeLog, err := a.openLog(f.logFile)
	if err != nil {
		return err
	}
	defer closeLog()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(self, slices.DeleteFunc(slices.Clone(os.Args[1:]), func(s string) bool {
		return s == "--detach" || strings.HasPrefix(s, "--detach=")
	})...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), readyEnv+"=3")
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stdout, cmd.Stderr = log, log
	if f.passphrase == "-" {
		cmd.Stdin = a.in
	}
	if err := detached(cmd); err != nil {
		return errors.Join(err, w.Close())
	}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start the daemon: %w", err), w.Close())
	}
	w.Close()
	defer context.AfterFunc(ctx, func() { cmd.Process.Signal(os.Interrupt) })() //nolint:errcheck // it may have ended
	said, err := io.ReadAll(io.LimitReader(r, 64<<10))
	if bytes.Equal(said, []byte(readyWord)) {
		pid := cmd.Process.Pid
		cmd.Process.Release() //nolint:errcheck // from here on it is on its own
		return a.show(struct {
			PID    int    `json:"pid"`
			Socket string `json:"socket"`
			Log    string `json:"log"`
		}{pid, a.socket, f.logFile}, func() { a.printf("dweb is up (pid %d), its log is %s\n", pid, f.logFile) })
	}
	err = errors.Join(err, cmd.Wait())
	if len(said) == 0 {
		return fmt.Errorf("the daemon did not start: %w: see %s", err, f.logFile)
	}
	return &startError{string(said), cmd.ProcessState.ExitCode()}
}

// withoutSecrets leaves the passphrase to the daemon: standard input can be read once.
func withoutSecrets(f upFlags) upFlags {
	f.passphrase = ""
	return f
}

// startError is why a detached daemon did not start.
type startError struct {
	text string
	exit int
}

func (e *startError) Error() string { return e.text }

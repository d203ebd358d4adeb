package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Device is a person's device: a data folder, a daemon on one of the lab's nodes, and commands that talk to it.
type Device struct {
	Name string
	Dir  string // data folder of the daemon
	bin  string
	sock string // JSON API of its node
	args []string
	log  *os.File
	cmd  *exec.Cmd
	done chan struct{} // closed when the daemon has ended
}

// Build compiles the binary into dir, as users get it: static, no cgo.
func Build(ctx context.Context, dir string) (string, error) {
	bin := filepath.Join(dir, "dweb")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", bin, "github.com/OpenArchive/save-dweb-go/cmd/dweb")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build dweb: %w\n%s", err, out)
	}
	return bin, nil
}

// NewDevice is a device in a folder of its own whose daemon will use the node behind sock. Extra arguments go to
// "dweb up".
func NewDevice(bin, dir, name, sock string, args ...string) (*Device, error) {
	d := &Device{Name: name, Dir: filepath.Join(dir, name), bin: bin, sock: sock, args: args}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	d.log, err = os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return d, err
}

// Up starts the daemon and waits until it answers.
func (d *Device) Up(ctx context.Context) error {
	args := append([]string{"up", "--data", d.Dir, "--engine", "remote:" + d.sock, "--device", d.Name}, d.args...)
	d.cmd = exec.Command(d.bin, args...)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", d.Name, err)
	}
	d.done = make(chan struct{})
	go func() {
		defer close(d.done)
		d.cmd.Wait() //nolint:errcheck // how it ended is in its log
	}()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := d.Run(ctx, "status", "--json"); err == nil {
			return nil
		}
		select {
		case <-d.done:
			return fmt.Errorf("%s: the daemon ended: %s", d.Name, d.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("%s: the daemon does not answer: %w", d.Name, ctx.Err())
		case <-tick.C:
		}
	}
}

// Kill ends the daemon at once, as a crash or an empty battery would.
func (d *Device) Kill() {
	if d.cmd != nil && d.cmd.Process != nil {
		d.cmd.Process.Kill() //nolint:errcheck // it may have ended
		<-d.done
	}
}

// Down ends the daemon as its user would.
func (d *Device) Down(ctx context.Context) error {
	if d.cmd == nil || d.cmd.Process == nil {
		return nil
	}
	select {
	case <-d.done:
		return nil
	default:
	}
	_, err := d.Run(ctx, "down")
	select {
	case <-d.done:
		return err
	case <-ctx.Done():
		d.Kill()
		return errors.Join(err, fmt.Errorf("%s does not go down: %w", d.Name, ctx.Err()))
	}
}

// LogTail is the end of the daemon's log.
func (d *Device) LogTail() string {
	b, err := os.ReadFile(d.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

// ExitError is a command that failed.
type ExitError struct {
	Args   []string
	Code   int
	Stderr string
}

func (e *ExitError) Error() string {
	var args []string
	for _, a := range e.Args {
		if strings.HasPrefix(a, "save+dweb:") {
			a = "LINK"
		}
		args = append(args, a)
	}
	return fmt.Sprintf("dweb %s: exit code %d: %s", strings.Join(args, " "), e.Code, strings.TrimSpace(e.Stderr))
}

// Run runs a command against the daemon and returns what it prints.
func (d *Device) Run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.bin, append(args, "--data", d.Dir)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out.String(), &ExitError{args, exit.ExitCode(), errOut.String()}
	}
	return out.String(), err
}

// JSON runs a command with --json and reads the last value that it prints.
func (d *Device) JSON(ctx context.Context, v any, args ...string) error {
	out, err := d.Run(ctx, append(args, "--json")...)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(strings.NewReader(out))
	for {
		if err := dec.Decode(v); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("dweb %s: %w in %q", strings.Join(args, " "), err, out)
		}
	}
}

// Job is what "dweb jobs --json" tells of a job.
type Job struct {
	ID, Kind, File, State, Waiting, Error string
	Done, Total                           uint64
	Providers                             int
}

// Jobs lists the daemon's jobs.
func (d *Device) Jobs(ctx context.Context) ([]Job, error) {
	var jobs []Job
	err := d.JSON(ctx, &jobs, "jobs")
	return jobs, err
}

// Until waits until a job on this device holds at least n bytes.
func (d *Device) Until(ctx context.Context, file string, n uint64) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		jobs, err := d.Jobs(ctx)
		if err != nil {
			return err
		}
		for _, j := range jobs {
			if j.File == file && j.Done >= n {
				if j.State != "running" {
					return fmt.Errorf("%s: the job on %q has ended (%s %s) before it was in the middle", d.Name, file, j.State, j.Error)
				}
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %q did not reach %d bytes: %w", d.Name, file, n, ctx.Err())
		case <-tick.C:
		}
	}
}

// Listed waits until the device lists a file of the group.
func (d *Device) Listed(ctx context.Context, group, name string) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := d.Run(ctx, "ls", group)
		if err == nil && strings.Contains(out, name) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not see %s: %w", d.Name, name, errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

// RSS is the daemon's resident memory in bytes.
func (d *Device) RSS() (uint64, error) { return d.procStatus("VmRSS:") }

// PeakRSS is the most resident memory that the daemon has had, in bytes.
func (d *Device) PeakRSS() (uint64, error) { return d.procStatus("VmHWM:") }

func (d *Device) procStatus(field string) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kb, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of process %d", field, d.cmd.Process.Pid)
}

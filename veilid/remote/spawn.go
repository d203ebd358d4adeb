package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

const (
	stopTimeout  = 10 * time.Second // from the request to end to the end by force
	pipeDelay    = 5 * time.Second  // for what a node's children still write when it has ended
	steadyAfter  = time.Minute      // a node that ran as long is started again at once
	socketPoll   = 50 * time.Millisecond
	outputInLog  = 2048 // bytes of a node's last words in errors
	maxRestPause = 30 * time.Second
)

// SpawnOptions say how to start a node.
type SpawnOptions struct {
	Path   string    // of the program
	Args   []string  // without the program's name
	Dir    string    // its working folder; ours if empty
	Env    []string  // as in os/exec; ours if nil
	Socket string    // path of the unix socket on which it will serve the JSON API
	Log    io.Writer // what it writes to its outputs; may be nil
	Options

	stopAfter time.Duration // stopTimeout unless a test says otherwise
}

// Spawn starts a node, in a process group of its own, and connects to it. A node that ends is started again, after a
// growing pause; subscribers hear it as veilid.Reconnected. The node's Close ends the process: with SIGTERM, and by
// force after 10 s. ctx bounds only the start.
func Spawn(ctx context.Context, o SpawnOptions) (*Node, error) {
	if o.Path == "" || o.Socket == "" {
		return nil, errors.New("spawn Veilid node: want the paths of the program and of its socket")
	}
	if o.stopAfter == 0 {
		o.stopAfter = stopTimeout
	}
	a := address{"unix", o.Socket}
	if c, err := a.dial(ctx); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("spawn Veilid node: another process serves %s: end it, use Dial, or choose another socket", o.Socket)
	}
	n := newNode(a, o.Options)
	n.proc = &process{o: o, node: n, done: make(chan struct{}), exits: make(chan error, 1)}
	go n.proc.supervise(n.ctx) // ends with n.ctx; stop waits for it
	s, err := n.firstContact(ctx)
	if err != nil {
		n.cancel()
		<-n.proc.done
		return nil, fmt.Errorf("spawn Veilid node %s: %w", o.Path, err)
	}
	n.run(s)
	return n, nil
}

// firstContact connects as soon as the new process serves its socket.
func (n *Node) firstContact(ctx context.Context) (*session, error) {
	tick := time.NewTicker(socketPoll)
	defer tick.Stop()
	for {
		s, err := n.open(ctx)
		if err == nil {
			return s, nil
		}
		select {
		case exit := <-n.proc.exits:
			return nil, exit
		case <-ctx.Done():
			return nil, fmt.Errorf("no connection yet: %w", errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

// process is a node's process and its successors.
type process struct {
	o     SpawnOptions
	node  *Node
	done  chan struct{} // closed when no process is left and none will be
	exits chan error    // how the first process ended, and perhaps later ones
	last  lastWords

	mu    sync.Mutex
	count int
}

// starts is how often a process was started.
func (p *process) starts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// stop waits until the process, whose context has ended, is gone.
func (p *process) stop() { <-p.done }

// supervise keeps a process running until ctx ends.
func (p *process) supervise(ctx context.Context) {
	defer close(p.done)
	runtime.LockOSThread() // the kernel ends the node with the thread that started it, so the thread must last; it ends with us
	pause := firstPause
	for {
		began := time.Now()
		err := p.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if words := p.last.String(); words != "" {
			err = fmt.Errorf("%w; its last words: %s", err, words)
		}
		p.node.log.Warn("the Veilid node ended by itself", "error", err)
		select {
		case p.exits <- err:
		default:
		}
		if time.Since(began) > steadyAfter {
			pause = firstPause
		}
		if !sleep(ctx, jitter(pause)) {
			return
		}
		pause = min(2*pause, maxRestPause)
	}
}

// once runs one process until it ends or ctx does. The error says how it ended.
func (p *process) once(ctx context.Context) error {
	_ = os.Remove(p.o.Socket) // left by one that was killed; nobody serves it
	cmd := exec.Command(p.o.Path, p.o.Args...)
	cmd.Dir, cmd.Env = p.o.Dir, p.o.Env
	var out io.Writer = &p.last
	if p.o.Log != nil {
		out = io.MultiWriter(out, p.o.Log)
	}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = pipeDelay
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	p.mu.Lock()
	p.count++
	p.mu.Unlock()
	exit := make(chan error, 1)
	go func() { exit <- cmd.Wait() }() // ends with the process, for which we wait
	ended := func(err error) error {
		killGroup(cmd) // its children, if any are left
		if err == nil {
			err = errors.New("exit status 0")
		}
		return err
	}
	select {
	case err := <-exit:
		return ended(err)
	case <-ctx.Done():
	}
	endGroup(cmd)
	timer := time.NewTimer(p.o.stopAfter)
	defer timer.Stop()
	select {
	case err := <-exit:
		return ended(err)
	case <-timer.C:
		p.node.log.Warn("the Veilid node does not end: killing it", "after", p.o.stopAfter)
		killGroup(cmd)
		return <-exit
	}
}

// lastWords keeps the end of what a process writes.
type lastWords struct {
	mu  sync.Mutex
	buf []byte
}

func (l *lastWords) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, b[max(0, len(b)-outputInLog):]...)
	if extra := len(l.buf) - outputInLog; extra > 0 {
		l.buf = append(l.buf[:0], l.buf[extra:]...)
	}
	return len(b), nil
}

func (l *lastWords) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(strings.ToValidUTF8(string(l.buf), ""))
}

package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// maxSocketPath is the longest path that a unix socket can have on every system.
const maxSocketPath = 103

// Server serves a handler on a unix socket that only its owner can use. It can be started and stopped any number of
// times.
type Server struct {
	handler http.Handler
	log     *slog.Logger

	mu  sync.Mutex
	run *run
}

// run is one run from Start to Stop.
type run struct {
	srv    *http.Server
	drain  context.CancelFunc // ends what has no end of its own: streams of events
	cancel context.CancelFunc // ends every request
	done   chan struct{}      // closed when nothing is accepted any more

	mu     sync.Mutex
	ended  bool           // no request begins any more
	active sync.WaitGroup // requests
}

// begin counts a request, unless the run is over.
func (r *run) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.active.Add(1)
	}
	return !r.ended
}

// NewServer makes a server; Start lets it work.
func NewServer(h http.Handler, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{handler: h, log: log}
}

// Start listens at path, a socket of mode 0600 in a folder of mode 0700, which is made where there is none. What a
// crashed process left there is replaced; a living one is an error.
func (s *Server) Start(path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil {
		return errors.New("the server runs already: stop it first")
	}
	l, err := listen(path)
	if err != nil {
		return err
	}
	base, cancel := context.WithCancel(context.Background())
	drain, endStreams := context.WithCancel(base)
	r := &run{drain: endStreams, cancel: cancel, done: make(chan struct{})}
	r.srv = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if !r.begin() {
				panic(http.ErrAbortHandler)
			}
			defer r.active.Done()
			// The deadline of the connection's last answer must not cut this one.
			http.NewResponseController(w).SetWriteDeadline(time.Time{}) //nolint:errcheck // a dead connection tells itself
			s.handler.ServeHTTP(w, req)
		}),
		BaseContext:       func(net.Listener) context.Context { return context.WithValue(base, drainKey{}, drain) },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		// No ReadTimeout and no WriteTimeout: files may be large. The handlers set deadlines as they go on.
	}
	go func() {
		defer close(r.done)
		if err := r.srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("nothing is served any more", "socket", path, "err", err)
		}
	}()
	s.run = r
	return nil
}

// Stop ends streams of events, lets other requests end until ctx does, then cuts them off. When it returns nothing of
// this run is left. Stopping what does not run does nothing.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.run
	if r == nil {
		return nil
	}
	s.run = nil
	r.drain()
	err := r.srv.Shutdown(ctx)
	if err != nil { // their time is up
		r.cancel()
		err = r.srv.Close()
	}
	<-r.done
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.active.Wait()
	r.cancel()
	return err
}

// listen opens the socket.
func listen(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("socket %s: a path of %d bytes is too long, %d are the most: choose a shorter one", path, len(path), maxSocketPath)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("socket: others can enter the folder %s: chmod 700 it, or choose another one", dir)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("socket: %w", err), l.Close())
	}
	return l, nil
}

// removeStale removes a socket that nobody listens at any more.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("socket %s: there is a file of that name, which is no socket: move it away", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return fmt.Errorf("socket %s: another process answers there: stop it first", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	return nil
}

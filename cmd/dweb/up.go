package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/OpenArchive/save-dweb-go/httpapi/client"
	"github.com/OpenArchive/save-dweb-go/vault"
)

// upFlags are the choices of up.
type upFlags struct {
	engineFlags
	device     string
	hops       int
	maxRate    string
	passphrase string // file
	keyring    bool
	logFile    string
	logLevel   string
	detach     bool
}

func (a *app) up() *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use: "up", Short: "Start the daemon",
		Long: `Start the daemon, which owns the node and the files, and stay until it is ended by "dweb down", an interrupt or SIGTERM. A
second interrupt ends it at once; what was acknowledged is safe all the same.

The node is a veilid-server that runs already and has its JSON API switched on (--engine), or a program that serves this
API and that the daemon starts, watches over and ends (--node). In the arguments of that program {dir} stands for a
folder of its own and {socket} for the socket where it is to serve the API.

Keys are kept in a vault, whose key is in the system's keyring. Without a keyring it is in a file beside the vault, which
protects little: give a passphrase.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.detach && os.Getenv(readyEnv) == "" {
				return a.detach(cmd.Context(), f)
			}
			return a.runDaemon(cmd.Context(), f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.engine, "engine", "", "remote:ADDRESS: a veilid-server that runs, by its socket's path or host:port")
	fl.StringVar(&f.node, "node", "", "a node program to start that serves the JSON API")
	fl.StringArrayVar(&f.args, "node-arg", nil, "an argument for it; can be repeated")
	fl.StringVar(&f.engineFlags.socket, "node-socket", "", "where it serves the API (default: a socket in the data folder)")
	fl.StringVar(&f.device, "device", "", "what members see as this device's name (default: nothing)")
	fl.IntVar(&f.hops, "hops", 1, "length of routes, 1 to 4: more hide better and are slower")
	fl.StringVar(&f.maxRate, "max-rate", "4MB", "most bytes per second in each direction, 0 for no limit: the way leads over other people's machines")
	fl.StringVar(&f.passphrase, "passphrase-file", "", "protect the keys by the passphrase in this file; - is standard input")
	fl.BoolVar(&f.keyring, "keyring", false, "protect the keys by the system's keyring, or fail")
	fl.StringVar(&f.logFile, "log-file", "", "write the log there (default: standard error)")
	fl.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fl.BoolVar(&f.detach, "detach", false, "return as soon as it runs; the log is dweb.log in the data folder")
	return cmd
}

// runDaemon is the daemon's life.
func (a *app) runDaemon(ctx context.Context, f upFlags) (err error) {
	ready := readyPipe()
	defer func() { ready.tell(err) }()
	logTo, closeLog, err := a.openLog(f.logFile)
	if err != nil {
		return err
	}
	defer closeLog()
	c, err := a.config(f, logTo)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d, err := startDaemon(ctx, c, stop)
	if err != nil {
		if ctx.Err() != nil {
			err = errInterrupted
		}
		return err
	}
	c.Log.Info("dweb is up", "version", versionText(), "pid", os.Getpid(), "data", c.Data, "engine", c.Engine)
	ready.tell(nil)

	<-ctx.Done()
	c.Log.Info("dweb goes down")
	if err := d.Close(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("going down: %w", err)
	}
	return nil
}

// config makes a daemon's configuration of the flags.
func (a *app) config(f upFlags, logTo io.Writer) (c daemonConfig, err error) {
	c = daemonConfig{Data: a.data, Socket: a.socket, Device: f.device, Hops: f.hops}
	if c.Data, err = filepath.Abs(c.Data); err != nil {
		return c, err
	}
	if f.hops < 1 || f.hops > 4 {
		return c, usagef("--hops %d: want 1 to 4", f.hops)
	}
	if f.keyring && f.passphrase != "" {
		return c, usagef("--passphrase-file and --keyring: choose one")
	}
	if c.MaxRate, err = parseBytes(f.maxRate); err != nil {
		return c, usagef("--max-rate: %w", err)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return c, usagef("--log-level %q: want debug, info, warn or error", f.logLevel)
	}
	c.Log = slog.New(slog.NewTextHandler(logTo, &slog.HandlerOptions{Level: level}))
	if c.Engine, c.Node, err = f.choose(c.Data, c.Log, logTo); err != nil {
		return c, err
	}
	switch {
	case f.keyring:
		c.Key = vault.Keyring()
	case f.passphrase != "":
		p, err := a.readPassphrase(f.passphrase)
		if err != nil {
			return c, err
		}
		c.Key = vault.Passphrase(p)
	}
	return c, nil
}

// maxPassphrase bounds what a passphrase file may hold.
const maxPassphrase = 64 << 10

func (a *app) readPassphrase(path string) (string, error) {
	in := a.in
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("passphrase: %w", err)
		}
		defer file.Close()
		in = file
	}
	b, err := io.ReadAll(io.LimitReader(in, maxPassphrase+1))
	if err != nil {
		return "", fmt.Errorf("passphrase: %w", err)
	}
	b = bytes.TrimRight(b, "\r\n")
	if len(b) == 0 || len(b) > maxPassphrase {
		return "", usagef("passphrase: %s is empty or longer than %d bytes", path, maxPassphrase)
	}
	return string(b), nil
}

// openLog opens the log file, or is standard error.
func (a *app) openLog(path string) (io.Writer, func() error, error) {
	if path == "" {
		return a.err, func() error { return nil }, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("log: %w", err)
	}
	return f, f.Close, nil
}

func (a *app) down() *cobra.Command {
	var limit time.Duration
	cmd := &cobra.Command{
		Use: "down", Short: "End the daemon", Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *client.Client, _ []string) error {
			s, err := c.Status(ctx)
			if err != nil {
				return err
			}
			if err := c.Shutdown(ctx); err != nil {
				return err
			}
			if err := waitUnlocked(ctx, s.Data, limit); err != nil {
				return err
			}
			return a.show(struct {
				Stopped int `json:"stopped"`
			}{s.PID}, func() { a.printf("dweb (pid %d) is down\n", s.PID) })
		}),
	}
	cmd.Flags().DurationVar(&limit, "timeout", 45*time.Second, "how long to wait for its end")
	return cmd
}

// waitUnlocked waits until no daemon uses a data folder any more.
func waitUnlocked(ctx context.Context, data string, limit time.Duration) error {
	f, err := os.Open(lockIn(data))
	if err != nil {
		return err
	}
	defer f.Close()
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := lockFile(f); !errors.Is(err, errInUse) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: the daemon is still going down", errInterrupted)
		case <-deadline:
			return fmt.Errorf("the daemon is still going down after %v", limit)
		case <-tick.C:
		}
	}
}

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Tell what the daemon is doing", Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *client.Client, _ []string) error {
			s, err := c.Status(ctx)
			if err != nil {
				return err
			}
			return a.show(s, func() {
				network := orDash(s.Attached) + ", " + yesNo(s.Ready, "ready", "not ready: what is here can be used, the rest waits")
				groups := count(s.Groups, "group")
				if s.Pending > 0 {
					groups += fmt.Sprintf(", %d with changes that are not published yet", s.Pending)
				}
				rows := [][]string{
					{"daemon", fmt.Sprintf("running, pid %d, version %s, since %s", s.PID, s.Version, timeText(s.Started))},
					{"data", s.Data},
					{"engine", orDash(s.Engine)},
					{"network", network},
					{"device", orDash(s.Device)},
					{"groups", groups},
					{"jobs", fmt.Sprintf("%d running", s.Jobs)},
				}
				for _, m := range s.Transfers {
					how := m.Waiting
					if how == "" {
						how = fmt.Sprintf("%s/s from %s", bytesText(m.Rate), count(m.Providers, "member"))
					}
					rows = append(rows, []string{"transfer", fmt.Sprintf("%.10s  %s of %s  %s", m.Blob, bytesText(m.Done), bytesText(m.Size), how)})
				}
				table(a.out, "", rows)
			})
		}),
	}
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/OpenArchive/save-dweb-go/httpapi"
	"github.com/OpenArchive/save-dweb-go/httpapi/client"
)

// version is set by the linker for releases; else the build tells what it is.
var version = ""

// exitInterrupted is what shells say of a command that was ended by an interrupt.
const exitInterrupted = 130

// errInterrupted: the person at the keyboard ended the command.
var errInterrupted = errors.New("interrupted")

// usageError is a wrong command line.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// app is what the commands share.
type app struct {
	in       io.Reader
	out, err io.Writer

	data   string
	socket string
	json   bool
	quiet  bool

	began bool // the command line was right
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "dweb",
		Short: "Share files in groups, over Veilid",
		Long: `Share photos, videos and other files in groups, over Veilid.

Start the daemon with "dweb up"; the other commands ask it. A group G is given by its name, its key or the key's
first characters.

Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 not found, 4 no daemon, not attached or peers unreachable,
5 refused or wrong key, 6 corrupt, 130 interrupted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			a.began = true
			return a.folders()
		},
	}
	root.Run = func(cmd *cobra.Command, _ []string) { cmd.Help() } //nolint:errcheck // nobody is left to tell
	f := root.PersistentFlags()
	f.StringVar(&a.data, "data", "", "data folder (default $DWEB_DATA, else the platform's)")
	f.StringVar(&a.socket, "socket", "", "the daemon's socket (default dweb.sock in the data folder)")
	f.BoolVar(&a.json, "json", false, "write JSON")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "write no progress")
	root.AddCommand(a.up(), a.down(), a.status(), a.group(), a.invite(), a.join(), a.put(), a.ls(), a.get(), a.rm(), a.sync(),
		a.ping(), a.jobs(), a.verify(), a.gc(), a.version())
	return root
}

// folders finds the data folder and the socket.
func (a *app) folders() (err error) {
	if a.data == "" {
		if a.data, err = defaultData(); err != nil {
			return err
		}
	}
	if a.socket == "" {
		a.socket = socketIn(a.data)
	}
	return nil
}

func (a *app) client() *client.Client { return client.New(a.socket) }

// ask makes a command's function of one that needs the daemon.
func (a *app) ask(f func(ctx context.Context, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c := a.client()
		defer c.Close()
		return f(cmd.Context(), c, args)
	}
}

// show writes v as JSON where that was asked for, and else what human writes.
func (a *app) show(v any, human func()) error {
	if !a.json {
		human()
		return nil
	}
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// list is an array in JSON even where it is empty.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }

// note tells the person at the terminal something that is not the answer.
func (a *app) note(format string, args ...any) {
	if !a.json && !a.quiet {
		fmt.Fprintf(a.err, format+"\n", args...)
	}
}

// exit tells of a failure and is the exit code.
func (a *app) exit(err error) int {
	if err == nil {
		return 0
	}
	code, class := a.classify(err)
	if a.json {
		b, _ := json.Marshal(map[string]string{"status": "error", "error": err.Error(), "code": class})
		fmt.Fprintf(a.err, "%s\n", b)
	} else {
		fmt.Fprintf(a.err, "dweb: %s\n", err)
	}
	if hint := a.hint(err); hint != "" && !a.json {
		fmt.Fprintln(a.err, hint)
	}
	return code
}

func (a *app) classify(err error) (exit int, code string) {
	var usage usageError
	var start *startError
	switch {
	case errors.As(err, &start):
		return max(start.exit, httpapi.ExitFailed), "not_started"
	case errors.Is(err, errInterrupted):
		return exitInterrupted, "interrupted"
	case !a.began, errors.As(err, &usage):
		return httpapi.ExitUsage, "usage"
	case errors.Is(err, client.ErrNoDaemon):
		return httpapi.ExitUnreachable, "no_daemon"
	case errors.Is(err, errNoNode):
		return httpapi.ExitUnreachable, "no_node"
	case errors.Is(err, errInUse):
		return httpapi.ExitFailed, "in_use"
	case errors.Is(err, fs.ErrNotExist):
		return httpapi.ExitNotFound, "not_found"
	}
	c := httpapi.Classify(err)
	return c.Exit, c.Code
}

// hint says what to do next.
func (a *app) hint(err error) string {
	var usage usageError
	switch {
	case !a.began, errors.As(err, &usage):
		return `See "dweb help" and "dweb COMMAND --help".`
	case errors.Is(err, errNoNode):
		return "Is the veilid-server running, with its JSON API switched on?"
	case errors.Is(err, client.ErrNoDaemon):
		if d, derr := defaultData(); derr == nil && d == a.data {
			return "Start it with: dweb up"
		}
		return "Start it with: dweb up --data " + quote(a.data)
	}
	return ""
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Tell the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := versionText()
			return a.show(map[string]string{"version": v}, func() { a.printf("dweb %s\n", v) })
		},
	}
}

func versionText() string {
	if version != "" {
		return version
	}
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "(devel)"
}

// isDir reports whether a path is a folder.
func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

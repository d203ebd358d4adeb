package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/OpenArchive/save-dweb-go/httpapi"
	"github.com/OpenArchive/save-dweb-go/httpapi/client"
)

// putFlags are the choices of put.
type putFlags struct {
	name      string
	mime      string
	noReplace bool
	wait      bool
}

func (a *app) put() *cobra.Command {
	var f putFlags
	cmd := &cobra.Command{
		Use: "put G FILE...", Short: "Add files to your part of a group",
		Long: "Add files to your part of a group; - is standard input, with --name. A file is durable and listed here when the command\nreturns, and published when the network can be reached: --wait waits for that.",
		Args: cobra.MinimumNArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return a.completeGroup(cmd, args, toComplete)
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: a.ask(func(ctx context.Context, c *client.Client, args []string) error {
			return a.putAll(ctx, c, args[0], args[1:], f)
		}),
	}
	fl := cmd.Flags()
	fl.StringVar(&f.name, "name", "", "the file's name in the group")
	fl.StringVar(&f.mime, "mime", "", "its media type (default: by its name)")
	fl.BoolVar(&f.noReplace, "no-replace", false, "fail rather than replace a file of yours with that name")
	fl.BoolVar(&f.wait, "wait", false, "wait until the members can see the files")
	return cmd
}

func (a *app) putAll(ctx context.Context, c *client.Client, group string, paths []string, f putFlags) error {
	if f.name != "" && len(paths) > 1 {
		return usagef("--name is for one file, not %d", len(paths))
	}
	// What cannot be put is told before anything is.
	for _, p := range paths {
		switch {
		case p == "-" && f.name == "":
			return usagef("standard input needs a name: give --name")
		case p != "-" && isDir(p):
			return usagef("%s is a folder: give the files in it, such as %s", p, filepath.Join(p, "*"))
		case p != "-":
			if _, err := os.Stat(p); err != nil {
				return err
			}
		}
	}
	var out []httpapi.File
	for _, p := range paths {
		file, err := a.putOne(ctx, c, group, p, f)
		if err != nil {
			if len(out) > 0 {
				err = fmt.Errorf("%w (%s put before)", err, count(len(out), "file"))
			}
			return err
		}
		out = append(out, file)
	}
	if f.wait {
		if err := a.waitPublished(ctx, c, group, out); err != nil {
			return err
		}
	}
	return a.show(list(out), func() {
		var rows [][]string
		pending := 0
		for _, f := range out {
			rows = append(rows, []string{f.Name, bytesText(f.Size), yesNo(f.Published, "published", "pending")})
			if !f.Published {
				pending++
			}
		}
		table(a.out, "", rows)
		if pending > 0 {
			a.note("pending: the members see it as soon as it has reached the network; the daemon sees to that.")
		}
	})
}

func (a *app) putOne(ctx context.Context, c *client.Client, group, path string, f putFlags) (httpapi.File, error) {
	o := client.PutOptions{MIME: f.mime, NoReplace: f.noReplace, Size: -1}
	name, src := f.name, a.in
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return httpapi.File{}, err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return httpapi.File{}, err
		}
		if name == "" {
			name = filepath.Base(path)
		}
		src, o.Modified = file, info.ModTime()
		if info.Mode().IsRegular() {
			o.Size = info.Size()
		}
	}
	b := a.readBar(name, o.Size)
	defer b.end()
	out, err := c.Put(ctx, group, name, io.TeeReader(src, b), o)
	if err != nil && ctx.Err() != nil {
		return out, fmt.Errorf("%w: %q was not put", errInterrupted, name)
	}
	if err != nil {
		var told *httpapi.Error
		if !errors.As(err, &told) {
			err = fmt.Errorf("put %q: %w", name, err)
		}
		return out, err
	}
	return out, nil
}

// askAgain is how often a command looks at what events should tell of.
const askAgain = 5 * time.Second

// waitPublished waits until all files have reached the network.
func (a *app) waitPublished(ctx context.Context, c *client.Client, group string, files []httpapi.File) error {
	return a.watch(ctx, c, func() (bool, error) {
		for i, f := range files {
			if f.Published {
				continue
			}
			now, err := c.File(ctx, group, f.Repo, f.Name)
			if err != nil {
				return false, err
			}
			if files[i] = now; !now.Published {
				return false, nil
			}
		}
		return true, nil
	})
}

// watch asks now, and again with every event, until it is told that all is done.
func (a *app) watch(ctx context.Context, c *client.Client, done func() (bool, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := c.Events(ctx, nil)
	if err != nil {
		return err
	}
	defer events.Close()
	more := make(chan struct{}, 1)
	ended := make(chan struct{})
	go func() { // ends with the stream, which ends with ctx
		defer close(ended)
		for {
			if _, err := events.Next(); err != nil {
				return
			}
			select {
			case more <- struct{}{}:
			default:
			}
		}
	}()
	defer func() { cancel(); <-ended }()
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for {
		ok, err := done()
		if ctx.Err() != nil {
			return errInterrupted
		}
		if ok || err != nil {
			return err
		}
		select {
		case <-more:
		case <-tick.C:
		case <-ended:
			if ctx.Err() == nil {
				return fmt.Errorf("%w any more: it was stopped", client.ErrNoDaemon)
			}
			return errInterrupted
		}
	}
}

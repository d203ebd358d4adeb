package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/group"
	"github.com/OpenArchive/save-dweb-go/httpapi"
	"github.com/OpenArchive/save-dweb-go/httpapi/client"
)

func (a *app) sync() *cobra.Command {
	var (
		keep    bool
		from    string
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use: "sync [G]", Short: "Bring all files of a group here, or of all groups",
		Long: "Ask the network what is new in a group, or in all, and bring all files here. With --watch it stays and brings what comes.",
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeGroup,
		RunE: a.ask(func(ctx context.Context, c *client.Client, args []string) error {
			if from != "" && len(args) == 0 {
				return usagef("--from names a member of one group: say which group")
			}
			groups, err := a.some(ctx, c, args)
			if err != nil {
				return err
			}
			if !keep {
				return a.syncGroups(ctx, c, groups, from, timeout)
			}
			return a.syncForever(ctx, c, args, from)
		}),
	}
	fl := cmd.Flags()
	fl.BoolVar(&keep, "watch", false, "stay, and bring what comes")
	fl.StringVar(&from, "from", "", "only the files of this member")
	fl.DurationVar(&timeout, "timeout", 0, "give up after so long, such as 10m (default: when nothing arrives for a minute)")
	cmd.RegisterFlagCompletionFunc("from", a.completeMemberFlag) //nolint:errcheck // the flag is there
	return cmd
}

// some are the groups of the arguments, or all.
func (a *app) some(ctx context.Context, c *client.Client, args []string) ([]httpapi.Group, error) {
	if len(args) == 0 {
		return c.Groups(ctx)
	}
	g, err := c.Group(ctx, args[0])
	return []httpapi.Group{g}, err
}

// synced is what sync has done.
type synced struct {
	Group  string `json:"group"`
	Name   string `json:"name"`
	Files  int    `json:"files"` // that came
	Failed int    `json:"failed"`
	Bytes  uint64 `json:"bytes"`
	Error  string `json:"error,omitempty"`
	Code   string `json:"code,omitempty"`
}

func (a *app) syncGroups(ctx context.Context, c *client.Client, groups []httpapi.Group, from string, limit time.Duration) error {
	var errs []error
	out := []synced{}
	for _, g := range groups {
		s, err := a.syncOne(ctx, c, g, from, limit)
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", clean(nameOf(g)), err))
			_, s.Code = a.classify(err)
			s.Error = err.Error()
		}
		out = append(out, s)
	}
	if err := a.show(out, func() {
		for _, s := range out {
			if s.Error == "" {
				a.printf("%s: %s came, %s; all is here\n", clean(orDash(s.Name)), count(s.Files, "file"), bytesText(s.Bytes))
			} else {
				a.printf("%s: %s came, %s; %s failed\n", clean(orDash(s.Name)), count(s.Files, "file"), bytesText(s.Bytes), count(s.Failed, "file"))
			}
		}
	}); err != nil {
		return err
	}
	return errors.Join(errs...)
}

func (a *app) syncOne(ctx context.Context, c *client.Client, g httpapi.Group, from string, limit time.Duration) (synced, error) {
	s := synced{Group: g.Key, Name: g.Name}
	if fresh, err := c.Refresh(ctx, g.Key); err == nil {
		s.Name = fresh.Name
	} else if ctx.Err() != nil {
		return s, errInterrupted
	} else if errors.Is(err, client.ErrNoDaemon) || errors.Is(err, backend.ErrOffline) {
		return s, err
	} else {
		a.note("%s: not all could be read from the network: %v", clean(nameOf(g)), err)
	}
	job, err := c.Sync(ctx, g.Key, from)
	if err != nil {
		return s, err
	}
	job, err = a.follow(ctx, c, job, nameOf(g), limit)
	s.Files, s.Failed, s.Bytes = job.FilesDone, job.Failed, job.Done
	return s, err
}

// syncForever brings what comes until the person ends it. What fails is told, and tried again with the next change.
func (a *app) syncForever(ctx context.Context, c *client.Client, args []string, from string) error {
	events, err := c.Events(ctx, nil)
	if err != nil {
		return err
	}
	defer events.Close()
	for {
		groups, err := a.some(ctx, c, args)
		if err == nil {
			err = a.syncGroups(ctx, c, groups, from, 0)
		}
		if ctx.Err() != nil {
			return nil // as asked
		}
		if errors.Is(err, client.ErrNoDaemon) {
			return err
		}
		if err != nil {
			a.note("%v", err)
		}
		if err := next(events); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("%w any more: it was stopped", client.ErrNoDaemon)
		}
	}
}

// next waits for an event after which there may be something to bring.
func next(events *client.EventStream) error {
	for {
		e, err := events.Next()
		if err != nil {
			return err
		}
		switch e.Type {
		case string(group.FilesChanged), string(group.MemberAdded), backend.EventGroupAdded, backend.EventLost:
			return nil
		case backend.EventAttachment:
			if e.Ready {
				return nil
			}
		}
	}
}

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/exchange"
	"github.com/OpenArchive/save-dweb-go/httpapi"
	"github.com/OpenArchive/save-dweb-go/httpapi/client"
)

func (a *app) ping() *cobra.Command {
	return &cobra.Command{
		Use: "ping G", Short: "Call the other members of a group", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeGroup,
		RunE: a.ask(func(ctx context.Context, c *client.Client, args []string) error {
			pongs, err := c.Ping(ctx, args[0])
			if err != nil {
				return err
			}
			answered := 0
			var rows [][]string
			for _, p := range pongs {
				what := p.Error
				if p.Error == "" {
					answered++
					what = fmt.Sprintf("%.0f ms", p.RTT)
				}
				rows = append(rows, []string{shortKey(p.Member.Repo), orDash(p.Member.Name), orDash(p.Member.Device), what})
			}
			if err := a.show(list(pongs), func() {
				table(a.out, "", rows)
				if len(rows) == 0 {
					a.note("there is no other member to call yet")
				}
			}); err != nil {
				return err
			}
			if len(pongs) > 0 && answered == 0 {
				return fmt.Errorf("%w: nobody answered", exchange.ErrUnreachable)
			}
			return nil
		}),
	}
}

func (a *app) jobs() *cobra.Command {
	var cancel string
	cmd := &cobra.Command{
		Use: "jobs", Short: "List what the daemon is doing, or cancel it", Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *client.Client, _ []string) error {
			if cancel != "" {
				j, err := c.CancelJob(ctx, cancel)
				if err != nil {
					return err
				}
				return a.show(j, func() { table(a.out, "", [][]string{jobRow(j)}) })
			}
			js, err := c.Jobs(ctx)
			if err != nil {
				return err
			}
			return a.show(list(js), func() {
				var rows [][]string
				for _, j := range js {
					rows = append(rows, jobRow(j))
				}
				table(a.out, "", rows)
			})
		}),
	}
	cmd.Flags().StringVar(&cancel, "cancel", "", "cancel the job with this ID; what has arrived is kept")
	cmd.RegisterFlagCompletionFunc("cancel", a.completeJob) //nolint:errcheck // the flag is there
	return cmd
}

func jobRow(j httpapi.Job) []string {
	what := j.File
	if what == "" && j.Files > 0 {
		what = fmt.Sprintf("%d of %s", j.FilesDone, count(j.Files, "file"))
	}
	state := string(j.State) + jobDetail(j)
	if j.Error != "" {
		state += ": " + j.Error
	}
	return []string{j.ID, string(j.Kind), orDash(what), bytesText(j.Done) + " of " + bytesText(j.Total), state}
}

func (a *app) verify() *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use: "verify", Short: "Compare every file on this device with its hash", Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *client.Client, _ []string) error {
			job, err := c.Verify(ctx, repair)
			if err != nil {
				return err
			}
			j, err := a.follow(ctx, c, job, "verify", 0)
			if j.State != backend.JobDone && j.State != backend.JobFailed {
				return err
			}
			if serr := a.show(j, func() {
				a.printf("%s read, %s; %d corrupt\n", count(j.FilesDone, "blob"), bytesText(j.Done), j.Failed)
				if repair && j.Failed > 0 {
					a.printf("what other members hold is fetched again: see \"dweb jobs\"\n")
				}
			}); serr != nil {
				return serr
			}
			return err
		}),
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "remove what is corrupt and fetch it again from other members")
	return cmd
}

func (a *app) gc() *cobra.Command {
	return &cobra.Command{
		Use: "gc", Short: "Remove from this device what no list of files names any more", Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *client.Client, _ []string) error {
			g, err := c.Collect(ctx)
			if err != nil {
				return err
			}
			return a.show(g, func() {
				a.printf("removed %s, %s; kept %s, %s\n", count(g.Removed, "blob"), bytesText(g.RemovedBytes), count(g.Kept, "blob"), bytesText(g.KeptBytes))
			})
		}),
	}
}

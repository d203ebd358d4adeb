package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/OpenArchive/save-dweb-go/httpapi"
	"github.com/OpenArchive/save-dweb-go/httpapi/client"
)

func (a *app) ls() *cobra.Command {
	return &cobra.Command{
		Use: "ls G [MEMBER]", Short: "List the files of a group, or of one member",
		Long: "List the files of a group, or of one member: \"me\", or a member's name or key. A file is here, or remote: then\n\"dweb get\" brings it. One of yours is published, or pending until the network can be reached.",
		Args: cobra.RangeArgs(1, 2), ValidArgsFunction: a.completeGroupMember,
		RunE: a.ask(func(ctx context.Context, c *client.Client, args []string) error {
			repo := ""
			if len(args) == 2 {
				repo = args[1]
			}
			files, err := c.Files(ctx, args[0], repo)
			if err != nil {
				return err
			}
			return a.show(list(files), func() {
				var rows [][]string
				for _, f := range files {
					rows = append(rows, []string{f.Name, bytesText(f.Size), fileState(f), orDash(f.Member), timeText(f.Modified)})
				}
				if len(rows) > 0 {
					table(a.out, "NAME SIZE STATE MEMBER MODIFIED", rows)
				}
				a.noteProblems(ctx, c, args[0], repo)
			})
		}),
	}
}

func fileState(f httpapi.File) string {
	s := yesNo(f.Local, "here", "remote")
	if !f.Local && f.Held > 0 && f.BlobSize > 0 {
		s += fmt.Sprintf(" (%d %% here)", f.Held*100/f.BlobSize)
	}
	if f.Own {
		s += ", " + yesNo(f.Published, "published", "pending")
	}
	return s
}

// noteProblems says whose files could not be read: a list that is not whole must not pass for one that is.
func (a *app) noteProblems(ctx context.Context, c *client.Client, group, repo string) {
	var repos []httpapi.Repo
	if repo == "" {
		repos, _ = c.Repos(ctx, group)
	} else if r, err := c.Repo(ctx, group, repo); err == nil {
		repos = []httpapi.Repo{r}
	}
	for _, r := range repos {
		if r.Problem != "" {
			a.note("%s: the list may be old or not whole: %s", clean(orDash(r.Name)), clean(r.Problem))
		}
	}
}

func (a *app) rm() *cobra.Command {
	return &cobra.Command{
		Use: "rm G NAME...", Short: "Remove files of yours from a group",
		Long: "Remove files of yours from a group. Copies that members hold already stay with them.",
		Args: cobra.MinimumNArgs(2), ValidArgsFunction: a.completeGroupOwnFile,
		RunE: a.ask(func(ctx context.Context, c *client.Client, args []string) error {
			removed := []string{}
			for _, name := range args[1:] {
				if err := c.Delete(ctx, args[0], "me", name); err != nil {
					return err
				}
				removed = append(removed, name)
				if !a.json {
					a.printf("removed %q\n", clean(name))
				}
			}
			return a.show(removed, func() {})
		}),
	}
}

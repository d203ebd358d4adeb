package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/httpapi/client"
)

// completeLimit bounds how long a press of the tab key waits.
const completeLimit = 2 * time.Second

// complete asks the daemon for the words that may follow. Without one there are none.
func (a *app) complete(f func(ctx context.Context, c *client.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	const only = cobra.ShellCompDirectiveNoFileComp
	if a.folders() != nil {
		return nil, only
	}
	ctx, cancel := context.WithTimeout(context.Background(), completeLimit)
	defer cancel()
	c := a.client()
	defer c.Close()
	words, err := f(ctx, c)
	if err != nil {
		return nil, only
	}
	for i := range words {
		words[i] = clean(words[i])
	}
	return words, only
}

func (a *app) completeGroup(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.complete(func(ctx context.Context, c *client.Client) (words []string, err error) {
		gs, err := c.Groups(ctx)
		named := map[string]int{}
		for _, g := range gs {
			named[g.Name]++
		}
		for _, g := range gs {
			if g.Name == "" || named[g.Name] > 1 {
				words = append(words, cobra.CompletionWithDesc(shortKey(g.Key), nameOf(g)))
			} else {
				words = append(words, g.Name)
			}
		}
		return words, err
	})
}

// completeNames completes a group, then what words says of it.
func (a *app) completeNames(args []string, most int, words func(ctx context.Context, c *client.Client, group string) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeGroup(nil, nil, "")
	}
	if len(args) > most {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.complete(func(ctx context.Context, c *client.Client) ([]string, error) { return words(ctx, c, args[0]) })
}

func fileNames(repo string) func(context.Context, *client.Client, string) ([]string, error) {
	return func(ctx context.Context, c *client.Client, group string) (words []string, err error) {
		files, err := c.Files(ctx, group, repo)
		seen := map[string]bool{}
		for _, f := range files {
			if !seen[f.Name] {
				seen[f.Name] = true
				words = append(words, f.Name)
			}
		}
		return words, err
	}
}

func memberNames(ctx context.Context, c *client.Client, group string) (words []string, err error) {
	ms, err := c.Members(ctx, group)
	for _, m := range ms {
		switch {
		case m.Own:
			words = append(words, "me")
		case m.Name != "":
			words = append(words, m.Name)
		default:
			words = append(words, shortKey(m.Repo))
		}
	}
	return words, err
}

func (a *app) completeGroupFile(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.completeNames(args, 1, fileNames(""))
}

func (a *app) completeGroupOwnFile(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.completeNames(args, 1<<10, fileNames("me"))
}

func (a *app) completeGroupMember(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.completeNames(args, 1, memberNames)
}

func (a *app) completeMemberFlag(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeNames(args[:1], 1, memberNames)
}

func (a *app) completeJob(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return a.complete(func(ctx context.Context, c *client.Client) (words []string, err error) {
		js, err := c.Jobs(ctx)
		for _, j := range js {
			if j.State == backend.JobRunning {
				words = append(words, cobra.CompletionWithDesc(j.ID, string(j.Kind)+" "+j.File))
			}
		}
		return words, err
	})
}

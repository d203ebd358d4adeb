package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/OpenArchive/save-dweb-go/httpapi"
	"github.com/OpenArchive/save-dweb-go/httpapi/client"
)

func (a *app) group() *cobra.Command {
	cmd := &cobra.Command{
		Use: "group", Short: "Make groups and look after them", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usagef("group what? create, list, show, rename, members, legacy or leave")
		},
	}
	cmd.AddCommand(a.groupCreate(), a.groupList(), a.groupShow(), a.groupRename(), a.groupMembers(), a.groupLegacy(), a.groupLeave())
	return cmd
}

func (a *app) groupCreate() *cobra.Command {
	var me string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a group", Args: cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *client.Client, args []string) error {
			g, err := c.CreateGroup(ctx, httpapi.NewGroup{Name: args[0], Member: me})
			if err != nil {
				return err
			}
			return a.show(g, func() { a.showGroup(g) })
		}),
	}
	cmd.Flags().StringVar(&me, "me", "", "your name in the group (default: one that tells nothing)")
	return cmd
}

func (a *app) groupList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the groups", Aliases: []string{"ls"}, Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *client.Client, _ []string) error {
			gs, err := c.Groups(ctx)
			if err != nil {
				return err
			}
			return a.show(list(gs), func() {
				if len(gs) == 0 {
					a.note("no groups: make one with \"dweb group create NAME\", or join one with \"dweb join LINK\"")
					return
				}
				var rows [][]string
				for _, g := range gs {
					rows = append(rows, []string{shortKey(g.Key), nameOf(g), groupState(g), count(g.Members, "member"), count(g.Files, "file"), bytesText(g.Bytes)})
				}
				table(a.out, "", rows)
			})
		}),
	}
}

func nameOf(g httpapi.Group) string {
	if g.Name == "" {
		return "(name not known yet)"
	}
	return g.Name
}

func groupState(g httpapi.Group) string {
	if !g.CanWrite {
		return "read only"
	}
	return yesNo(g.Published, "published", "pending")
}

func (a *app) showGroup(g httpapi.Group) {
	rows := [][]string{
		{"group", nameOf(g)},
		{"key", g.Key},
		{"own repo", orDash(g.Repo)},
		{"state", groupState(g)},
		{"members", count(g.Members, "member")},
		{"files", count(g.Files, "file") + ", " + bytesText(g.Bytes)},
	}
	if g.Repo != "" {
		rows = append(rows, []string{"legacy", yesNo(g.Legacy, "on: file names are readable for who holds the blobs", "off")})
	}
	table(a.out, "", rows)
}

func (a *app) groupShow() *cobra.Command {
	return &cobra.Command{
		Use: "show G", Short: "Show a group", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeGroup,
		RunE: a.ask(func(ctx context.Context, c *client.Client, args []string) error {
			g, err := c.Group(ctx, args[0])
			if err != nil {
				return err
			}
			return a.show(g, func() { a.showGroup(g) })
		}),
	}
}

func (a *app) groupRename() *cobra.Command {
	var me bool
	cmd := &cobra.Command{
		Use: "rename G NAME", Short: "Rename a group for all members, or yourself in it", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeGroup,
		RunE: a.ask(func(ctx context.Context, c *client.Client, args []string) error {
			if me {
				r, err := c.RenameRepo(ctx, args[0], "me", args[1])
				if err != nil {
					return err
				}
				return a.show(r, func() { a.printf("you are %q now (%s)\n", clean(r.Name), yesNo(r.Published, "published", "pending")) })
			}
			g, err := c.ChangeGroup(ctx, args[0], httpapi.ChangeGroup{Name: &args[1]})
			if err != nil {
				return err
			}
			return a.show(g, func() { a.printf("the group is %q now (%s)\n", clean(g.Name), groupState(g)) })
		}),
	}
	cmd.Flags().BoolVar(&me, "me", false, "change your own name in the group, not the group's")
	return cmd
}

func (a *app) groupMembers() *cobra.Command {
	return &cobra.Command{
		Use: "members G", Short: "List a group's members", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeGroup,
		RunE: a.ask(func(ctx context.Context, c *client.Client, args []string) error {
			ms, err := c.Members(ctx, args[0])
			if err != nil {
				return err
			}
			return a.show(list(ms), func() {
				var rows [][]string
				for _, m := range ms {
					rows = append(rows, []string{
						shortKey(m.Repo), orDash(m.Name), memberState(m), orDash(m.Device), count(m.Files, "file"), bytesText(m.Bytes), timeText(m.LastSeen),
					})
				}
				table(a.out, "KEY NAME STATE DEVICE FILES SIZE SEEN", rows)
			})
		}),
	}
}

func memberState(m httpapi.Member) string {
	switch {
	case m.Own:
		return "this device"
	case m.Gone:
		return "gone"
	case m.Away:
		return "away"
	case m.Legacy:
		return "Rust app"
	}
	return "reachable"
}

func (a *app) groupLegacy() *cobra.Command {
	return &cobra.Command{
		Use: "legacy G on|off", Short: "Say whether members with the older Rust app must see your files",
		Long: "While it is on, lists of your files are published in the Rust app's form too: whoever holds the blobs can read the\nfiles' names in it, though not the files.",
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return []string{"on", "off"}, cobra.ShellCompDirectiveNoFileComp
			}
			return a.completeGroup(cmd, args, toComplete)
		},
		RunE: a.ask(func(ctx context.Context, c *client.Client, args []string) error {
			on := args[1] == "on"
			if !on && args[1] != "off" {
				return usagef("legacy %q: want on or off", args[1])
			}
			g, err := c.ChangeGroup(ctx, args[0], httpapi.ChangeGroup{Legacy: &on})
			if err != nil {
				return err
			}
			return a.show(g, func() { a.showGroup(g) })
		}),
	}
}

func (a *app) groupLeave() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "leave G", Short: "Leave a group and remove its keys and files from this device", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeGroup,
		RunE: a.ask(func(ctx context.Context, c *client.Client, args []string) error {
			g, err := c.Group(ctx, args[0])
			if err != nil {
				return err
			}
			if !yes {
				if !a.onTerminal() {
					return usagef("leaving %q removes its keys and files from this device: say --yes", g.Name)
				}
				ok, err := a.confirm("Leave %q and remove its keys and files from this device?", clean(nameOf(g)))
				if err != nil {
					return err
				}
				if !ok {
					return errors.New("nothing was changed")
				}
			}
			if err := c.Leave(ctx, g.Key); err != nil {
				return err
			}
			return a.show(struct {
				Left string `json:"left"`
			}{g.Key}, func() { a.printf("left %q\n", clean(nameOf(g))) })
		}),
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

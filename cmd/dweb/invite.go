package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/OpenArchive/save-dweb-go/group/invite"
	"github.com/OpenArchive/save-dweb-go/httpapi"
	"github.com/OpenArchive/save-dweb-go/httpapi/client"
)

func (a *app) invite() *cobra.Command {
	var readOnly, qr bool
	cmd := &cobra.Command{
		Use: "invite G", Short: "Write the link by which others join a group",
		Long: "Write the link by which others join a group. It holds the group's keys: who has it is a member, and it cannot be taken\nback. Hand it on by a channel that you trust.",
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeGroup,
		RunE: a.ask(func(ctx context.Context, c *client.Client, args []string) error {
			i, err := c.Invite(ctx, args[0], readOnly)
			if err != nil {
				return err
			}
			var code string
			if qr && !a.json {
				if code, err = drawQR(i.Link, isTerminal(a.out)); err != nil {
					return err
				}
			}
			a.note("Who has this link %s. It cannot be taken back: hand it on by a channel that you trust.",
				yesNo(i.ReadOnly, "reads everything in the group", "is a member of the group"))
			return a.show(i, func() { a.printf("%s%s\n", code, i.Link) })
		}),
	}
	cmd.Flags().BoolVar(&readOnly, "read-only", false, "a link by which others can read, but not share")
	cmd.Flags().BoolVar(&qr, "qr", false, "draw it as a QR code, too")
	return cmd
}

func (a *app) join() *cobra.Command {
	var me string
	cmd := &cobra.Command{
		Use: "join [LINK|-]", Short: "Join a group by a link",
		Long: "Join a group by a link. Where other people use this machine give - or nothing, and the link on standard input: what\nstands on a command line they can see.",
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.ask(func(ctx context.Context, c *client.Client, args []string) error {
			link := "-"
			if len(args) == 1 {
				link = args[0]
			}
			if link == "-" {
				var err error
				if link, err = a.readLink(); err != nil {
					return err
				}
			}
			if _, err := invite.Parse(link); err != nil { // says what is wrong even without a daemon
				return err
			}
			g, err := c.Join(ctx, httpapi.JoinGroup{Link: link, Name: me})
			if err != nil {
				return err
			}
			return a.show(g, func() {
				a.showGroup(g)
				if g.Name == "" {
					a.note("The network has not answered yet; the group fills when it does.")
				}
			})
		}),
	}
	cmd.Flags().StringVar(&me, "me", "", "your name in the group (default: one that tells nothing)")
	return cmd
}

// readLink reads a link from standard input.
func (a *app) readLink() (string, error) {
	if a.onTerminal() {
		fmt.Fprint(a.err, "Link: ")
		line, err := bufio.NewReader(io.LimitReader(a.in, invite.MaxLength+2)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read link: %w", err)
		}
		return strings.TrimSpace(line), nil
	}
	b, err := io.ReadAll(io.LimitReader(a.in, invite.MaxLength+2))
	if err != nil {
		return "", fmt.Errorf("read link: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

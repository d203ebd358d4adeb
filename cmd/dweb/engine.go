package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/remote"
)

// engineFlags choose the node.
type engineFlags struct {
	engine string   // remote:ADDRESS
	node   string   // program to start
	args   []string // its arguments
	socket string   // where it serves the JSON API
}

// furtherEngines are engines that tests add, by the word before the colon.
var furtherEngines map[string]func(ctx context.Context, address string) (veilid.Node, error)

// choose says which engine the flags mean: its name, and how to start it. A node that is started writes to out.
func (f engineFlags) choose(data string, log *slog.Logger, out io.Writer) (name string, start func(context.Context) (veilid.Node, error), err error) {
	kind, address, _ := strings.Cut(f.engine, ":")
	switch {
	case f.node != "" && f.engine != "":
		return "", nil, usagef("--engine and --node: choose one: a node that runs already, or one to start")
	case f.node == "" && (len(f.args) > 0 || f.socket != ""):
		return "", nil, usagef("--node-arg and --node-socket belong to --node")
	case f.node != "":
		o := remote.SpawnOptions{Path: f.node, Args: f.args, Dir: filepath.Join(data, "node"), Socket: f.socket, Log: out, Options: remote.Options{Log: log}}
		if o.Socket == "" {
			o.Socket = filepath.Join(o.Dir, "api.sock")
		}
		for i, a := range o.Args {
			o.Args[i] = strings.NewReplacer("{dir}", o.Dir, "{socket}", o.Socket).Replace(a)
		}
		return "node:" + filepath.Base(f.node), func(ctx context.Context) (veilid.Node, error) {
			if err := makeFolder(o.Dir); err != nil {
				return nil, err
			}
			return asNode(remote.Spawn(ctx, o))
		}, nil
	case f.engine == "":
		return "", nil, usagef("which Veilid node? give --engine remote:ADDRESS for a veilid-server that runs, or --node PROGRAM to start one")
	case furtherEngines[kind] != nil:
		return f.engine, func(ctx context.Context) (veilid.Node, error) { return furtherEngines[kind](ctx, address) }, nil
	case kind != "remote" || address == "":
		return "", nil, usagef("--engine %q: want remote:ADDRESS, with the path of a socket or host:port", f.engine)
	}
	return f.engine, func(ctx context.Context) (veilid.Node, error) {
		return asNode(remote.Dial(ctx, address, remote.Options{Log: log}))
	}, nil
}

// errNoNode: the node cannot be reached or started.
var errNoNode = errors.New("no Veilid node")

// asNode keeps a nil pointer from becoming an interface that is not nil.
func asNode(n *remote.Node, err error) (veilid.Node, error) {
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoNode, err)
	}
	return n, nil
}

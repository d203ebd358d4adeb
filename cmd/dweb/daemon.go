package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/blobs/disk"
	"github.com/OpenArchive/save-dweb-go/httpapi"
	"github.com/OpenArchive/save-dweb-go/vault"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Limits of a shutdown. A second signal ends the daemon at once.
const (
	requestGrace = 10 * time.Second // for requests that are under way
	closeGrace   = 20 * time.Second // for the rest, such as telling members that this device goes away
)

// daemonConfig is what a daemon is made of.
type daemonConfig struct {
	Data    string
	Socket  string
	Device  string
	Key     vault.KeySource // nil: the system's keyring or a file
	Hops    int
	MaxRate float64
	Engine  string                                     // for status
	Node    func(context.Context) (veilid.Node, error) // chooses the engine
	Log     *slog.Logger
}

// daemon is a backend that answers at a socket.
type daemon struct {
	log   *slog.Logger
	close []func(context.Context) error // in order of start
}

// startDaemon starts everything, each on top of the former, and ends what has begun when something fails. stop is
// called when a client asks for the end.
func startDaemon(ctx context.Context, c daemonConfig, stop func()) (d *daemon, err error) {
	d = &daemon{log: c.Log}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close(context.WithoutCancel(ctx)))
		}
	}()

	if err := makeFolder(c.Data); err != nil {
		return d, err
	}
	unlock, err := lockFolder(c.Data)
	if err != nil {
		return d, err
	}
	d.onClose(func(context.Context) error { return unlock() })

	v, err := vault.Open(ctx, filepath.Join(c.Data, "vault"), vault.Options{Key: c.Key, Log: c.Log})
	if err != nil {
		return d, fmt.Errorf("keys: %w", err)
	}
	d.onClose(func(context.Context) error { return v.Close() }) // the backend closes it before; so do the next two

	store, err := disk.Open(ctx, filepath.Join(c.Data, "blobs"), disk.Options{Log: c.Log})
	if err != nil {
		return d, fmt.Errorf("files: %w", err)
	}
	d.onClose(func(context.Context) error { return store.Close() })

	node, err := c.Node(ctx)
	if err != nil {
		return d, fmt.Errorf("engine %s: %w", c.Engine, err)
	}
	d.onClose(func(context.Context) error { return node.Close() })

	b, err := backend.New(ctx, backend.Config{
		Node: node, Store: store, Table: backend.VaultTable(v), Device: c.Device, Hops: c.Hops, MaxRate: c.MaxRate, Log: c.Log,
	})
	if err != nil {
		return d, err
	}
	d.onClose(b.Close)

	// The socket before the network: what is here can be read at once, however long attaching takes.
	server := httpapi.NewServer(httpapi.New(b, httpapi.Options{
		Version: versionText(), Device: c.Device, Engine: c.Engine, Data: c.Data, Log: c.Log, Shutdown: stop,
	}), c.Log)
	if err := server.Start(c.Socket); err != nil {
		return d, err
	}
	d.onClose(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, requestGrace)
		defer cancel()
		return server.Stop(ctx)
	})

	if err := b.Start(); err != nil {
		return d, err
	}
	return d, nil
}

func (d *daemon) onClose(f func(context.Context) error) { d.close = append(d.close, f) }

// Close ends everything in the opposite order. A second Close does nothing.
func (d *daemon) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestGrace+closeGrace)
	defer cancel()
	var errs []error
	for _, f := range slices.Backward(d.close) {
		errs = append(errs, f(ctx))
	}
	d.close = nil
	return errors.Join(errs...)
}

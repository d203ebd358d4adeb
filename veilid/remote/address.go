package remote

import (
	"context"
	"fmt"
	"net"
	"strings"
)

// address is where a server listens, in the terms of package net.
type address struct{ network, addr string }

func (a address) String() string { return a.network + ":" + a.addr }

// dialer is a way to a server: an address, or a pipe in tests.
type dialer interface {
	dial(context.Context) (net.Conn, error)
	String() string
}

// parseAddress reads "unix:/path", "/path", "tcp:host:port" or "host:port".
func parseAddress(s string) (address, error) {
	bad := func(why string) error {
		return fmt.Errorf("address %q of the Veilid node: %s; want unix:/path, /path, tcp:host:port or host:port", s, why)
	}
	if path, ok := strings.CutPrefix(s, "unix:"); ok || strings.HasPrefix(s, "/") {
		if !ok {
			path = s
		}
		if path == "" {
			return address{}, bad("no path")
		}
		return address{"unix", path}, nil
	}
	host := strings.TrimPrefix(s, "tcp:")
	if _, port, err := net.SplitHostPort(host); err != nil || port == "" {
		return address{}, bad("no port")
	}
	return address{"tcp", host}, nil
}

// socketBuffer lets a few large messages wait in the kernel while the other side is busy.
const socketBuffer = 1 << 20

func (a address) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, a.network, a.addr)
	if err != nil {
		return nil, err
	}
	if b, ok := c.(interface{ SetWriteBuffer(int) error }); ok && a.network == "unix" {
		_ = b.SetWriteBuffer(socketBuffer) // the default serves as well, slower
	}
	return c, nil
}

package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	maxLine = 16 << 20 // of the JSON API
	askWait = 30 * time.Second
)

// Ready waits until node k is attached and ready for the public network, or ctx ends.
func (l *Lab) Ready(ctx context.Context, k int) error {
	if err := ready(ctx, l.Socket(k)); err != nil {
		return fmt.Errorf("lab: node %d is not ready: %w", k, err)
	}
	return nil
}

// ready asks again after any failure: a node that starts has no socket yet, and one that restarts loses its clients.
func ready(ctx context.Context, socket string) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		wait := askWait
		if deadline, ok := ctx.Deadline(); ok {
			wait = min(wait, time.Until(deadline))
		}
		request := map[string]any{
			"op": "WaitForAttachmentCondition", "condition": nil, "timeout_ms": max(1, wait.Milliseconds()),
		}
		_, err := ask(ctx, socket, request)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// ask sends one request of the JSON API over a connection of its own and returns the value of the answer.
func ask(ctx context.Context, socket string, request map[string]any) (json.RawMessage, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	request["id"] = 1
	line, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return nil, err
	}
	in := bufio.NewScanner(conn)
	in.Buffer(nil, maxLine)
	for in.Scan() {
		var m struct {
			Type  string          `json:"type"`
			ID    int             `json:"id"`
			Value json.RawMessage `json:"value"`
			Error json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(in.Bytes(), &m); err != nil {
			return nil, fmt.Errorf("answer of the node: %w", err)
		}
		switch {
		case m.Type != "Response" || m.ID != 1: // updates come in between
		case m.Error != nil:
			return nil, fmt.Errorf("the node says %s", m.Error)
		default:
			return m.Value, nil
		}
	}
	if err := in.Err(); err != nil {
		return nil, err
	}
	return nil, errors.New("the node closed the connection")
}

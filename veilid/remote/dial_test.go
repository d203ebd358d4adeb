package remote

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/OpenArchive/save-dweb-go/veilid/jsonapi"
)

// The environment by which TestMain makes this program a node, and what sort of.
const (
	beNodeAt  = "TEST_NODE_SOCKET"
	beNodeHow = "TEST_NODE_MODE"
)

// beNode serves the protocol on a socket where the environment asks for it, until a signal ends it.
func beNode() {
	socket := os.Getenv(beNodeAt)
	if socket == "" {
		return
	}
	fmt.Println("here I am")
	mode := os.Getenv(beNodeHow)
	if mode == "broken" {
		fmt.Fprintln(os.Stderr, "no disk, no node")
		os.Exit(3)
	}
	if mode == "stubborn" {
		signal.Ignore(syscall.SIGTERM)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		fmt.Println(err)
		os.Exit(4)
	}
	f := &fake{t: &testing.B{}, boot: time.Now(), serve: func(c *fakeConn, id uint32, r jsonapi.Request) {
		switch r.(type) {
		case jsonapi.Debug: // tells who it is
			c.value(id, `"%d"`, os.Getpid())
		default:
			echo(c, id, r)
		}
	}}
	for {
		raw, err := l.Accept()
		if err != nil {
			os.Exit(5)
		}
		c := &fakeConn{f: f, raw: raw, contexts: map[uint32]*jsonapi.SafetySelection{}}
		go c.run()
	}
}

func TestDial(t *testing.T) {
	dir, err := os.MkdirTemp("", "rt")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, network := range []string{"unix", "tcp"} {
		at := "127.0.0.1:0"
		if network == "unix" {
			at = filepath.Join(dir, "s")
		}
		l, err := net.Listen(network, at)
		if err != nil {
			t.Fatal(err)
		}
		f := &fake{t: t, serve: echo}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				raw, err := l.Accept()
				if err != nil {
					return
				}
				c := &fakeConn{f: f, raw: raw, contexts: map[uint32]*jsonapi.SafetySelection{}}
				wg.Go(c.run)
			}
		})
		for _, addr := range []string{network + ":" + l.Addr().String(), l.Addr().String()} {
			n, err := Dial(t.Context(), addr, Options{})
			if err != nil {
				t.Errorf("%s: %v", addr, err)
				continue
			}
			q := bytes.Repeat([]byte{7}, veilid.MaxMessageSize)
			if a, err := n.Context(veilid.SafetySelection{}).AppCall(t.Context(), target(t), q); err != nil || !bytes.Equal(a, q) {
				t.Errorf("%s: %d bytes, %v", addr, len(a), err)
			}
			n.Close()
		}
		l.Close()
		wg.Wait()
		if _, err := Dial(t.Context(), network+":"+l.Addr().String(), Options{}); err == nil {
			t.Error("dialled nobody")
		}
	}
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"/run/v.sock": "unix:/run/v.sock", "unix:/run/v.sock": "unix:/run/v.sock", "unix:v.sock": "unix:v.sock",
		"localhost:5959": "tcp:localhost:5959", "tcp:[::1]:5959": "tcp:[::1]:5959", ":5959": "tcp::5959",
		"": "", "unix:": "", "localhost": "", "tcp:localhost:": "", "::1:5": "",
	} {
		a, err := parseAddress(in)
		if want == "" {
			if err == nil {
				t.Errorf("%q: %v, want an error", in, a)
			}
		} else if err != nil || a.String() != want {
			t.Errorf("%q: %v, %v, want %s", in, a, err, want)
		}
	}
}

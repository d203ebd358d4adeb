package httpapi_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/blobs/disk"
	blobmem "github.com/OpenArchive/save-dweb-go/blobs/memory"
	"github.com/OpenArchive/save-dweb-go/httpapi"
	"github.com/OpenArchive/save-dweb-go/httpapi/client"
	"github.com/OpenArchive/save-dweb-go/vault"
	"github.com/OpenArchive/save-dweb-go/veilid/memory"
)

// network is a quick Veilid network in memory.
func network(t *testing.T) *memory.Network {
	t.Helper()
	n := memory.NewNetwork(memory.WithTick(5 * time.Millisecond))
	t.Cleanup(func() { n.Close() })
	return n
}

// newFuzzBackend is a backend that works in no network, with one group.
func newFuzzBackend(f *testing.F) *backend.Backend {
	net := memory.NewNetwork()
	v, err := vault.Open(f.Context(), f.TempDir(), vault.Options{Key: vault.Passphrase("fuzz"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	b, err := backend.New(f.Context(), backend.Config{Node: net.NewNode("a"), Store: blobmem.New(), Table: backend.VaultTable(v)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		b.Close(context.Background()) //nolint:errcheck // the test is over
		net.Close()
	})
	if _, err := b.CreateGroup(f.Context(), "G", ""); err != nil {
		f.Fatal(err)
	}
	return b
}

// device is a backend with a server and a client.
type device struct {
	*client.Client
	t       *testing.T
	dir     string
	socket  string
	backend *backend.Backend
	handler *httpapi.Handler
	server  *httpapi.Server
	stopped chan struct{} // closed when somebody asked for the end
}

// start makes a device that works in the network.
func start(t *testing.T, net *memory.Network, name string) *device {
	t.Helper()
	d := prepare(t, net, name)
	if err := d.backend.Start(); err != nil {
		t.Fatal(err)
	}
	if err := d.backend.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

// prepare makes a device that does not work in the network yet.
func prepare(t *testing.T, net *memory.Network, name string) *device {
	t.Helper()
	dir, err := os.MkdirTemp("", "dweb") // the test's own folder may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &device{t: t, dir: dir, socket: filepath.Join(dir, "s"), stopped: make(chan struct{})}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("device", name)
	}
	v, err := vault.Open(t.Context(), filepath.Join(dir, "vault"), vault.Options{Key: vault.DeviceFile(filepath.Join(dir, "vault")), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	store, err := disk.Open(t.Context(), filepath.Join(dir, "blobs"), disk.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	d.backend, err = backend.New(t.Context(), backend.Config{
		Node: net.NewNode(name), Store: store, Table: backend.VaultTable(v), Device: name, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	d.handler = httpapi.New(d.backend, httpapi.Options{Version: "test", Device: name, Log: log, Shutdown: func() { close(d.stopped) }})
	d.server = httpapi.NewServer(d.handler, log)
	if err := d.server.Start(d.socket); err != nil {
		t.Fatal(err)
	}
	d.Client = client.New(d.socket)
	t.Cleanup(func() {
		d.Client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := d.server.Stop(ctx); err != nil {
			t.Errorf("stop the server: %v", err)
		}
		if err := d.backend.Close(ctx); err != nil {
			t.Errorf("close the backend: %v", err)
		}
	})
	return d
}

func (d *device) create(name string) httpapi.Group {
	d.t.Helper()
	g, err := d.CreateGroup(d.t.Context(), httpapi.NewGroup{Name: name})
	if err != nil {
		d.t.Fatal(err)
	}
	return g
}

func (d *device) put(group, name string, data []byte) httpapi.File {
	d.t.Helper()
	f, err := d.Put(d.t.Context(), group, name, bytes.NewReader(data), client.PutOptions{Size: -1})
	if err != nil {
		d.t.Fatal(err)
	}
	return f
}

// read reads a whole file that is on the device.
func (d *device) read(group, repo, name string) []byte {
	d.t.Helper()
	r, size, err := d.Open(d.t.Context(), group, repo, name, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil || int64(len(b)) != size {
		d.t.Fatalf("read %s: %d bytes of %d, %v", name, len(b), size, err)
	}
	return b
}

// raw sends a request as it stands and returns the answer with its body.
func (d *device) raw(method, path, body string, header ...string) (*http.Response, string) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, "http://dweb"+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.socket)
		},
		DisableCompression: true,
	}
	defer tr.CloseIdleConnections()
	res, err := tr.RoundTrip(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return res, string(b)
}

// until waits, by events, until ok holds.
func (d *device) until(what string, ok func() bool) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 20*time.Second)
	defer cancel()
	zero := uint64(0)
	events, err := d.Events(ctx, &zero)
	if err != nil {
		d.t.Fatal(err)
	}
	defer events.Close()
	for !ok() {
		if _, err := events.Next(); err != nil {
			d.t.Fatalf("never came true: %s: %v", what, err)
		}
	}
}

// bytesOf is test data: the same for the same size.
func bytesOf(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8(sha256.Sum256([]byte{byte(size), byte(size >> 8)})).Read(b) //nolint:errcheck // never fails
	return b
}

package backend_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/OpenArchive/save-dweb-go/backend"
	blobmem "github.com/OpenArchive/save-dweb-go/blobs/memory"
	"github.com/OpenArchive/save-dweb-go/group"
	"github.com/OpenArchive/save-dweb-go/vault"
	"github.com/OpenArchive/save-dweb-go/veilid/memory"
)

// Two devices share a file. Here both are on a network in memory; a program takes package remote for the nodes and
// package disk for the stores.
func Example() {
	ctx := context.Background()
	net := memory.NewNetwork()
	defer net.Close()
	dir, err := os.MkdirTemp("", "dweb-example")
	check(err)
	defer os.RemoveAll(dir)
	alice, bob := device(ctx, net, dir, "alice"), device(ctx, net, dir, "bob")
	defer alice.Close(ctx)
	defer bob.Close(ctx)

	trip, err := alice.CreateGroup(ctx, "Trip", "Alice")
	check(err)
	_, err = trip.Own().Put(ctx, "note.txt", strings.NewReader("we are here"), group.PutOptions{})
	check(err)
	check(trip.Flush(ctx)) // until the network has it
	link, err := trip.Link(false)
	check(err)

	joined, err := bob.Join(ctx, link.Reveal(), "Bob")
	check(err)
	check(joined.Refresh(ctx))
	repo, err := joined.Repo(trip.Own().ID())
	check(err)
	check(repo.Fetch(ctx, "note.txt", nil))
	f, err := repo.Open(ctx, "note.txt")
	check(err)
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size))
	check(err)
	fmt.Printf("%s in %s: %s\n", repo.Name(), joined.Name(), text)
	// Output: Alice in Trip: we are here
}

func device(ctx context.Context, net *memory.Network, dir, name string) *backend.Backend {
	v, err := vault.Open(ctx, filepath.Join(dir, name), vault.Options{Key: vault.Passphrase("of " + name)})
	check(err)
	b, err := backend.New(ctx, backend.Config{Node: net.NewNode(name), Store: blobmem.New(), Table: backend.VaultTable(v), Device: name})
	check(err)
	check(b.Start())
	check(b.WaitReady(ctx))
	return b
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

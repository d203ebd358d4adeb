package blobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
	"github.com/OpenArchive/save-dweb-go/blobs/memory"
)

// One store serves a blob as iroh does, another one receives it. What does not match the hash is refused.
func ExampleReceiver() {
	ctx := context.Background()
	from, to := memory.New(), memory.New()
	tag, size, err := from.Add(ctx, strings.NewReader(strings.Repeat("photo ", 10_000)))
	check(err)
	defer tag.Release()
	blob, err := from.Open(ctx, tag.Hash)
	check(err)
	var response bytes.Buffer
	check(blob.Encode(&response, bao.All()))

	r, err := blobs.NewReceiver(ctx, to, tag.Hash, 1<<20)
	check(err)
	defer r.Close()
	wrong := bytes.Clone(response.Bytes())
	wrong[len(wrong)-1] ^= 1
	_, _, err = r.Write(ctx, bao.All(), wrong)
	fmt.Println("refused:", errors.Is(err, blobs.ErrVerify))
	gained, done, err := r.Write(ctx, bao.All(), response.Bytes())
	check(err)
	fmt.Println(gained == int(size), done)
	// Output:
	// refused: true
	// true true
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

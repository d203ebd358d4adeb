// Package wire is how iroh-blobs writes requests, ranges, bitfields and tickets (ALPN /iroh-bytes/4, iroh-blobs 0.90 to
// 0.104; what 0.24 to 0.35 know of it is the same), and how responses for several blobs follow each other.
//
// The encoding is postcard: numbers as LEB128, lists as their length and their elements. What is written is the shortest
// form. What is read may have longer numbers, as Rust's reader allows, but else must be canonical, as 0.104 demands.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/OpenArchive/save-dweb-go/blobs"
)

// ErrFormat: bytes are not a request, or what else they should be. Every error of this package about its input wraps
// it.
var ErrFormat = errors.New("bad iroh encoding")

// MaxRequest is the largest request in bytes, its type included, as iroh-blobs bounds it since 0.90.
const MaxRequest = 1 << 20

// input takes values off the front of bytes. The first failure stays.
type input struct {
	b   []byte
	err error
}

func (in *input) fail(format string, args ...any) {
	if in.err == nil {
		in.err = fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
	}
	in.b = nil
}

func (in *input) uvarint(what string) uint64 {
	v, n := binary.Uvarint(in.b)
	switch {
	case n == 0:
		in.fail("%s is cut short", what)
		return 0
	case n < 0:
		in.fail("%s is above 64 bits", what)
		return 0
	}
	in.b = in.b[n:]
	return v
}

// count is the length of a list whose elements take at least size bytes each: no more than can follow.
func (in *input) count(what string, size int) int {
	n := in.uvarint("number of " + what)
	if n > uint64(len(in.b)/size) {
		in.fail("%d %s in %d bytes", n, what, len(in.b))
		return 0
	}
	return int(n)
}

func (in *input) take(what string, n int) []byte {
	if len(in.b) < n {
		in.fail("%s is cut short: %d of %d bytes", what, len(in.b), n)
		return make([]byte, n)
	}
	b := in.b[:n]
	in.b = in.b[n:]
	return b
}

func (in *input) hash() (h blobs.Hash) {
	copy(h[:], in.take("hash", len(h)))
	return h
}

// end fails where anything is left.
func (in *input) end() error {
	if in.err == nil && len(in.b) > 0 {
		in.fail("%d bytes too many", len(in.b))
	}
	return in.err
}

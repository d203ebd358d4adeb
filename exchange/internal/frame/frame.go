// Package frame is the wire of the exchange: questions that only members of a group can write, answers that begin with
// a status, and the bodies of both. docs/protocol.md describes the bytes.
package frame

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"lukechampine.com/blake3"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Sizes of a question's parts in bytes.
const (
	magic     = "DWB1"
	TagSize   = 8
	nonceSize = 12
	macSize   = 16
	headSize  = len(magic) + 1 + TagSize + nonceSize

	// Overhead is what a question has besides its body.
	Overhead = headSize + macSize
	// MaxBody is the largest body of a question.
	MaxBody = veilid.MaxMessageSize - Overhead
	// MaxAnswer is the largest body of an answer, which has one byte of status besides.
	MaxAnswer = veilid.MaxMessageSize - 1
)

// Op says what a question asks.
type Op uint8

// The operations.
const (
	OpHello Op = 1
	OpPing  Op = 2
	OpHave  Op = 3
	OpRead  Op = 4
	OpNews  Op = 5 // an app message
)

// Status is an answer's first byte.
type Status uint8

// The statuses.
const (
	OK         Status = 0
	Shortened  Status = 1
	NotFound   Status = 2
	Busy       Status = 3
	Denied     Status = 4
	TooLarge   Status = 5
	BadRequest Status = 6
)

// LegacyRefusal is the one byte with which the Rust app answers what it does not know.
const LegacyRefusal = 0x01

// Errors of what arrives.
var (
	// ErrForeign: it does not begin as our questions do.
	ErrForeign = errors.New("not a DWB1 frame")
	// ErrMalformed: it does, but is cut short or out of bounds.
	ErrMalformed = errors.New("malformed frame")
	// ErrLegacy: the answer of the Rust app.
	ErrLegacy = errors.New("answer of the Rust app")
)

// Tag tells a member which group's key a question is under. It tells others nothing.
type Tag [TagSize]byte

// Keys are what a group's secret derives for the exchange. They may be used from any goroutine.
type Keys struct {
	tag    Tag
	hashes sync.Pool // keyed hashers: their setup costs more than hashing a question
}

// NewKeys derives the keys of the group with this secret.
func NewKeys(secret veilid.SharedSecret) *Keys {
	s := secret.Bytes()
	k := &Keys{}
	blake3.DeriveKey(k.tag[:], "OpenArchive dweb exchange v1 group tag", s[:])
	var mac [32]byte
	blake3.DeriveKey(mac[:], "OpenArchive dweb exchange v1 question mac", s[:])
	k.hashes.New = func() any { return blake3.New(macSize, mac[:]) }
	return k
}

// Tag is the group's tag.
func (k *Keys) Tag() Tag { return k.tag }

func (k *Keys) mac(op Op, nonce []byte, at veilid.RouteID, body []byte) (m [macSize]byte) {
	h := k.hashes.Get().(*blake3.Hasher)
	defer k.hashes.Put(h)
	h.Reset()
	var head [1 + nonceSize + 4 + veilid.KeySize]byte // all of fixed size, so that no two questions hash alike
	b := append(head[:0], byte(op))
	b = append(b, nonce...)
	b = append(b, at.Kind[:]...)
	b = append(b, at.Value[:]...)
	h.Write(b)
	h.Write(body)
	h.Sum(m[:0])
	return m
}

// Seal makes a question to the peer behind this route.
func (k *Keys) Seal(op Op, to veilid.RouteID, body []byte) ([]byte, error) {
	if len(body) > MaxBody {
		return nil, fmt.Errorf("question of %d bytes: at most %d fit", len(body), MaxBody)
	}
	b := make([]byte, headSize, Overhead+len(body))
	copy(b, magic)
	b[len(magic)] = byte(op)
	copy(b[len(magic)+1:], k.tag[:])
	nonce := b[headSize-nonceSize : headSize]
	rand.Read(nonce) // never fails
	mac := k.mac(op, nonce, to, body)
	return append(append(b, body...), mac[:]...), nil
}

// Frame is a question as it arrived; its parts lie in the message.
type Frame struct {
	Op         Op
	Tag        Tag
	Body       []byte
	nonce, mac []byte
}

// Parse splits a question. Nothing of it is to be believed before Verify.
func Parse(b []byte) (f Frame, err error) {
	switch {
	case len(b) < len(magic) || string(b[:len(magic)]) != magic:
		return f, ErrForeign
	case len(b) < Overhead || len(b) > veilid.MaxMessageSize:
		return f, ErrMalformed
	}
	f.Op = Op(b[len(magic)])
	f.Tag = Tag(b[len(magic)+1:])
	f.nonce = b[headSize-nonceSize : headSize]
	f.Body = b[headSize : len(b)-macSize]
	f.mac = b[len(b)-macSize:]
	return f, nil
}

// Verify reports whether a member of the group wrote the question for this route of ours.
func (k *Keys) Verify(f Frame, at veilid.RouteID) bool {
	if f.Tag != k.tag {
		return false
	}
	mac := k.mac(f.Op, f.nonce, at, f.Body)
	return subtle.ConstantTimeCompare(mac[:], f.mac) == 1
}

// ParseAnswer splits an answer. The single byte 01 is what the Rust app says to a question that it does not know: our
// own status 1 always has a body.
func ParseAnswer(b []byte) (Status, []byte, error) {
	switch {
	case len(b) == 0 || len(b) > veilid.MaxMessageSize:
		return 0, nil, fmt.Errorf("answer of %d bytes: %w", len(b), ErrMalformed)
	case len(b) == 1 && b[0] == LegacyRefusal:
		return 0, nil, ErrLegacy
	case Status(b[0]) > BadRequest:
		return 0, nil, fmt.Errorf("answer with status %d: %w", b[0], ErrMalformed)
	}
	return Status(b[0]), b[1:], nil
}

// MaxRetry is the longest that a busy peer can send us away for.
const MaxRetry = 30 * time.Second

// BusyAnswer tells when to ask again.
func BusyAnswer(after time.Duration) []byte {
	ms := max(1, min(after, MaxRetry).Milliseconds())
	return binary.AppendUvarint([]byte{byte(Busy)}, uint64(ms))
}

// ParseBusy reads the body of a busy answer: how long to wait, between 10 ms and MaxRetry.
func ParseBusy(body []byte) time.Duration {
	ms, n := binary.Uvarint(body)
	if n <= 0 {
		ms = 1000
	}
	ms = min(max(ms, 10), uint64(MaxRetry.Milliseconds()))
	return time.Duration(ms) * time.Millisecond
}

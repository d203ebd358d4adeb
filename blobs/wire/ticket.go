package wire

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/OpenArchive/save-dweb-go/blobs"
)

// Ticket is iroh's invitation to fetch a blob from an endpoint: "blob" and base32.
type Ticket struct {
	Endpoint [32]byte // the endpoint's Ed25519 public key
	Relay    string   // URL, or empty
	Addrs    []netip.AddrPort
	Blob     blobs.HashAndFormat
}

const (
	ticketPrefix = "blob"
	maxTicket    = 64 << 10 // characters
	maxRelay     = 2 << 10  // bytes
)

var ticketBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Bytes is the ticket's binary form. Addresses are in order, IPv4 first.
func (t Ticket) Bytes() []byte {
	b := append([]byte{0}, t.Endpoint[:]...)
	if t.Relay == "" {
		b = append(b, 0)
	} else {
		b = append(binary.AppendUvarint(append(b, 1), uint64(len(t.Relay))), t.Relay...)
	}
	addrs := slices.Clone(t.Addrs)
	for i, a := range addrs {
		addrs[i] = netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
	}
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	addrs = slices.Compact(addrs)
	b = binary.AppendUvarint(b, uint64(len(addrs)))
	for _, a := range addrs {
		if a.Addr().Is4() {
			b = append(b, 0)
		} else {
			b = append(b, 1)
		}
		b = binary.AppendUvarint(append(b, a.Addr().AsSlice()...), uint64(a.Port()))
	}
	return append(append(b, byte(t.Blob.Format)), t.Blob.Hash[:]...)
}

// String is the ticket's text form.
func (t Ticket) String() string { return ticketPrefix + ticketBase32.EncodeToString(t.Bytes()) }

// ParseTicket reads a ticket's text form.
func ParseTicket(s string) (t Ticket, err error) {
	body, ok := strings.CutPrefix(s, ticketPrefix)
	if !ok || len(s) > maxTicket {
		return t, fmt.Errorf("%w: a ticket begins with %q and has at most %d characters", ErrFormat, ticketPrefix, maxTicket)
	}
	b, err := ticketBase32.DecodeString(strings.ToLower(body))
	if err != nil {
		return t, fmt.Errorf("%w: ticket: %w", ErrFormat, err)
	}
	in := input{b: b}
	if v := in.uvarint("version"); v != 0 {
		in.fail("ticket of version %d is unknown", v)
	}
	copy(t.Endpoint[:], in.take("endpoint", len(t.Endpoint)))
	t.Relay = in.relay()
	for range in.count("addresses", 6) {
		t.Addrs = append(t.Addrs, in.addr())
	}
	t.Blob.Format = blobs.Format(in.take("format", 1)[0])
	if t.Blob.Format > blobs.SeqFormat {
		in.fail("blob format %d is unknown", t.Blob.Format)
	}
	t.Blob.Hash = in.hash()
	if err := in.end(); err != nil {
		return Ticket{}, err
	}
	return t, nil
}

func (in *input) relay() string {
	switch flag := in.take("flag of the relay", 1)[0]; flag {
	case 0:
		return ""
	case 1:
	default:
		in.fail("flag of the relay is %d", flag)
		return ""
	}
	n := in.count("bytes of the relay", 1)
	if n == 0 || n > maxRelay {
		in.fail("relay of %d bytes", n)
		return ""
	}
	s := in.take("relay", n)
	if !utf8.Valid(s) {
		in.fail("relay is not UTF-8")
	}
	return string(s)
}

func (in *input) addr() netip.AddrPort {
	size := 4
	switch kind := in.uvarint("kind of an address"); kind {
	case 0:
	case 1:
		size = 16
	default:
		in.fail("address of kind %d", kind)
	}
	ip, _ := netip.AddrFromSlice(in.take("address", size))
	port := in.uvarint("port")
	if port > 0xffff {
		in.fail("port %d", port)
	}
	return netip.AddrPortFrom(ip, uint16(port))
}

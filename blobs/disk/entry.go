package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// MaxSize is the largest blob that a store takes, in bytes: 1 TiB.
const MaxSize = 1 << 40

// entry is what the metadata says of a blob. On disk it is
//
//	version 1 | kind | size uvarint | for complete blobs: place of data, place of outboard
//	                                | for partial ones:   form of the set of groups, the set
//	CRC-32C of all that, 4 bytes little endian
type entry struct {
	complete       bool
	size           uint64
	data, outboard place
	have           bitmap // of a partial blob, whose data and outboard are always files
}

// place says where a part of a complete blob is.
type place uint8

const (
	nowhere place = iota // it is empty
	inTable
	inFile
)

const (
	entryVersion = 1
	kindComplete = 1
	kindPartial  = 2
	setRuns      = 0 // uvarint lengths, in turn not in the set and in it
	setBits      = 1
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

func (e entry) encode() []byte {
	b := []byte{entryVersion, kindPartial}
	if e.complete {
		b[1] = kindComplete
	}
	b = binary.AppendUvarint(b, e.size)
	if e.complete {
		b = append(b, byte(e.data), byte(e.outboard))
	} else {
		b = e.have.append(b)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crcTable))
}

func decodeEntry(h blobs.Hash, b []byte) (entry, error) {
	e, err := parseEntry(b)
	if err != nil {
		return entry{}, fmt.Errorf("%w: metadata of %s: %w", blobs.ErrCorrupt, h.Short(), err)
	}
	return e, nil
}

func parseEntry(b []byte) (e entry, err error) {
	if len(b) < 4+3 {
		return e, errors.New("too short")
	}
	b, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(b, crcTable) != sum {
		return e, errors.New("wrong checksum")
	}
	if b[0] != entryVersion {
		return e, fmt.Errorf("version %d is not known: it is of a newer program", b[0])
	}
	kind := b[1]
	size, n := binary.Uvarint(b[2:])
	if n <= 0 || size == 0 || size > MaxSize {
		return e, errors.New("impossible size")
	}
	e.size, b = size, b[2+n:]
	switch kind {
	case kindComplete:
		e.complete = true
		if len(b) != 2 || b[0] < byte(inTable) || b[0] > byte(inFile) || b[1] > byte(inFile) {
			return e, errors.New("impossible places")
		}
		e.data, e.outboard = place(b[0]), place(b[1])
		if (e.outboard == nowhere) != (e.size <= bao.GroupSize) {
			return e, errors.New("outboard does not fit the size")
		}
	case kindPartial:
		if e.have, err = parseBitmap(bao.Groups(size), b); err != nil {
			return e, err
		}
	default:
		return e, fmt.Errorf("kind %d is not known", kind)
	}
	return e, nil
}

// append appends the shorter of both forms.
func (b *bitmap) append(out []byte) []byte {
	start := len(out)
	out = append(out, setRuns)
	last := uint64(0)
	for _, at := range b.runs() {
		out = binary.AppendUvarint(out, at-last)
		last = at
	}
	if size := int(b.n+7) / 8; len(out)-start-1 > size {
		out = append(out[:start], setBits)
		for i := range size {
			out = append(out, byte(b.words[i/8]>>(i%8*8)))
		}
	}
	return out
}

func parseBitmap(n uint64, in []byte) (b bitmap, err error) {
	if len(in) == 0 {
		return b, errors.New("no set of groups")
	}
	form, in := in[0], in[1:]
	b = newBitmap(n)
	switch form {
	case setRuns:
		inside := false
		for at := uint64(0); len(in) > 0; inside = !inside {
			length, k := binary.Uvarint(in)
			if k <= 0 || length > n-at || length == 0 && at > 0 {
				return b, errors.New("impossible runs of groups")
			}
			if inside {
				b.addSpan(at, at+length)
			}
			at, in = at+length, in[k:]
		}
		if inside {
			return b, errors.New("a run of groups has no end")
		}
	case setBits:
		if uint64(len(in)) != (n+7)/8 {
			return b, errors.New("set of groups does not fit the size")
		}
		for i := range n {
			if in[i/8]>>(i%8)&1 == 1 {
				b.add(i)
			}
		}
	default:
		return b, fmt.Errorf("form %d of a set of groups is not known", form)
	}
	return b, nil
}

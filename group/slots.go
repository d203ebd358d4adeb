package group

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// decodeSlot reads a member's slot: the bare record key of its repo as text, or the 32 bytes of a record key from
// before Veilid 0.5, which has no encryption key.
func decodeSlot(b []byte) (veilid.RecordKey, error) {
	if len(b) == veilid.KeySize {
		var o veilid.OpaqueRecordKey
		o.Kind, o.Value = veilid.VLD0, [veilid.KeySize]byte(b)
		return veilid.NewRecordKey(o, veilid.SharedSecret{}), nil
	}
	if !utf8.Valid(b) {
		return veilid.RecordKey{}, fmt.Errorf("%w slot: %d bytes that are neither a key nor valid UTF-8", ErrMalformed, len(b))
	}
	key, err := veilid.Parse[veilid.RecordKey](string(b))
	if err != nil {
		return veilid.RecordKey{}, fmt.Errorf("%w slot: Failed to decode repo record key: %w", ErrMalformed, err)
	}
	return key, nil
}

// encodeSlot is the form in which a slot names a repo.
func encodeSlot(key veilid.RecordKey) []byte { return []byte(key.RevealBare()) }

// slotChoice says which slot is or may become a repo's.
type slotChoice struct {
	slot  uint32
	taken bool // the repo is there already
}

// chooseSlot finds the slot that names repo, or else a free one. The search for a free one begins at a place that
// depends on the repo, so that members who join at once seldom meet. values holds the slots that were ever written; an
// empty value was given back.
func chooseSlot(values map[uint32][]byte, repo veilid.RecordKey) (slotChoice, error) {
	own := encodeSlot(repo)
	for s := uint32(firstSlot); s <= lastSlot; s++ {
		if bytes.Equal(values[s], own) {
			return slotChoice{s, true}, nil
		}
	}
	start := uint32(repo.Opaque().Value[0]) % MaxMembers
	for i := range uint32(MaxMembers) {
		s := firstSlot + (start+i)%MaxMembers
		if len(values[s]) == 0 {
			return slotChoice{s, false}, nil
		}
	}
	return slotChoice{}, ErrFull
}

// slotState says what reading a slot back tells after it was written.
type slotState int

const (
	slotOurs      slotState = iota
	slotCollision           // another member's key is there
	slotMissing             // nothing is there
)

// checkSlot compares what was read back from a slot with what was written.
func checkSlot(read []byte, repo veilid.RecordKey) slotState {
	switch {
	case len(read) == 0:
		return slotMissing
	case bytes.Equal(read, encodeSlot(repo)):
		return slotOurs
	default:
		return slotCollision
	}
}

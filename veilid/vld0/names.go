package vld0

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"lukechampine.com/blake3"
)

// memberSize is the size in bytes of an SMPL member in schema bytes: id and count.
const memberSize = veilid.KeySize + 2

// MemberID is how an SMPL schema names a writer: the bytes of its public key.
func MemberID(key veilid.PublicKey) veilid.MemberID { return veilid.MemberID(key) }

// NodeID is the id of the node with this public key: the same bytes.
func NodeID(key veilid.PublicKey) veilid.NodeID { return veilid.NodeID(key) }

// RouteID names the route that has these public keys, one for each crypto kind.
func RouteID(keys ...veilid.PublicKey) veilid.RouteID {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, func(a, b veilid.PublicKey) int { return bytes.Compare(a.Bytes(), b.Bytes()) })
	h := blake3.New(32, nil)
	for _, k := range keys {
		h.Write(k.Value[:])
	}
	id := veilid.RouteID{Key32: veilid.Key32{Kind: veilid.VLD0}}
	h.Sum(id.Value[:0])
	return id
}

// RecordKey names the DHT record of an owner and a schema. The schema should pass its Check.
func RecordKey(owner veilid.PublicKey, s veilid.Schema) veilid.OpaqueRecordKey {
	return veilid.OpaqueRecordKey{Key32: veilid.Key32{
		Kind:  owner.Kind,
		Value: hash(owner.Kind[:], owner.Value[:], SchemaBytes(s)),
	}}
}

// SchemaBytes is the form of a schema that is signed and hashed: four characters, the owner's count of subkeys in
// two bytes, little-endian, and for each member its id of 32 bytes and its count in two.
func SchemaBytes(s veilid.Schema) []byte {
	b := binary.LittleEndian.AppendUint16([]byte(s.Kind), s.OwnerCount)
	for _, m := range s.Members {
		b = append(b, m.ID[:]...)
		b = binary.LittleEndian.AppendUint16(b, m.Count)
	}
	return b
}

// ParseSchema reads the form of [SchemaBytes] and checks the schema.
func ParseSchema(b []byte) (veilid.Schema, error) {
	const head = 6
	if len(b) < head || len(b) > head+veilid.MaxMembers*memberSize {
		return veilid.Schema{}, veilid.Errorf(veilid.ErrParse, "schema of %d bytes", len(b))
	}
	s := veilid.Schema{Kind: veilid.SchemaKind(b[:4]), OwnerCount: binary.LittleEndian.Uint16(b[4:])}
	rest := b[head:]
	if len(rest)%memberSize != 0 {
		return veilid.Schema{}, veilid.Errorf(veilid.ErrParse, "schema of %d bytes ends within a member", len(b))
	}
	for ; len(rest) > 0; rest = rest[memberSize:] {
		s.Members = append(s.Members, veilid.SchemaMember{
			ID:    [veilid.KeySize]byte(rest),
			Count: binary.LittleEndian.Uint16(rest[veilid.KeySize:]),
		})
	}
	if err := s.Check(); err != nil {
		return veilid.Schema{}, err
	}
	return s, nil
}

// Package archtest holds the rules of the house as tests, each with its reason: which package may import which, where a
// dependency may show, and a few habits that a reader relies on. It has no code for others.
//
// The layers, from the top; an arrow points down or stays within a family:
//
//	interop                             everything, and nothing imports it but tests
//	cmd                                 chooses the implementations
//	httpapi webui backup mobile
//	backend
//	group (invite, seal)
//	exchange  tunnel
//	blobs (disk, memory, ...)
//	veilid (remote, memory, ...)
//	vault
//	internal/kv  blobs/bao
package archtest

// Package group holds groups, their members' repos and the files in them, on top of DHT records, a blob store and the
// exchange. What it writes the Rust app reads, and the other way round.
//
// A group is one DHT record of 65 subkeys: its sealed name, and 64 slots that name the members' repos. A repo is one
// record per member:
//
//	0  name, sealed                          as the Rust app writes it
//	1  hash of the legacy collection, hex    as the Rust app writes it
//	2  route blob of the member's device     as the Rust app writes it; empty: away
//	3  pointer to the manifest, sealed
//	4  status, sealed: protocol, last seen, device
//	5  to 7  route blobs of further devices
//
// Local reads need no network: what was read from the DHT is cached, encrypted, and manifests and files lie in the blob
// store. Writes are durable here first and published by the group's worker when the node is attached.
package group

import (
	"errors"
	"time"
)

// Layout of the records.
const (
	groupSubkeys = 65 // of a group's record
	nameSubkey   = 0  // of both records
	firstSlot    = 1
	lastSlot     = 64

	repoSubkeys   = 8 // of a repo's record; the Rust app's have 3
	legacySubkey  = 1
	routeSubkey   = 2
	pointerSubkey = 3
	statusSubkey  = 4
)

// routeSubkeys hold the routes of a member's devices.
var routeSubkeys = []uint32{routeSubkey, 5, 6, 7}

// MaxMembers is how many repos a group has room for.
const MaxMembers = lastSlot - firstSlot + 1

// statusInterval is how often a running device renews what others see as its last sign of life.
const statusInterval = 30 * time.Minute

// Errors of groups and repos.
var (
	// ErrReadOnly: the repo belongs to another member, or the group was joined by a read-only link.
	ErrReadOnly = errors.New("no write permissions")
	// ErrFileNotFound: no file of that name.
	ErrFileNotFound = errors.New("file not found")
	// ErrFileExists: there is a file of that name and it was not to be replaced.
	ErrFileExists = errors.New("file exists")
	// ErrBadName: the name cannot be a file's name.
	ErrBadName = errors.New("bad file name")
	// ErrRepoNotFound: the group has no such repo.
	ErrRepoNotFound = errors.New("repo not found")
	// ErrFull: all slots of the group are taken.
	ErrFull = errors.New("no free repo slots in the group: 64 members are the most")
	// ErrWrongSecret: the group's name does not open with this secret: the link is wrong.
	ErrWrongSecret = errors.New("the link's enc does not open this group")
	// ErrWrongOwner: the group's record belongs to another key pair: the link is wrong.
	ErrWrongOwner = errors.New("the link's pk is not the owner of this group")
	// ErrMalformed: a record or manifest that a member published cannot be read.
	ErrMalformed = errors.New("malformed")
)

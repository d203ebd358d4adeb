package blobs

import (
	"context"

	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// Receiver is the one door by which bytes from others enter a store: it verifies whole iroh responses in memory and
// hands the groups that are whole to the store. Its methods may be called from any goroutine.
type Receiver struct{}

// NewReceiver opens or creates the partial blob. maxSize bounds the size that it believes; a larger proven size is
// ErrTooLarge. Where the blob is complete it returns ErrComplete.
func NewReceiver(ctx context.Context, s Store, h Hash, maxSize uint64) (*Receiver, error) {
	panic("written by the blobs part")
}

// Info is what the store holds now; chunks of groups that are not whole yet do not count.
func (r *Receiver) Info() Info { panic("") }

// Missing is what is neither in the store nor in memory.
func (r *Receiver) Missing() bao.Ranges { panic("") }

// Write verifies an iroh response for these ranges of the blob (size, parents, leaves; exactly what was asked, no byte
// more) and stores what it proves. It reports how many new bytes of the blob it gained, 0 for a repetition. ErrVerify
// means that the sender lies; nothing of the response was stored then. done reports that the blob is complete and in
// the store.
func (r *Receiver) Write(ctx context.Context, ranges bao.Ranges, response []byte) (gained int, done bool, err error) {
	panic("")
}

// Close ends the reception; whole groups stay, so that another Receiver goes on from there.
func (r *Receiver) Close() error { panic("") }

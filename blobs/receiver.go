package blobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/OpenArchive/save-dweb-go/blobs/bao"
)

// ErrSizeUnknown: a response proves nothing about the blob's size, which must be known before space is taken for it.
var ErrSizeUnknown = errors.New("the size of the blob is not proven yet: ask for its last chunk too (bao.Last)")

// maxCut bounds the memory of a [Receiver] for groups of which only a part has come, in bytes. The oldest go first;
// they are then missing again.
const maxCut = 16 << 20

// Receiver is the one door by which bytes from others enter a store: it verifies whole iroh responses in memory and
// hands the groups that are whole to the store. Its methods may be called from any goroutine.
type Receiver struct {
	hash    Hash
	maxSize uint64
	part    Partial
	users   sync.WaitGroup // Writes in progress

	mu      sync.Mutex
	closed  bool
	done    bool
	size    uint64
	proven  bool
	cut     map[uint64]*cutGroup // groups of which chunks are missing
	cutRoom int                  // groups that cut may hold
	born    uint64
	writing map[uint64]bool // groups on their way to the store

	finish sync.Mutex // held while the blob is made complete
}

// cutGroup is a group of which not all chunks have come.
type cutGroup struct {
	data    [bao.GroupSize]byte
	have    uint16 // bit i: chunk i of the group
	parents []bao.Parent
	born    uint64
}

// NewReceiver opens or creates the partial blob. maxSize bounds the size that it believes; a larger proven size is
// ErrTooLarge. Where the blob is complete it returns ErrComplete.
func NewReceiver(ctx context.Context, s Store, h Hash, maxSize uint64) (*Receiver, error) {
	part, err := s.Partial(ctx, h)
	if err != nil {
		return nil, err
	}
	r := &Receiver{
		hash: h, maxSize: maxSize, part: part,
		cut: map[uint64]*cutGroup{}, cutRoom: maxCut / bao.GroupSize, writing: map[uint64]bool{},
	}
	if err := r.begin(ctx); err != nil {
		return nil, errors.Join(err, part.Close())
	}
	return r, nil
}

// begin takes up what is there already.
func (r *Receiver) begin(ctx context.Context) error {
	info := r.part.Info()
	if !info.Proven {
		return nil
	}
	if info.Size > r.maxSize {
		return r.tooLarge(info.Size)
	}
	r.size, r.proven = info.Size, true
	// A crash after the last group leaves a whole blob that was never called complete.
	done, err := r.tryFinish(ctx)
	if err == nil && done {
		err = ErrComplete
	}
	return err
}

func (r *Receiver) tooLarge(size uint64) error {
	return fmt.Errorf("blob %s has %d bytes, at most %d are allowed: %w", r.hash.Short(), size, r.maxSize, ErrTooLarge)
}

// Info is what the store holds now; chunks of groups that are not whole yet do not count.
func (r *Receiver) Info() Info { return r.part.Info() }

// adopt takes over a size that another Receiver of the same blob has proven.
func (r *Receiver) adopt(info Info) {
	if !r.proven && info.Proven && info.Size <= r.maxSize {
		r.size, r.proven = info.Size, true
	}
}

// Missing is what is neither in the store nor in memory.
func (r *Receiver) Missing() bao.Ranges {
	r.mu.Lock()
	defer r.mu.Unlock()
	info := r.part.Info()
	r.adopt(info)
	if !r.proven {
		return bao.All()
	}
	chunks := bao.Chunks(r.size)
	missing := bao.Span(0, chunks).Subtract(info.Have)
	var writing, cut bao.Ranges
	for _, g := range slices.Sorted(maps.Keys(r.writing)) {
		writing = writing.AppendSpan(g*bao.GroupChunks, (g+1)*bao.GroupChunks)
	}
	for _, g := range slices.Sorted(maps.Keys(r.cut)) {
		for i := range uint64(bao.GroupChunks) {
			if r.cut[g].have&(1<<i) != 0 {
				cut = cut.AppendSpan(g*bao.GroupChunks+i, g*bao.GroupChunks+i+1)
			}
		}
	}
	return missing.Subtract(writing).Subtract(cut)
}

// Write verifies an iroh response for these ranges of the blob (size, parents, leaves; exactly what was asked, no byte
// more) and stores what it proves. It reports how many new bytes of the blob it gained, 0 for a repetition. ErrVerify
// means that the sender lies; nothing of the response was stored then. done reports that the blob is complete and in
// the store. Until the size is proven, by a response that holds the last chunk, others are ErrSizeUnknown.
func (r *Receiver) Write(ctx context.Context, ranges bao.Ranges, response []byte) (gained int, done bool, err error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return 0, false, fmt.Errorf("receiver of blob %s: %w", r.hash.Short(), ErrClosed)
	}
	r.users.Add(1)
	defer r.users.Done()
	done = r.done
	r.mu.Unlock()
	if err := ctx.Err(); err != nil || done {
		return 0, done, err
	}

	p, err := r.verify(ranges, response)
	if err != nil {
		return 0, false, err
	}
	gained, jobs, err := r.plan(p)
	if err != nil {
		return 0, false, err
	}
	if err := r.store(jobs); err != nil {
		return 0, false, err
	}
	done, err = r.tryFinish(ctx)
	return gained, done, err
}

// proof is what a response proved.
type proof struct {
	size    uint64
	proven  bool
	leaves  []leaf
	parents []bao.Parent // in ascending order of Index
	given   []bool       // parents that a group of this response takes to the store
}

type leaf struct {
	chunk uint64
	data  []byte // in the response
}

func (r *Receiver) verify(ranges bao.Ranges, response []byte) (*proof, error) {
	p := new(proof)
	var err error
	p.size, p.proven, err = bao.Decode(r.hash, response, ranges, bao.Visitor{
		Parent: func(parent bao.Parent) error {
			p.parents = append(p.parents, parent)
			return nil
		},
		Leaf: func(chunk uint64, data []byte) error {
			p.leaves = append(p.leaves, leaf{chunk, data})
			return nil
		},
	})
	switch {
	case errors.Is(err, bao.ErrRanges):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("response for blob %s: %w: %w", r.hash.Short(), ErrVerify, err)
	}
	p.given = make([]bool, len(p.parents))
	return p, nil
}

// path is the parents above a group; those that are given already only where all is set.
func (p *proof) path(group uint64, all bool) (path []bao.Parent) {
	for _, index := range bao.Path(nil, bao.Groups(p.size), group) {
		i, ok := slices.BinarySearchFunc(p.parents, index, func(p bao.Parent, index uint64) int {
			return cmp.Compare(p.Index, index)
		})
		if !ok || p.given[i] && !all {
			continue
		}
		if !all {
			p.given[i] = true
		}
		path = append(path, p.parents[i])
	}
	return path
}

// job is a group to store.
type job struct {
	group   uint64
	data    []byte
	parents []bao.Parent
}

// plan settles the size and which groups go to the store, and keeps the chunks of the others.
func (r *Receiver) plan(p *proof) (gained int, jobs []job, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	info := r.part.Info()
	r.adopt(info)
	if err := r.settleSize(p); err != nil {
		return 0, nil, err
	}
	have := info.Have
	for _, l := range p.leaves {
		g := l.chunk / bao.GroupChunks
		if r.writing[g] || have.Contains(l.chunk) {
			continue
		}
		whole := bao.GroupLen(r.size, g)
		c := r.cut[g]
		if len(l.data) == whole {
			gained += whole
			if c != nil {
				gained -= c.bytes(whole)
			}
			jobs = append(jobs, job{g, l.data, p.path(g, false)})
		} else {
			if c == nil {
				c = r.newCut(p, g)
			}
			before := c.bytes(whole)
			c.add(l)
			now := c.bytes(whole)
			gained += now - before
			if now < whole {
				continue
			}
			jobs = append(jobs, job{g, c.data[:whole], c.parents})
		}
		delete(r.cut, g)
		r.writing[g] = true
	}
	return gained, jobs, nil
}

func (r *Receiver) settleSize(p *proof) error {
	switch {
	case r.proven && p.size != r.size:
		// Two proofs of two sizes cannot both verify; a claim without proof can.
		return fmt.Errorf("response says that blob %s has %d bytes, proven are %d: %w", r.hash.Short(), p.size, r.size, ErrVerify)
	case r.proven:
		return nil
	case !p.proven:
		return fmt.Errorf("response for blob %s: %w", r.hash.Short(), ErrSizeUnknown)
	case p.size > r.maxSize:
		return r.tooLarge(p.size)
	}
	if err := r.part.SetSize(p.size); err != nil {
		return fmt.Errorf("size of blob %s: %w", r.hash.Short(), err)
	}
	r.size, r.proven = p.size, true
	return nil
}

func (r *Receiver) newCut(p *proof, group uint64) *cutGroup {
	for len(r.cut) >= r.cutRoom {
		var oldest uint64
		found := false
		for g, c := range r.cut {
			if !found || c.born < r.cut[oldest].born {
				oldest, found = g, true
			}
		}
		delete(r.cut, oldest)
	}
	r.born++
	c := &cutGroup{parents: p.path(group, true), born: r.born}
	r.cut[group] = c
	return c
}

func (c *cutGroup) add(l leaf) {
	first := l.chunk % bao.GroupChunks
	copy(c.data[first*bao.ChunkSize:], l.data)
	n := bao.Chunks(uint64(len(l.data)))
	c.have |= uint16((1<<n - 1) << first)
}

// bytes is how many of the bytes of the group, of which there are whole, have come.
func (c *cutGroup) bytes(whole int) (n int) {
	for i := 0; i*bao.ChunkSize < whole; i++ {
		if c.have&(1<<i) != 0 {
			n += min(bao.ChunkSize, whole-i*bao.ChunkSize)
		}
	}
	return n
}

// store writes groups, outside of the lock.
func (r *Receiver) store(jobs []job) error {
	var err error
	for _, j := range jobs {
		if err == nil {
			if err = r.part.WriteGroup(j.group, j.data, j.parents); err != nil {
				err = fmt.Errorf("store group %d of blob %s: %w", j.group, r.hash.Short(), err)
			}
		}
		r.mu.Lock()
		delete(r.writing, j.group)
		r.mu.Unlock()
	}
	return err
}

// tryFinish makes the blob complete if every group of it is in the store.
func (r *Receiver) tryFinish(ctx context.Context) (bool, error) {
	info := r.part.Info()
	if !info.Complete && !info.Have.ContainsSpan(0, bao.Chunks(info.Size)) {
		return false, nil
	}
	r.finish.Lock()
	defer r.finish.Unlock()
	r.mu.Lock()
	done := r.done
	r.mu.Unlock()
	if done {
		return true, nil
	}
	done, err := r.part.Complete(ctx)
	if err != nil {
		return false, fmt.Errorf("complete blob %s: %w", r.hash.Short(), err)
	}
	r.mu.Lock()
	r.done = done
	r.mu.Unlock()
	return done, nil
}

// Close ends the reception; whole groups stay, so that another Receiver goes on from there. It waits for Writes in
// progress.
func (r *Receiver) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	r.mu.Unlock()
	r.users.Wait()
	r.mu.Lock()
	clear(r.cut)
	r.mu.Unlock()
	return r.part.Close()
}

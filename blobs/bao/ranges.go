package bao

// Ranges is a set of chunks, by sorted boundaries: [b0,b1) is in, [b1,b2) is out, and so on; an odd number of
// boundaries leaves the end open. nil is the empty set and Ranges{0} all chunks.
type Ranges []uint64

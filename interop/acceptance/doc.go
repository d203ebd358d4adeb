// Package acceptance runs the reference's own tests, one by one, on real veilid-core nodes: what its test suite asks of the
// Rust backend over a live network, asked of ours in the lab. docs/acceptance.md has the map.
package acceptance

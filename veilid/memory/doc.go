// Package memory is a whole Veilid network in one process, for tests of what is built on package veilid.
//
// Its nodes keep the rules of veilid-core 0.5.8 as far as a program can see them: what fails and how, sequence
// numbers, queued writes, watches that batch their changes, calls that take five seconds to time out. Suite veilidtest
// holds it to them. Records are encrypted as in the real network, so that a wrong key reads rubbish.
//
// Faults are set at any time: distance, loss and rate ([Conditions]), a node that is offline, a route that dies,
// a record that the network forgets. All waiting is by package time, so a test in a testing/synctest bubble gets
// virtual time; loss and jitter come from a seed.
//
// What it leaves out: signatures are not computed (writers are checked by key), routes have no hops, the network has
// no storage nodes that disagree, and nothing costs memory or time beyond the conditions that are set.
package memory

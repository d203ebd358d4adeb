// Package veilid is the contract between a program and a Veilid node. It mirrors the API of veilid-core 0.5.x: typed
// keys, DHT records, private routes, app calls and messages, updates, the table store and the protected store.
//
// The package holds no implementation. [Node] is implemented by package remote (a veilid-server, spoken to over the
// official JSON API) and by package memory (a whole network in one process, for tests); the suite in package
// veilidtest holds every implementation to the same behaviour.
//
// Every call that may wait takes a context. Errors carry a [Kind] and match the sentinels of this package with
// errors.Is; [ErrTryAgain] is the ordinary answer of a node that is offline, not ready or busy.
package veilid

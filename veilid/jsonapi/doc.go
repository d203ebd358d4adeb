// Package jsonapi holds the messages of Veilid's JSON API (veilid-remote-api 0.5.8) between a client and a
// veilid-server: requests, responses and updates, one JSON object per line. It does no I/O.
//
// [AppendRequest] and [ParseRequest] translate requests, [ParseResponse] and [ParseUpdate] what the server sends. App
// calls carry most bytes, so they have a second, faster translation ([AppendAppCall], [ScanResponse], [ScanUpdate]) that
// knows only the usual form of such lines and refers everything else to the general one.
//
// The server closes the connection on a request that it cannot parse. Requests made of the types of this package and
// valid values parse; every field is sent, null where it is unset.
package jsonapi

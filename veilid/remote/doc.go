// Package remote is a veilid.Node that is a veilid-server in another process, spoken to over its JSON API on a unix
// socket or TCP. [Dial] uses a server that runs, [Spawn] starts one and keeps it running.
//
// A lost connection is made again in the background. Calls that were on their way fail with veilid.ErrNoConnection, as
// do new ones until the server is back; what a program holds goes on working afterwards: routing contexts, tables
// and records are opened anew where they are needed. Transactions are lost. Where the node itself began again its routes are
// dead, which subscribers hear as a veilid.RouteChange after veilid.Reconnected.
package remote

// Package httpapi serves a backend over HTTP: JSON for what people and programs ask, streams for files and events. The
// command line and the page are clients of it; package client is the typed one.
//
// Where a path names a group, {g} is its key, the key's first characters or its name; {r} names a repo in the same way,
// and "me" is the own one. Path segments are percent-encoded. Times are RFC 3339, sizes bytes.
//
// Every failure has one body, {"status": "error", "error": text, "code": code}, and one table says which code, HTTP
// status and exit code an error has; see [Classify].
package httpapi

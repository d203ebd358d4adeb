package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"syscall"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/exchange"
	"github.com/OpenArchive/save-dweb-go/group"
	"github.com/OpenArchive/save-dweb-go/group/invite"
	"github.com/OpenArchive/save-dweb-go/group/seal"
	"github.com/OpenArchive/save-dweb-go/internal/kv"
	"github.com/OpenArchive/save-dweb-go/vault"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Exit codes of the commands.
const (
	ExitFailed      = 1 // anything else
	ExitUsage       = 2 // the command or an argument is wrong
	ExitNotFound    = 3
	ExitUnreachable = 4 // no daemon, not attached, or no peer can be reached: trying again may help
	ExitRefused     = 5 // not allowed, would overwrite, or a wrong key
	ExitCorrupt     = 6
)

// Errors of requests.
var (
	// ErrBadRequest: the request is not understood.
	ErrBadRequest = errors.New("bad request")
	// ErrNotLocal: the file is not on this device yet: fetch it first.
	ErrNotLocal = errors.New("the file is not on this device yet: fetch it first")
	// ErrStalled: an upload brought nothing for too long.
	ErrStalled = errors.New("the upload stalled")
	// ErrBodyTooLarge: the body of a request is larger than such requests may be.
	ErrBodyTooLarge = errors.New("request body is too large")
)

// Class is how an error is told: by its code in JSON, as a status in HTTP, as a command's exit code.
type Class struct {
	Code   string
	Status int
	Exit   int
}

// statusClosed is what nginx calls a request whose client has gone; nobody reads it.
const statusClosed = 499

var internal = Class{"internal", http.StatusInternalServerError, ExitFailed}

// table is the one place that says how an error is told. Where an error matches several rows the first counts, so what
// is more special comes first.
var table = []struct {
	Class
	errs []error
}{
	{Class{"bad_request", http.StatusBadRequest, ExitUsage}, []error{ErrBadRequest}},
	{Class{"body_too_large", http.StatusRequestEntityTooLarge, ExitUsage}, []error{ErrBodyTooLarge}},
	{Class{"bad_name", http.StatusBadRequest, ExitUsage}, []error{group.ErrBadName}},
	{Class{"bad_link", http.StatusBadRequest, ExitUsage}, nil}, // by type: [invite.Error]
	{Class{"ambiguous", http.StatusConflict, ExitUsage}, []error{backend.ErrAmbiguous}},

	{Class{"group_not_found", http.StatusNotFound, ExitNotFound}, []error{backend.ErrGroupNotFound}},
	{Class{"repo_not_found", http.StatusNotFound, ExitNotFound}, []error{group.ErrRepoNotFound}},
	{Class{"file_not_found", http.StatusNotFound, ExitNotFound}, []error{group.ErrFileNotFound}},
	{Class{"job_not_found", http.StatusNotFound, ExitNotFound}, []error{backend.ErrJobNotFound}},
	{Class{"not_local", http.StatusConflict, ExitNotFound}, []error{ErrNotLocal}},

	{Class{"file_exists", http.StatusPreconditionFailed, ExitRefused}, []error{group.ErrFileExists}},
	{Class{"read_only", http.StatusForbidden, ExitRefused}, []error{group.ErrReadOnly}},
	{Class{"wrong_secret", http.StatusForbidden, ExitRefused}, []error{group.ErrWrongSecret, group.ErrWrongOwner}},
	{Class{"group_full", http.StatusConflict, ExitRefused}, []error{group.ErrFull}},
	{Class{"denied", http.StatusForbidden, ExitRefused}, []error{exchange.ErrDenied}},

	{Class{"wrong_key", http.StatusForbidden, ExitRefused}, []error{vault.ErrWrongKey}},

	{Class{"corrupt", http.StatusInternalServerError, ExitCorrupt}, []error{blobs.ErrCorrupt, blobs.ErrVerify, vault.ErrCorrupt, kv.ErrCorrupt}},
	{Class{"tampered", http.StatusInternalServerError, ExitCorrupt}, []error{seal.ErrTampered, seal.ErrTooShort, seal.ErrNoCiphertext, vault.ErrTampered}},
	{Class{"malformed", http.StatusBadGateway, ExitCorrupt}, []error{group.ErrMalformed}},
	{Class{"unsupported_version", http.StatusNotImplemented, ExitFailed}, []error{seal.ErrVersion, vault.ErrVersion}},
	{Class{"too_large", http.StatusRequestEntityTooLarge, ExitFailed}, []error{blobs.ErrTooLarge, seal.ErrTooLarge}},
	{Class{"no_space", http.StatusInsufficientStorage, ExitFailed}, []error{blobs.ErrNoSpace, syscall.ENOSPC}},
	{Class{"in_use", http.StatusConflict, ExitFailed}, []error{vault.ErrLocked, kv.ErrLocked}},
	{Class{"stalled", http.StatusRequestTimeout, ExitFailed}, []error{ErrStalled}},

	{Class{"busy", http.StatusServiceUnavailable, ExitUnreachable}, []error{exchange.ErrBusy}},
	{Class{"unreachable", http.StatusServiceUnavailable, ExitUnreachable}, []error{exchange.ErrUnreachable, exchange.ErrAway, exchange.ErrLegacyPeer}},
	{Class{"not_held", http.StatusNotFound, ExitNotFound}, []error{exchange.ErrNotHeld}},
	{Class{"blob_not_found", http.StatusNotFound, ExitNotFound}, []error{blobs.ErrNotFound}},
	{Class{"closing", http.StatusServiceUnavailable, ExitUnreachable}, []error{
		backend.ErrClosed, blobs.ErrClosed, exchange.ErrClosed, vault.ErrClosed, kv.ErrClosed, veilid.ErrShutdown,
	}},
	{Class{"offline", http.StatusServiceUnavailable, ExitUnreachable}, []error{
		backend.ErrOffline, veilid.ErrTryAgain, veilid.ErrNoConnection, veilid.ErrInvalidTarget, veilid.ErrNotInitialized,
	}},
	{Class{"timeout", http.StatusGatewayTimeout, ExitUnreachable}, []error{veilid.ErrTimeout, context.DeadlineExceeded}},
	{Class{"record_not_found", http.StatusNotFound, ExitNotFound}, []error{veilid.ErrKeyNotFound}},
	{Class{"unimplemented", http.StatusNotImplemented, ExitFailed}, []error{veilid.ErrUnimplemented}},
	{Class{"canceled", statusClosed, ExitFailed}, []error{context.Canceled}},
}

// Classify says how an error is told. Errors that the table does not know are internal: 500 and exit code 1.
func Classify(err error) Class {
	var told *Error
	if errors.As(err, &told) {
		return told.Class
	}
	var link *invite.Error
	for _, row := range table {
		if row.Code == "bad_link" && errors.As(err, &link) || slices.ContainsFunc(row.errs, func(e error) bool { return errors.Is(err, e) }) {
			return row.Class
		}
	}
	return internal
}

// Error is a failure as a client is told of it. It matches, by errors.Is, the errors that have its code.
type Error struct {
	Class
	Message string
}

// Error is the message.
func (e *Error) Error() string { return e.Message }

// Is reports whether target is one of the errors that have this code.
func (e *Error) Is(target error) bool {
	for _, row := range table {
		if row.Code == e.Code {
			return slices.Contains(row.errs, target)
		}
	}
	return false
}

// ErrorOf is the error that a server told of. A code of a newer server is internal, with the status that came.
func ErrorOf(status int, code, message string) *Error {
	for _, row := range table {
		if row.Code == code {
			return &Error{row.Class, message}
		}
	}
	e := &Error{internal, message}
	if e.Status = status; code != "" {
		e.Code = code
	}
	switch {
	case status == http.StatusNotFound:
		e.Exit = ExitNotFound
	case status >= 400 && status < 500:
		e.Exit = ExitUsage
	}
	return e
}

package veilid

import (
	"errors"
	"fmt"
)

// Kind classifies what went wrong, by veilid-core's names. It is itself an error, so that errors.Is(err,
// veilid.ErrTryAgain) asks for the kind of a wrapped [Error].
type Kind string

// The kinds of veilid-core 0.5. ErrTryAgain is the normal answer of a node that is offline, not ready or busy: wait
// and call again.
const (
	ErrNotInitialized      Kind = "NotInitialized"
	ErrAlreadyInitialized  Kind = "AlreadyInitialized"
	ErrTimeout             Kind = "Timeout"
	ErrTryAgain            Kind = "TryAgain"
	ErrShutdown            Kind = "Shutdown"
	ErrInvalidTarget       Kind = "InvalidTarget"
	ErrNoConnection        Kind = "NoConnection"
	ErrKeyNotFound         Kind = "KeyNotFound"
	ErrInternal            Kind = "Internal"
	ErrUnimplemented       Kind = "Unimplemented"
	ErrParse               Kind = "ParseError"
	ErrInvalidArgument     Kind = "InvalidArgument"
	ErrMissingArgument     Kind = "MissingArgument"
	ErrTransactionNotFound Kind = "TransactionNotFound"
	ErrGeneric             Kind = "Generic"
)

// Error is the kind's name.
func (k Kind) Error() string { return string(k) }

// Error is a failed operation of a node. Fields that its kind does not use are empty; none of them holds a secret.
type Error struct {
	Kind     Kind
	Message  string
	Context  string // InvalidArgument, MissingArgument
	Argument string // InvalidArgument, MissingArgument
	Value    string // InvalidArgument, ParseError; KeyNotFound: the key's short form
}

// Error says what went wrong in one line.
func (e *Error) Error() string {
	s := string(e.Kind)
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Context != "" {
		s += ": " + e.Context
	}
	if e.Argument != "" {
		s += fmt.Sprintf(" (%s=%s)", e.Argument, e.Value)
	} else if e.Value != "" {
		s += ": " + e.Value
	}
	return s
}

// Is matches the error's kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind || target == ErrNotOpen && e.Kind == ErrInvalidArgument && e.Context == ErrNotOpen.Error()
}

// Errorf is an [Error] of this kind with a message.
func Errorf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}

// InvalidArgument is an [ErrInvalidArgument] that names the argument.
func InvalidArgument(context, argument, value string) *Error {
	return &Error{Kind: ErrInvalidArgument, Context: context, Argument: argument, Value: value}
}

// KindOf is the kind of an error that came from a node, or "" for others.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	var k Kind
	if errors.As(err, &k) {
		return k
	}
	return ""
}

// IsRetryable reports whether the same call may succeed later without anybody changing anything.
func IsRetryable(err error) bool {
	switch KindOf(err) {
	case ErrTryAgain, ErrTimeout, ErrNoConnection:
		return true
	}
	return false
}

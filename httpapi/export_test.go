package httpapi

import "time"

// SetTimes makes waiting short.
func (h *Handler) SetTimes(stall, beat time.Duration) { h.stall, h.beat = stall, beat }

// Disposition is how a file of a name and a type is offered to a browser.
var Disposition = disposition

// SafeType is a file's media type, if it is one.
var SafeType = safeType

// ReadJSON reads a request's body.
var ReadJSON = readJSON

// MaxBody is the most JSON that a request can have.
const MaxBody = maxBody

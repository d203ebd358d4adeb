package jsonapi

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// AppendAppCall appends the line of an [AppCall], or of an [AppMessage] where answer is false. It writes what
// AppendRequest would, in one pass and without other memory than dst.
func AppendAppCall(dst []byte, id, rc uint32, to veilid.Target, message []byte, answer bool) []byte {
	dst = slices.Grow(dst, 240+base64url.EncodedLen(len(message)))
	dst = append(dst, `{"id":`...)
	dst = strconv.AppendUint(dst, uint64(id), 10)
	if answer {
		dst = append(dst, `,"op":"RoutingContext","rc_op":"AppCall","rc_id":`...)
	} else {
		dst = append(dst, `,"op":"RoutingContext","rc_op":"AppMessage","rc_id":`...)
	}
	dst = strconv.AppendUint(dst, uint64(rc), 10)
	key := to.Route.Key32
	if key.IsZero() {
		key = to.Node.Key32
		dst = append(dst, `,"target":{"NodeId":"`...)
	} else {
		dst = append(dst, `,"target":{"RouteId":"`...)
	}
	dst = append(dst, key.Kind[:]...)
	dst = append(dst, ':')
	dst = base64url.AppendEncode(dst, key.Value[:])
	dst = append(dst, `"},"message":"`...)
	dst = base64url.AppendEncode(dst, message)
	return append(dst, '"', '}', '\n')
}

// AppendAppCallReply appends the line of an [AppCallReply], as AppendAppCall does.
func AppendAppCallReply(dst []byte, id uint32, callID uint64, answer []byte) []byte {
	dst = slices.Grow(dst, 100+base64url.EncodedLen(len(answer)))
	dst = append(dst, `{"id":`...)
	dst = strconv.AppendUint(dst, uint64(id), 10)
	dst = append(dst, `,"op":"AppCallReply","call_id":"`...)
	dst = strconv.AppendUint(dst, callID, 10)
	dst = append(dst, `","message":"`...)
	dst = base64url.AppendEncode(dst, answer)
	return append(dst, '"', '}', '\n')
}

// Scanned is a successful response in its usual form, whose value is null or a string.
type Scanned struct {
	ID   uint32
	Null bool
	text []byte // of the value, within the line; not looked at yet
}

// Bytes decodes the value into memory of its own. It fails where the value is not a byte string: then take
// [ParseResponse].
func (s Scanned) Bytes() ([]byte, bool) {
	if s.Null {
		return nil, true
	}
	b, err := decodeBytes(s.text)
	return b, err == nil
}

// ScanResponse reads a successful response whose value is a byte string or null. Anything that it does not expect makes
// it answer false; then take [ParseResponse]. The result refers to the line.
func ScanResponse(line []byte) (s Scanned, ok bool) {
	const (
		id = 1 << iota
		op
		value
	)
	seen := 0
	ok = bytes.HasPrefix(line, []byte(responseStart)) && scan(line[len(responseStart)-1:], func(key, v []byte, kind byte) bool {
		var field int
		switch string(key) {
		case "id":
			field = id
			n, err := strconv.ParseUint(string(v), 10, 32)
			if kind != '0' || err != nil {
				return false
			}
			s.ID = uint32(n)
		case "op":
			field = op
			if kind != '"' || !plain(v) {
				return false
			}
		case "rc_id", "db_id":
			_, err := strconv.ParseUint(string(v), 10, 32)
			return kind == '0' && err == nil
		case "rc_op", "db_op":
			return kind == '"' && plain(v) && string(v) != invalidID
		case "value":
			field = value
			if s.Null = kind == 'n'; !s.Null {
				s.text = v
			}
			if kind == '0' {
				return false
			}
		default:
			return false
		}
		again := seen&field != 0
		seen |= field
		return !again
	})
	return s, ok && seen == id|op|value
}

const (
	responseStart = `{"type":"Response",`
	updateStart   = `{"type":"Update","kind":"App`
)

// IDOf reads the id of a response from the beginning of its line, where that has the usual form.
func IDOf(line []byte) (uint32, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(responseStart+`"id":`))
	if !ok {
		return 0, false
	}
	n := 0
	for n < len(rest) && '0' <= rest[n] && rest[n] <= '9' {
		n++
	}
	if n == len(rest) || n > 10 || n > 1 && rest[0] == '0' {
		return 0, false
	}
	id, err := strconv.ParseUint(string(rest[:n]), 10, 32)
	return uint32(id), err == nil
}

// ScanUpdate reads an AppCall or AppMessage update. Anything that it does not expect makes it answer false; then take
// [ParseUpdate]. The result does not refer to the line.
func ScanUpdate(line []byte) (veilid.Update, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(updateStart))
	if !ok {
		return nil, false
	}
	call := bytes.HasPrefix(rest, []byte(`Call",`))
	if !call && !bytes.HasPrefix(rest, []byte(`Message",`)) {
		return nil, false
	}
	rest = rest[bytes.IndexByte(rest, ','):]
	const (
		sender = 1 << iota
		route
		message
		callID
	)
	var c veilid.AppCall
	seen := 0
	ok = scan(rest, func(key, v []byte, kind byte) bool {
		var field int
		switch string(key) {
		case "sender":
			field = sender
			if kind != 'n' && (kind != '"' || !scanKey(&c.Sender.Key32, v)) {
				return false
			}
		case "route_id":
			field = route
			if kind != 'n' && (kind != '"' || !scanKey(&c.Route.Key32, v)) {
				return false
			}
		case "message":
			field = message
			var err error
			if c.Message, err = decodeBytes(v); kind != '"' || err != nil {
				return false
			}
		case "call_id":
			field = callID
			var err error
			if c.CallID, err = strconv.ParseUint(string(v), 10, 64); kind != '"' || err != nil {
				return false
			}
		default:
			return false
		}
		again := seen&field != 0
		seen |= field
		return !again
	})
	switch {
	case !ok:
		return nil, false
	case call && seen == sender|route|message|callID:
		return &c, true
	case !call && seen == sender|route|message:
		m := c.AppMessage
		return &m, true
	}
	return nil, false
}

// scanKey reads a key in its full typed form.
func scanKey(k *veilid.Key32, v []byte) bool {
	value, ok := bytes.CutPrefix(v, []byte("VLD0:"))
	if !ok || len(value) != base64url.EncodedLen(veilid.KeySize) {
		return false
	}
	k.Kind = veilid.VLD0
	n, err := base64url.Decode(k.Value[:], value)
	return err == nil && n == veilid.KeySize
}

// plain reports whether a string's text is the string itself.
func plain(v []byte) bool {
	for _, c := range v {
		if c < ' ' || c > '~' || c == '\\' {
			return false
		}
	}
	return true
}

// scan calls field for each `,"key":value` up to the closing brace, which must be the end. Values are strings (kind '"',
// the text between the quotes, which field must check for escapes), unsigned numbers ('0') and null ('n').
func scan(s []byte, field func(key, value []byte, kind byte) bool) bool {
	for len(s) > 1 && s[0] == ',' && s[1] == '"' {
		s = s[2:]
		end := bytes.IndexByte(s, '"')
		if end < 0 || end+2 >= len(s) || s[end+1] != ':' {
			return false
		}
		key := s[:end]
		s = s[end+2:]
		var value []byte
		kind := s[0]
		switch {
		case kind == '"':
			end := bytes.IndexByte(s[1:], '"')
			if end < 0 {
				return false
			}
			value, s = s[1:1+end], s[end+2:]
		case bytes.HasPrefix(s, []byte("null")):
			s = s[4:]
		default:
			n := 0
			for n < len(s) && '0' <= s[n] && s[n] <= '9' {
				n++
			}
			if n == 0 || n > 1 && s[0] == '0' {
				return false
			}
			value, s, kind = s[:n], s[n:], '0'
		}
		if !field(key, value, kind) {
			return false
		}
	}
	return len(s) == 1 && s[0] == '}'
}

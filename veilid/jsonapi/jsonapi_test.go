package jsonapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/OpenArchive/save-dweb-go/veilid"
	"github.com/google/go-cmp/cmp"
)

const (
	keyText    = "VLD0:A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
	secretText = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
)

func must[T any, P veilid.Text[T]](t testing.TB, s string) T {
	t.Helper()
	v, err := veilid.Parse[T, P](s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestFastRequests checks that the fast way writes what the general one would.
func TestFastRequests(t *testing.T) {
	route, node := must[veilid.RouteID](t, keyText), must[veilid.NodeID](t, keyText)
	for _, size := range []int{0, 1, 2, 3, 255, veilid.MaxMessageSize} {
		msg := bytes.Repeat([]byte{0xfb}, size)
		for _, to := range []veilid.Target{{Route: route}, {Node: node}} {
			same(t, AppendAppCall(nil, 9, 4, to, msg, true), 9, AppCall{RC{4}, Target(to), msg})
			same(t, AppendAppCall(nil, 1<<32-1, 4, to, msg, false), 1<<32-1, AppMessage{RC{4}, Target(to), msg})
		}
		same(t, AppendAppCallReply(nil, 9, 1<<64-1, msg), 9, AppCallReply{1<<64 - 1, msg})
	}
}

func same(t *testing.T, line []byte, id uint32, r Request) {
	t.Helper()
	want, err := AppendRequest(nil, id, r)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(object(t, want), object(t, line)); d != "" || !bytes.HasSuffix(line, []byte("}\n")) {
		t.Errorf("%s (-general +fast)\n%.600s", Name(r), d)
	}
	gotID, got, err := ParseRequest(line)
	if err != nil || gotID != id || reflect.TypeOf(got) != reflect.TypeOf(r) {
		t.Errorf("%s reads back as %d %T, %v", Name(r), gotID, got, err)
	}
}

// TestFastUpdates checks that the usual lines take the fast way, and give what the general one gives.
func TestFastUpdates(t *testing.T) {
	body := strings.Repeat("-_", 20000)
	for _, line := range []string{
		`{"type":"Update","kind":"AppCall","sender":null,"route_id":"` + keyText + `","message":"` + body + `","call_id":"18446744073709551615"}`,
		`{"type":"Update","kind":"AppCall","call_id":"1","message":"","route_id":null,"sender":"` + keyText + `"}`,
		`{"type":"Update","kind":"AppMessage","sender":null,"route_id":"` + keyText + `","message":"` + body + `"}`,
	} {
		if _, ok := ScanUpdate([]byte(line)); !ok {
			t.Errorf("not taken: %.200s", line)
		}
		agree(t, []byte(line))
	}
	for _, line := range []string{
		`{"type":"Update","kind":"AppCall","sender":null,"route_id":null,"message":"AA=="}`,
		`{"type":"Update","kind":"AppCall","sender":null,"route_id":null,"message":"AA","call_id":7}`,
		`{"type":"Update","kind":"AppCall","sender":null,"route_id":null,"message":"AA","message":"BB","call_id":"7"}`,
		`{"type":"Update","kind":"AppCall","sender":null,"route_id":null,"message":"AA","Message":"BB","call_id":"7"}`,
		`{"type":"Update","kind":"AppMessage","sender":"VLD0:short","route_id":null,"message":"AA"}`,
		`{"type":"Update","kind":"AppMessage","sender":null,"route_id":null,"message":"AA"} `,
		`{"type":"Update","kind":"AppMessage","sender":null,"route_id":null}`,
		"{\"type\":\"Update\",\"kind\":\"AppMessage\",\"sender\":null,\"route_id\":null,\"message\":\"AAA\rB\"}",
	} {
		if u, ok := ScanUpdate([]byte(line)); ok {
			t.Errorf("taken as %+v: %q", u, line)
		}
	}
}

func TestScanResponse(t *testing.T) {
	for line, want := range map[string]string{
		`{"type":"Response","id":5,"op":"RoutingContext","rc_id":1,"rc_op":"AppCall","value":"AAEC"}`:      "000102",
		`{"type":"Response","id":5,"op":"RoutingContext","rc_id":1,"rc_op":"AppCall","value":""}`:          "",
		`{"type":"Response","id":5,"op":"AppCallReply","value":null}`:                                      "null",
		`{"type":"Response","value":"AAEC","op":"TableDb","db_op":"Load","db_id":3,"id":0}`:                "000102",
		`{"type":"Response","id":5,"op":"Debug","value":"two words"}`:                                      "other",
		`{"type":"Response","id":5,"op":"Debug","value":"a\"b"}`:                                           "refused",
		`{"type":"Response","id":5,"op":"X","value":1}`:                                                    "refused",
		`{"type":"Response","id":4294967296,"op":"X","value":null}`:                                        "refused",
		`{"type":"Response","id":05,"op":"X","value":null}`:                                                "refused",
		`{"type":"Response","id":5,"op":"TableDb","db_id":1,"db_op":"InvalidId","value":null}`:             "refused",
		`{"type":"Response","id":5,"op":"TableDb","db_id":1,"db_op":"Release"}`:                            "refused",
		`{"type":"Response","id":5,"op":"X","error":{"kind":"Timeout"}}`:                                   "refused",
		`{"type":"Response","id":5,"op":"X","value":null,"error":null}`:                                    "refused",
		`{"type":"Response","id":5,"op":"X","value":"AA"`:                                                  "refused",
		`{"type":"Response","id":5,"op":"X","value":"AA","value":"AB"}`:                                    "refused",
		`{"type": "Response","id":5,"op":"X","value":"AA"}`:                                                "refused",
		"{\"type\":\"Response\",\"id\":5,\"op\":\"X\x01\",\"value\":null}":                                 "refused",
		`{"type":"Update","kind":"AppCall","sender":null,"route_id":null,"message":"AA","call_id":"12"}`:   "refused",
		`{"type":"Response","id":5,"op":"RoutingContext","rc_id":-1,"rc_op":"AppCall","value":"AAEC"}`:     "refused",
		`{"type":"Response","id":5,"op":"RoutingContext","rc_id":1e1,"rc_op":"AppCall","value":"AAEC"}`:    "refused",
		`{"type":"Response","id":5,"op":"RoutingContext","rc_id":1,"rc_op":"AppCall","value":"AAEC"},"a"}`: "refused",
	} {
		s, ok := ScanResponse([]byte(line))
		b, isBytes := s.Bytes()
		got := fmt.Sprintf("%x", b)
		switch {
		case !ok:
			got = "refused"
		case s.Null:
			got = "null"
		case !isBytes:
			got = "other"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
		agree(t, []byte(line))
	}
}

func TestErrors(t *testing.T) {
	full := keyText + ":" + secretText
	for _, tt := range []struct {
		line string
		want veilid.Error
		is   error
	}{
		{`"error":{"kind":"Timeout"}`, veilid.Error{Kind: veilid.ErrTimeout}, veilid.ErrTimeout},
		{`"error":{"kind":"TryAgain","message":"m"}`, veilid.Error{Kind: veilid.ErrTryAgain, Message: "m"}, veilid.ErrTryAgain},
		{`"error":{"kind":"KeyNotFound","key":"` + full + `"}`, veilid.Error{Kind: veilid.ErrKeyNotFound, Value: keyText}, veilid.ErrKeyNotFound},
		{
			`"error":{"kind":"InvalidArgument","context":"record not open","argument":"record_key","value":"x"}`,
			veilid.Error{Kind: veilid.ErrInvalidArgument, Context: "record not open", Argument: "record_key", Value: "x"}, veilid.ErrNotOpen,
		},
		{
			`"error":{"kind":"Generic","message":"failed schema validation: ` + full + `:2"}`,
			veilid.Error{Kind: veilid.ErrGeneric, Message: "failed schema validation: " + keyText + ":2"}, veilid.ErrGeneric,
		},
		{`"error":{}`, veilid.Error{Kind: veilid.ErrGeneric}, veilid.ErrGeneric},
		{`"db_op":"InvalidId"`, veilid.Error{Kind: veilid.ErrInvalidArgument, Context: "unknown handle", Argument: "db_id"}, veilid.ErrInvalidArgument},
		{`"tx_op":"InvalidId"`, veilid.Error{Kind: veilid.ErrInvalidArgument, Context: "unknown handle", Argument: "tx_id"}, veilid.ErrInvalidArgument},
		{`"rc_op":"InvalidId"`, veilid.Error{Kind: veilid.ErrInvalidArgument, Context: "unknown handle", Argument: "rc_id"}, veilid.ErrInvalidArgument},
		{`"dhttx_op":"InvalidId"`, veilid.Error{Kind: veilid.ErrInvalidArgument, Context: "unknown handle", Argument: "dhttx_id"}, veilid.ErrInvalidArgument},
	} {
		r, err := ParseResponse([]byte(`{"type":"Response","id":1,"op":"X",` + tt.line + `}`))
		if err != nil {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		err = r.Decode(nil)
		var e *veilid.Error
		if !errors.As(err, &e) || !errors.Is(err, tt.is) || *e != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.line, err, tt.want)
		}
	}
	r := Response{Value: json.RawMessage(`"x"`)}
	if err := r.Decode(new(uint32)); !errors.Is(err, veilid.ErrParse) {
		t.Errorf("a string for a number: %v, want ParseError", err)
	}
}

func TestParseUpdate(t *testing.T) {
	id := must[veilid.Key32](t, keyText)
	seq := &veilid.ValueData{Seq: 3, Data: []byte("hello"), Writer: veilid.PublicKey{Key32: id}}
	for line, want := range map[string]veilid.Update{
		`"kind":"Attachment","state":"AttachedGood","public_internet_ready":true,"local_network_ready":false,"uptime":"2000000","attached_uptime":"1000000","reliable_peer_count":"3","live_peer_count":"4","estimated_network_size":"50","median_latency":null,"over_attached_nodes":"0"`: &veilid.Attachment{
			State: veilid.AttachedGood, PublicInternetReady: true, Uptime: 2 * time.Second, AttachedUptime: time.Second,
			ReliablePeers: 3, LivePeers: 4, EstimatedNetwork: 50,
		},
		`"kind":"Attachment","state":"Detached","uptime":"18446744073709551615","attached_uptime":null`: &veilid.Attachment{
			State: veilid.Detached, Uptime: (1<<63 - 1) / 1000 * time.Microsecond,
		},
		`"kind":"Network","started":true,"bps_down":"1","bps_up":"2","peers":[{"node_ids":[],"peer_stats":{"latency":null}},{}],"node_ids":["` + keyText + `"]`: &veilid.Network{
			Started: true, BPSDown: 1, BPSUp: 2, Peers: 2, NodeIDs: []veilid.NodeID{{Key32: id}},
		},
		`"kind":"RouteChange","dead_routes":["` + keyText + `"],"dead_remote_routes":[]`: &veilid.RouteChange{
			DeadRoutes: []veilid.RouteID{{Key32: id}}, DeadRemoteRoutes: []veilid.RouteID{},
		},
		`"kind":"ValueChange","key":"` + keyText + `","subkeys":[[1,1]],"count":9,"value":{"seq":3,"data":"aGVsbG8","writer":"` + keyText + `"}`: &veilid.ValueChange{
			Key: veilid.NewRecordKey(veilid.OpaqueRecordKey{Key32: id}, veilid.SharedSecret{}), Subkeys: veilid.Subkey(1), Count: 9, Value: seq,
		},
		`"kind":"ValueChange","key":"` + keyText + `","subkeys":[],"count":0,"value":null`: &veilid.ValueChange{
			Key: veilid.NewRecordKey(veilid.OpaqueRecordKey{Key32: id}, veilid.SharedSecret{}),
		},
		`"kind":"Log","log_level":"Info","message":"m","backtrace":null`: &veilid.Log{Level: "Info", Message: "m"},
		`"kind":"Shutdown"`:            &veilid.Shutdown{},
		`"kind":"Config","config":{}`:  nil,
		`"kind":"Invented","field":[]`: nil,
	} {
		u, err := ParseUpdate([]byte(`{"type":"Update",` + line + `}`))
		if err != nil || !cmp.Equal(u, want) {
			t.Errorf("%s: %+v, %v; want %+v", line, u, err, want)
		}
	}
	for _, line := range []string{
		`"kind":"AppCall","message":"AA=="`, `"kind":"Network","bps_down":1`, `"kind":"ValueChange","subkeys":[[1]]`, `"kind":3`,
		`"kind":"RouteChange","dead_routes":["VLD1:` + secretText + `"]`,
	} {
		if u, err := ParseUpdate([]byte(`{"type":"Update",` + line + `}`)); err == nil {
			t.Errorf("%s: %+v, want an error", line, u)
		}
	}
}

// TestSecretsInErrors checks that what cannot be read is not quoted.
func TestSecretsInErrors(t *testing.T) {
	_, _, err := ParseRequest([]byte(`{"id":1,"op":"RoutingContext","rc_op":"OpenDhtRecord","rc_id":1,"key":"` + keyText + `:` + secretText + `x"}`))
	if err == nil || strings.Contains(err.Error(), secretText) {
		t.Errorf("error %v: want one without the key", err)
	}
}

func FuzzResponse(f *testing.F) {
	all, updates := sessions(f)
	for _, x := range all {
		f.Add([]byte(x.response))
	}
	for _, u := range updates {
		f.Add([]byte(u))
	}
	f.Add([]byte(`{"type":"Update","kind":"AppCall","sender":null,"route_id":"` + keyText + `","message":"AAEC","call_id":"7"}`))
	f.Add([]byte(`{"type":"Update","kind":"AppMessage","sender":null,"route_id":"` + keyText + `","message":"AAEC"}`))
	f.Add([]byte(`{"type":"Response","id":5,"op":"RoutingContext","rc_id":1,"rc_op":"AppCall","value":"AAEC"}`))
	f.Add([]byte(`{"type":"Update","kind":"ValueChange","key":"` + keyText + `","subkeys":[[0,4294967295]],"count":1,"value":null}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		agree(t, line)
		h, err := ParseHead(line)
		r, errR := ParseResponse(line)
		if errR == nil && (err != nil || h.Update || h.ID != r.ID) {
			t.Fatalf("%q: head %+v, %v; response %d", line, h, err, r.ID)
		}
		if errR == nil {
			_, _, _, _ = r.Decode(new(RecordDescriptor)), r.Decode(new(Report)), r.Decode(new(State)), r.Decode(new(RouteBlob))
			if id, ok := IDOf(line); ok && id != r.ID && bytes.Count(bytes.ToLower(line), []byte(`id"`)) == 1 {
				t.Fatalf("%q: IDOf = %d, response %d", line, id, r.ID)
			}
		}
		if _, err := ParseUpdate(line); err == nil && errR == nil {
			t.Fatalf("%q is an update and a response", line)
		}
	})
}

func FuzzRequest(f *testing.F) {
	all, _ := sessions(f)
	for _, x := range all {
		f.Add([]byte(x.request))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		id, r, err := ParseRequest(line)
		if err != nil {
			return
		}
		out, err := AppendRequest(nil, id, r)
		if err != nil {
			return // a crypto kind that is no text
		}
		id2, r2, err := ParseRequest(out)
		if err != nil {
			// Optional parts that were absent become null or zero, which the types for required ones do not take.
			return
		}
		again, err := AppendRequest(nil, id2, r2)
		if err != nil || id2 != id || !bytes.Equal(out, again) {
			t.Fatalf("%q becomes %q, then %q: %v", line, out, again, err)
		}
	})
}

func BenchmarkAppendAppCall(b *testing.B) {
	to := veilid.RouteTarget(must[veilid.RouteID](b, keyText))
	msg := make([]byte, veilid.MaxMessageSize)
	var buf []byte
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendAppCall(buf[:0], 7, 1, to, msg, true)
	}
}

func BenchmarkScan(b *testing.B) {
	text, _ := Bytes(make([]byte, veilid.MaxMessageSize)).MarshalText()
	b.Run("response", func(b *testing.B) {
		line := fmt.Appendf(nil, `{"type":"Response","id":5,"op":"RoutingContext","rc_id":1,"rc_op":"AppCall","value":"%s"}`, text)
		b.SetBytes(veilid.MaxMessageSize)
		b.ReportAllocs()
		for b.Loop() {
			s, ok := ScanResponse(line)
			if _, isBytes := s.Bytes(); !ok || !isBytes {
				b.Fatal("refused")
			}
		}
	})
	b.Run("call", func(b *testing.B) {
		line := fmt.Appendf(nil, `{"type":"Update","kind":"AppCall","sender":null,"route_id":"%s","message":"%s","call_id":"7"}`, keyText, text)
		b.SetBytes(veilid.MaxMessageSize)
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := ScanUpdate(line); !ok {
				b.Fatal("refused")
			}
		}
	})
}

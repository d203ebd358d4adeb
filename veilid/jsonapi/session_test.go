package jsonapi

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// exchange is a request with what a real node did with it.
type exchange struct {
	file, request, response string
	refused                 bool // the node could not parse the request
}

// sessions reads the recorded sessions of a real node: their exchanges and their updates.
func sessions(t testing.TB) (all []exchange, updates []string) {
	files, err := filepath.Glob("testdata/sample-session-*.txt")
	if err != nil || len(files) != 3 {
		t.Fatalf("recorded sessions: %v, %v", files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			switch {
			case strings.HasPrefix(line, "> "):
				all = append(all, exchange{file: f, request: line[2:]})
			case strings.HasPrefix(line, `< {"type":"Update"`):
				updates = append(updates, line[2:])
			case strings.HasPrefix(line, "< "):
				all[len(all)-1].response = line[2:]
			case strings.HasPrefix(line, "! "):
				all[len(all)-1].refused = true
			}
		}
	}
	return all, updates
}

// object is a JSON object without its null fields, at any depth.
func object(t *testing.T, line []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	dropNulls(m)
	return m
}

func dropNulls(v any) {
	if m, ok := v.(map[string]any); ok {
		for k, x := range m {
			if dropNulls(x); x == nil {
				delete(m, k)
			}
		}
	}
}

// uncovered are recorded operations that this package leaves out: cryptography is computed locally.
var uncovered = map[string]bool{
	"GetCryptoSystem": true, "CryptoSystem": true, "GenerateSignatures": true, "VerifySignatures": true, "IsShutdown": true,
	"DefaultVeilidConfig": true, "ReportAppLifecycleState": true, "NowIncreasing": true, "Nope": true,
}

// TestRequestsOfSessions reads each recorded request and writes it again: the same object, but for nulls and defaults.
func TestRequestsOfSessions(t *testing.T) {
	all, _ := sessions(t)
	covered := map[opName]bool{}
	for _, x := range all {
		want := object(t, []byte(x.request))
		op, _ := want["op"].(string)
		if uncovered[op] || x.refused || want["rc_op"] == "WithSequencing" {
			continue
		}
		id, r, err := ParseRequest([]byte(x.request))
		if err != nil {
			t.Errorf("%s: %v", x.request, err)
			continue
		}
		covered[r.name()] = true
		line, err := AppendRequest(nil, id, r)
		if err != nil {
			t.Errorf("%s: %v", x.request, err)
			continue
		}
		if !bytes.HasSuffix(line, []byte("}\n")) || bytes.Count(line, []byte("\n")) != 1 {
			t.Errorf("%s: not one line: %q", x.request, line)
		}
		got := object(t, line)
		if want["id"] == nil {
			want["id"] = json.Number("0")
		}
		if d := cmp.Diff(want, got); d != "" && !expected(x.request, r) {
			t.Errorf("%s (-want +got)\n%s", x.request, d)
		}
	}
	if len(covered) < 35 {
		t.Errorf("the sessions cover %d operations only", len(covered))
	}
}

// expected tells requests that we write in another way than recorded: with defaults filled in, all kinds, or without a
// reversed range or an unknown field.
func expected(line string, r Request) bool {
	switch r.(type) {
	case WithSafety, NewCustomPrivateRoute:
		return true
	}
	return strings.Contains(line, `"RouteId":"A6EH`) || strings.Contains(line, `[[1,0]]`) || strings.Contains(line, `"extra":1`)
}

// TestEveryField checks that unset fields are written as null: the node refuses some requests otherwise.
func TestEveryField(t *testing.T) {
	for _, tt := range []struct {
		r    Request
		want string
	}{
		{InspectDHTRecord{Scope: "Local"}, `"subkeys":null,"scope":"Local"`},
		{WatchDHTValues{}, `"subkeys":null,"expiration":null,"count":null`},
		{SetDHTValue{Options: &SetOptions{}}, `"data":"","options":{"writer":null,"allow_offline":null,"min_seqnum":null}`},
		{CreateDHTRecord{Schema: Schema{Kind: "SMPL"}}, `"members":[]},"owner":null`},
		{WaitForAttachmentCondition{}, `{"id":7,"op":"WaitForAttachmentCondition","condition":null,"timeout_ms":null}`},
		{GetState{}, `{"id":7,"op":"GetState"}`},
		{ReleaseDB{DB{3}}, `{"id":7,"op":"TableDb","db_op":"Release","db_id":3}`},
	} {
		line, err := AppendRequest(nil, 7, tt.r)
		if err != nil || !bytes.Contains(line, []byte(tt.want)) {
			t.Errorf("%s: %s, %v; want %s in it", Name(tt.r), line, err, tt.want)
		}
	}
}

// TestResponsesOfSessions reads each recorded response in both ways.
func TestResponsesOfSessions(t *testing.T) {
	all, _ := sessions(t)
	scanned := 0
	for _, x := range all {
		if x.refused {
			continue
		}
		line := []byte(x.response)
		r, err := ParseResponse(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		want := object(t, line)
		if _, failed := want["error"]; failed != (r.Err != nil) && !strings.Contains(x.response, invalidID) {
			t.Errorf("%s: Err = %v", line, r.Err)
		}
		h, err := ParseHead(line)
		if err != nil || h.Update || h.ID != r.ID {
			t.Errorf("%s: head %+v, %v", line, h, err)
		}
		if id, ok := IDOf(line); !ok || id != r.ID {
			t.Errorf("%s: IDOf = %d, %t", line, id, ok)
		}
		if _, ok := ScanResponse(line); ok {
			scanned++
		}
		agree(t, line)
	}
	if scanned < 20 {
		t.Errorf("the fast way took %d responses only", scanned)
	}
}

func TestUpdatesOfSessions(t *testing.T) {
	_, updates := sessions(t)
	if len(updates) == 0 {
		t.Fatal("no update recorded")
	}
	for _, line := range updates {
		if h, err := ParseHead([]byte(line)); err != nil || !h.Update {
			t.Errorf("%s: head %+v, %v", line, h, err)
		}
		if u, err := ParseUpdate([]byte(line)); err != nil || u == nil {
			t.Errorf("%s: %v, %v", line, u, err)
		}
	}
}

// agree fails where the fast way of reading a line says other than the general one.
func agree(t *testing.T, line []byte) {
	t.Helper()
	if s, ok := ScanResponse(line); ok {
		r, err := ParseResponse(line)
		b, isBytes := s.Bytes()
		if err != nil && (isBytes || s.Null) || err == nil && (r.Err != nil || r.ID != s.ID || s.Null != (r.Value == nil)) {
			t.Fatalf("%q: fast %+v, general %+v, %v", line, s, r, err)
		}
		if isBytes {
			var want Bytes
			if err := r.Decode(&want); err != nil || !bytes.Equal(b, want) || (b == nil) != (want == nil) {
				t.Fatalf("%q: fast value %q, general %q, %v", line, b, want, err)
			}
		}
	}
	if u, ok := ScanUpdate(line); ok {
		want, err := ParseUpdate(line)
		if d := cmp.Diff(want, u); err != nil || d != "" {
			t.Fatalf("%q: %v (-general +fast)\n%s", line, err, d)
		}
	}
}

package jsonapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Head is the part of a line from the server that says where it goes.
type Head struct {
	Update bool
	ID     uint32 // of a response
}

// ParseHead reads where a line goes.
func ParseHead(line []byte) (Head, error) {
	var h struct {
		Type string `json:"type"`
		ID   uint32 `json:"id"`
	}
	if err := json.Unmarshal(line, &h); err != nil {
		return Head{}, fmt.Errorf("parse message: %w", err)
	}
	switch h.Type {
	case "Update":
		return Head{Update: true}, nil
	case "Response":
		return Head{ID: h.ID}, nil
	}
	return Head{}, fmt.Errorf("parse message: unknown type %.20q", h.Type)
}

// Response is the answer to a request.
type Response struct {
	ID      uint32
	Value   json.RawMessage // nil where there is none; use Decode
	Err     *veilid.Error
	Version [3]uint32 // of VeilidVersion
}

// ParseResponse reads a response. Its Err is set where the operation failed or the handle was unknown.
func ParseResponse(line []byte) (Response, error) {
	var x struct {
		Type  string           `json:"type"`
		ID    uint32           `json:"id"`
		Value *json.RawMessage `json:"value"`
		Error *apiError        `json:"error"`
		RC    string           `json:"rc_op"`
		DHTTx string           `json:"dhttx_op"`
		DB    string           `json:"db_op"`
		Tx    string           `json:"tx_op"`
		Major uint32           `json:"major"`
		Minor uint32           `json:"minor"`
		Patch uint32           `json:"patch"`
	}
	if err := json.Unmarshal(line, &x); err != nil {
		return Response{}, fmt.Errorf("parse response: %w", err)
	}
	if x.Type != "Response" {
		return Response{}, errors.New("parse response: it is none")
	}
	r := Response{ID: x.ID, Version: [3]uint32{x.Major, x.Minor, x.Patch}}
	switch {
	case x.Error != nil:
		r.Err = x.Error.veilid()
	case x.RC == invalidID:
		r.Err = veilid.InvalidArgument("unknown handle", "rc_id", "")
	case x.DB == invalidID:
		r.Err = veilid.InvalidArgument("unknown handle", "db_id", "")
	case x.DHTTx == invalidID:
		r.Err = veilid.InvalidArgument("unknown handle", "dhttx_id", "")
	case x.Tx == invalidID:
		r.Err = veilid.InvalidArgument("unknown handle", "tx_id", "")
	case x.Value != nil:
		r.Value = *x.Value
	}
	return r, nil
}

const invalidID = "InvalidId" // the sub-operation of an answer about a handle that does not exist

// Decode reads the value into v, or returns the error that the server answered. A null value leaves v alone; v may be
// nil where the value does not matter.
func (r Response) Decode(v any) error {
	if r.Err != nil {
		return r.Err
	}
	if v == nil || r.Value == nil {
		return nil
	}
	if err := json.Unmarshal(r.Value, v); err != nil {
		return veilid.Errorf(veilid.ErrParse, "the node's answer: %v", err)
	}
	return nil
}

// apiError is an error as the API gives it.
type apiError struct {
	Kind     veilid.Kind `json:"kind"`
	Message  string      `json:"message"`
	Context  string      `json:"context"`
	Argument string      `json:"argument"`
	Value    string      `json:"value"`
	Key      string      `json:"key"`
}

// fullKey is a record key with its encryption key or a key pair, as veilid-core quotes them in messages.
var fullKey = regexp.MustCompile(`(VLD0:[A-Za-z0-9_-]{43}):[A-Za-z0-9_-]{43}`)

func (e *apiError) veilid() *veilid.Error {
	hide := func(s string) string { return fullKey.ReplaceAllString(s, "$1") }
	v := &veilid.Error{
		Kind: e.Kind, Message: hide(e.Message), Context: hide(e.Context), Argument: e.Argument, Value: hide(e.Value),
	}
	if e.Kind == veilid.ErrKeyNotFound {
		v.Value = hide(e.Key)
	}
	if e.Kind == "" {
		v.Kind = veilid.ErrGeneric
	}
	return v
}

// State is what GetState answers, as far as it is used.
type State struct {
	Attachment Attachment `json:"attachment"`
	Network    Network    `json:"network"`
}

// RouteBlob is a private route.
type RouteBlob struct {
	RouteID veilid.RouteID `json:"route_id"`
	Blob    Bytes          `json:"blob"`
}

// RecordDescriptor is what opening or creating a record answers.
type RecordDescriptor struct {
	Key         RecordKey        `json:"key"`
	Owner       veilid.PublicKey `json:"owner"`
	OwnerSecret *SecretKey       `json:"owner_secret"`
	Schema      Schema           `json:"schema"`
}

// Veilid is the descriptor in the terms of package veilid.
func (d RecordDescriptor) Veilid() veilid.RecordDescriptor {
	v := veilid.RecordDescriptor{Key: d.Key.RecordKey, Owner: d.Owner, Schema: veilid.Schema(d.Schema)}
	if d.OwnerSecret != nil {
		v.OwnerSecret = d.OwnerSecret.SecretKey
	}
	return v
}

// ValueData is one version of a subkey.
type ValueData struct {
	Seq    uint32           `json:"seq"`
	Data   Bytes            `json:"data"`
	Writer veilid.PublicKey `json:"writer"`
}

// Veilid is the value in the terms of package veilid; nil stays nil.
func (d *ValueData) Veilid() *veilid.ValueData {
	if d == nil {
		return nil
	}
	return &veilid.ValueData{Seq: d.Seq, Data: d.Data, Writer: d.Writer}
}

// Report is the result of an inspection.
type Report struct {
	Subkeys        Ranges    `json:"subkeys"`
	OfflineSubkeys Ranges    `json:"offline_subkeys"`
	LocalSeqs      []*uint32 `json:"local_seqs"`
	NetworkSeqs    []*uint32 `json:"network_seqs"`
}

// Veilid is the report in the terms of package veilid.
func (r Report) Veilid() veilid.Report {
	return veilid.Report{
		Subkeys: veilid.SubkeyRanges(r.Subkeys), OfflineSubkeys: veilid.SubkeyRanges(r.OfflineSubkeys),
		LocalSeqs: r.LocalSeqs, NetworkSeqs: r.NetworkSeqs,
	}
}

package jsonapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
)

// opName is an operation's name, and the family of handles that it belongs to, if any.
type opName struct{ family, op string }

// families gives the operation that stands for all those on a handle, by the handle's family. The fields of a message
// are the family's name with "_id" and "_op".
var families = map[string]string{"rc": "RoutingContext", "dhttx": "DhtTransaction", "db": "TableDb", "tx": "TableDbTransaction"}

// requests finds a request's type by its name.
var requests = func() map[opName]reflect.Type {
	m := map[opName]reflect.Type{}
	for _, r := range []Request{
		Control{}, GetState{}, Attach{}, Detach{}, VeilidVersion{}, VeilidVersionString{}, VeilidFeatures{}, ValidCryptoKinds{}, Now{},
		Debug{}, WaitForAttachmentCondition{}, GenerateMemberID{}, GenerateKeyPair{}, GetDHTRecordKey{}, NewPrivateRoute{},
		NewCustomPrivateRoute{}, ImportRemotePrivateRoute{}, ReleasePrivateRoute{}, AppCallReply{}, NewRoutingContext{},
		TransactDHTRecords{}, OpenTableDB{}, DeleteTableDB{}, RenameTableDB{}, SaveUserSecret{}, LoadUserSecret{}, RemoveUserSecret{},
		ListUserSecrets{}, ReleaseRC{}, Safety{}, WithSafety{}, AppCall{}, AppMessage{}, CreateDHTRecord{}, OpenDHTRecord{},
		CloseDHTRecord{}, DeleteDHTRecord{}, GetDHTValue{}, SetDHTValue{}, WatchDHTValues{}, CancelDHTWatch{}, InspectDHTRecord{},
		FlushDHTRecord{}, ReleaseDHTTx{}, CommitDHTTx{}, RollbackDHTTx{}, GetInDHTTx{}, SetInDHTTx{}, InspectInDHTTx{}, ReleaseDB{},
		GetColumnCount{}, GetKeys{}, Store{}, Load{}, Delete{}, Transact{}, CommitTx{}, RollbackTx{}, StoreInTx{}, DeleteInTx{},
	} {
		m[r.name()] = reflect.TypeOf(r)
	}
	return m
}()

// Name is a request's name for errors and logs, such as "AppCall".
func Name(r Request) string { return r.name().op }

// AppendRequest appends the line of a request, with its line end. The arguments must be valid: see the package comment.
func AppendRequest(dst []byte, id uint32, r Request) ([]byte, error) {
	args, err := json.Marshal(r)
	if err != nil {
		return dst, fmt.Errorf("encode %s request: %w", Name(r), err)
	}
	n := r.name()
	dst = append(dst, `{"id":`...)
	dst = strconv.AppendUint(dst, uint64(id), 10)
	dst = append(dst, `,"op":"`...)
	if n.family != "" {
		dst = append(dst, families[n.family]...)
		dst = append(dst, `","`...)
		dst = append(dst, n.family...)
		dst = append(dst, `_op":"`...)
	}
	dst = append(dst, n.op...)
	dst = append(dst, '"')
	if len(args) > len(`{}`) {
		dst = append(dst, ',')
	}
	dst = append(dst, args[1:]...)
	return append(dst, '\n'), nil
}

// ParseRequest reads the line of a request: its id, and the request by value.
func ParseRequest(line []byte) (uint32, Request, error) {
	var h struct {
		ID    uint32 `json:"id"`
		Op    string `json:"op"`
		RC    string `json:"rc_op"`
		DHTTx string `json:"dhttx_op"`
		DB    string `json:"db_op"`
		Tx    string `json:"tx_op"`
	}
	if err := json.Unmarshal(line, &h); err != nil {
		return 0, nil, fmt.Errorf("parse request: %w", err)
	}
	n := opName{op: h.Op}
	switch h.Op {
	case families["rc"]:
		n = opName{"rc", h.RC}
	case families["dhttx"]:
		n = opName{"dhttx", h.DHTTx}
	case families["db"]:
		n = opName{"db", h.DB}
	case families["tx"]:
		n = opName{"tx", h.Tx}
	}
	t, ok := requests[n]
	if !ok {
		return h.ID, nil, fmt.Errorf("parse request: unknown operation %.40q %.40q", h.Op, n.op)
	}
	p := reflect.New(t)
	if err := json.Unmarshal(line, p.Interface()); err != nil {
		return h.ID, nil, fmt.Errorf("parse %s request: %w", n.op, err)
	}
	return h.ID, p.Elem().Interface().(Request), nil
}

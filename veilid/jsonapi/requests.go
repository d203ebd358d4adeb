package jsonapi

import "github.com/OpenArchive/save-dweb-go/veilid"

// Request is one of the structs of this package: an operation with its arguments. Operations on a handle embed [RC],
// [DHTTx], [DB] or [Tx], which holds the handle's id.
type Request interface{ name() opName }

// The handles: routing context, DHT transaction, table, transaction on a table. Ids count from 1 and belong to one
// connection.
type (
	RC struct {
		ID uint32 `json:"rc_id"`
	}
	DHTTx struct {
		ID uint32 `json:"dhttx_id"`
	}
	DB struct {
		ID uint32 `json:"db_id"`
	}
	Tx struct {
		ID uint32 `json:"tx_id"`
	}
)

// Operations of the node. The comment is the value of the response.
type (
	Control struct {
		Args []string `json:"args"`
	} // string
	GetState            struct{} // State
	Attach              struct{} // null
	Detach              struct{} // null
	VeilidVersion       struct{} // major, minor, patch beside the op
	VeilidVersionString struct{} // string
	VeilidFeatures      struct{} // []string
	ValidCryptoKinds    struct{} // []string
	Now                 struct{} // U64, µs since 1970
	Debug               struct {
		Command string `json:"command"`
	} // string

	// WaitForAttachmentCondition answers Attachment; no condition means attached and ready for the public internet.
	WaitForAttachmentCondition struct {
		Condition *AttachmentCondition `json:"condition"`
		TimeoutMS *uint64              `json:"timeout_ms"`
	}
	AttachmentCondition struct {
		MinState            *veilid.AttachmentState `json:"opt_min_state"`
		MaxState            *veilid.AttachmentState `json:"opt_max_state"`
		PublicInternetReady *bool                   `json:"opt_public_internet_ready"`
		LocalNetworkReady   *bool                   `json:"opt_local_network_ready"`
	}
	GenerateMemberID struct { // MemberID
		WriterKey veilid.PublicKey `json:"writer_key"`
	}
	GenerateKeyPair struct { // KeyPair
		Kind veilid.CryptoKind `json:"kind"`
	}
	GetDHTRecordKey struct { // RecordKey
		Schema        Schema           `json:"schema"`
		Owner         veilid.PublicKey `json:"owner"`
		EncryptionKey *SharedSecret    `json:"encryption_key"`
	}

	NewPrivateRoute       struct{} // RouteBlob
	NewCustomPrivateRoute struct { // RouteBlob
		Spec PrivateSpec `json:"private_spec"`
	}
	ImportRemotePrivateRoute struct { // RouteID
		Blob Bytes `json:"blob"`
	}
	ReleasePrivateRoute struct { // null
		RouteID veilid.RouteID `json:"route_id"`
	}
	AppCallReply struct { // null
		CallID  U64   `json:"call_id"`
		Message Bytes `json:"message"`
	}

	NewRoutingContext  struct{} // handle
	TransactDHTRecords struct { // handle
		RecordKeys []RecordKey      `json:"record_keys"`
		Options    *TransactOptions `json:"options"`
	}
	TransactOptions struct {
		Signer *KeyPair `json:"default_signing_keypair"`
	}

	OpenTableDB struct { // handle
		Name    string `json:"name"`
		Columns uint32 `json:"column_count"`
	}
	DeleteTableDB struct { // bool
		Name string `json:"name"`
	}
	RenameTableDB struct { // null
		OldName string `json:"old_name"`
		NewName string `json:"new_name"`
	}

	SaveUserSecret struct { // bool
		Key   string `json:"key"`
		Value Bytes  `json:"value"`
	}
	LoadUserSecret struct {
		Key string `json:"key"`
	} // Bytes
	RemoveUserSecret struct {
		Key string `json:"key"`
	} // bool
	ListUserSecrets struct{} // []string
)

// Operations of a routing context.
type (
	ReleaseRC  struct{ RC } // nothing
	Safety     struct{ RC } // SafetySelection
	WithSafety struct {     // handle
		RC
		Selection SafetySelection `json:"safety_selection"`
	}
	AppCall struct { // Bytes
		RC
		Target  Target `json:"target"`
		Message Bytes  `json:"message"`
	}
	AppMessage struct { // null
		RC
		Target  Target `json:"target"`
		Message Bytes  `json:"message"`
	}
	CreateDHTRecord struct { // RecordDescriptor
		RC
		Kind   veilid.CryptoKind `json:"kind"`
		Schema Schema            `json:"schema"`
		Owner  *KeyPair          `json:"owner"`
	}
	OpenDHTRecord struct { // RecordDescriptor
		RC
		Key     RecordKey    `json:"key"`
		Writer  *KeyPair     `json:"writer"`
		Options *OpenOptions `json:"options"`
	}
	OpenOptions struct {
		Rehydrate *bool `json:"rehydrate"`
	}
	CloseDHTRecord struct { // null
		RC
		Key RecordKey `json:"key"`
	}
	DeleteDHTRecord struct { // null
		RC
		Key RecordKey `json:"key"`
	}
	GetDHTValue struct { // *ValueData
		RC
		Key          RecordKey `json:"key"`
		Subkey       uint32    `json:"subkey"`
		ForceRefresh bool      `json:"force_refresh"`
	}
	SetDHTValue struct { // *ValueData
		RC
		Key     RecordKey   `json:"key"`
		Subkey  uint32      `json:"subkey"`
		Data    Bytes       `json:"data"`
		Options *SetOptions `json:"options"`
	}
	SetOptions struct {
		Writer       *KeyPair `json:"writer"`
		AllowOffline *bool    `json:"allow_offline"`
		MinSeq       *uint32  `json:"min_seqnum"`
	}
	WatchDHTValues struct { // bool
		RC
		Key        RecordKey `json:"key"`
		Subkeys    Ranges    `json:"subkeys"`
		Expiration *U64      `json:"expiration"` // µs since 1970
		Count      *uint32   `json:"count"`
	}
	CancelDHTWatch struct { // bool
		RC
		Key     RecordKey `json:"key"`
		Subkeys Ranges    `json:"subkeys"`
	}
	InspectDHTRecord struct { // Report
		RC
		Key     RecordKey          `json:"key"`
		Subkeys Ranges             `json:"subkeys"`
		Scope   veilid.ReportScope `json:"scope"`
	}
	FlushDHTRecord struct { // bool
		RC
		Key       RecordKey `json:"key"`
		TimeoutMS *uint64   `json:"timeout_ms"`
	}
)

// Operations of a DHT transaction.
type (
	ReleaseDHTTx  struct{ DHTTx } // nothing
	CommitDHTTx   struct{ DHTTx } // null
	RollbackDHTTx struct{ DHTTx } // null
	GetInDHTTx    struct {        // *ValueData
		DHTTx
		Key    RecordKey `json:"key"`
		Subkey uint32    `json:"subkey"`
	}
	SetInDHTTx struct { // *ValueData
		DHTTx
		Key     RecordKey       `json:"key"`
		Subkey  uint32          `json:"subkey"`
		Data    Bytes           `json:"data"`
		Options *SetInTxOptions `json:"options"`
	}
	SetInTxOptions struct {
		Writer *KeyPair `json:"writer"`
		MinSeq *uint32  `json:"min_seqnum"`
	}
	InspectInDHTTx struct { // Report
		DHTTx
		Key     RecordKey          `json:"key"`
		Subkeys Ranges             `json:"subkeys"`
		Scope   veilid.ReportScope `json:"scope"`
	}
)

// Operations of a table and of a transaction on a table.
type (
	ReleaseDB      struct{ DB } // nothing
	GetColumnCount struct{ DB } // uint32
	GetKeys        struct {     // []Bytes
		DB
		Column uint32 `json:"col"`
	}
	Store struct { // null
		DB
		Column uint32 `json:"col"`
		Key    Bytes  `json:"key"`
		Value  Bytes  `json:"value"`
	}
	Load struct { // Bytes
		DB
		Column uint32 `json:"col"`
		Key    Bytes  `json:"key"`
	}
	Delete struct { // Bytes, the old value
		DB
		Column uint32 `json:"col"`
		Key    Bytes  `json:"key"`
	}
	Transact struct{ DB } // handle

	CommitTx   struct{ Tx } // null
	RollbackTx struct{ Tx } // nothing
	StoreInTx  struct {     // null
		Tx
		Column uint32 `json:"col"`
		Key    Bytes  `json:"key"`
		Value  Bytes  `json:"value"`
	}
	DeleteInTx struct { // null
		Tx
		Column uint32 `json:"col"`
		Key    Bytes  `json:"key"`
	}
)

func (Control) name() opName                    { return opName{"", "Control"} }
func (GetState) name() opName                   { return opName{"", "GetState"} }
func (Attach) name() opName                     { return opName{"", "Attach"} }
func (Detach) name() opName                     { return opName{"", "Detach"} }
func (VeilidVersion) name() opName              { return opName{"", "VeilidVersion"} }
func (VeilidVersionString) name() opName        { return opName{"", "VeilidVersionString"} }
func (VeilidFeatures) name() opName             { return opName{"", "VeilidFeatures"} }
func (ValidCryptoKinds) name() opName           { return opName{"", "ValidCryptoKinds"} }
func (Now) name() opName                        { return opName{"", "Now"} }
func (Debug) name() opName                      { return opName{"", "Debug"} }
func (WaitForAttachmentCondition) name() opName { return opName{"", "WaitForAttachmentCondition"} }
func (GenerateMemberID) name() opName           { return opName{"", "GenerateMemberId"} }
func (GenerateKeyPair) name() opName            { return opName{"", "GenerateKeyPair"} }
func (GetDHTRecordKey) name() opName            { return opName{"", "GetDhtRecordKey"} }
func (NewPrivateRoute) name() opName            { return opName{"", "NewPrivateRoute"} }
func (NewCustomPrivateRoute) name() opName      { return opName{"", "NewCustomPrivateRoute"} }
func (ImportRemotePrivateRoute) name() opName   { return opName{"", "ImportRemotePrivateRoute"} }
func (ReleasePrivateRoute) name() opName        { return opName{"", "ReleasePrivateRoute"} }
func (AppCallReply) name() opName               { return opName{"", "AppCallReply"} }
func (NewRoutingContext) name() opName          { return opName{"", "NewRoutingContext"} }
func (TransactDHTRecords) name() opName         { return opName{"", "TransactDhtRecords"} }
func (OpenTableDB) name() opName                { return opName{"", "OpenTableDb"} }
func (DeleteTableDB) name() opName              { return opName{"", "DeleteTableDb"} }
func (RenameTableDB) name() opName              { return opName{"", "RenameTableDb"} }
func (SaveUserSecret) name() opName             { return opName{"", "SaveUserSecret"} }
func (LoadUserSecret) name() opName             { return opName{"", "LoadUserSecret"} }
func (RemoveUserSecret) name() opName           { return opName{"", "RemoveUserSecret"} }
func (ListUserSecrets) name() opName            { return opName{"", "ListUserSecrets"} }
func (ReleaseRC) name() opName                  { return opName{"rc", "Release"} }
func (Safety) name() opName                     { return opName{"rc", "Safety"} }
func (WithSafety) name() opName                 { return opName{"rc", "WithSafety"} }
func (AppCall) name() opName                    { return opName{"rc", "AppCall"} }
func (AppMessage) name() opName                 { return opName{"rc", "AppMessage"} }
func (CreateDHTRecord) name() opName            { return opName{"rc", "CreateDhtRecord"} }
func (OpenDHTRecord) name() opName              { return opName{"rc", "OpenDhtRecord"} }
func (CloseDHTRecord) name() opName             { return opName{"rc", "CloseDhtRecord"} }
func (DeleteDHTRecord) name() opName            { return opName{"rc", "DeleteDhtRecord"} }
func (GetDHTValue) name() opName                { return opName{"rc", "GetDhtValue"} }
func (SetDHTValue) name() opName                { return opName{"rc", "SetDhtValue"} }
func (WatchDHTValues) name() opName             { return opName{"rc", "WatchDhtValues"} }
func (CancelDHTWatch) name() opName             { return opName{"rc", "CancelDhtWatch"} }
func (InspectDHTRecord) name() opName           { return opName{"rc", "InspectDhtRecord"} }
func (FlushDHTRecord) name() opName             { return opName{"rc", "FlushDhtRecord"} }
func (ReleaseDHTTx) name() opName               { return opName{"dhttx", "Release"} }
func (CommitDHTTx) name() opName                { return opName{"dhttx", "Commit"} }
func (RollbackDHTTx) name() opName              { return opName{"dhttx", "Rollback"} }
func (GetInDHTTx) name() opName                 { return opName{"dhttx", "Get"} }
func (SetInDHTTx) name() opName                 { return opName{"dhttx", "Set"} }
func (InspectInDHTTx) name() opName             { return opName{"dhttx", "Inspect"} }
func (ReleaseDB) name() opName                  { return opName{"db", "Release"} }
func (GetColumnCount) name() opName             { return opName{"db", "GetColumnCount"} }
func (GetKeys) name() opName                    { return opName{"db", "GetKeys"} }
func (Store) name() opName                      { return opName{"db", "Store"} }
func (Load) name() opName                       { return opName{"db", "Load"} }
func (Delete) name() opName                     { return opName{"db", "Delete"} }
func (Transact) name() opName                   { return opName{"db", "Transact"} }
func (CommitTx) name() opName                   { return opName{"tx", "Commit"} }
func (RollbackTx) name() opName                 { return opName{"tx", "Rollback"} }
func (StoreInTx) name() opName                  { return opName{"tx", "Store"} }
func (DeleteInTx) name() opName                 { return opName{"tx", "Delete"} }

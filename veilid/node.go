package veilid

import (
	"context"
	"time"
)

// Node is a Veilid node. Its methods may be called from any goroutine.
type Node interface {
	Attacher
	Router
	TableStore
	ProtectedStore

	// Context is a routing context with this safety selection; the zero selection is the node's default, which is
	// safe. It costs nothing and needs no release; a selection the node refuses fails at the first use.
	Context(SafetySelection) RoutingContext

	// DHTRecordKey computes a record's key from its owner and schema, without the network.
	DHTRecordKey(ctx context.Context, schema Schema, owner PublicKey, enc SharedSecret) (RecordKey, error)

	// TransactDHTRecords begins a transaction over 1 to 32 open records.
	TransactDHTRecords(ctx context.Context, keys []RecordKey, opts TransactOptions) (DHTTransaction, error)

	// Subscribe starts to deliver the updates of these kinds, in order. A slow subscriber loses updates (and is told
	// so by Lagged) without holding up any other.
	Subscribe(kinds UpdateKinds) Subscription

	// Version is that of the node's software, such as {0, 5, 8}.
	Version(ctx context.Context) ([3]uint32, error)

	// Debug runs one of veilid-core's debug commands; ErrUnimplemented where the engine has none.
	Debug(ctx context.Context, command string) (string, error)

	// Close ends this engine's use of the node, and the node where the engine owns it. It ends every subscription and
	// waits for the engine's goroutines. Later calls return ErrShutdown; a second Close returns nil.
	Close() error
}

// Attacher is a node's connection to the network.
type Attacher interface {
	Attach(ctx context.Context) error // no error where it is attached already
	Detach(ctx context.Context) error // ErrGeneric where it is not attached
	// AttachmentState is the latest state.
	AttachmentState(ctx context.Context) (Attachment, error)
	// WaitReady waits until routes and the DHT can be used, [Attachment.Ready], or ctx ends.
	WaitReady(ctx context.Context) error
}

// Router is a node's private routes and its end of app calls.
type Router interface {
	// NewPrivateRoute allocates and publishes nothing: hand the blob to whoever shall reach us. ErrTryAgain until the
	// node is ready.
	NewPrivateRoute(ctx context.Context, spec PrivateSpec) (RouteBlob, error)
	// ImportRemotePrivateRoute makes another's route usable as a target. Importing a blob again gives the same id.
	ImportRemotePrivateRoute(ctx context.Context, blob []byte) (RouteID, error)
	// ReleasePrivateRoute forgets a route, our own or an imported one. ErrInvalidArgument where it is unknown.
	ReleasePrivateRoute(ctx context.Context, id RouteID) error
	// AppCallReply answers an AppCall, with at most MaxMessageSize bytes.
	AppCallReply(ctx context.Context, callID uint64, answer []byte) error
}

// RoutingContext sends app calls and works on DHT records under one safety selection.
type RoutingContext interface {
	Safety() SafetySelection

	// AppCall asks and waits for the answer; both are at most MaxMessageSize bytes. ErrTimeout without an answer,
	// ErrInvalidTarget or ErrNoConnection for a route that is unknown or dead.
	AppCall(ctx context.Context, to Target, question []byte) ([]byte, error)
	// AppMessage sends without an answer; arrival is not confirmed.
	AppMessage(ctx context.Context, to Target, message []byte) error

	// CreateDHTRecord makes a record with a fresh encryption key and opens it. Nothing is published until the first
	// write. The zero owner means a fresh key pair.
	CreateDHTRecord(ctx context.Context, schema Schema, owner KeyPair) (RecordDescriptor, error)
	// OpenDHTRecord opens a record: at once if a copy is here, else the network must answer (ErrTryAgain while
	// offline, ErrKeyNotFound where nobody has it). Opening again replaces the writer.
	OpenDHTRecord(ctx context.Context, key RecordKey, opts OpenOptions) (RecordDescriptor, error)
	// CloseDHTRecord ends use of the record and its watch. Closing a record that is not open is no error.
	CloseDHTRecord(ctx context.Context, key RecordKey) error
	// DeleteDHTRecord removes the local copy; the network's ages out. ErrKeyNotFound where there is none.
	DeleteDHTRecord(ctx context.Context, key RecordKey) error
	// GetDHTValue reads a subkey, from the local copy unless there is none or force is set. nil: never written.
	GetDHTValue(ctx context.Context, key RecordKey, subkey uint32, force bool) (*ValueData, error)
	// SetDHTValue writes a subkey. A nil value: ours is the current one, or is queued while the network is out of
	// reach (see Report.OfflineSubkeys and FlushDHTRecord). A value: the network had that newer or conflicting one,
	// and ours did NOT take.
	SetDHTValue(ctx context.Context, key RecordKey, subkey uint32, data []byte, opts SetOptions) (*ValueData, error)
	// WatchDHTValues asks for ValueChange updates, replacing an earlier watch of the record. It reports whether a
	// watch is, or is being, set up.
	WatchDHTValues(ctx context.Context, key RecordKey, opts WatchOptions) (bool, error)
	// CancelDHTWatch takes subkeys out of the watch, all if none are given; it reports whether any is still watched.
	CancelDHTWatch(ctx context.Context, key RecordKey, subkeys SubkeyRanges) (bool, error)
	// InspectDHTRecord compares sequence numbers here and in the network.
	InspectDHTRecord(ctx context.Context, key RecordKey, subkeys SubkeyRanges, scope ReportScope) (Report, error)
	// FlushDHTRecord waits until no write to the record is pending, at most timeout; it reports whether none is.
	FlushDHTRecord(ctx context.Context, key RecordKey, timeout time.Duration) (bool, error)
}

// TransactOptions are the choices of [Node.TransactDHTRecords].
type TransactOptions struct {
	Signer KeyPair // signs for records that were opened without a writer; zero: anonymous
}

// DHTTransaction reads and writes several records at once: all or nothing. Unless committed it is rolled back.
type DHTTransaction interface {
	Get(ctx context.Context, key RecordKey, subkey uint32) (*ValueData, error)
	Set(ctx context.Context, key RecordKey, subkey uint32, data []byte, opts SetOptions) (*ValueData, error)
	Inspect(ctx context.Context, key RecordKey, subkeys SubkeyRanges, scope ReportScope) (Report, error)
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
}

// Subscription delivers updates to one reader.
type Subscription interface {
	// Next waits for the next update. After Close, or when the node is closed, it returns ErrShutdown.
	Next(ctx context.Context) (Update, error)
	Close()
}

// TableStore is a node's local key-value database, encrypted by the node with its device key.
type TableStore interface {
	OpenTable(ctx context.Context, name string, columns uint32) (TableDB, error)
	DeleteTable(ctx context.Context, name string) (existed bool, err error)
	RenameTable(ctx context.Context, from, to string) error
}

// TableDB is an open table of one or more columns. Missing values are nil.
type TableDB interface {
	Columns(ctx context.Context) (uint32, error)
	Keys(ctx context.Context, col uint32) ([][]byte, error)
	Load(ctx context.Context, col uint32, key []byte) ([]byte, error)
	Store(ctx context.Context, col uint32, key, value []byte) error
	Delete(ctx context.Context, col uint32, key []byte) (old []byte, err error)
	Transact(ctx context.Context) (TableTx, error)
	Close() error
}

// TableTx writes several values at once: all or nothing.
type TableTx interface {
	Store(ctx context.Context, col uint32, key, value []byte) error
	Delete(ctx context.Context, col uint32, key []byte) error
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
}

// ProtectedStore keeps small secrets of the application under the node's device key. Missing values are nil.
type ProtectedStore interface {
	SaveUserSecret(ctx context.Context, key string, value []byte) (existed bool, err error)
	LoadUserSecret(ctx context.Context, key string) ([]byte, error)
	RemoveUserSecret(ctx context.Context, key string) (existed bool, err error)
	ListUserSecrets(ctx context.Context) ([]string, error)
}

// CryptoSystem is what programs compute with a node's keys. It needs no node: package vld0 implements it.
type CryptoSystem interface {
	Kind() CryptoKind
	GenerateKeyPair() KeyPair
	RandomSharedSecret() SharedSecret
	RandomNonce() Nonce
	GenerateHash(data []byte) HashDigest
	Sign(pair KeyPair, data []byte) (Signature, error)
	Verify(key PublicKey, data []byte, sig Signature) error
	ValidateKeyPair(pair KeyPair) error
	ComputeDH(key PublicKey, secret SecretKey) (SharedSecret, error)
	GenerateSharedSecret(key PublicKey, secret SecretKey, domain []byte) (SharedSecret, error)
	EncryptAEAD(key SharedSecret, nonce Nonce, plaintext, ad []byte) []byte
	DecryptAEAD(key SharedSecret, nonce Nonce, ciphertext, ad []byte) ([]byte, error)
	CryptNoAuth(key SharedSecret, nonce Nonce, data []byte) []byte
	HashPassword(password, salt []byte) (string, error)
	VerifyPassword(password []byte, phc string) (bool, error)
	DeriveSharedSecret(password, salt []byte) (SharedSecret, error)
	GenerateKEMKeyPair() (EncapsulationKey, DecapsulationKey, error)
	EncapsulationKeyFor(PublicKey) (EncapsulationKey, error)
	DecapsulationKeyFor(SecretKey) (DecapsulationKey, error)
	HPKESeal(to EncapsulationKey, plaintext, ad []byte) ([]byte, error)
	HPKEOpen(with DecapsulationKey, sealed, ad []byte) ([]byte, error)
}

package archtest

import "strings"

const module = "github.com/OpenArchive/save-dweb-go"

// layers are the families from the bottom up. A package belongs to the longest prefix that fits it. What stands here
// twice in one layer knows nothing of the other.
var layers = [][]string{
	{"internal/kv", "internal/archtest", "blobs/bao"},
	{"vault"},
	{"veilid"},
	{"blobs"},
	{"exchange", "tunnel"},
	{"group"},
	{"backend"},
	{"httpapi", "webui", "backup", "mobile"},
	{"cmd"},
	{"interop"},
}

// contracts are the packages that every implementation and every user shares, with what of ours they may import.
var contracts = map[string][]string{
	"veilid": nil,
	"blobs":  {"blobs/bao"},
}

// implementations stand behind a contract, and chooses says who may name one outside tests.
var (
	implementations = []string{
		"veilid/remote", "veilid/memory", "veilid/native", "blobs/disk", "blobs/memory", "blobs/tablestore",
	}
	choosers = []string{"cmd", "mobile", "interop"}

	// parts are made for one implementation and say so: tablestore is disk's metadata in a Veilid node's tables.
	parts = map[string]string{"blobs/tablestore": "blobs/disk"}
)

// A limit keeps a dependency, or one of our own packages, to the folders named.
type limit struct {
	imports string // a path; with /... all below it too
	only    []string
	why     string
}

var limits = []limit{
	{"C", []string{"cmd/libdweb"}, "the default build has no cgo: one static binary that cross-compiles"},
	{"go.etcd.io/bbolt/...", []string{"internal/kv"}, "one door to the database, so that locks, modes and recovery are in one place and it can be replaced"},
	{"github.com/fxamacker/cbor/v2/...", []string{"group", "backend"}, "CBOR is what the Rust app keeps its lists in, and nothing else of ours"},
	{"github.com/spf13/cobra/...", []string{"cmd"}, "the library serves apps that have no command line"},
	{"github.com/spf13/pflag/...", []string{"cmd"}, "the library serves apps that have no command line"},
	{"github.com/schollz/progressbar/v3/...", []string{"cmd"}, "progress is an event; only a terminal draws it"},
	{"github.com/zalando/go-keyring/...", []string{"vault"}, "one place knows where the device key lies"},
	{"github.com/prometheus/...", []string{"httpapi"}, "metrics are a view of the status tree"},
	{"capnproto.org/go/capnp/v3/...", []string{"veilid/wire"}, "generated types stay with the code that checks hostile sizes first"},
	{"testing/...", []string{"interop/lab", "veilid/veilidtest", "blobs/storetest"}, "a program does not carry the flags of tests"},
	{"log", []string{"interop"}, "log/slog with levels and fields; the log package is global"},
	{"github.com/stretchr/testify/...", nil, "tests use the standard library and go-cmp"},
	{"github.com/google/go-cmp/...", []string{"veilid/veilidtest", "blobs/storetest"}, "made for tests: it panics"},
	{"pgregory.net/rapid/...", nil, "made for tests"},
	{"go.uber.org/goleak/...", nil, "made for tests"},
	{module + "/interop/...", []string{"interop"}, "tools of tests and demonstrations are no part of the product"},
	{module + "/veilid/veilidtest/...", []string{"interop"}, "a suite for tests"},
	{module + "/blobs/storetest/...", []string{"interop"}, "a suite for tests"},
}

func (l limit) covers(path string) bool {
	dir, tree := strings.CutSuffix(l.imports, "/...")
	return path == dir || tree && under(path, dir)
}

// under says whether path is dir or below it.
func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func underAny(path string, dirs []string) bool {
	for _, dir := range dirs {
		if under(path, dir) {
			return true
		}
	}
	return false
}

// family finds a package's place: the number of its layer and the prefix that put it there.
func family(pkg string) (layer int, name string, ok bool) {
	for i, names := range layers {
		for _, n := range names {
			if under(pkg, n) && len(n) > len(name) {
				layer, name, ok = i, n, true
			}
		}
	}
	return layer, name, ok
}

// checkImport says why package pkg (its folder in the module) may not import path outside its tests; "" if it may.
func checkImport(pkg, path string) string {
	for _, l := range limits {
		if l.covers(path) && !underAny(pkg, l.only) {
			if len(l.only) == 0 {
				return "only tests, if any: " + l.why
			}
			return "only " + strings.Join(l.only, ", ") + " may: " + l.why
		}
	}
	theirs, ours := strings.CutPrefix(path, module+"/")
	if !ours {
		return ""
	}
	if may, is := contracts[pkg]; is && !underAny(theirs, may) {
		return "a contract knows no implementation, or every user would carry it"
	}
	for _, impl := range implementations {
		if under(theirs, impl) && !under(pkg, impl) && !underAny(pkg, choosers) && parts[pkg] != impl {
			return "only " + strings.Join(choosers, ", ") + " choose an implementation: all others get it by its contract"
		}
	}
	from, fromName, ok := family(pkg)
	if !ok {
		return "" // said once, by checkPlace
	}
	to, toName, ok := family(theirs)
	switch {
	case !ok:
		return theirs + " has no place among the layers"
	case fromName == toName || to < from:
		return ""
	case to == from:
		return fromName + " and " + toName + " stand side by side and know nothing of each other"
	default:
		return "arrows point down: " + toName + " stands above " + fromName
	}
}

// checkPlace says that a package stands nowhere.
func checkPlace(pkg string) string {
	if _, _, ok := family(pkg); ok {
		return ""
	}
	return "the package has no place among the layers: give it one in internal/archtest, and draw it in docs/architecture.md"
}

package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/OpenArchive/save-dweb-go/backend"
	"github.com/OpenArchive/save-dweb-go/blobs"
	"github.com/OpenArchive/save-dweb-go/exchange"
	"github.com/OpenArchive/save-dweb-go/group"
	"github.com/OpenArchive/save-dweb-go/group/invite"
	"github.com/OpenArchive/save-dweb-go/veilid"
)

// TestTable holds the table to its promises: every error has one row, and comes back on the client's side.
func TestTable(t *testing.T) {
	codes := map[string]bool{}
	for _, row := range table {
		if codes[row.Code] {
			t.Errorf("code %s has two rows", row.Code)
		}
		codes[row.Code] = true
		if row.Status < 400 || row.Exit < ExitFailed || row.Exit > ExitCorrupt {
			t.Errorf("%s: status %d and exit code %d", row.Code, row.Status, row.Exit)
		}
		for _, e := range row.errs {
			wrapped := fmt.Errorf("doing this: %w", fmt.Errorf("and that: %w", e))
			if c := Classify(wrapped); c != row.Class {
				t.Errorf("%v is told as %+v, want %+v", e, c, row.Class)
			}
			told := ErrorOf(row.Status, row.Code, "text")
			if !errors.Is(told, e) || told.Class != row.Class || told.Error() != "text" {
				t.Errorf("%v came back as %+v", e, told)
			}
			if Classify(fmt.Errorf("again: %w", told)) != row.Class {
				t.Errorf("%v is told differently when it is handed on", e)
			}
			if told := ErrorOf(400, "bad_request", ""); row.Code != "bad_request" && errors.Is(told, e) {
				t.Errorf("a bad request passes for %v", e)
			}
		}
	}
}

func TestClassify(t *testing.T) {
	_, link := invite.Parse("save+dweb::?dht=x")
	for _, c := range []struct {
		err    error
		code   string
		status int
		exit   int
	}{
		{errors.New("what"), "internal", http.StatusInternalServerError, ExitFailed},
		{link, "bad_link", http.StatusBadRequest, ExitUsage},
		{backend.ErrGroupNotFound, "group_not_found", http.StatusNotFound, ExitNotFound},
		{veilid.Errorf(veilid.ErrTryAgain, "offline"), "offline", http.StatusServiceUnavailable, ExitUnreachable},
		{veilid.Errorf(veilid.ErrTimeout, ""), "timeout", http.StatusGatewayTimeout, ExitUnreachable},
		{veilid.InvalidArgument("a", "b", "c"), "internal", http.StatusInternalServerError, ExitFailed},
		{group.ErrWrongOwner, "wrong_secret", http.StatusForbidden, ExitRefused},
		{exchange.ErrAway, "unreachable", http.StatusServiceUnavailable, ExitUnreachable},
		{blobs.ErrCorrupt, "corrupt", http.StatusInternalServerError, ExitCorrupt},
		// What is joined is told by the row that comes first.
		{errors.Join(exchange.ErrUnreachable, blobs.ErrCorrupt), "corrupt", http.StatusInternalServerError, ExitCorrupt},
	} {
		if got, want := Classify(c.err), (Class{c.code, c.status, c.exit}); got != want {
			t.Errorf("%v is told as %+v, want %+v", c.err, got, want)
		}
	}
}

func TestErrorOfNewerServer(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		want   Class
	}{
		{404, "no_such_moon", Class{"no_such_moon", 404, ExitNotFound}},
		{418, "teapot", Class{"teapot", 418, ExitUsage}},
		{503, "", Class{"internal", 503, ExitFailed}},
	} {
		if got := ErrorOf(c.status, c.code, "x").Class; got != c.want {
			t.Errorf("%d %q is %+v, want %+v", c.status, c.code, got, c.want)
		}
	}
}

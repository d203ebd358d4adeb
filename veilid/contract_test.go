package veilid

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var kinds = []Kind{
	ErrNotInitialized, ErrAlreadyInitialized, ErrTimeout, ErrTryAgain, ErrShutdown, ErrInvalidTarget, ErrNoConnection, ErrKeyNotFound,
	ErrInternal, ErrUnimplemented, ErrParse, ErrInvalidArgument, ErrMissingArgument, ErrTransactionNotFound, ErrGeneric,
}

func TestErrorKinds(t *testing.T) {
	for _, k := range kinds {
		for _, err := range []error{k, Errorf(k, "because of %d", 7), &Error{Kind: k}, fmt.Errorf("set name: %w", Errorf(k, "x")), fmt.Errorf("set name: %w", k)} {
			for _, other := range kinds {
				if got := errors.Is(err, other); got != (other == k) {
					t.Errorf("errors.Is(%v, %s) = %v", err, other, got)
				}
			}
			if KindOf(err) != k {
				t.Errorf("KindOf(%v) = %q, want %q", err, KindOf(err), k)
			}
			retry := slices.Contains([]Kind{ErrTryAgain, ErrTimeout, ErrNoConnection}, k)
			if IsRetryable(err) != retry {
				t.Errorf("IsRetryable(%v) = %v", err, !retry)
			}
			if errors.Is(err, ErrNotOpen) {
				t.Errorf("%v is ErrNotOpen", err)
			}
		}
	}
	for _, err := range []error{nil, context.Canceled, context.DeadlineExceeded, ErrNotOpen} {
		if KindOf(err) != "" || IsRetryable(err) {
			t.Errorf("%v has kind %q", err, KindOf(err))
		}
	}
	notOpen := fmt.Errorf("get: %w", InvalidArgument("record not open", "record_key", "VLD0:x"))
	if !errors.Is(notOpen, ErrNotOpen) || !errors.Is(notOpen, ErrInvalidArgument) {
		t.Error("a record that is not open is no ErrNotOpen")
	}
	if errors.Is(&Error{Kind: ErrGeneric, Context: "record not open"}, ErrNotOpen) {
		t.Error("another kind of error is ErrNotOpen")
	}
}

func TestErrorText(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{ErrTimeout, "Timeout"},
		{&Error{Kind: ErrTimeout}, "Timeout"},
		{Errorf(ErrTryAgain, "offline, try again later"), "TryAgain: offline, try again later"},
		{InvalidArgument("subkey out of range", "subkey", "9"), "InvalidArgument: subkey out of range (subkey=9)"},
		{&Error{Kind: ErrKeyNotFound, Value: textA}, "KeyNotFound: " + textA},
		{&Error{Kind: ErrParse, Message: "no blob", Value: "00"}, "ParseError: no blob: 00"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestSchema(t *testing.T) {
	member := func(counts ...uint16) (m []SchemaMember) {
		for _, c := range counts {
			m = append(m, SchemaMember{Count: c})
		}
		return m
	}
	tests := []struct {
		name    string
		s       Schema
		subkeys int
		size    int
		ok      bool
	}{
		{"one", DFLTSchema(1), 1, 32768, true},
		{"32", DFLTSchema(32), 32, 32768, true},
		{"33", DFLTSchema(33), 33, 31775, true},
		{"most", DFLTSchema(1024), 1024, 1024, true},
		{"none", DFLTSchema(0), 0, 32768, false},
		{"too many", DFLTSchema(1025), 1025, 1023, false},
		{"DFLT with members", Schema{Kind: DFLT, OwnerCount: 1, Members: member(1)}, 2, 32768, false},
		{"no kind", Schema{OwnerCount: 1}, 1, 32768, false},
		{"members", Schema{Kind: SMPL, OwnerCount: 1, Members: member(2, 3)}, 6, 32768, true},
		{"members only", Schema{Kind: SMPL, Members: member(1)}, 1, 32768, true},
		{"owner only", Schema{Kind: SMPL, OwnerCount: 1}, 1, 32768, true},
		{"member without subkeys", Schema{Kind: SMPL, OwnerCount: 1, Members: member(0)}, 1, 32768, true},
		{"SMPL of none", Schema{Kind: SMPL, Members: member(0)}, 0, 32768, false},
		{"256 members", Schema{Kind: SMPL, Members: slices.Repeat(member(4), 256)}, 1024, 1024, true},
		{"257 members", Schema{Kind: SMPL, Members: slices.Repeat(member(1), 257)}, 257, 4080, false},
		{"more than a count holds", Schema{Kind: SMPL, OwnerCount: 65535, Members: member(65535)}, 131070, 8, false},
	}
	for _, tt := range tests {
		if n := tt.s.Subkeys(); n != tt.subkeys {
			t.Errorf("%s: %d subkeys, want %d", tt.name, n, tt.subkeys)
		}
		if n := tt.s.MaxValueSize(); n != tt.size {
			t.Errorf("%s: at most %d bytes, want %d", tt.name, n, tt.size)
		}
		if err := tt.s.Check(); tt.ok != (err == nil) || err != nil && !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%s: Check = %v", tt.name, err)
		}
	}
}

func TestSubkeyRanges(t *testing.T) {
	const most = ^uint32(0)
	tests := []struct {
		r     SubkeyRanges
		limit uint32
		want  []uint32
	}{
		{nil, 5, nil},
		{Subkey(3), 5, []uint32{3}},
		{SubkeyRanges{{0, 2}, {5, 5}}, 10, []uint32{0, 1, 2, 5}},
		{SubkeyRanges{{1, most}}, 3, []uint32{1, 2}},
		{SubkeyRanges{{most, most}, {most - 1, most}}, most, []uint32{most - 1}},
		{SubkeyRanges{{2, 1}, {7, 9}}, 7, nil},
	}
	for _, tt := range tests {
		got := slices.Collect(tt.r.All(tt.limit))
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%v below %d (-want +got)\n%s", tt.r, tt.limit, d)
		}
		for _, n := range got {
			if !tt.r.Contains(n) {
				t.Errorf("%v does not contain %d", tt.r, n)
			}
		}
	}
	for n := range SubkeyRanges(SubkeyRanges{{0, most}}).All(most) {
		if n == 3 {
			break // stops when told to
		}
	}
	if (SubkeyRanges{{1, 2}}).Contains(3) || (SubkeyRanges{{2, 1}}).Contains(1) || SubkeyRanges(nil).Contains(0) {
		t.Error("Contains is wrong")
	}
}

func TestAttachmentReady(t *testing.T) {
	for state, attached := range map[AttachmentState]bool{
		Detached: false, Detaching: false, Attaching: false, AttachedWeak: true, AttachedFair: true, AttachedGood: true, AttachedStrong: true,
		AttachedFull: true, "": false, "Attached": false,
	} {
		if state.IsAttached() != attached {
			t.Errorf("%q.IsAttached() = %v", state, !attached)
		}
		if a := (Attachment{State: state, LocalNetworkReady: true}); a.Ready() {
			t.Errorf("%q without public internet is ready", state)
		}
		if a := (Attachment{State: state, PublicInternetReady: true}); a.Ready() != attached {
			t.Errorf("%q with public internet: Ready = %v", state, !attached)
		}
	}
}

func TestOwnerKeyPair(t *testing.T) {
	pub, err := Parse[PublicKey](textA)
	if err != nil {
		t.Fatal(err)
	}
	d := RecordDescriptor{Owner: pub}
	if !d.OwnerKeyPair().IsZero() {
		t.Error("a pair without the secret")
	}
	d.OwnerSecret = NewSecretKey(VLD0, seed())
	if p := d.OwnerKeyPair(); p.Public != pub || !p.Secret.Equal(d.OwnerSecret) {
		t.Error("another pair than the owner's")
	}
}

package group

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxName is the most bytes of a file's, repo's or group's name.
const MaxName = 255

// CheckTitle says what is wrong with the name of a group or a repo.
func CheckTitle(s string) error {
	switch {
	case strings.TrimSpace(s) == "":
		return fmt.Errorf("%w: it is empty", ErrBadName)
	case len(s) > MaxName:
		return fmt.Errorf("%w: %d bytes, at most %d", ErrBadName, len(s), MaxName)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: it is not valid UTF-8", ErrBadName)
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%w: it has control characters", ErrBadName)
	}
	return nil
}

// CheckFileName says what is wrong with a file's name: it must be one that every system can store in a folder.
func CheckFileName(s string) error {
	if err := CheckTitle(s); err != nil {
		return err
	}
	switch {
	case strings.ContainsAny(s, `/\`):
		return fmt.Errorf("%w: %q has a slash; give the file alone", ErrBadName, s)
	case s == "." || s == "..":
		return fmt.Errorf("%w: %q is a folder", ErrBadName, s)
	}
	return nil
}

// plainName is a name as a record holds it: plain text, or the {"name": …} of the first design. Control characters,
// which a hostile member might use against a terminal, are replaced.
func plainName(s string) string {
	if strings.HasPrefix(s, "{") {
		var v struct {
			Name *string `json:"name"`
		}
		if json.Unmarshal([]byte(s), &v) == nil && v.Name != nil {
			s = *v.Name
		}
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

func sortRepos(rs []*Repo) {
	slices.SortFunc(rs, func(a, b *Repo) int {
		if a.CanWrite() != b.CanWrite() {
			if a.CanWrite() {
				return -1
			}
			return 1
		}
		if c := strings.Compare(a.Name(), b.Name()); c != 0 {
			return c
		}
		return strings.Compare(a.id.String(), b.id.String())
	})
}

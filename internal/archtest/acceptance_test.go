package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAcceptanceMap: every test that docs/acceptance.md names is in the package that it names.
func TestAcceptanceMap(t *testing.T) {
	const root = "../.."
	doc, err := os.ReadFile(filepath.Join(root, "docs", "acceptance.md"))
	if err != nil {
		t.Fatal(err)
	}
	in := regexp.MustCompile("`([a-z0-9/]+)` ((?:Test[A-Za-z0-9]+(?:, )?)+)")
	named := 0
	for _, m := range in.FindAllStringSubmatch(string(doc), -1) {
		var source strings.Builder
		files, err := filepath.Glob(filepath.Join(root, m[1], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(b)
		}
		for _, name := range strings.Split(strings.Trim(m[2], ", "), ", ") {
			named++
			if !strings.Contains(source.String(), "func "+name+"(") {
				t.Errorf("docs/acceptance.md names %s in %s, which is not there", name, m[1])
			}
		}
	}
	if all := strings.Count(string(doc), " Test"); named < 30 || named != all {
		t.Errorf("%d of %d names of tests were understood", named, all)
	}
}

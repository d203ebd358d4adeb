package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const maxLines = 600

var (
	// A path that exists on somebody's machine only. A variable before it, as in ${TMPDIR:-...}, is a default.
	machinePath = regexp.MustCompile(`(^|[^\w.$}:-])/(work|farm|root|tmp|home/\w+|Users/\w+)/`)
	undone      = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)
)

// text files are held to the rule about machine paths.
var text = []string{".go", ".md", ".sh", ".py", ".rs", ".toml", ".yml", ".yaml", ".mod", ".html", ".js", ".css", ".txtar"}

// check returns everything in a tree of the module that is against the rules.
func check(tree fs.FS) ([]string, error) {
	var found []string
	places := map[string]bool{}
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skip(name)
		}
		base := path.Base(name)
		if !slices.Contains(text, path.Ext(base)) && base != "Makefile" && base != "run" {
			return nil
		}
		source, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		found = append(found, checkPaths(name, source)...)
		if path.Ext(base) != ".go" {
			return nil
		}
		pkg := path.Dir(name)
		if why := checkPlace(pkg); why != "" && !places[pkg] {
			places[pkg] = true
			found = append(found, fmt.Sprintf("%s: %s", pkg, why))
		}
		more, err := checkGo(name, source)
		found = append(found, more...)
		return err
	})
	return found, err
}

// skip leaves out what is not ours to hold to rules: recorded data, builds, other tools' folders except .ci.
func skip(dir string) error {
	base := path.Base(dir)
	switch {
	case base == "testdata" || base == "target" || dir == "bin" || base == "node_modules":
		return fs.SkipDir
	case dir != "." && strings.HasPrefix(base, ".") && base != ".ci":
		return fs.SkipDir
	}
	return nil
}

func checkPaths(name string, source []byte) (found []string) {
	for i, line := range bytes.Split(source, []byte("\n")) {
		if m := machinePath.Find(line); m != nil {
			found = append(found, fmt.Sprintf("%s:%d: %q is a path of one machine: others have no such folder", name, i+1, m))
		}
	}
	return found
}

// checkGo holds one Go file to the rules. A file that does not parse is an error.
func checkGo(name string, source []byte) (found []string, err error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	say := func(pos token.Pos, format string, args ...any) {
		found = append(found, fmt.Sprintf("%s:%d: ", name, fset.Position(pos).Line)+fmt.Sprintf(format, args...))
	}
	isTest := strings.HasSuffix(name, "_test.go")
	if !isTest {
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return nil, err
			}
			if why := checkImport(path.Dir(name), imported); why != "" {
				say(spec.Pos(), "imports %s: %s", imported, why)
			}
		}
	}
	if ast.IsGenerated(file) {
		return found, nil
	}
	if lines := bytes.Count(source, []byte("\n")); lines > maxLines {
		say(file.Pos(), "%d lines, want at most %d: it holds more than one idea", lines, maxLines)
	}
	if formatted, err := format.Source(source); err != nil || !bytes.Equal(formatted, source) {
		say(file.Pos(), "not formatted: gofmt -w %s", name)
	}
	for _, group := range file.Comments {
		for _, c := range group.List {
			if m := undone.FindString(c.Text); m != "" {
				say(c.Pos(), "%s: finish it, or write it into an issue", m)
			}
		}
	}
	if isTest {
		for _, pos := range sleeps(file) {
			say(pos, "time.Sleep in a test: wait for the event itself, or use testing/synctest and a timer")
		}
	}
	return found, nil
}

// sleeps are the calls of time.Sleep, whatever time is called in this file.
func sleeps(file *ast.File) (at []token.Pos) {
	name := ""
	for _, spec := range file.Imports {
		if spec.Path.Value == `"time"` {
			name = "time"
			if spec.Name != nil {
				name = spec.Name.Name
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == name {
				at = append(at, sel.Pos())
			}
		}
		return true
	})
	return at
}

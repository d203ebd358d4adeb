package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// onTerminal reports whether a person can be asked.
func (a *app) onTerminal() bool { return isTerminal(a.in) && isTerminal(a.err) }

// confirm asks the person at the terminal.
func (a *app) confirm(format string, args ...any) (bool, error) {
	fmt.Fprintf(a.err, format+" [y/N] ", args...)
	line, err := bufio.NewReader(io.LimitReader(a.in, 64)).ReadString('\n')
	if err != nil && err != io.EOF {
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}

package main

import (
	"errors"
	"os"
	"os/exec"

	"golang.org/x/sys/windows"
)

// lockFile takes the lock of a file, or is errInUse. It locks a byte far behind the content, which others may read.
func lockFile(f *os.File) error {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return errInUse
	}
	return err
}

func detached(*exec.Cmd) error {
	return errors.New("--detach: not on Windows: run dweb up in a window of its own")
}

func closeOnExec(*os.File) {}

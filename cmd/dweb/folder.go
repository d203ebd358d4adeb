package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// defaultData is the data folder where none is given: $DWEB_DATA, else the platform's.
func defaultData() (string, error) {
	if d := os.Getenv("DWEB_DATA"); d != "" {
		return d, nil
	}
	if runtime.GOOS == "linux" || strings.HasSuffix(runtime.GOOS, "bsd") {
		if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
			return filepath.Join(d, "dweb"), nil
		}
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("no data folder: %w: give --data", err)
		}
		return filepath.Join(home, ".local", "share", "dweb"), nil
	}
	if d := os.Getenv("LOCALAPPDATA"); runtime.GOOS == "windows" && d != "" {
		return filepath.Join(d, "dweb"), nil
	}
	d, err := os.UserConfigDir() // ~/Library/Application Support
	if err != nil {
		return "", fmt.Errorf("no data folder: %w: give --data", err)
	}
	return filepath.Join(d, "dweb"), nil
}

func socketIn(data string) string { return filepath.Join(data, "dweb.sock") }

// errInUse: another daemon uses the data folder.
var errInUse = errors.New("is in use")

// makeFolder makes the data folder, which nobody else can enter.
func makeFolder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("data folder: others can enter %s: chmod 700 it, or choose another one", path)
	}
	return nil
}

func lockIn(data string) string { return filepath.Join(data, "dweb.lock") }

// lockFolder makes this process the only daemon of a data folder until unlock. The lock goes with the process, however
// that ends.
func lockFolder(data string) (unlock func() error, err error) {
	f, err := os.OpenFile(lockIn(data), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := lockFile(f); err != nil {
		defer f.Close()
		if !errors.Is(err, errInUse) {
			return nil, fmt.Errorf("lock: %w", err)
		}
		who := "another daemon"
		b, _ := io.ReadAll(io.LimitReader(f, 32))
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			who += fmt.Sprintf(" (pid %d)", pid)
		}
		return nil, fmt.Errorf("data folder %s %w by %s: end that one with \"dweb down\", or choose another folder with --data", data, errInUse, who)
	}
	// The content is for people only; the lock is what counts.
	if err := errors.Join(f.Truncate(0), writeAt(f, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		return nil, errors.Join(fmt.Errorf("lock: %w", err), f.Close())
	}
	return func() error { return errors.Join(f.Truncate(0), f.Close()) }, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

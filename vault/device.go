package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// makeKey makes a device key by the given source, or by the best that the machine has.
func (v *Vault) makeKey(ctx context.Context, source KeySource) (_ KeySource, key [keySize]byte, params []byte, slot string, err error) {
	slot = randomID()
	name := header{Vault: v.keys.header.Vault, Slot: slot}.keyName()
	if source == nil && hasKeyring() {
		if key, params, err = Keyring().Create(ctx, name); err == nil {
			return Keyring(), key, params, slot, nil
		}
		if ctx.Err() != nil {
			return nil, key, nil, "", err
		}
		v.log.Warn("no use of the system's keyring", "err", err)
	}
	if source == nil {
		source = DeviceFile(v.dir)
	}
	if source.Kind() == KindDeviceFile {
		v.warnDeviceFile()
	}
	if key, params, err = source.Create(ctx, name); err == nil && len(params) > maxParamSize {
		err = fmt.Errorf("key source %s has parameters of %d bytes: at most %d fit", source.Kind(), len(params), maxParamSize)
	}
	return source, key, params, slot, err
}

func (v *Vault) warnDeviceFile() {
	v.log.Warn("the device key lies in a file beside the vault: whoever can read this user's files can read the vault; "+
		"a passphrase or a system keyring protects better", "dir", v.dir)
}

// sourceFor is the source that loads the key of an existing vault.
func (v *Vault) sourceFor(given KeySource) (KeySource, error) {
	kind := v.keys.header.Source
	if given == nil {
		given = v.builtin(kind)
	}
	switch {
	case given == nil && kind == KindPassphrase:
		return nil, fmt.Errorf("%w: it is protected by a passphrase: give it", ErrWrongKey)
	case given == nil:
		return nil, fmt.Errorf("%w: it is protected by key source %q, which only the program that made it has", ErrWrongKey, kind)
	case given.Kind() != kind:
		return nil, fmt.Errorf("%w: it is protected by key source %q, not %q", ErrWrongKey, kind, given.Kind())
	}
	if d, ok := given.(deviceFile); ok {
		v.warnDeviceFile()
		err := v.tighten(d.path(v.keys.header.keyName()), 0o600)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return given, nil
}

// builtin is the source of a kind that needs nothing from the user, or nil.
func (v *Vault) builtin(kind string) KeySource {
	switch kind {
	case KindKeyring:
		return Keyring()
	case KindDeviceFile:
		return DeviceFile(v.dir)
	}
	return nil
}

// forget deletes a former device key, if its source can be reached.
func (v *Vault) forget(ctx context.Context, k staleKey) {
	source := v.source
	if source.Kind() != k.Source {
		source = v.builtin(k.Source)
	}
	if source == nil || k.Name == v.keys.header.keyName() {
		return
	}
	if err := source.Forget(ctx, k.Name); err != nil {
		v.log.Warn("a former device key of the vault could not be deleted; it opens nothing any more", "source", k.Source, "err", err)
	}
}

// tighten takes permissions away that go beyond want. A file that belongs to somebody else is refused.
func (v *Vault) tighten(path string, want fs.FileMode) error {
	if runtime.GOOS == "windows" { // has access lists, and user folders are private
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	have := info.Mode().Perm()
	if have&^want == 0 {
		return nil
	}
	if err := os.Chmod(path, have&want); err != nil {
		return fmt.Errorf("%s can be read by others (mode %04o) and that cannot be changed: %w; give it mode %04o", path, have, err, want)
	}
	v.log.Warn("others had access to a file of the vault; it was taken away", "file", filepath.Base(path), "mode", fmt.Sprintf("%04o", have))
	return nil
}

// removeLeftover removes what a crash left of an unfinished key file.
func removeLeftover(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(wipe(f), f.Close(), os.Remove(path))
}

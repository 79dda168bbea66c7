package controlplane

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	directoryPrefix = "fusegate-controlplane-"
	ownerFile       = "owner.lock"
	// youngest is the age below which a directory is never taken for a left
	// one: its owner may be about to lock it.
	youngest = time.Minute
)

// directory is the data directory. Its owner holds a lock on a file in it, by
// which others can tell whether the owner still lives.
type directory struct {
	path  string
	owner *os.File
}

// newDirectory makes one in the parent, after removing those that dead owners
// left there.
func newDirectory(parent string) (*directory, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	if err := sweep(parent); err != nil {
		return nil, fmt.Errorf("removing data directories left by others: %w", err)
	}
	path, err := os.MkdirTemp(parent, directoryPrefix)
	if err != nil {
		return nil, fmt.Errorf("making a data directory: %w", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("making a data directory: %w", err)
	}
	d := &directory{path: path}
	if d.owner, err = own(path, os.O_CREATE); err != nil {
		return nil, errors.Join(fmt.Errorf("locking the data directory: %w", err), os.RemoveAll(path))
	}
	return d, nil
}

// own opens the owner file and locks it.
func own(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(path, ownerFile), flag|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := tryLock(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// sweep removes what control planes left behind whose process was killed. Those
// with a living owner, of another user or too young are left alone.
func sweep(parent string) error {
	found, err := filepath.Glob(filepath.Join(parent, directoryPrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range found {
		fi, err := os.Stat(filepath.Join(path, ownerFile))
		if err != nil || time.Since(fi.ModTime()) < youngest {
			continue
		}
		f, err := own(path, 0)
		if err != nil {
			continue
		}
		errs = append(errs, os.RemoveAll(path), f.Close())
	}
	return errors.Join(errs...)
}

// file is the path of something in the directory.
func (d *directory) file(name string) string { return filepath.Join(d.path, name) }

// close gives the directory up and removes it unless it is to be kept. What is
// kept loses its owner file, or the next sweep would take it.
func (d *directory) close(keep bool) error {
	if keep {
		return errors.Join(os.Remove(d.file(ownerFile)), d.owner.Close())
	}
	return errors.Join(os.RemoveAll(d.path), d.owner.Close())
}

package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Snapshot stops the control plane and writes what etcd holds to a folder, which
// must not exist, for Options.Snapshot of others. All that is left is to Stop.
func (c *ControlPlane) Snapshot(ctx context.Context, to string) error {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.stopped {
		return errStopped
	}
	// Clients first, so that nobody writes to who is gone.
	names := c.components()
	for i := len(names) - 1; i >= 0; i-- {
		if p, ok := c.processes[names[i]]; ok {
			p.stop(ctx)
			delete(c.processes, names[i])
		}
	}
	if err := copyFolder(c.dir.file(etcdName), to); err != nil {
		return fmt.Errorf("writing a snapshot: %w", err)
	}
	return nil
}

// copyFolder copies files and folders, with holes for what is zero: most of etcd's
// log is room for what is to come.
func copyFolder(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Mkdir(filepath.Join(to, rel), 0o700)
		}
		return copySparse(path, filepath.Join(to, rel))
	})
}

func copySparse(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	block := make([]byte, 64<<10)
	zero := make([]byte, len(block))
	for at := int64(0); ; {
		n, readErr := io.ReadFull(in, block)
		if !bytes.Equal(block[:n], zero[:n]) {
			if _, err := out.WriteAt(block[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF) {
			return out.Truncate(at)
		}
		if readErr != nil {
			return readErr
		}
	}
}

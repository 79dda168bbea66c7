package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// pin keeps a program's file in memory: a machine that gives page cache back
// early would otherwise have processes wait for the disk to run on, at any
// time.
func pin(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	text, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mapping %s: %w", name, err)
	}
	if err := unix.Mlock(text); err != nil {
		return fmt.Errorf("keeping %s in memory: %w", name, err)
	}
	return nil
}

package app

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// forgetFile takes this program's file out of the process's memory, as far as it
// is neither writable nor was ever written: what is needed again comes back from
// the kernel's cache, at a microsecond for each 64 KiB (madvise(2),
// MADV_DONTNEED). Half of what is looked at at the start, such as what registers
// types, never is.
func forgetFile() error {
	file, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("finding the program's file: %w", err)
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("reading what is mapped: %w", err)
	}
	var errs []error
	for _, m := range cleanMappings(string(maps), file) {
		_, _, errno := syscall.Syscall(syscall.SYS_MADVISE, m.start, m.end-m.start, syscall.MADV_DONTNEED)
		if errno != 0 {
			errs = append(errs, fmt.Errorf("giving back the program's file: %w", errno))
		}
	}
	return errors.Join(errs...)
}

// mapping is a range of addresses.
type mapping struct{ start, end uintptr }

// cleanMappings lists where file is mapped, according to /proc/PID/smaps, so
// that nobody can write there nor ever has: what was written would be lost.
func cleanMappings(smaps, file string) (out []mapping) {
	var m mapping
	ours := false
	for line := range strings.Lines(smaps) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if !strings.HasSuffix(fields[0], ":") {
			ours = len(fields) >= 6 && strings.HasPrefix(fields[1], "r-") && strings.HasSuffix(line, " "+file+"\n")
			if _, err := fmt.Sscanf(fields[0], "%x-%x", &m.start, &m.end); err != nil {
				ours = false
			}
			continue
		}
		if ours && fields[0] == "Anonymous:" && fields[1] == "0" {
			out = append(out, m)
		}
	}
	return out
}

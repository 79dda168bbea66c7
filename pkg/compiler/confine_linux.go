package compiler

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// niceness puts the process behind reviews when processors are scarce.
const niceness = 5

// confine lets the process have heap bytes of writable memory beside what it has
// mapped already, has the kernel end it rather than who it compiles for when memory
// is scarce, and lets others have the processors first. It needs no privilege.
func confine(heap int64) error {
	mapped, err := mappedData()
	if err != nil {
		return err
	}
	most := mapped + uint64(heap)
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: most, Max: most}); err != nil {
		return fmt.Errorf("setting RLIMIT_DATA: %w", err)
	}
	// Neither is worth doing without the compiler: they are for who shares the
	// machine.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	_ = stepBack()
	return nil
}

// detach keeps a terminal's signals from the process: it ends with its input.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// mappedData is VmData: private memory that can be written to, used or not.
func mappedData() (uint64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		if fields := bytes.Fields(line); len(fields) == 3 && string(fields[0]) == "VmData:" {
			kib, err := strconv.ParseUint(string(fields[1]), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc/self/status has no VmData")
}

// stepBack lowers the priority of every thread: Linux keeps one for each.
func stepBack() error {
	threads, err := os.ReadDir("/proc/self/task")
	for _, t := range threads {
		id, notNumber := strconv.Atoi(t.Name())
		err = errors.Join(err, notNumber, unix.Setpriority(unix.PRIO_PROCESS, id, niceness))
	}
	return err
}

// processorTime is what the process has used of processors so far.
func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0 // it has no errors but those of its arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

package main

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// niceness is that of a process that serves no requests: a tenth of the time of
// others where they compete, all of it where they do not.
const niceness = 10

// stepBack has this process run after others of its control group that want the
// processor. Linux does that thread by thread; those to come are like the ones
// that start them (setpriority(2)).
func stepBack() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("listing threads: %w", err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return fmt.Errorf("reading the name of a thread: %w", err)
		}
		if err := syscall.Setpriority(syscall.PRIO_PROCESS, id, niceness); err != nil && err != syscall.ESRCH {
			return fmt.Errorf("lowering the priority of a thread: %w", err)
		}
	}
	return nil
}

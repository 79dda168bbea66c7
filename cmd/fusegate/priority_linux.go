package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// niceness is that of a process that serves no requests: a tenth of the time of
	// others where they compete, all of it where they do not.
	niceness = 10
	// stretch is how long the threads of such a process may run at a time. It is
	// long so that any thread that asks for less, as all do by default, takes the
	// processor from them as soon as it wakes up: nice alone lets it wait for some
	// milliseconds (kernel/sched/fair.c, PREEMPT_SHORT, from Linux 6.12 on; before,
	// it has no meaning).
	stretch = 100 * time.Millisecond
)

// stepBack has this process run after others of its control group that want the
// processor. Linux does that thread by thread; those to come are like the ones
// that start them (setpriority(2), sched_setattr(2)).
func stepBack() error {
	done := map[int]bool{}
	for {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("listing threads: %w", err)
		}
		before := len(done)
		for _, thread := range threads {
			if err := stepBackOnce(thread.Name(), done); err != nil {
				return err
			}
		}
		if len(done) == before { // none was started by one that was not done
			return nil
		}
	}
}

func stepBackOnce(thread string, done map[int]bool) error {
	id, err := strconv.Atoi(thread)
	if err != nil {
		return fmt.Errorf("reading the name of a thread: %w", err)
	}
	if done[id] {
		return nil
	}
	done[id] = true
	err = unix.SchedSetAttr(id, &unix.SchedAttr{Policy: unix.SCHED_NORMAL, Nice: niceness, Runtime: uint64(stretch)}, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		err = unix.Setpriority(unix.PRIO_PROCESS, id, niceness)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("lowering the priority of a thread: %w", err)
	}
	return nil
}

package app

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
	// spurt is the same for a process that serves requests, each of which takes
	// about so long. It gets no more time than others for that, but sooner: also
	// where an API server on the same machine collects garbage.
	spurt = 300 * time.Microsecond
)

// stepBack has this process run after others of its control group that want the
// processor.
func stepBack() error { return schedule(niceness, stretch) }

// beBrief has this process wait for less, where others want the processor.
func beBrief() error { return schedule(0, spurt) }

// schedule sets how nice this process is, and how long it runs at a time. Linux
// does that thread by thread; those to come are like the ones that start them
// (setpriority(2), sched_setattr(2)).
func schedule(nice int, slice time.Duration) error {
	done := map[int]bool{}
	for {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("listing threads: %w", err)
		}
		before := len(done)
		for _, thread := range threads {
			id, err := strconv.Atoi(thread.Name())
			if err != nil {
				return fmt.Errorf("reading the name of a thread: %w", err)
			}
			if done[id] {
				continue
			}
			done[id] = true
			if err := scheduleThread(id, nice, slice); err != nil {
				return fmt.Errorf("setting how a thread is scheduled: %w", err)
			}
		}
		if len(done) == before { // none was started by one that was not done
			return nil
		}
	}
}

// scheduleThread leaves how long it runs at a time to kernels that can be told.
func scheduleThread(id, nice int, slice time.Duration) error {
	err := unix.SchedSetAttr(id, &unix.SchedAttr{Policy: unix.SCHED_NORMAL, Nice: int32(nice), Runtime: uint64(slice)}, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		err = unix.Setpriority(unix.PRIO_PROCESS, id, nice)
	}
	if errors.Is(err, unix.ESRCH) { // it has ended
		return nil
	}
	return err
}

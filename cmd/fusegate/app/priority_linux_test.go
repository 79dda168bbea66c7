package app

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// scheduled is set for the process that TestSchedule is about: what it takes back
// of its own priority it may not get again.
const scheduled = "FUSEGATE_TEST_SCHEDULED"

// TestSchedule has a process step back or be brief, and looks at all its threads.
func TestSchedule(t *testing.T) {
	cases := map[string]struct {
		do    func() error
		nice  int32
		slice time.Duration
	}{
		"StepBack": {stepBack, niceness, stretch},
		"BeBrief":  {beBrief, 0, spurt},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if os.Getenv(scheduled) == "" {
				cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSchedule$/^"+name+"$")
				cmd.Env = append(os.Environ(), scheduled+"=1")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
				return
			}
			if err := tc.do(); err != nil {
				t.Fatal(err)
			}
			started := make(chan *unix.SchedAttr, 1)
			go func() { // on a thread that is, or was started by, one of before
				attr, err := unix.SchedGetAttr(unix.Gettid(), 0)
				if err != nil {
					t.Error(err)
				}
				started <- attr
			}()
			for _, attr := range append(threads(t), <-started) {
				if attr == nil || attr.Nice != tc.nice {
					t.Fatalf("a thread has %+v, want nice %d", attr, tc.nice)
				}
				// Kernels that cannot be told say nothing.
				if got := time.Duration(attr.Runtime); got != 0 && got != tc.slice {
					t.Errorf("a thread runs %v at a time, want %v", got, tc.slice)
				}
			}
		})
	}
}

// threads is how those of this process are scheduled.
func threads(t *testing.T) (out []*unix.SchedAttr) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if attr, err := unix.SchedGetAttr(id, 0); err == nil { // or it has ended
			out = append(out, attr)
		}
	}
	return out
}

package app

import (
	"context"
	"runtime"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// modestEvery is how often a modest process looks whether others want the
// processors.
const modestEvery = 500 * time.Millisecond

// modest has a process that serves no requests use one processor only while
// others want them: what it computes, and its garbage collector above all, would
// otherwise take turns with them on every processor at once.
type modest struct{ crowded func() bool }

var _ manager.LeaderElectionRunnable = modest{}

// NeedLeaderElection is false: a follower takes in templates like a leader.
func (modest) NeedLeaderElection() bool { return false }

// Start runs until ctx ends.
func (m modest) Start(ctx context.Context) error {
	defer runtime.SetDefaultGOMAXPROCS()
	ticker := time.NewTicker(modestEvery)
	defer ticker.Stop()
	for one := false; ; {
		one = m.adjust(one)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// adjust tells whether the process uses one processor only, as it did or did not
// before: each change stops it for a moment.
func (m modest) adjust(before bool) bool {
	now := m.crowded()
	switch {
	case now && !before:
		runtime.GOMAXPROCS(1)
	case before && !now:
		runtime.SetDefaultGOMAXPROCS() // which follows the control group's limit
	}
	return now
}

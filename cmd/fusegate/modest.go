package main

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
	most := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(most)
	ticker := time.NewTicker(modestEvery)
	defer ticker.Stop()
	for {
		m.adjust(most)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (m modest) adjust(most int) {
	want := most
	if m.crowded() {
		want = 1
	}
	if runtime.GOMAXPROCS(0) != want { // setting it stops the process for a moment
		runtime.GOMAXPROCS(want)
	}
}

package main

import (
	"context"
	"os"
	"runtime/debug"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/fusegate/fusegate/pkg/engine"
)

const (
	// collectAt is how much the heap may grow, in percent of what is alive,
	// until garbage is collected (GOGC).
	collectAt = 50
	// collectAtStart is the same for a webhook that takes in what there is: what
	// it lets go meanwhile leaves holes between what stays, which are memory for
	// good. It costs processor time, while there is nothing to answer yet.
	collectAtStart = 25
	// quietFor is how long nothing must have been compiled before memory is
	// given back.
	quietFor = 10 * time.Second
)

// spareMemory has garbage collected early. What is alive is little, so that it
// costs next to no time, and what audit and compilers let go makes up most of
// the heap. What of the program's file only its start needed is given back.
func spareMemory(percent int, log logr.Logger) {
	collect(percent)
	giveBackFile(log)
}

// collect sets GOGC, unless the environment does.
func collect(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

func giveBackFile(log logr.Logger) {
	if err := forgetFile(); err != nil {
		log.V(1).Info("the program's file stays in memory", "reason", err.Error())
	}
}

// thrift gives back, each time that templates or constraints have changed and
// it is quiet again, the memory that taking them in needed: Go would keep the
// most of it for minutes, and the kernel, of the program's file, every page
// that has been looked at once.
type thrift struct {
	engine *engine.Engine
	log    logr.Logger
}

var _ manager.LeaderElectionRunnable = thrift{}

// NeedLeaderElection is false: every process does it.
func (thrift) NeedLeaderElection() bool { return false }

// Start runs until ctx ends.
func (t thrift) Start(ctx context.Context) error {
	for t.quiet(ctx) {
		changed := t.engine.Changed()
		collect(collectAt)
		debug.FreeOSMemory()
		giveBackFile(t.log)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
	return nil
}

// quiet waits until nothing has changed for a while, and is false if ctx ends
// before that.
func (t thrift) quiet(ctx context.Context) bool {
	timer := time.NewTimer(quietFor)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-t.engine.Changed():
			timer.Reset(quietFor)
		case <-timer.C:
			return true
		}
	}
}

package main

import (
	"context"
	"os"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/fusegate/fusegate/pkg/engine"
)

const (
	// collectAt is how much the heap may grow, in percent of what is alive,
	// until garbage is collected (GOGC).
	collectAt = 50
	// collectAtChange is the same for a webhook while templates or constraints
	// change, which is waited for, and makes little that stays.
	collectAtChange = 100
	// collectAtStart is the same for a webhook that takes in what there is: what
	// it lets go meanwhile leaves holes between what stays, which are memory for
	// good. It costs processor time, while there is nothing to answer yet.
	collectAtStart = 25
	// quietFor is how long nothing must have been compiled, or nothing reviewed,
	// before memory is given back.
	quietFor = 10 * time.Second
	// lookEvery is how often to look for reviews, and worthwhile how much they
	// must have taken.
	lookEvery  = time.Second
	worthwhile = 8 << 20
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
// that has been looked at once. The same goes for reviews when there are none any
// more.
type thrift struct {
	engine *engine.Engine
	// changing is the GOGC while templates or constraints change, but for the start.
	changing int
	log      logr.Logger
}

var _ manager.LeaderElectionRunnable = thrift{}

// NeedLeaderElection is false: every process does it.
func (thrift) NeedLeaderElection() bool { return false }

// Start runs until ctx ends.
func (t thrift) Start(ctx context.Context) error {
	for t.quiet(ctx) {
		changed := t.engine.Changed()
		collect(collectAt)
		for again := true; again; {
			debug.FreeOSMemory()
			giveBackFile(t.log)
			again = t.worked(ctx, changed, lookEvery, quietFor)
		}
		collect(t.changing)
	}
	return nil
}

// worked waits until reviews have taken memory and there have been none for
// quiet. It is false if ctx ends or templates or constraints change before that.
func (t thrift) worked(ctx context.Context, changed <-chan struct{}, look, quiet time.Duration) bool {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	had := held()
	reviews := silence{seen: t.engine.Reviewed(), since: time.Now()}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-changed:
			return false
		case now := <-ticker.C:
			if reviews.lasts(t.engine.Reviewed(), now) >= quiet && held() > had+worthwhile {
				return true
			}
		}
	}
}

// silence is how long nothing has been counted.
type silence struct {
	seen  uint64
	since time.Time
}

// lasts returns how long the count has been n, to whoever asks again and again.
func (s *silence) lasts(n uint64, now time.Time) time.Duration {
	if n != s.seen {
		*s = silence{seen: n, since: now}
	}
	return now.Sub(s.since)
}

// held is how much memory Go has of the system, in bytes.
func held() uint64 {
	samples := []runtimemetrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	runtimemetrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
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

package app

import (
	"context"
	"math"
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
	// must have taken, in bytes.
	lookEvery = time.Second
	// few reviews from one look to the next do not count: canaries never end.
	few              = 2
	worthwhile int64 = 8 << 20
	anything   int64 = math.MinInt64
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
// more. It waits until next to none come, always: they would wait for it, and for
// the file, up to a few hundred milliseconds.
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
	reviews := &silence{seen: t.engine.Reviewed(), since: time.Now()}
	for t.quiet(ctx) {
		changed := t.engine.Changed()
		collect(collectAt)
		for least := anything; t.worked(ctx, changed, reviews, least, lookEvery, quietFor); least = worthwhile {
			debug.FreeOSMemory()
			giveBackFile(t.log)
		}
		collect(t.changing)
	}
	return nil
}

// worked waits until at least so many bytes have been taken since it was called,
// and there have been next to no reviews for quiet. It is false if ctx ends or templates
// or constraints change before that.
func (t thrift) worked(ctx context.Context, changed <-chan struct{}, reviews *silence, least int64, look, quiet time.Duration) bool {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	had := held()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-changed:
			return false
		case now := <-ticker.C:
			if reviews.lasts(t.engine.Reviewed(), now) >= quiet && held()-had >= least {
				return true
			}
		}
	}
}

// silence is how long next to nothing has been counted.
type silence struct {
	seen  uint64
	since time.Time
}

// lasts returns for how long no more than few have been counted between one call
// and the next, the last of which is now, at a count of n.
func (s *silence) lasts(n uint64, now time.Time) time.Duration {
	if n-s.seen > few {
		s.since = now
	}
	s.seen = n
	return now.Sub(s.since)
}

// held is how much memory Go has of the system, in bytes.
func held() int64 {
	samples := []runtimemetrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	runtimemetrics.Read(samples)
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
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

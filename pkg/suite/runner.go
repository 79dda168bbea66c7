package suite

import (
	"context"
	"io/fs"
	"runtime"
	"sync"
	"time"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/output"
)

// DefaultTimeout bounds one case where Runner sets no other.
const DefaultTimeout = 30 * time.Second

// Runner runs suites. Its zero value runs all tests of suites on disk.
type Runner struct {
	// Files is where suites, and all that they name, are read from; Disk if nil.
	Files fs.FS
	// Filter selects tests and cases; nil selects all.
	Filter *Filter
	// Parallel is how many tests are run at once; GOMAXPROCS if zero.
	Parallel int
	// Compiler tries the templates; nil has them compiled without limits.
	Compiler engine.Compiler
	// Timeout bounds the judging of one case; DefaultTimeout if zero. A policy
	// that takes longer is a fault.
	Timeout time.Duration
}

// Run runs the suites' tests, at most Parallel at once and each with an engine
// of its own, and calls done with each suite's outcome, in the order of suites,
// as soon as all before it are through. It returns an error if ctx ends first.
func (r *Runner) Run(ctx context.Context, suites []*Suite, done func(*output.Suite)) error {
	slots := make(chan struct{}, r.parallel())
	ready := make([]chan *output.Suite, len(suites))
	var running sync.WaitGroup
	defer running.Wait()
	for i, s := range suites {
		ready[i] = make(chan *output.Suite, 1)
		running.Go(func() { ready[i] <- r.suite(ctx, slots, s) })
	}
	for _, result := range ready {
		select {
		case outcome := <-result:
			done(outcome)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return context.Cause(ctx)
}

func (r *Runner) parallel() int {
	if r.Parallel > 0 {
		return r.Parallel
	}
	return runtime.GOMAXPROCS(0)
}

func (r *Runner) suite(ctx context.Context, slots chan struct{}, s *Suite) *output.Suite {
	result := &output.Suite{Name: s.Name, Path: s.Path, Skipped: s.Skip}
	if s.Skip {
		return result
	}
	result.Tests = make([]output.Test, len(s.Tests))
	var running sync.WaitGroup
	for i := range s.Tests {
		running.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			result.Tests[i] = r.timed(ctx, s, &s.Tests[i])
		})
	}
	running.Wait()
	for _, t := range result.Tests {
		result.Elapsed += t.Elapsed
	}
	return result
}

func (r *Runner) timed(ctx context.Context, s *Suite, t *Test) output.Test {
	began := time.Now()
	result := output.Test{Name: t.Name, Line: t.Line, Skipped: t.Skip || !r.Filter.Test(t)}
	if !result.Skipped && ctx.Err() == nil {
		x := &trial{runner: r, suite: s, test: t}
		result.Cases, result.Err = x.run(ctx)
		result.Elapsed = time.Since(began)
	}
	return result
}

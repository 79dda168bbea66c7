package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/fusegate/fusegate/apis/v1alpha1"
)

// tries is how often Once tries to read a kind.
const tries = 3

// Result is what Once found.
type Result struct {
	// Outcomes are those of all constraints, sorted by kind and name.
	Outcomes []*Outcome
	// Report has the conditions Complete and Current, without transition
	// times. Current is always False: nothing is followed.
	Report v1alpha1.AuditReportStatus
}

// Progress is how far Once has come.
type Progress struct {
	// Kinds are to be read, and Read is how many of them have been, or cannot
	// be.
	Kinds, Read int
	// Objects are those reviewed up to now.
	Objects int64
}

// Once reads everything that the Reviewer's constraints match once, and returns
// what it found. The Reviewer must know its templates and constraints, and the
// data that they refer to, before. Of the options, Config and Reviewer are
// required; Sink, Ready, Resync and Metrics are not used; a negative Limit
// stands for none.
//
// What could not be read is a gap of the report, and no error. The error tells
// that nothing can be said at all: namespaces cannot be listed, it is not known
// what the cluster serves, or ctx has ended.
func Once(ctx context.Context, o Options) (Result, error) {
	o.Metrics = nil
	a, err := newAuditor(o)
	if err != nil {
		return Result{}, err
	}
	a.once = true
	if _, err := a.namespaces.list(ctx); err != nil {
		return Result{}, err
	}
	a.refresh(ctx, true)
	if err := a.unserved[everyGroup]; err != nil {
		return Result{}, fmt.Errorf("asking what the cluster serves: %w", err)
	}
	a.readOnce(ctx)
	if err := ctx.Err(); err != nil {
		return Result{}, fmt.Errorf("auditing: %w", context.Cause(ctx))
	}
	return Result{Outcomes: a.outcomes(), Report: a.Report()}, nil
}

// readOnce reads every kind, a few at a time.
func (a *Auditor) readOnce(ctx context.Context) {
	var tasks sync.WaitGroup
	a.progressed(0, 0)
	for _, k := range a.sortedKinds() {
		tasks.Go(func() {
			if err := k.tryOnce(ctx); err != nil {
				k.failed(ctx, err)
			}
			a.progressed(1, 0)
		})
	}
	tasks.Wait()
}

// tryOnce reads the kind as a whole, again if that fails for a passing reason.
func (k *kind) tryOnce(ctx context.Context) error {
	retry := k.a.o.Timings.AuditRead
	for n := 1; ; n++ {
		err := k.read(ctx, k.begin("", nil), func(string) {})
		if err == nil || n == tries || lasting(err) || !k.a.sleep(ctx, jitter(retry)) {
			return err
		}
		retry *= 2
	}
}

// progressed tells who wants to know.
func (a *Auditor) progressed(kinds int, objects int64) {
	if a.o.Progress == nil {
		return
	}
	a.progressing.Lock()
	defer a.progressing.Unlock()
	a.progress.Kinds = len(a.kinds)
	a.progress.Read += kinds
	a.progress.Objects += objects
	a.o.Progress(a.progress)
}

var errNoSink = errors.New("an auditor needs a Sink")

package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Unwritten is a constraint whose outcome could not be recorded, and why.
type Unwritten struct {
	Kind, Name string
	Err        error
}

// Error implements error.
func (u Unwritten) Error() string {
	return fmt.Sprintf("recording what was found by %s/%s: %v", u.Kind, u.Name, u.Err)
}

// Unwrap returns why it could not be recorded.
func (u Unwritten) Unwrap() error { return u.Err }

// unwritten is an Unwritten since a time; told tells whether the report says so.
type unwritten struct {
	Unwritten
	since time.Time
	told  bool
}

// maxUnwritten bounds the constraints that an error names.
const maxUnwritten = 3

// publish hands results to the sink until ctx ends. It goes on for a while after
// the last news, since a sink may have reason to write later.
func (a *Auditor) publish(ctx context.Context) {
	said := ""
	for since := 0; a.sleep(ctx, a.o.Timings.AuditRound); since++ {
		if !a.isPlanned() {
			continue
		}
		a.updateAbsent()
		if a.hasNews() {
			since = 0
		}
		if since > quiet && since%quiet != 0 {
			continue
		}
		err := a.handOver(ctx)
		if err == nil || ctx.Err() != nil {
			said = ""
			continue
		}
		since = 0
		if said != err.Error() {
			said = err.Error()
			a.o.Log.Error(err, "audit results not up to date; trying again")
		}
	}
}

// handOver hands everything to the sink once. That a constraint's outcome cannot
// be recorded keeps nothing else from being told.
func (a *Auditor) handOver(ctx context.Context) error {
	err := a.recall(ctx)
	failed := a.o.Sink.Constraints(ctx, a.outcomes())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	a.noteUnwritten(failed)
	return errors.Join(err, joined(failed), a.o.Sink.Report(ctx, a.Report()))
}

// joined is one error of many, of which it names the first.
func joined(all []Unwritten) error {
	var errs []error
	for _, u := range all[:min(len(all), maxUnwritten)] {
		errs = append(errs, u)
	}
	if more := len(all) - maxUnwritten; more > 0 {
		errs = append(errs, fmt.Errorf("and %d more", more))
	}
	return errors.Join(errs...)
}

// noteUnwritten has the report name those constraints whose outcome could not be
// recorded for a while.
func (a *Auditor) noteUnwritten(failed []Unwritten) {
	now := a.o.Clock.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.unwritten
	a.unwritten = make(map[name]unwritten, len(failed))
	for _, f := range failed {
		n := name{f.Kind, f.Name}
		u, known := before[n]
		if !known {
			u.since = now
		}
		told := u.told && u.Err.Error() == f.Err.Error()
		u.Unwritten, u.told = f, now.Sub(u.since) > a.o.Timings.AuditMissed
		a.stirred = a.stirred || u.told && !told
		a.unwritten[n] = u
		delete(before, n)
	}
	for _, u := range before {
		a.stirred = a.stirred || u.told // it has been recorded, or is gone
	}
}

// hasNews tells whether there may be something to say that was not said.
func (a *Auditor) hasNews() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stirred || len(a.dirty) > 0 || !a.namespaces.blind.IsZero() && !a.namespaces.blindSaid {
		return true
	}
	for _, k := range a.kinds {
		if !k.blind.IsZero() && !k.blindSaid {
			return true
		}
	}
	return false
}

func (a *Auditor) isPlanned() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.firstPlan.IsZero()
}

// recall asks the sink what was recorded, by another process perhaps, of
// constraints of which this one has not told anything yet.
func (a *Auditor) recall(ctx context.Context) error {
	var errs []error
	for _, r := range a.unrecalled() {
		before, err := a.o.Sink.Before(ctx, r.Constraint, r.UID)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		a.mu.Lock()
		r.before, r.recalled = before, true
		a.mu.Unlock()
	}
	return errors.Join(errs[:min(len(errs), maxUnwritten)]...)
}

// unrecalled are the pasts that have to be asked for, sorted.
func (a *Auditor) unrecalled() []*past {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []*past
	for _, c := range a.known {
		if !c.past.recalled {
			out = append(out, c.past)
		}
	}
	for n, x := range a.absent {
		if !a.covers(n, x) && !x.past.recalled {
			out = append(out, x.past)
		}
	}
	slices.SortFunc(out, func(x, y *past) int { return compareConstraints(x.Constraint, y.Constraint) })
	return out
}

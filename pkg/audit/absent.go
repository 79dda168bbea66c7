package audit

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/policy"
)

// NotInForce is a constraint that is not judged by as it is: its template has
// errors, or is not there, or it has errors itself. One before it may be judged
// by in its place.
type NotInForce struct {
	Kind, Name string
	// UID and Generation tell which version is not in force.
	UID        types.UID
	Generation int64
	Why        string
}

// absent is a constraint that is not in force. Its fields are guarded by the
// Auditor's lock.
type absent struct {
	NotInForce
	past   *past
	cached *Outcome
}

// updateAbsent takes over which constraints are not in force.
func (a *Auditor) updateAbsent() {
	now := a.o.NotInForce()
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.absent
	a.absent = make(map[name]*absent, len(now))
	for _, x := range now {
		n := name{x.Kind, x.Name}
		old := before[n]
		delete(before, n)
		if old != nil && old.NotInForce == x {
			a.absent[n] = old
			continue
		}
		a.absent[n] = &absent{NotInForce: x, past: pastOf(x, old)}
		a.touchNamed(n)
	}
	for n := range before {
		a.touchNamed(n)
	}
}

// pastOf is what is known of a constraint that is not in force.
func pastOf(x NotInForce, old *absent) *past {
	if old != nil && old.UID == x.UID {
		return old.past
	}
	return &past{Constraint: policy.Constraint{Kind: x.Kind, Name: x.Name}, UID: x.UID}
}

func (a *Auditor) touchNamed(n name) {
	a.stirred = true
	if c := a.known[n]; c != nil {
		a.touch(c)
	}
}

// absence is what there is to say of a constraint that is in force, but not as
// it is; nil if it is in force as it is.
func (a *Auditor) absence(c *constraint) *absent {
	if x := a.absent[c.name]; x != nil && x.UID == c.scope.UID {
		return x
	}
	return nil
}

// covers tells whether a version of the constraint is in force, so that what is
// found by it is what there is to say.
func (a *Auditor) covers(n name, x *absent) bool {
	c := a.known[n]
	return c != nil && c.scope.UID == x.UID
}

// left keeps what was found by a constraint that is not in force any more.
func (a *Auditor) left(c *constraint) {
	x := a.absence(c)
	switch {
	case x == nil:
		return
	case c.last != nil && c.scope.Withheld == nil:
		x.past = c.last.past()
	default:
		x.past = c.past
	}
	x.cached = nil
}

// absentOutcomes are those of constraints that are not in force at all: what was
// found when they last were.
func (a *Auditor) absentOutcomes() []*Outcome {
	var out []*Outcome
	for n, x := range a.absent {
		if a.covers(n, x) || !x.past.recalled {
			continue
		}
		if x.cached == nil {
			x.cached = &Outcome{Constraint: x.past.Constraint, UID: x.UID, At: a.o.Clock.Now()}
			x.cached.take(x.past.before)
			x.cached.absent(x.NotInForce)
		}
		out = append(out, x.cached)
	}
	return out
}

// absent has an outcome say that its constraint is not in force as it is.
func (o *Outcome) absent(x NotInForce) {
	o.Generation, o.Complete, o.Reason = x.Generation, false, v1alpha1.ReasonNotInForce
	o.Message = "it is not judged by as it is: " + x.Why
}

// absentGaps are those of constraints that are not in force.
func (a *Auditor) absentGaps() []v1alpha1.AuditGap {
	var out []v1alpha1.AuditGap
	for n, x := range a.absent {
		out = append(out, v1alpha1.AuditGap{Constraint: n.kind + "/" + n.name, Reason: v1alpha1.ReasonNotInForce, Message: x.Why})
	}
	return out
}

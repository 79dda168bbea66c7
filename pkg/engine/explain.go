package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

// Explanation is how one constraint comes to what it says of a review.
type Explanation struct {
	// Silent is why the constraint has no say whatever the object is; empty if
	// it has one.
	Silent string
	// Clauses are those of its match block, and Matches what they come to.
	Clauses []match.Clause
	Matches bool
	// Result is what it found, if it matches; Trace tells how.
	Result policy.Result
	Trace  Trace
}

// Explain tells how the constraint of that kind and name comes to what it says
// of r, as Review would have it. The error is that there is no such constraint.
func (e *Engine) Explain(ctx context.Context, r *policy.Review, kind, name string, how Tracing) (Explanation, error) {
	for _, x := range e.registry.current.Load().entries {
		if x.kind == kind && x.name == name {
			return e.explain(ctx, r, x, how), nil
		}
	}
	return Explanation{}, fmt.Errorf("there is no constraint %s/%s to judge by", kind, name)
}

func (e *Engine) explain(ctx context.Context, r *policy.Review, x *entry, how Tracing) Explanation {
	out := Explanation{Silent: x.silent(r), Clauses: x.match.Explain(r)}
	out.Matches, _ = x.match.Match(r)
	t := &tracer{Tracing: how}
	v := review{Review: r, place: place(r.Point), canary: IsCanary(r), data: e.rego.Data(), input: rego.NewInput(r)}
	v.judge(&budget{Context: ctx}, x, t.evaluate)
	v.input.Release()
	v.result.Sort()
	out.Result, out.Trace = v.result, t.trace
	return out
}

// Denying returns a constraint that matches r and denies an object on which its
// policy fails, the first of all, false if there is none. It evaluates nothing.
func (e *Engine) Denying(r *policy.Review) (policy.Constraint, bool) {
	at, canary := place(r.Point), IsCanary(r)
	for x := range e.registry.current.Load().of(r.Kind.Kind) {
		c := x.at[at]
		if !c.Has(policy.Deny) || c.OnFault == policy.OnFaultAllow || x.withheld != nil || !x.applies(r, at, canary) {
			continue
		}
		if matches, err := x.match.Match(r); matches && err == nil {
			return c, true
		}
	}
	return policy.Constraint{}, false
}

// silent is why a constraint has no say about requests like r.
func (x *entry) silent(r *policy.Review) string {
	switch {
	case x.applies(r, place(r.Point), IsCanary(r)):
		return ""
	case len(x.operations) > 0 && r.Point == policy.PointWebhook:
		return fmt.Sprintf("its template is for the operations %v only, and this is %s", x.operations, r.Operation)
	}
	return strings.TrimSpace(fmt.Sprintf("its scoped actions ask for nothing at %s", r.Point))
}

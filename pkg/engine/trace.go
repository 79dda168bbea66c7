package engine

import (
	"context"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

// Tracing says what Engine.Trace is to tell. The zero value asks for what
// policies print.
type Tracing struct {
	// Steps asks for the interpreter's account of each of its steps, too: some
	// hundred lines for each constraint.
	Steps bool
}

// Trace is how one constraint came to its verdict.
type Trace struct {
	Constraint policy.Constraint
	// Prints is what its policy printed, a line for each call of print with
	// where it stands: "rego:3: text" or "libs[0]:7: text".
	Prints []string
	// Steps is the interpreter's account, empty unless it was asked for. It
	// quotes the object.
	Steps string
	// Fired are the rules for violations whose body held, with their values.
	Fired []Fired
}

// Fired is a rule for violations whose body held.
type Fired = rego.Fired

// Trace judges r as Review does, and tells how each constraint that was
// evaluated came to its verdict, in the order of kind and name. All is done by
// OPA's interpreter and compiled again each time, so that it takes a hundred
// times as long: it is for people who look for a mistake.
func (e *Engine) Trace(ctx context.Context, r *policy.Review, how Tracing) (policy.Result, []Trace) {
	t := &tracer{Tracing: how}
	return e.review(ctx, r, nil, t.evaluate), t.traces
}

// evaluator evaluates one constraint of a review.
type evaluator func(ctx context.Context, v *review, x *entry) ([]rego.Finding, *rego.Failure)

type tracer struct {
	Tracing
	traces []Trace
}

func (t *tracer) evaluate(ctx context.Context, v *review, x *entry) ([]rego.Finding, *rego.Failure) {
	found, trace, failure := x.program.Trace(ctx, v.data, v.input, x.parameters, t.Steps)
	t.traces = append(t.traces, Trace{Constraint: x.at[v.place], Prints: trace.Prints, Steps: trace.Steps, Fired: trace.Fired})
	return found, failure
}

package engine

import (
	"context"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

// Tracing says what Engine.Explain is to tell. The zero value asks for what
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

// evaluator evaluates one constraint of a review.
type evaluator func(ctx context.Context, v *review, x *entry) (rego.Findings, *rego.Failure)

// tracer evaluates by OPA's interpreter, compiled again each time, and keeps how
// the constraint came to its verdict. It takes a hundred times as long: it is for
// people who look for a mistake.
type tracer struct {
	Tracing
	trace Trace
}

func (t *tracer) evaluate(ctx context.Context, v *review, x *entry) (rego.Findings, *rego.Failure) {
	found, trace, failure := x.program.Trace(ctx, v.data, v.input, x.parameters, t.Steps)
	t.trace = Trace{Constraint: x.at[v.place], Prints: trace.Prints, Steps: trace.Steps, Fired: trace.Fired}
	return found, failure
}

// Package engine judges reviews by templates and constraints. It is the middle
// of the pipeline: every door builds a policy.Review, calls Engine.Review and
// acts on the policy.Result, so that all doors mean the same by a policy.
//
// The constraint framework supplies, by its exported functions, the template and
// constraint types, the generated CRDs, schema validation and
// enforcement-action scoping; matching is pkg/match's and evaluation pkg/rego's.
package engine

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

// Engine holds compiled templates and constraints. Review may be called
// concurrently with everything; the methods that add and remove must not be
// called concurrently with each other for the same template.
type Engine struct {
	rego     *rego.Runtime
	kinds    *kinds
	registry *registry
	observer Observer
	checks   atomic.Pointer[checks]
	// reviewing is how many reviews are on their way.
	reviewing atomic.Int32
}

// New returns an engine that knows the built-in policy for canaries only.
func New() (*Engine, error) { return with(rego.New()) }

// NewReference returns an engine that runs all Rego by OPA's interpreter. It
// comes to the same results as that of New, and serves to compare with it.
func NewReference() (*Engine, error) { return with(rego.NewReference()) }

// Compiler tries whether Rego compiles, within limits.
type Compiler = rego.Compiler

// ErrNoAnswer is what AddTemplate and CheckTemplate return when the compiler could
// not say whether a template compiles. It is to be tried again, and no reason to
// refuse the template.
var ErrNoAnswer = rego.ErrNoAnswer

// CompileBy has c try every template before it is compiled, so that one that takes
// too much time or memory is an error of its own; nil, as for a new engine, has
// them compiled without limits. It is to be called before the first template is
// added or checked.
func (e *Engine) CompileBy(c Compiler) {
	if c != nil {
		e.rego.CompileBy(c)
	}
}

// errPoint is what a review comes to by an enforcement point that is not served.
var errPoint = errors.New("enforcement point not supported")

func with(runtime *rego.Runtime) (*Engine, error) {
	e := &Engine{rego: runtime, kinds: newKinds(), registry: newRegistry(), observer: unobserved{}}
	return e, e.addCanary(context.Background())
}

// Review judges r by every constraint that matches it. It returns when ctx
// ends: constraints not judged by then are faults, and no constraint takes more
// than half of the time that is left. If r has an AnswerBy, those that deny are
// judged first, and it returns then if one has found something; one for which time
// runs out is a fault of the object if that is what took the time. It never fails
// as a whole; an error that concerns no single constraint, such as an enforcement point that
// is not served, is a fault without one. A review without an enforcement point
// is judged as if it came through all of them. The result is sorted.
func (e *Engine) Review(ctx context.Context, r *policy.Review) policy.Result {
	return e.ReviewBy(ctx, r, nil)
}

// ReviewBy is Review by those constraints only for which by returns true; nil
// stands for all.
func (e *Engine) ReviewBy(ctx context.Context, r *policy.Review, by func(kind, name string) bool) policy.Result {
	e.reviewing.Add(1)
	defer e.reviewing.Add(-1)
	if !served(r.Point) {
		err := fmt.Errorf("%w, supported enforcement points: %v", errPoint, policy.EnforcementPoints())
		return policy.Result{Faults: []policy.Fault{{Cause: policy.CauseInternal, Err: err}}}
	}
	v := review{Review: r, place: place(r.Point), canary: IsCanary(r), data: e.rego.Data(), input: rego.NewInput(r)}
	share := &budget{Context: ctx, answerBy: r.AnswerBy}
	check := e.due()
	v.keeps = check != nil
	constraints := e.registry.current.Load().of(r.Kind.Kind)
	for pass := range v.passes() {
		for x := range constraints {
			if v.turn(x) == pass && (by == nil || by(x.kind, x.name)) {
				v.judge(share, x, judge)
			}
		}
	}
	if check != nil {
		check.offer(&v)
	}
	v.input.Release()
	v.blame()
	v.result.Sort()
	return v.result
}

// Interpreted says, by constraint kind, why templates run by OPA's interpreter
// instead of compiled. Their verdicts are the same, but cost a hundred times
// as much.
func (e *Engine) Interpreted() map[string]error { return e.kinds.interpreted() }

// AddData puts object, decoded JSON that is the engine's from then on, into
// data.inventory at path, as in ["cluster", "v1", "Namespace", "default"].
func (e *Engine) AddData(_ context.Context, path []string, object any) error {
	return e.rego.AddData(path, object)
}

// RemoveData takes the object at path out of data.inventory.
func (e *Engine) RemoveData(_ context.Context, path []string) error {
	e.rego.RemoveData(path)
	return nil
}

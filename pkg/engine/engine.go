// Package engine judges reviews by templates and constraints. It is the middle
// of the pipeline: every door builds a policy.Review, calls Engine.Review and
// acts on the policy.Result, so that all doors mean the same by a policy.
//
// The constraint framework supplies the template and constraint types, the
// generated CRDs, schema validation and enforcement-action scoping; matching
// is pkg/match's and evaluation pkg/rego's.
package engine

import (
	"context"
	"fmt"

	"github.com/open-policy-agent/frameworks/constraint/pkg/client"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/reviews"
	"github.com/open-policy-agent/frameworks/constraint/pkg/types"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

// Engine holds compiled templates and constraints. Review may be called
// concurrently with everything; the methods that add and remove must not be
// called concurrently with each other for the same template.
type Engine struct {
	client   *client.Client
	driver   *rego.Driver
	registry *registry
}

// New returns an engine that knows the built-in policy for canaries only.
func New() (*Engine, error) {
	driver := rego.NewDriver()
	c, err := client.NewClient(
		client.Driver(driver),
		client.Targets(target{}),
		client.EnforcementPoints(policy.EnforcementPoints()...),
	)
	if err != nil {
		return nil, fmt.Errorf("creating the constraint client: %w", err)
	}
	e := &Engine{client: c, driver: driver, registry: newRegistry()}
	return e, e.addCanary(context.Background())
}

// Review judges r by every constraint that matches it. It returns when ctx
// ends: constraints not judged by then are faults. It never fails as a whole;
// an error that concerns no single constraint, such as an enforcement point that
// is not served, is a fault without one. A review without an enforcement point
// is judged as if it came through all of them. The result is sorted.
func (e *Engine) Review(ctx context.Context, r *policy.Review) policy.Result {
	in := rego.NewInput(r)
	responses, err := e.client.Review(ctx, in, reviews.EnforcementPoint(string(r.Point)))
	result := policy.Result{Evaluated: in.Evaluated()}
	if err != nil {
		result.Faults = append(result.Faults, policy.Fault{Cause: policy.CauseInternal, Err: err})
	}
	for _, res := range responses.Results() {
		result.Violations = append(result.Violations, violation(res, r.Point))
	}
	for _, f := range in.Faults() {
		result.Faults = append(result.Faults, policy.Fault{
			Constraint: describe(f.Constraint, r.Point), Cause: f.Cause, Err: f.Err, Brief: f.Brief,
		})
	}
	result.Sort()
	return result
}

func violation(res *types.Result, point policy.EnforcementPoint) policy.Violation {
	return policy.Violation{
		Constraint: describe(res.Constraint, point),
		Message:    res.Msg,
		Details:    res.Metadata["details"],
	}
}

// AddData puts object, decoded JSON that is the engine's from then on, into
// data.inventory at path, as in ["cluster", "v1", "Namespace", "default"].
func (e *Engine) AddData(ctx context.Context, path []string, object any) error {
	return e.driver.AddData(ctx, TargetName, path, object)
}

// RemoveData takes the object at path out of data.inventory.
func (e *Engine) RemoveData(ctx context.Context, path []string) error {
	return e.driver.RemoveData(ctx, TargetName, path)
}

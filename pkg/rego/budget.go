package rego

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego/cost"
	"github.com/fusegate/fusegate/pkg/rego/exec"
	"github.com/fusegate/fusegate/pkg/rego/value"
)

// SmallObject is the size, in bytes of JSON, up to which an object is not to
// blame for what a policy takes to judge it: not even what grows with the square
// of its fields comes to the limits.
const SmallObject = 2 << 10

// TogetherSteps is how many steps the constraints that deny, and that read no other
// objects, may take together on an object for which time runs out. It is what one of
// them may take at least: a machine that is not overloaded has time for twice as many.
func TogetherSteps() int { return cost.Base.Steps }

// ToBlame tells whether what policies take on the object of r may be the object's
// doing.
func ToBlame(r *policy.Review) bool {
	return r.Operation != policy.Delete && value.Size(r.Object) > SmallObject
}

// exceeded says whose doing it is that an evaluation came to its limits. It is
// the object's, which is refused then, if that is large. It is the policy's if
// even a small object is too much for it. And it is nothing to refuse a request
// for that takes an object away, or that leaves one no larger which the policy
// could not judge before: whoever has stored it could not change it any more.
func (p *Program) exceeded(ctx context.Context, e *Data, in *Input, params *Parameters, err error) *Failure {
	why, r := "", in.review
	switch {
	case value.Size(r.Object) <= SmallObject:
		why = fmt.Sprintf("the policy is to blame, since the object has no more than %d KiB", SmallObject>>10)
	case r.Operation == policy.Delete:
		why = "which is no reason to keep an object"
	case r.Operation == policy.Update && p.exceededBefore(ctx, e, in, params):
		why = "as for the object before, which was no smaller"
	default:
		return failureOf(err)
	}
	return failureOf(&policyError{fmt.Errorf("%w, %s", err, why)})
}

// policyError is an error that never denies.
type policyError struct{ error }

func (e *policyError) Unwrap() error { return e.error }

// Matched may be implemented by the context of an evaluation. MatchedBefore tells
// whether the constraint matches the object before the request. One that it does not
// match was never judged by it: a label added later must not bring in what is refused.
type Matched interface{ MatchedBefore() bool }

// exceededBefore tells whether the object before the request was the constraint's to
// judge, is no smaller than the one that it is to become, and comes to the limits as
// well.
func (p *Program) exceededBefore(ctx context.Context, e *Data, in *Input, params *Parameters) bool {
	if m, ok := ctx.(Matched); ok && !m.MatchedBefore() {
		return false
	}
	before := *in.review
	before.Object = before.OldObject
	if before.Object == nil || value.Size(before.Object) < value.Size(in.review.Object) {
		return false
	}
	if before.Request != nil {
		before.Request = maps.Clone(before.Request)
		before.Request["object"] = before.Object
	}
	again := &Input{review: &before, now: in.now}
	defer again.Release()
	_, err := p.judge(unheard{ctx}, e, again, params)
	return errors.Is(err, exec.ErrLimit)
}

// unheard is a context that is not told what is found.
type unheard struct{ context.Context }

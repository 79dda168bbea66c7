package audit

import (
	"errors"
	"slices"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/policy"
)

// Asked is what of an audit is asked for, and what it was made by.
type Asked struct {
	// Constraints is how many were judged by, and Problems what is wrong with
	// others.
	Constraints int
	Problems    []output.Problem
	// DenyOnly leaves out constraints that do not deny.
	DenyOnly bool
	// AcceptNotAuditable takes for complete what lacks nothing but constraints that
	// no audit can judge.
	AcceptNotAuditable bool
}

// Output is the result as it is written.
func (r Result) Output(asked Asked) output.Audit {
	out := output.Audit{Problems: slices.Clone(asked.Problems), Report: r.Report}
	for _, o := range r.Outcomes {
		if asked.DenyOnly && !o.Constraint.Has(policy.Deny) {
			continue
		}
		out.Constraints = append(out.Constraints, output.AuditedConstraint{
			Constraint: o.Constraint, Total: o.Total, Exempt: o.Exempt, Violations: o.Violations, ExemptViolations: o.ExemptViolations,
			Costly: o.Costly, CostlyObjects: o.CostlyObjects,
			Complete: o.Complete, Reason: o.Reason, Message: o.Message, Accepted: asked.accepts(o),
		})
	}
	if asked.Constraints == 0 && len(asked.Problems) == 0 {
		out.Problems = append(out.Problems, output.Problem{File: "cluster", Err: errors.New("there is no constraint, so that there is nothing to judge by")})
	}
	out.Complete = len(out.Problems) == 0 && asked.complete(r.Report) &&
		!slices.ContainsFunc(out.Constraints, func(c output.AuditedConstraint) bool { return !c.Accepted })
	return out
}

// accepts reports whether all that was asked for was found by a constraint. One
// that asks for nothing at audit lacks nothing.
func (a Asked) accepts(o *Outcome) bool {
	return o.Complete || o.Reason == v1alpha1.ReasonNotAsked || a.AcceptNotAuditable && o.Reason == v1alpha1.ReasonNotAuditable
}

// complete reports whether everything was judged that was asked for.
func (a Asked) complete(r v1alpha1.AuditReportStatus) bool {
	for _, c := range r.Conditions {
		if c.Type == v1alpha1.ConditionComplete {
			return c.Status == "True" || a.AcceptNotAuditable && c.Reason == v1alpha1.ReasonNotAuditable
		}
	}
	return false
}

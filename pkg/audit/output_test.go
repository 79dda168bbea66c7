package audit_test

import (
	"errors"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/audit"
	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/policy"
)

// TestComplete tells when an audit from outside is complete: if its report
// is, and what was found by each constraint.
func TestComplete(t *testing.T) {
	report := func(reason string) v1alpha1.AuditReportStatus {
		status := metav1.ConditionFalse
		if reason == v1alpha1.ReasonAudited {
			status = metav1.ConditionTrue
		}
		return v1alpha1.AuditReportStatus{Conditions: []metav1.Condition{{Type: v1alpha1.ConditionComplete, Status: status, Reason: reason}}}
	}
	cases := map[string]struct {
		reason             string
		outcome, report    string
		problems           []output.Problem
		acceptNotAuditable bool
		want               bool
	}{
		"Complete":    {reason: "all was seen", outcome: v1alpha1.ReasonAudited, report: v1alpha1.ReasonAudited, want: true},
		"LowerBound":  {reason: "what is called a lower bound is not complete", outcome: v1alpha1.ReasonReading, report: v1alpha1.ReasonAudited},
		"Gap":         {reason: "a gap is in the report too", outcome: v1alpha1.ReasonGap, report: v1alpha1.ReasonGap},
		"ReportOnly":  {reason: "a gap need not concern a constraint", outcome: v1alpha1.ReasonAudited, report: v1alpha1.ReasonGap},
		"NotAsked":    {reason: "nothing is missing of nothing", outcome: v1alpha1.ReasonNotAsked, report: v1alpha1.ReasonAudited, want: true},
		"NotAudited":  {reason: "it cannot be audited", outcome: v1alpha1.ReasonNotAuditable, report: v1alpha1.ReasonNotAuditable},
		"Accepted":    {reason: "unless that is known", outcome: v1alpha1.ReasonNotAuditable, report: v1alpha1.ReasonNotAuditable, acceptNotAuditable: true, want: true},
		"AcceptedGap": {reason: "which accepts nothing else", outcome: v1alpha1.ReasonReading, report: v1alpha1.ReasonNotAuditable, acceptNotAuditable: true},
		"Problem":     {reason: "a policy that could not be read", outcome: v1alpha1.ReasonAudited, report: v1alpha1.ReasonAudited, problems: []output.Problem{{Err: errors.New("no YAML")}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			outcome := &audit.Outcome{Complete: tc.outcome == v1alpha1.ReasonAudited, Reason: tc.outcome}
			r := audit.Result{Outcomes: []*audit.Outcome{outcome}, Report: report(tc.report)}
			d := r.Output(audit.Asked{Constraints: 1, Problems: tc.problems, AcceptNotAuditable: tc.acceptNotAuditable})
			if d.Complete != tc.want {
				t.Errorf("%s: got complete %v, want %v", tc.reason, d.Complete, tc.want)
			}
		})
	}
}

// TestOutput: what is left out, and an audit by nothing.
func TestOutput(t *testing.T) {
	complete := v1alpha1.AuditReportStatus{Conditions: []metav1.Condition{{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue}}}
	r := audit.Result{Report: complete, Outcomes: []*audit.Outcome{
		{Constraint: policy.Constraint{Name: "denies", Action: policy.Deny}, Complete: true, Total: 1},
		{Constraint: policy.Constraint{Name: "warns", Action: policy.Warn}, Total: 2},
	}}
	if d := r.Output(audit.Asked{Constraints: 2}); len(d.Constraints) != 2 || d.Complete || d.Violations() != 3 {
		t.Errorf("all: got %v, want both, which are not complete, with 3 violations", d)
	}
	if d := r.Output(audit.Asked{Constraints: 2, DenyOnly: true}); len(d.Constraints) != 1 || !d.Complete || d.Violations() != 1 {
		t.Errorf("deny only: got %v, want the one that denies, which is complete, with 1 violation", d)
	}
	if d := (audit.Result{Report: complete}).Output(audit.Asked{}); d.Complete || len(d.Problems) != 1 {
		t.Errorf("no constraint: got %v, want that to be a problem", d)
	}
}

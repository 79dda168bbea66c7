package app

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/audit"
	"github.com/fusegate/fusegate/pkg/manifest"
	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/policy"
)

// audited is what an audit from outside has found.
type audited struct {
	audit.Result
	constraints int
	problems    []manifest.Problem
}

// auditDocument is the same as JSON.
type auditDocument struct {
	// Complete tells whether all there is was judged; if not, the counts are
	// lower bounds.
	Complete    bool                       `json:"complete"`
	Constraints []auditedConstraint        `json:"constraints"`
	Problems    []output.Problem           `json:"problems"`
	Report      v1alpha1.AuditReportStatus `json:"report"`
}

type auditedConstraint struct {
	Kind             string               `json:"kind"`
	Name             string               `json:"name"`
	Action           string               `json:"action"`
	TotalViolations  int64                `json:"totalViolations"`
	ExemptTotal      int64                `json:"totalExemptViolations"`
	Complete         bool                 `json:"complete"`
	Reason           string               `json:"reason"`
	Message          string               `json:"message,omitempty"`
	Violations       []v1alpha1.Violation `json:"violations"`
	ExemptViolations []v1alpha1.Violation `json:"exemptViolations"`
}

// print writes what was found, and says by the exit code what that comes to: a
// partial audit is never clean, and never merely violated.
func (f *auditFlags) print(cmd *cobra.Command, a audited) error {
	d := f.document(a)
	for _, p := range d.Problems {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "error:", output.Harmless(p.String()))
	}
	var err error
	if f.format == output.JSON || f.format == output.YAML {
		err = output.Encode(cmd.OutOrStdout(), f.format, d)
	} else {
		err = d.table(cmd.OutOrStdout(), f.format == output.Wide, styleOf(cmd.OutOrStdout()))
	}
	switch {
	case err != nil:
		return fmt.Errorf("writing: %w", err)
	case !d.Complete:
		return exit{code: exitBroken}
	case d.violations() > 0:
		return exit{code: exitError}
	}
	return nil
}

func (f *auditFlags) document(a audited) auditDocument {
	d := auditDocument{Constraints: []auditedConstraint{}, Problems: []output.Problem{}, Report: a.Report}
	for _, o := range a.Outcomes {
		if f.denyOnly && !o.Constraint.Has(policy.Deny) {
			continue
		}
		d.Constraints = append(d.Constraints, auditedConstraint{
			Kind: o.Constraint.Kind, Name: o.Constraint.Name, Action: actionsOf(o.Constraint),
			TotalViolations: o.Total, ExemptTotal: o.Exempt, Complete: o.Complete, Reason: o.Reason, Message: o.Message,
			Violations: append([]v1alpha1.Violation{}, o.Violations...), ExemptViolations: append([]v1alpha1.Violation{}, o.ExemptViolations...),
		})
	}
	for _, p := range a.problems {
		d.Problems = append(d.Problems, output.Problem{File: p.File, Line: p.Line, Message: p.Err.Error()})
	}
	if a.constraints == 0 && len(a.problems) == 0 {
		d.Problems = append(d.Problems, output.Problem{File: "cluster", Message: "there is no constraint, so that there is nothing to judge by"})
	}
	d.Complete = len(d.Problems) == 0 && f.accepts(a.Report) && !slices.ContainsFunc(d.Constraints, f.lacks)
	return d
}

// lacks tells whether what was found by a constraint is not all that was asked
// for. One that asks for nothing at audit lacks nothing.
func (f *auditFlags) lacks(c auditedConstraint) bool {
	return !c.Complete && c.Reason != v1alpha1.ReasonNotAsked && !(f.acceptNotAuditable && c.Reason == v1alpha1.ReasonNotAuditable)
}

// accepts tells whether everything was judged that was asked for.
func (f *auditFlags) accepts(r v1alpha1.AuditReportStatus) bool {
	for _, c := range r.Conditions {
		if c.Type == v1alpha1.ConditionComplete {
			return c.Status == "True" || f.acceptNotAuditable && c.Reason == v1alpha1.ReasonNotAuditable
		}
	}
	return false
}

// actionsOf are what a constraint asks for at audit.
func actionsOf(c policy.Constraint) string {
	if c.Action != policy.Scoped {
		return string(c.Action)
	}
	var out []string
	for _, a := range c.ScopedActions {
		out = append(out, string(a))
	}
	return strings.Join(out, ",")
}

func (d auditDocument) violations() (n int64) {
	for _, c := range d.Constraints {
		n += c.TotalViolations
	}
	return n
}

// table writes the constraints, what violates them, and what was not seen.
func (d auditDocument) table(w io.Writer, wide bool, s output.Style) error {
	for _, t := range d.tables(wide) {
		if len(t.rows) == 0 {
			continue
		}
		if err := output.WriteTable(w, t.header, t.rows, s); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, d.summary())
	return err
}

type auditTable struct {
	header []string
	rows   [][]output.Cell
}

func (d auditDocument) tables(wide bool) []auditTable {
	out := []auditTable{d.constraintTable(), d.violationTable("VIOLATION OF", wide, func(c auditedConstraint) []v1alpha1.Violation { return c.Violations })}
	if wide {
		out = append(out,
			d.violationTable("EXEMPT VIOLATION OF", wide, func(c auditedConstraint) []v1alpha1.Violation { return c.ExemptViolations }), d.kindTable())
	}
	return append(out, d.gapTable(), d.notAuditableTable())
}

func (d auditDocument) constraintTable() auditTable {
	t := auditTable{header: []string{"CONSTRAINT", "ACTION", "VIOLATIONS", "EXEMPT", "COMPLETE"}}
	for _, c := range d.Constraints {
		complete := output.Cell{Text: "yes"}
		if !c.Complete {
			complete = output.Cell{Text: "no, " + c.Reason + ": " + c.Message, Tone: "warn"}
		}
		count := output.Cell{Text: fmt.Sprint(c.TotalViolations)}
		if c.TotalViolations > 0 {
			count.Tone = "deny"
		}
		t.rows = append(t.rows, cells(c.Kind+"/"+c.Name, c.Action, count, c.ExemptTotal, complete))
	}
	return t
}

func (d auditDocument) violationTable(title string, wide bool, of func(auditedConstraint) []v1alpha1.Violation) auditTable {
	t := auditTable{header: []string{title, "ACTION", "OBJECT", "MESSAGE"}}
	if wide {
		t.header = slices.Insert(t.header, 2, "APIVERSION")
	}
	for _, c := range d.Constraints {
		for _, v := range of(c) {
			o := output.Object{Kind: v.Kind, Namespace: v.Namespace, Name: v.Name}
			row := cells(c.Kind+"/"+c.Name, output.Cell{Text: c.Action, Tone: c.Action}, o.String(), v.Message)
			if wide {
				row = slices.Insert(row, 2, output.Cell{Text: strings.TrimPrefix(v.Group+"/"+v.Version, "/")})
			}
			t.rows = append(t.rows, row)
		}
	}
	return t
}

func (d auditDocument) kindTable() auditTable {
	t := auditTable{header: []string{"KIND", "GROUP", "OBJECTS", "VIOLATIONS", "EXEMPT"}}
	for _, k := range d.Report.Kinds {
		var n int64
		for _, v := range k.Violations {
			n += v
		}
		t.rows = append(t.rows, cells(k.Kind, k.Group, k.Objects, n, k.ExemptViolations))
	}
	return t
}

func (d auditDocument) gapTable() auditTable {
	t := auditTable{header: []string{"NOT SEEN", "OBJECT", "CONSTRAINT", "REASON", "MESSAGE"}}
	for _, g := range d.Report.Gaps {
		what := strings.TrimSuffix(g.Kind+"."+g.Group, ".")
		t.rows = append(t.rows, cells(output.Cell{Text: strings.TrimPrefix(what, "."), Tone: "fault"},
			strings.TrimPrefix(g.Namespace+"/"+g.Name, "/"), g.Constraint, g.Reason, g.Message))
	}
	return t
}

func (d auditDocument) notAuditableTable() auditTable {
	t := auditTable{header: []string{"NOT AUDITABLE", "READS OF A REQUEST"}}
	for _, n := range d.Report.NotAuditable {
		t.rows = append(t.rows, cells(output.Cell{Text: n.Constraint, Tone: "warn"}, strings.Join(n.Reads, ", ")))
	}
	return t
}

// cells makes a row of what is a cell and what can be printed.
func cells(of ...any) []output.Cell {
	out := make([]output.Cell, len(of))
	for i, v := range of {
		if c, ok := v.(output.Cell); ok {
			out[i] = c
			continue
		}
		out[i].Text = fmt.Sprint(v)
	}
	return out
}

// summary says in a line what was found.
func (d auditDocument) summary() string {
	var objects, exempt int64
	for _, k := range d.Report.Kinds {
		objects += k.Objects
	}
	for _, c := range d.Constraints {
		exempt += c.ExemptTotal
	}
	text := fmt.Sprintf("%d violations in %d objects of %d kinds by %d constraints", d.violations(), objects, len(d.Report.Kinds), len(d.Constraints))
	if exempt > 0 {
		text += fmt.Sprintf("; %d more in exempt namespaces", exempt)
	}
	if !d.Complete {
		text += fmt.Sprintf("; incomplete: %d problems, %d gaps, %d constraints not auditable", len(d.Problems), len(d.Report.Gaps), len(d.Report.NotAuditable))
	}
	return text
}

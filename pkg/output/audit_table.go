package output

import (
	"iter"
	"slices"
	"strings"

	"github.com/fusegate/fusegate/apis/v1alpha1"
)

// tables are the parts of an audit for people.
func (a Audit) tables(wide bool) []table {
	out := []table{a.constraintTable(), a.violationTable("VIOLATION OF", wide, func(c AuditedConstraint) []v1alpha1.Violation { return c.Violations })}
	if wide {
		out = append(out,
			a.violationTable("EXEMPT VIOLATION OF", wide, func(c AuditedConstraint) []v1alpha1.Violation { return c.ExemptViolations }), a.kindTable())
	}
	return append(out, a.gapTable(), a.notAuditableTable())
}

// rowsOf are the rows of what is in a list.
func rowsOf[T any](list []T, row func(T) []Cell) iter.Seq[[]Cell] {
	return func(yield func([]Cell) bool) {
		for _, v := range list {
			if !yield(row(v)) {
				return
			}
		}
	}
}

func (a Audit) constraintTable() table {
	return table{[]string{"CONSTRAINT", "ACTION", "VIOLATIONS", "EXEMPT", "COMPLETE"}, rowsOf(a.Constraints, func(c AuditedConstraint) []Cell {
		complete := Cell{Text: "yes"}
		if !c.Complete {
			complete = Cell{Text: "no, " + c.why(), Tone: Caution}
		}
		total := Cells(c.Total)[0]
		if c.Total > 0 {
			total.Tone = Bad
		}
		return Cells(c.Constraint, c.Constraint.ActionNames(), total, c.Exempt, complete)
	})}
}

func (a Audit) violationTable(title string, wide bool, of func(AuditedConstraint) []v1alpha1.Violation) table {
	t := table{header: []string{title, "ACTION", "OBJECT", "MESSAGE"}}
	if wide {
		t.header = slices.Insert(t.header, 2, "APIVERSION")
	}
	t.rows = func(yield func([]Cell) bool) {
		for _, c := range a.Constraints {
			action := Cell{Text: c.Constraint.ActionNames(), Tone: toneOf(c.Constraint.Strictest())}
			for _, v := range of(c) {
				row := Cells(c.Constraint, action, objectOf(v), v.Message)
				if wide {
					row = slices.Insert(row, 2, Cell{Text: apiVersion(v)})
				}
				if !yield(row) {
					return
				}
			}
		}
	}
	return t
}

func (a Audit) kindTable() table {
	return table{[]string{"KIND", "GROUP", "OBJECTS", "VIOLATIONS", "EXEMPT"}, rowsOf(a.Report.Kinds, func(k v1alpha1.AuditedKind) []Cell {
		var n int64
		for _, v := range k.Violations {
			n += v
		}
		return Cells(k.Kind, k.Group, k.Objects, n, k.ExemptViolations)
	})}
}

func (a Audit) gapTable() table {
	return table{[]string{"NOT SEEN", "OBJECT", "CONSTRAINT", "REASON", "MESSAGE"}, rowsOf(a.Report.Gaps, func(g v1alpha1.AuditGap) []Cell {
		what := strings.TrimSuffix(g.Kind+"."+g.Group, ".")
		return Cells(Cell{Text: strings.TrimPrefix(what, "."), Tone: Bad},
			strings.TrimPrefix(g.Namespace+"/"+g.Name, "/"), g.Constraint, g.Reason, g.Message)
	})}
}

func (a Audit) notAuditableTable() table {
	return table{[]string{"NOT AUDITABLE", "READS OF A REQUEST"}, rowsOf(a.Report.NotAuditable, func(n v1alpha1.NotAuditable) []Cell {
		return Cells(Cell{Text: n.Constraint, Tone: Caution}, strings.Join(n.Reads, ", "))
	})}
}

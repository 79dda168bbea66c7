package output

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/policy"
)

// Audit is what exists in a cluster and violates its policies.
type Audit struct {
	// Version is that of Fusegate.
	Version string
	// Complete tells whether all there is was judged; if not, the counts are
	// lower bounds.
	Complete    bool
	Constraints []AuditedConstraint
	Problems    []Problem
	Report      v1alpha1.AuditReportStatus
}

// AuditedConstraint is one with what violates it.
type AuditedConstraint struct {
	// Constraint is as it acts at audit.
	Constraint policy.Constraint
	// Total and Exempt count the violations. Violations and ExemptViolations list
	// the first of them.
	Total, Exempt                int64
	Violations, ExemptViolations []v1alpha1.Violation
	// Costly counts the objects on which it uses over half of its budget, and
	// CostlyObjects are the worst of them.
	Costly        int64
	CostlyObjects []v1alpha1.CostlyObject
	// Complete is false where Total is a lower bound; Reason, of
	// v1alpha1.ConditionAudited, and Message say why.
	Complete        bool
	Reason, Message string
	// Accepted tells that nothing is missing that was asked for, complete or not.
	Accepted bool
}

// Violations is how many there are in all, exempt ones aside.
func (a Audit) Violations() (n int64) {
	for _, c := range a.Constraints {
		n += c.Total
	}
	return n
}

func (a Audit) about() about { return about{version: a.Version, complete: a.Complete} }

func (a Audit) document() object {
	return object{
		{key: "complete", value: a.Complete},
		{key: "constraints", list: func(yield func(any) bool) {
			for _, c := range a.Constraints {
				if !yield(c.document()) {
					return
				}
			}
		}},
		{key: "problems", list: elements(slices.Values(a.Problems))},
		{key: "report", value: a.Report},
	}
}

func (c AuditedConstraint) document() object {
	o := object{
		{key: "kind", value: c.Constraint.Kind}, {key: "name", value: c.Constraint.Name}, {key: "action", value: c.Constraint.ActionNames()},
		{key: "totalViolations", value: c.Total}, {key: "totalExemptViolations", value: c.Exempt},
		{key: "complete", value: c.Complete}, {key: "reason", value: c.Reason}, {key: "message", value: c.Message},
		{key: "violations", list: elements(slices.Values(c.Violations))},
		{key: "exemptViolations", list: elements(slices.Values(c.ExemptViolations))},
	}
	if c.Costly > 0 {
		o = append(o, member{key: "totalCostlyObjects", value: c.Costly}, member{key: "costlyObjects", list: elements(slices.Values(c.CostlyObjects))})
	}
	return slices.DeleteFunc(o, func(m member) bool { return m.key == "message" && m.value == "" })
}

func (c AuditedConstraint) rule() rule {
	return Constraint{Kind: c.Constraint.Kind, Name: c.Constraint.Name}.rule()
}

// objectOf is the object of a cluster that violates something.
func objectOf(v v1alpha1.Violation) Object {
	return Object{APIVersion: apiVersion(v), Kind: v.Kind, Namespace: v.Namespace, Name: v.Name}
}

func apiVersion(v v1alpha1.Violation) string { return strings.TrimPrefix(v.Group+"/"+v.Version, "/") }

// entries are the violations that are listed, how many are not, and what was not
// seen.
func (a Audit) entries() iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for _, c := range a.Constraints {
			for e := range c.entries() {
				if !yield(e) {
					return
				}
			}
		}
		for e := range a.gaps() {
			if !yield(e) {
				return
			}
		}
		for _, p := range a.Problems {
			if !yield(p.entry()) {
				return
			}
		}
	}
}

func (c AuditedConstraint) entries() iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for _, v := range c.Violations {
			o := objectOf(v)
			if !yield(entry{level: levelOf(c.Constraint.Strictest()), rule: c.rule(), at: o, subject: o.String(), message: v.Message}) {
				return
			}
		}
		for _, text := range c.unlisted() {
			if !yield(entry{class: remark, level: Note, rule: c.rule(), message: text}) {
				return
			}
		}
		if !c.Complete {
			e := entry{class: missing, level: Error, rule: c.rule(), message: c.Constraint.String() + " was not audited in full: " + c.why()}
			if c.Accepted {
				e.class, e.level = remark, Note
			}
			yield(e)
		}
	}
}

// unlisted says how many violations there are beside those that are listed, and
// how many objects cost the policy over half of its budget.
func (c AuditedConstraint) unlisted() []string {
	var out []string
	if n := c.Total - int64(len(c.Violations)); n > 0 {
		out = append(out, fmt.Sprintf("%s: %s not listed; --limit 0 lists all", c.Constraint, count(n, "violation")))
	}
	if c.Exempt > 0 {
		out = append(out, fmt.Sprintf("%s: %s in exempt namespaces", c.Constraint, count(c.Exempt, "violation")))
	}
	if c.Costly > 0 {
		out = append(out, fmt.Sprintf("%s: over half of its budget on %s", c.Constraint, count(c.Costly, "object")))
	}
	return out
}

func (c AuditedConstraint) why() string { return c.Reason + ": " + c.Message }

// gaps are what was not seen.
func (a Audit) gaps() iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for _, g := range a.Report.Gaps {
			e := entry{class: missing, level: Error, subject: gapName(g), message: g.Reason + ": " + g.Message}
			if g.Name != "" {
				e.at = Object{APIVersion: g.Group, Kind: g.Kind, Namespace: g.Namespace, Name: g.Name}
			}
			if g.Constraint != "" {
				e.rule = ruleOf(g.Constraint)
			}
			if !yield(e) {
				return
			}
		}
	}
}

// ruleOf is the rule of a constraint as policy.Constraint writes it.
func ruleOf(constraint string) rule {
	kind, name, _ := strings.Cut(constraint, "/")
	return Constraint{Kind: kind, Name: name}.rule()
}

// gapName is the kind that was not seen, or the object.
func gapName(g v1alpha1.AuditGap) string {
	name := strings.TrimPrefix(strings.TrimSuffix(g.Kind+"."+g.Group, "."), ".")
	if g.Name == "" {
		return cmp.Or(name, "what the cluster serves")
	}
	return name + " " + strings.TrimPrefix(g.Namespace+"/"+g.Name, "/")
}

// suites are one, with a case for each constraint, which fails if it is violated
// and is in error if it was not audited in full, and one for each gap.
func (a Audit) suites() iter.Seq[junitSuite] {
	return one(junitSuite{name: "fusegate audit", cases: func(yield func(junitCase) bool) {
		for _, c := range a.Constraints {
			if !yield(c.junit()) {
				return
			}
		}
		for g := range a.gaps() {
			text := g.text(false)
			if !yield(junitCase{Name: g.subject, Class: "gaps", Error: &junitReason{Message: text, Type: "gap", Text: text}}) {
				return
			}
		}
		junitProblems(a.Problems)(yield)
	}})
}

func (c AuditedConstraint) junit() junitCase {
	out := junitCase{Name: c.Constraint.String(), Class: c.Constraint.Kind}
	var lines []string
	for _, v := range c.Violations {
		lines = append(lines, objectOf(v).String()+": "+v.Message)
	}
	lines = append(lines, c.unlisted()...)
	text := strings.Join(lines, "\n")
	switch {
	case !c.Complete && !c.Accepted:
		out.Error, out.Out = &junitReason{Message: c.why(), Type: c.Reason, Text: c.why()}, text
	case c.Total > 0:
		message := count(c.Total, "violation")
		out.Failure = &junitReason{Message: message, Type: string(c.Constraint.Strictest()), Text: text}
	case !c.Complete:
		out.Skipped = &struct{}{}
	default:
		out.Out = text
	}
	return out
}

// people writes the constraints, what violates them, and what was not seen.
func (a Audit) people(w io.Writer, wide bool, s Style) error {
	for _, t := range a.tables(wide) {
		empty := true
		for range t.rows {
			empty = false
			break
		}
		if empty {
			continue
		}
		if err := t.write(w, s); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, a.summary())
	return err
}

// summary says in a line what was found.
func (a Audit) summary() string {
	var objects, exempt int64
	for _, k := range a.Report.Kinds {
		objects += k.Objects
	}
	for _, c := range a.Constraints {
		exempt += c.Exempt
	}
	text := fmt.Sprintf("%d violations in %d objects of %d kinds by %d constraints", a.Violations(), objects, len(a.Report.Kinds), len(a.Constraints))
	if exempt > 0 {
		text += fmt.Sprintf("; %d more in exempt namespaces", exempt)
	}
	if !a.Complete {
		text += fmt.Sprintf("; incomplete: %d problems, %d gaps, %d constraints not auditable", len(a.Problems), len(a.Report.Gaps), len(a.Report.NotAuditable))
	}
	return text
}

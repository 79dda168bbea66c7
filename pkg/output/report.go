package output

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/fusegate/fusegate/pkg/policy"
)

// Object is one that was judged.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
	// File is where it was written, and Line the line that it starts at; empty
	// and 0 if that is not known, as of an object of a cluster.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// String is the object's kind, namespace and name.
func (o Object) String() string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// Constraint is one that was judged by.
type Constraint struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// String is the constraint's kind and name.
func (c Constraint) String() string { return c.Kind + "/" + c.Name }

func (c Constraint) rule() rule {
	return rule{id: c.String(), name: c.Kind, text: "Constraint " + c.String()}
}

// Finding is a violation, or a verdict that could not be had.
type Finding struct {
	Object     Object     `json:"object"`
	Constraint Constraint `json:"constraint"`
	// Action is the strictest that the constraint asks for.
	Action  policy.Action `json:"action"`
	Message string        `json:"message"`
	// Details are the policy's, decoded JSON; absent for a fault.
	Details any `json:"details,omitempty"`
	// Fault tells that the object could not be judged; Message says why.
	Fault bool `json:"-"`
}

// Report is what objects were found to violate.
type Report struct {
	// Version is that of Fusegate.
	Version string
	// Objects are those that were judged, in order.
	Objects []Object
	// Constraints is how many they were judged by.
	Constraints int
	// Findings are in the order of Objects; those of one object follow each
	// other.
	Findings []Finding
	Problems []Problem
}

// Violations are the findings that are none of a fault.
func (r Report) Violations() iter.Seq[Finding] { return r.findings(false) }

// Faults are the verdicts that could not be had.
func (r Report) Faults() iter.Seq[Finding] { return r.findings(true) }

func (r Report) findings(fault bool) iter.Seq[Finding] {
	return func(yield func(Finding) bool) {
		for _, f := range r.Findings {
			if f.Fault == fault && !yield(f) {
				return
			}
		}
	}
}

// DenyOnly is the report without the violations of constraints that do not deny.
func (r Report) DenyOnly() Report {
	r.Findings = slices.DeleteFunc(slices.Clone(r.Findings), func(f Finding) bool { return !f.Fault && f.Action != policy.Deny })
	return r
}

// Denied reports whether a constraint that denies was violated.
func (r Report) Denied() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return !f.Fault && f.Action == policy.Deny })
}

// Complete reports whether all could be run.
func (r Report) Complete() bool {
	return len(r.Problems) == 0 && !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Fault })
}

func (r Report) about() about { return about{version: r.Version, complete: r.Complete()} }

func (r Report) document() object {
	return object{
		{key: "objects", value: len(r.Objects)}, {key: "constraints", value: r.Constraints},
		{key: "violations", list: elements(r.Violations())}, {key: "faults", list: elements(r.Faults())},
		{key: "problems", list: elements(slices.Values(r.Problems))},
	}
}

func (r Report) entries() iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for _, f := range r.Findings {
			if !yield(f.entry()) {
				return
			}
		}
		for _, p := range r.Problems {
			if !yield(p.entry()) {
				return
			}
		}
	}
}

func (f Finding) entry() entry {
	e := entry{level: levelOf(f.Action), rule: f.Constraint.rule(), at: f.Object, subject: f.Object.String(), message: f.Message}
	if f.Fault {
		e.class, e.level = missing, Error
	}
	return e
}

// suites are one, with a case for each object, which fails if a constraint
// denies it; warnings are its output. What could not be run is a case in error.
func (r Report) suites() iter.Seq[junitSuite] {
	return one(junitSuite{name: "fusegate test", cases: func(yield func(junitCase) bool) {
		rest := r.Findings
		for i := 0; i < len(r.Objects) || len(rest) > 0; i++ {
			var o Object
			if i < len(r.Objects) {
				o = r.Objects[i]
			} else {
				o = rest[0].Object // which is of none, and told all the same
			}
			n := 0
			for n < len(rest) && rest[n].Object == o {
				n++
			}
			if !yield(o.junit(rest[:n])) {
				return
			}
			rest = rest[n:]
		}
		junitProblems(r.Problems)(yield)
	}})
}

func (o Object) junit(findings []Finding) junitCase {
	c := junitCase{Name: o.String(), Class: o.class(), File: o.File, Line: o.Line}
	var faults, denials, others []string
	for _, f := range findings {
		line := "[" + f.Constraint.String() + "] " + f.Message
		switch {
		case f.Fault:
			faults = append(faults, line)
		case f.Action == policy.Deny:
			denials = append(denials, line)
		default:
			others = append(others, string(f.Action)+": "+line)
		}
	}
	c.Error = o.reason("fault", faults)
	if c.Error == nil {
		c.Failure = o.reason("deny", denials)
	} else {
		others = append(denials, others...) // a case either fails or is in error
	}
	c.Out = strings.Join(others, "\n")
	return c
}

func (o Object) class() string {
	if o.File == "" {
		return o.APIVersion
	}
	return o.File
}

func (o Object) reason(kind string, lines []string) *junitReason {
	if len(lines) == 0 {
		return nil
	}
	return &junitReason{Message: lines[0], Type: kind, Text: Place(o.File, o.Line) + "\n" + strings.Join(lines, "\n")}
}

func (r Report) people(w io.Writer, wide bool, s Style) error {
	t := table{header: []string{"ACTION", "CONSTRAINT", "OBJECT", "AT", "MESSAGE"}, rows: func(yield func([]Cell) bool) {
		for _, f := range r.Findings {
			if !yield(f.row(wide)) {
				return
			}
		}
	}}
	if wide {
		t.header = []string{"ACTION", "CONSTRAINT", "APIVERSION", "OBJECT", "AT", "DETAILS", "MESSAGE"}
	}
	if len(r.Findings) > 0 {
		if err := t.write(w, s); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, r.Summary())
	return err
}

func (f Finding) row(wide bool) []Cell {
	action := Cell{Text: string(f.Action), Tone: toneOf(f.Action)}
	if f.Fault {
		action = Cell{Text: "fault", Tone: Bad}
	}
	at := Cell{Text: Place(f.Object.File, f.Object.Line), Tone: Quiet}
	constraint, object, message := Cell{Text: f.Constraint.String()}, Cell{Text: f.Object.String()}, Cell{Text: f.Message}
	if !wide {
		return []Cell{action, constraint, object, at, message}
	}
	details := ""
	if text, err := json.Marshal(f.Details); err == nil && f.Details != nil {
		details = string(text)
	}
	return []Cell{action, constraint, {Text: f.Object.APIVersion}, object, at, {Text: details}, message}
}

// Summary says in a line what was found.
func (r Report) Summary() string {
	violations, faults, byAction := 0, 0, map[policy.Action]int{}
	for _, f := range r.Findings {
		if f.Fault {
			faults++
			continue
		}
		violations++
		byAction[f.Action]++
	}
	text := fmt.Sprintf("%s in %s judged by %s", count(violations, "violation"), count(len(r.Objects), "object"), count(r.Constraints, "constraint"))
	var parts []string
	for _, action := range policy.Actions() {
		if n := byAction[action]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, action))
		}
	}
	if len(parts) > 0 {
		text += " (" + strings.Join(parts, ", ") + ")"
	}
	if faults > 0 {
		text += "; " + count(faults, "verdict") + " could not be had"
	}
	if n := len(r.Problems); n > 0 {
		text += "; incomplete: " + count(n, "problem")
	}
	return text
}

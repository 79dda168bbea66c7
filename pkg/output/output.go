// Package output writes what the offline commands have found in the formats that
// people and other programs read: tables, JSON, YAML, JUnit, SARIF and the
// workflow commands of GitHub. It holds values only and decides nothing.
package output

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Format is the name of a format.
type Format string

// The formats.
const (
	Table  Format = "table"
	Wide   Format = "wide"
	JSON   Format = "json"
	YAML   Format = "yaml"
	JUnit  Format = "junit"
	SARIF  Format = "sarif"
	GitHub Format = "github"
)

// Formats are all of them.
func Formats() []Format { return []Format{Table, Wide, JSON, YAML, JUnit, SARIF, GitHub} }

// ParseFormat returns the format of that name among those given. Empty is the
// first of them.
func ParseFormat(name string, among []Format) (Format, error) {
	if name == "" {
		return among[0], nil
	}
	if slices.Contains(among, Format(name)) {
		return Format(name), nil
	}
	names := make([]string, len(among))
	for i, f := range among {
		names[i] = string(f)
	}
	return "", fmt.Errorf("%q is no format of this command: use one of %s", name, strings.Join(names, ", "))
}

// Object is one that was judged.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
	// File is where it was written, and Line the line that it starts at; empty
	// and 0 if that is not known.
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

// Finding is a violation, or a verdict that could not be had.
type Finding struct {
	Object     Object     `json:"object"`
	Constraint Constraint `json:"constraint"`
	// Action is the strictest that the constraint asks for: deny, warn, dryrun.
	Action  string `json:"action"`
	Message string `json:"message"`
	// Details are the policy's, decoded JSON; absent for a fault.
	Details any `json:"details,omitempty"`
	// Fault tells that the object could not be judged; Message says why.
	Fault bool `json:"-"`
}

// Problem is something that could not be run.
type Problem struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Message string `json:"message"`
}

// String is the problem with its place before it.
func (p Problem) String() string {
	if p.File == "" {
		return p.Message
	}
	return place(p.File, p.Line) + ": " + p.Message
}

// Report is what a run has found.
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
func (r Report) Violations() []Finding { return r.filter(false) }

// Faults are the verdicts that could not be had.
func (r Report) Faults() []Finding { return r.filter(true) }

func (r Report) filter(fault bool) []Finding {
	out := []Finding{}
	for _, f := range r.Findings {
		if f.Fault == fault {
			out = append(out, f)
		}
	}
	return out
}

// DenyOnly is the report without the violations of constraints that do not deny.
func (r Report) DenyOnly() Report {
	r.Findings = slices.DeleteFunc(slices.Clone(r.Findings), func(f Finding) bool { return !f.Fault && f.Action != "deny" })
	return r
}

// Denied tells whether a constraint that denies was violated.
func (r Report) Denied() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return !f.Fault && f.Action == "deny" })
}

// Complete tells whether all could be run.
func (r Report) Complete() bool {
	return len(r.Problems) == 0 && !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Fault })
}

// Style is how a terminal is written to.
type Style struct {
	// Color asks for colours.
	Color bool
}

var errFormat = errors.New("unknown format")

// Write writes the report.
func (r Report) Write(w io.Writer, f Format, s Style) error {
	var err error
	switch f {
	case Table, Wide:
		err = r.table(w, f == Wide, s)
	case JSON, YAML:
		err = r.document(w, f)
	case JUnit:
		err = r.junit(w)
	case SARIF:
		err = r.sarif(w)
	case GitHub:
		err = r.github(w)
	default:
		err = errFormat
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", f, err)
	}
	return nil
}

package output

import (
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
)

// Lint is what is wrong with templates.
type Lint struct {
	// Version is that of Fusegate.
	Version string
	// Templates are those that were looked at.
	Templates []Object
	// Flaws are by file and line.
	Flaws []Flaw
	// Problems are what could not be read.
	Problems []Problem
}

// Flaw is what a rule has found, and where.
type Flaw struct {
	Rule     string `json:"rule"`
	Severity Level  `json:"severity"`
	// Template is the name of the template.
	Template string `json:"template"`
	File     string `json:"file"`
	Line     int    `json:"line,omitempty"`
	Message  string `json:"message"`
	// Fix says what to do; empty if the message does.
	Fix string `json:"fix,omitempty"`
	// About says what the rule finds and why that matters.
	About string `json:"-"`
}

// text is the message and what to do.
func (f Flaw) text() string {
	if f.Fix == "" {
		return f.Message
	}
	return f.Message + "; " + f.Fix
}

func (l Lint) about() about { return about{version: l.Version, complete: len(l.Problems) == 0} }

func (l Lint) document() object {
	return object{
		{key: "templates", value: len(l.Templates)}, {key: "findings", list: elements(slices.Values(l.Flaws))},
		{key: "problems", list: elements(slices.Values(l.Problems))},
	}
}

func (l Lint) people(w io.Writer, wide bool, s Style) error {
	t := table{[]string{"SEVERITY", "RULE", "AT", "MESSAGE"}, rowsOf(l.Flaws, func(f Flaw) []Cell {
		tone := Caution
		if f.Severity == Error {
			tone = Bad
		}
		row := []Cell{{Text: string(f.Severity), Tone: tone}, {Text: f.Rule}, {Text: Place(f.File, f.Line), Tone: Quiet}, {Text: f.text()}}
		if wide {
			row = slices.Insert(row, 2, Cell{Text: f.Template})
		}
		return row
	})}
	if wide {
		t.header = slices.Insert(t.header, 2, "TEMPLATE")
	}
	if len(l.Flaws) > 0 {
		if err := t.write(w, s); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s in %s\n", count(len(l.Flaws), "finding"), count(len(l.Templates), "template"))
	return err
}

func (l Lint) entries() iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for _, f := range l.Flaws {
			at := Object{APIVersion: "templates.gatekeeper.sh", Kind: "ConstraintTemplate", Name: f.Template, File: f.File, Line: f.Line}
			if !yield(entry{level: f.Severity, rule: rule{f.Rule, f.Rule, f.About}, at: at, message: f.text()}) {
				return
			}
		}
		for _, p := range l.Problems {
			if !yield(p.entry()) {
				return
			}
		}
	}
}

// suites are one, with a case for each template, which fails by anything that is
// wrong with it.
func (l Lint) suites() iter.Seq[junitSuite] {
	return one(junitSuite{name: "fusegate template lint", cases: func(yield func(junitCase) bool) {
		of := map[Object][]Flaw{}
		for _, f := range l.Flaws {
			key := Object{File: f.File, Name: f.Template}
			of[key] = append(of[key], f)
		}
		for _, t := range l.Templates {
			if !yield(t.linted(of[Object{File: t.File, Name: t.Name}])) {
				return
			}
		}
		junitProblems(l.Problems)(yield)
	}})
}

func (o Object) linted(flaws []Flaw) junitCase {
	c := junitCase{Name: o.String(), Class: o.class(), File: o.File, Line: o.Line}
	var lines []string
	for _, f := range flaws {
		lines = append(lines, Place(f.File, f.Line)+": "+string(f.Severity)+" "+f.Rule+": "+f.text())
	}
	if len(lines) > 0 {
		c.Failure = &junitReason{Message: lines[0], Type: flaws[0].Rule, Text: strings.Join(lines, "\n")}
	}
	return c
}

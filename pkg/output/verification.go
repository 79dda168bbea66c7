package output

import (
	"errors"
	"io"
	"iter"
	"slices"
	"time"
)

// Outcome is what a run of suites, or a part of it, came to.
type Outcome int

// The outcomes, from best to worst.
const (
	// Passed means that everything that was run is as the suites say.
	Passed Outcome = iota
	// Failed means that something is not.
	Failed
	// Broken means that something could not be run.
	Broken
)

// String is the outcome in JSON.
func (o Outcome) String() string { return [...]string{"pass", "fail", "error"}[o] }

// Mismatch is the error of what was run and came to something else than was
// asserted. Any other error is of what could not be run.
type Mismatch struct{ error }

// Mismatched makes a Mismatch of an error.
func Mismatched(err error) error { return Mismatch{err} }

// Unwrap returns the underlying error.
func (m Mismatch) Unwrap() error { return m.error }

// OutcomeOf is what an error of a test or case comes to: the worst of those that
// it joins.
func OutcomeOf(err error) Outcome {
	worst := Passed
	for _, p := range Problems(err) {
		if errors.As(p.Err, &Mismatch{}) {
			worst = max(worst, Failed)
			continue
		}
		worst = Broken
	}
	return worst
}

// Suite is the outcome of a suite of tests.
type Suite struct {
	// Path is the file that it is in.
	Name, Path string
	Skipped    bool
	// Elapsed is the time that its tests took, those run side by side added.
	Elapsed time.Duration
	Tests   []Test
}

// Test is the outcome of a test.
type Test struct {
	Name    string
	Line    int
	Skipped bool
	// Err is why its cases were not run or, for a test that expects something
	// invalid, why it failed. A Problem says where.
	Err     error
	Elapsed time.Duration
	Cases   []Case
}

// Case is the outcome of a case.
type Case struct {
	Name    string
	Line    int
	Skipped bool
	// Err is why it failed: a Problem, or several joined.
	Err     error
	Elapsed time.Duration
}

// Outcome of the suite is the worst of its tests.
func (s *Suite) Outcome() Outcome {
	worst := Passed
	for i := range s.Tests {
		worst = max(worst, s.Tests[i].Outcome())
	}
	return worst
}

// Outcome of the test is its own or the worst of its cases.
func (t *Test) Outcome() Outcome {
	worst := OutcomeOf(t.Err)
	for i := range t.Cases {
		worst = max(worst, t.Cases[i].Outcome())
	}
	return worst
}

// Outcome of the case.
func (c *Case) Outcome() Outcome { return OutcomeOf(c.Err) }

// Verification is a run of suites.
type Verification struct {
	// Version is that of Fusegate.
	Version string
	Suites  []*Suite
	Outcome Outcome
	// Problems are what kept suites from being run at all.
	Problems []Problem
	// Verbose has text name what passed and what was skipped, too.
	Verbose bool
}

func (v Verification) about() about {
	return about{version: v.Version, complete: v.Outcome != Broken, timed: true}
}

func (v Verification) people(w io.Writer, _ bool, _ Style) error {
	p := Printer{Out: w, Verbose: v.Verbose}
	for _, s := range v.Suites {
		if err := p.Suite(s); err != nil {
			return err
		}
	}
	return p.End(v.Outcome)
}

// record is a suite, test or case in JSON.
type record struct {
	Name    string    `json:"name"`
	Path    string    `json:"path,omitempty"`
	Line    int       `json:"line,omitempty"`
	Outcome string    `json:"outcome"`
	Seconds float64   `json:"seconds"`
	Errors  []Problem `json:"errors,omitempty"`
	Tests   []record  `json:"tests,omitempty"`
	Cases   []record  `json:"cases,omitempty"`
}

func (v Verification) document() object {
	o := object{{key: "outcome", value: v.Outcome.String()}, {key: "suites", list: func(yield func(any) bool) {
		for _, s := range v.Suites {
			if !yield(s.record()) {
				return
			}
		}
	}}}
	if len(v.Problems) > 0 {
		o = append(o, member{key: "problems", list: elements(slices.Values(v.Problems))})
	}
	return o
}

func outcomeWord(skipped bool, o Outcome) string {
	if skipped {
		return "skip"
	}
	return o.String()
}

func (s *Suite) record() record {
	out := record{Name: s.Name, Path: s.Path, Outcome: outcomeWord(s.Skipped, s.Outcome()), Seconds: s.Elapsed.Seconds()}
	for i := range s.Tests {
		t := &s.Tests[i]
		test := record{
			Name: t.Name, Line: t.Line, Outcome: outcomeWord(t.Skipped, t.Outcome()),
			Seconds: t.Elapsed.Seconds(), Errors: Problems(t.Err),
		}
		for j := range t.Cases {
			c := &t.Cases[j]
			test.Cases = append(test.Cases, record{
				Name: c.Name, Line: c.Line, Outcome: outcomeWord(c.Skipped, c.Outcome()),
				Seconds: c.Elapsed.Seconds(), Errors: Problems(c.Err),
			})
		}
		out.Tests = append(out.Tests, test)
	}
	return out
}

// failedRule is what suites that do not pass are found by.
var failedRule = rule{id: "verify", name: "verify", text: "A test of a policy does not pass"}

func (v Verification) entries() iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for _, s := range v.Suites {
			for e := range s.entries() {
				if !yield(e) {
					return
				}
			}
		}
		for _, p := range v.Problems {
			if !yield(p.entry()) {
				return
			}
		}
	}
}

func (s *Suite) entries() iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for _, t := range s.Tests {
			for e := range reasons(t.Name, t.Err) {
				if !yield(e) {
					return
				}
			}
			for _, c := range t.Cases {
				for e := range reasons(t.Name+"//"+c.Name, c.Err) {
					if !yield(e) {
						return
					}
				}
			}
		}
	}
}

// reasons are why a test or case did not pass.
func reasons(name string, err error) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for _, p := range Problems(err) {
			e := p.entry()
			e.rule, e.message = failedRule, name+": "+e.message
			if OutcomeOf(p) == Failed {
				e.class = found
			}
			if !yield(e) {
				return
			}
		}
	}
}

// suites are those of JUnit: one for each test, since a suite of Gatekeeper's is
// a file of them.
func (v Verification) suites() iter.Seq[junitSuite] {
	return func(yield func(junitSuite) bool) {
		for _, s := range v.Suites {
			for i := range s.Tests {
				if !yield(s.junitTest(&s.Tests[i])) {
					return
				}
			}
			if s.Skipped && !yield(junitSuite{name: s.Name, file: s.Path, cases: slices.Values([]junitCase{
				{Name: s.Name, Class: s.Path, File: s.Path, Skipped: &struct{}{}},
			})}) {
				return
			}
		}
		if len(v.Problems) > 0 {
			yield(junitSuite{name: "fusegate verify", cases: junitProblems(v.Problems)})
		}
	}
}

// junitTest has a case for the test itself where its cases were not run.
func (s *Suite) junitTest(t *Test) junitSuite {
	return junitSuite{name: t.Name, file: s.Path, cases: func(yield func(junitCase) bool) {
		if len(t.Cases) == 0 {
			yield(s.junitCase(t.Name, Case{t.Name, t.Line, t.Skipped, t.Err, t.Elapsed}))
			return
		}
		for _, c := range t.Cases {
			if !yield(s.junitCase(t.Name, c)) {
				return
			}
		}
	}}
}

func (s *Suite) junitCase(test string, c Case) junitCase {
	out := junitCase{Name: c.Name, Class: s.Name + "." + test, File: s.Path, Line: c.Line, elapsed: c.Elapsed}
	if c.Skipped {
		out.Skipped = &struct{}{}
	}
	switch c.Outcome() {
	case Failed:
		out.Failure = &junitReason{Message: Problems(c.Err)[0].Error(), Text: c.Err.Error()}
	case Broken:
		out.Error = &junitReason{Message: Problems(c.Err)[0].Error(), Text: c.Err.Error()}
	}
	return out
}

package suite

import (
	"encoding/xml"
	"fmt"
	"io"
	"time"
)

// junitWriter writes JUnit's XML as CI systems read it: a testsuite for each
// test, since a suite of Gatekeeper's is a file of them.
type junitWriter struct {
	out  io.Writer
	root junitSuites
}

type junitSuites struct {
	XMLName xml.Name `xml:"testsuites"`
	junitCounts
	Suites []junitSuite `xml:"testsuite"`
}

type junitCounts struct {
	Tests    int    `xml:"tests,attr"`
	Failures int    `xml:"failures,attr"`
	Errors   int    `xml:"errors,attr"`
	Skipped  int    `xml:"skipped,attr"`
	Time     string `xml:"time,attr"`
	elapsed  time.Duration
}

type junitSuite struct {
	Name string `xml:"name,attr"`
	File string `xml:"file,attr"`
	junitCounts
	Cases []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string       `xml:"name,attr"`
	Class   string       `xml:"classname,attr"`
	File    string       `xml:"file,attr"`
	Line    int          `xml:"line,attr,omitempty"`
	Time    string       `xml:"time,attr"`
	Skipped *struct{}    `xml:"skipped"`
	Failure *junitReason `xml:"failure"`
	Error   *junitReason `xml:"error"`
}

type junitReason struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func (w *junitWriter) Suite(r *Result) error {
	for i := range r.Tests {
		w.root.add(junitTest(r.Suite, &r.Tests[i]))
	}
	if r.Skipped {
		s := junitSuite{Name: r.Name, File: r.Path}
		s.add(junitCase{Name: r.Name, Class: r.Path, File: r.Path, Skipped: &struct{}{}}, 0)
		w.root.add(s)
	}
	return nil
}

func (w *junitWriter) End(Outcome) error {
	w.root.Time = junitTime(w.root.elapsed)
	if _, err := io.WriteString(w.out, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w.out)
	enc.Indent("", "  ")
	if err := enc.Encode(w.root); err != nil {
		return err
	}
	_, err := io.WriteString(w.out, "\n")
	return err
}

func (s *junitSuites) add(t junitSuite) {
	s.Tests += t.Tests
	s.Failures += t.Failures
	s.Errors += t.Errors
	s.Skipped += t.Skipped
	s.elapsed += t.elapsed
	t.Time = junitTime(t.elapsed)
	s.Suites = append(s.Suites, t)
}

// junitTest has a case for the test itself where its cases were not run.
func junitTest(s *Suite, r *TestResult) junitSuite {
	out := junitSuite{Name: r.Name, File: s.Path}
	if len(r.Cases) == 0 {
		out.add(junitCaseOf(s, r.Name, r.Name, r.Line, r.Skipped, r.Err), r.Elapsed)
		return out
	}
	for i := range r.Cases {
		c := &r.Cases[i]
		out.add(junitCaseOf(s, r.Name, c.Name, c.Line, c.Skipped, c.Err), c.Elapsed)
	}
	return out
}

func junitCaseOf(s *Suite, test, name string, line int, skipped bool, err error) junitCase {
	out := junitCase{Name: name, Class: s.Name + "." + test, File: s.Path, Line: line}
	if skipped {
		out.Skipped = &struct{}{}
	}
	switch outcomeOf(err) {
	case Failed:
		out.Failure = &junitReason{Message: first(err), Text: err.Error()}
	case Broken:
		out.Error = &junitReason{Message: first(err), Text: err.Error()}
	}
	return out
}

// first is the place and message of the first reason.
func first(err error) string {
	p := Places(err)[0]
	if p.File == "" {
		return p.Message
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Message)
}

func (s *junitSuite) add(c junitCase, elapsed time.Duration) {
	c.Time = junitTime(elapsed)
	s.Tests++
	s.elapsed += elapsed
	switch {
	case c.Skipped != nil:
		s.Skipped++
	case c.Failure != nil:
		s.Failures++
	case c.Error != nil:
		s.Errors++
	}
	s.Cases = append(s.Cases, c)
}

func junitTime(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }

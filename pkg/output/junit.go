package output

import (
	"cmp"
	"encoding/xml"
	"io"
	"strings"
)

// The elements of JUnit's XML that continuous integration reads; there is no
// standard, and this is what all understand.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name      string      `xml:"name,attr"`
		Classname string      `xml:"classname,attr"`
		File      string      `xml:"file,attr,omitempty"`
		Line      int         `xml:"line,attr,omitempty"`
		Time      string      `xml:"time,attr"`
		Errors    *junitFault `xml:"error"`
		Failures  *junitFault `xml:"failure"`
		Out       string      `xml:"system-out,omitempty"`
	}
	junitFault struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// junit writes a test case for each object, which fails if a constraint denies
// it; warnings are its output. What could not be run is a case in error.
func (r Report) junit(w io.Writer) error {
	suite := junitSuite{Name: "fusegate test", Time: "0"}
	byObject := map[Object][]Finding{}
	for _, f := range r.Findings {
		byObject[f.Object] = append(byObject[f.Object], f)
	}
	for _, o := range r.Objects {
		suite.add(caseOf(o, byObject[o]))
	}
	for _, p := range r.Problems {
		suite.add(junitCase{
			Name: cmp.Or(place(p.File, p.Line), "fusegate"), Classname: "problems", File: p.File, Line: p.Line, Time: "0",
			Errors: &junitFault{Message: p.Message, Type: "problem", Text: place(p.File, p.Line) + ": " + p.Message},
		})
	}
	out := junitSuites{Tests: suite.Tests, Failures: suite.Failures, Errors: suite.Errors, Suites: []junitSuite{suite}}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (s *junitSuite) add(c junitCase) {
	s.Cases = append(s.Cases, c)
	s.Tests++
	switch {
	case c.Errors != nil:
		s.Errors++
	case c.Failures != nil:
		s.Failures++
	}
}

func caseOf(o Object, findings []Finding) junitCase {
	c := junitCase{Name: o.String(), Classname: cmp.Or(o.File, o.APIVersion), File: o.File, Line: o.Line, Time: "0"}
	var faults, denials, others []string
	for _, f := range findings {
		line := "[" + f.Constraint.String() + "] " + f.Message
		switch {
		case f.Fault:
			faults = append(faults, line)
		case f.Action == "deny":
			denials = append(denials, line)
		default:
			others = append(others, f.Action+": "+line)
		}
	}
	c.Errors = junitFaultOf("fault", o, faults)
	if c.Errors == nil {
		c.Failures = junitFaultOf("deny", o, denials)
	} else {
		others = append(denials, others...) // a case either fails or is in error
	}
	c.Out = strings.Join(others, "\n")
	return c
}

func junitFaultOf(kind string, o Object, lines []string) *junitFault {
	if len(lines) == 0 {
		return nil
	}
	return &junitFault{Message: lines[0], Type: kind, Text: place(o.File, o.Line) + "\n" + strings.Join(lines, "\n")}
}

package output

import (
	"encoding/xml"
	"fmt"
	"io"
	"iter"
	"strconv"
	"time"
)

// junitSuite is a test suite of JUnit's XML. There is no standard; this is what
// all that read it understand.
type junitSuite struct {
	name, file string
	cases      iter.Seq[junitCase]
}

// junitCase is a test case. It is skipped, fails, is in error, or passes.
type junitCase struct {
	Name    string       `xml:"name,attr"`
	Class   string       `xml:"classname,attr"`
	File    string       `xml:"file,attr,omitempty"`
	Line    int          `xml:"line,attr,omitempty"`
	Time    string       `xml:"time,attr"`
	Skipped *struct{}    `xml:"skipped"`
	Failure *junitReason `xml:"failure"`
	Error   *junitReason `xml:"error"`
	Out     string       `xml:"system-out,omitempty"`
	elapsed time.Duration
}

type junitReason struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// junitCounts sum cases up.
type junitCounts struct {
	tests, failures, errors, skipped int
	elapsed                          time.Duration
}

func (n *junitCounts) add(c junitCase) {
	n.tests++
	n.elapsed += c.elapsed
	switch {
	case c.Skipped != nil:
		n.skipped++
	case c.Error != nil:
		n.errors++
	case c.Failure != nil:
		n.failures++
	}
}

func (s junitSuite) counts() (n junitCounts) {
	for c := range s.cases {
		n.add(c)
	}
	return n
}

// one is a sequence of a single suite.
func one(s junitSuite) iter.Seq[junitSuite] {
	return func(yield func(junitSuite) bool) { yield(s) }
}

// junitProblems are cases in error of what could not be run.
func junitProblems(problems []Problem) iter.Seq[junitCase] {
	return func(yield func(junitCase) bool) {
		for _, p := range problems {
			at := Place(p.File, p.Line)
			c := junitCase{
				Name: at, Class: "problems", File: p.File, Line: p.Line,
				Error: &junitReason{Message: p.Message(), Type: "problem", Text: at + ": " + p.Message()},
			}
			if at == "" {
				c.Name = "fusegate"
			}
			if !yield(c) {
				return
			}
		}
	}
}

// writeJUnit goes through the cases three times, since counts come before what
// they count.
func writeJUnit(w io.Writer, r Result) error {
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	j := junitWriter{Encoder: xml.NewEncoder(w), timed: r.about().timed}
	j.Indent("", "  ")
	if err := j.root(r); err != nil {
		return err
	}
	if err := j.Close(); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

type junitWriter struct {
	*xml.Encoder
	timed bool
}

func (j junitWriter) root(r Result) error {
	var all junitCounts
	for s := range r.suites() {
		for c := range s.cases {
			all.add(c)
		}
	}
	attributes := []string{"tests", strconv.Itoa(all.tests), "failures", strconv.Itoa(all.failures), "errors", strconv.Itoa(all.errors)}
	if j.timed {
		attributes = append(attributes, "skipped", strconv.Itoa(all.skipped), "time", j.time(all.elapsed))
	}
	return j.element("testsuites", attributes, func() error {
		for s := range r.suites() {
			if err := j.suite(s); err != nil {
				return err
			}
		}
		return nil
	})
}

func (j junitWriter) suite(s junitSuite) error {
	n := s.counts()
	attributes := []string{"name", s.name}
	if s.file != "" {
		attributes = append(attributes, "file", s.file)
	}
	attributes = append(attributes, "tests", strconv.Itoa(n.tests), "failures", strconv.Itoa(n.failures),
		"errors", strconv.Itoa(n.errors), "skipped", strconv.Itoa(n.skipped), "time", j.time(n.elapsed))
	return j.element("testsuite", attributes, func() error {
		for c := range s.cases {
			c.Time = j.time(c.elapsed)
			if err := j.EncodeElement(c, start("testcase")); err != nil {
				return err
			}
		}
		return nil
	})
}

// element writes one with attributes, given as names and values in turn.
func (j junitWriter) element(name string, attributes []string, content func() error) error {
	e := start(name)
	for i := 0; i < len(attributes); i += 2 {
		e.Attr = append(e.Attr, xml.Attr{Name: xml.Name{Local: attributes[i]}, Value: attributes[i+1]})
	}
	if err := j.EncodeToken(e); err != nil {
		return err
	}
	if err := content(); err != nil {
		return err
	}
	return j.EncodeToken(e.End())
}

func start(name string) xml.StartElement { return xml.StartElement{Name: xml.Name{Local: name}} }

func (j junitWriter) time(d time.Duration) string {
	if !j.timed {
		return "0"
	}
	return fmt.Sprintf("%.3f", d.Seconds())
}

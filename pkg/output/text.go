package output

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/fusegate/fusegate/pkg/printable"
)

// Printer writes outcomes as go test does.
type Printer struct {
	Out io.Writer
	// Verbose names what passed and what was skipped, too.
	Verbose bool
	err     error
}

// Suite writes the outcome of a suite as soon as it is known and returns the first error of Out.
func (p *Printer) Suite(r *Suite) error {
	for i := range r.Tests {
		p.test(&r.Tests[i])
	}
	switch {
	case r.Skipped:
		p.line("ok  \t%s\t[skipped]", r.Path)
	case r.Outcome() != Passed:
		p.line("FAIL\t%s\t%s", r.Path, seconds(r.Elapsed, 3))
	case !r.ran():
		p.line("ok  \t%s\t%s [no tests to run]", r.Path, seconds(r.Elapsed, 3))
	default:
		p.line("ok  \t%s\t%s", r.Path, seconds(r.Elapsed, 3))
	}
	return p.err
}

// End writes the line that sums up a run.
func (p *Printer) End(o Outcome) error {
	if o == Passed {
		p.line("PASS")
		return p.err
	}
	p.line("FAIL")
	return p.err
}

func (p *Printer) test(r *Test) {
	if p.Verbose {
		p.line("=== RUN   %s", r.Name)
	}
	failed := r.Outcome() != Passed
	if p.Verbose || failed {
		p.line("--- %s: %s (%s)", word(r.Skipped, failed), r.Name, seconds(r.Elapsed, 2))
	}
	p.reason("    ", r.Err)
	for i := range r.Cases {
		p.testCase(r, &r.Cases[i])
	}
}

func (p *Printer) testCase(t *Test, r *Case) {
	failed := r.Outcome() != Passed
	if p.Verbose || failed {
		p.line("    --- %s: %s//%s (%s)", word(r.Skipped, failed), t.Name, r.Name, seconds(r.Elapsed, 2))
	}
	p.reason("        ", r.Err)
}

func word(skipped, failed bool) string {
	switch {
	case skipped:
		return "SKIP"
	case failed:
		return "FAIL"
	}
	return "PASS"
}

func (p *Printer) reason(margin string, err error) {
	if err == nil {
		return
	}
	for line := range strings.Lines(err.Error()) {
		p.line("%s%s", margin, strings.TrimSuffix(line, "\n"))
	}
}

func (p *Printer) line(format string, args ...any) {
	if p.err == nil {
		// Messages quote objects, and columns are set by tabs.
		fields := strings.Split(fmt.Sprintf(format, args...), "\t")
		for i, f := range fields {
			fields[i] = printable.Line(f)
		}
		_, p.err = fmt.Fprintln(p.Out, strings.Join(fields, "\t"))
	}
}

func seconds(d time.Duration, digits int) string {
	return fmt.Sprintf("%.*fs", digits, d.Seconds())
}

// ran reports whether any case of the suite, or a test without cases, was run.
func (s *Suite) ran() bool {
	for i := range s.Tests {
		if !s.Tests[i].Skipped {
			return true
		}
	}
	return false
}

// SuiteWriter writes the outcome of a run: each suite as it is through, then the
// end, with what kept others from being run.
type SuiteWriter interface {
	Suite(*Suite) error
	End(o Outcome, unread error) error
}

// NewSuiteWriter returns a SuiteWriter of a format. Text is written suite by suite,
// and heeds verbose; the others are one document, tell all, and are written at
// the end. version is that of Fusegate.
func NewSuiteWriter(w io.Writer, f Format, verbose bool, version string) SuiteWriter {
	if f == Text {
		return &textWriter{Printer{Out: w, Verbose: verbose}}
	}
	return &collector{w: w, format: f, run: Verification{Version: version}}
}

type textWriter struct{ Printer }

func (t *textWriter) End(o Outcome, _ error) error { return t.Printer.End(o) }

type collector struct {
	w      io.Writer
	format Format
	run    Verification
}

func (c *collector) Suite(s *Suite) error {
	c.run.Suites = append(c.run.Suites, s)
	return nil
}

func (c *collector) End(o Outcome, unread error) error {
	c.run.Outcome, c.run.Problems = o, Problems(unread)
	return Write(c.w, c.run, c.format, Style{})
}

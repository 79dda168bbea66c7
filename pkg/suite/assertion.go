package suite

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Assertion says how many violations have a message like this.
type Assertion struct {
	// Line is where the assertion begins in the suite's file.
	Line int
	// Message matches some part of the messages that count; all count if it is
	// nil.
	Message *regexp.Regexp
	// AtLeast and AtMost bound how many there are: 1 and Unlimited for yes, 0
	// and 0 for no.
	AtLeast, AtMost int
}

// Unlimited is AtMost where there is no bound.
const Unlimited = math.MaxInt

var errViolations = errors.New(`want yes, no, or a number that is not negative`)

// want reads the field violations: yes (or true), no (or false) or a number,
// quoted or not.
func (a *Assertion) want(n *yaml.Node) error {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("got %s: %w", describe(n), errViolations)
	}
	switch strings.ToLower(n.Value) {
	case "yes", "true":
		return nil
	case "no", "false":
		a.AtLeast, a.AtMost = 0, 0
		return nil
	}
	count, err := strconv.ParseInt(n.Value, 10, 32)
	if err != nil || count < 0 {
		return fmt.Errorf("got %q: %w", n.Value, errViolations)
	}
	a.AtLeast, a.AtMost = int(count), int(count)
	return nil
}

// match reads the field message, a regular expression that may match anywhere.
func (a *Assertion) match(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("want a regular expression, got %s", describe(n))
	}
	if isNull(n) || n.Value == "" {
		return nil
	}
	expression, err := regexp.Compile(n.Value)
	a.Message = expression
	return err
}

// check compares what was found with the assertion.
func (a *Assertion) check(f findings) error {
	got := f.count(a.Message)
	if got >= a.AtLeast && got <= a.AtMost {
		return nil
	}
	return fmt.Errorf("got %s, want %s%s", violations(got, a.Message), a.wanted(), f.list())
}

func violations(n int, message *regexp.Regexp) string {
	what := strconv.Itoa(n) + " violations"
	if n == 1 {
		what = "1 violation"
	}
	if message != nil {
		what += fmt.Sprintf(" matching %q", message)
	}
	return what
}

func (a *Assertion) wanted() string {
	switch a.AtMost {
	case Unlimited:
		return "at least " + strconv.Itoa(a.AtLeast)
	case 0:
		return "none"
	}
	return strconv.Itoa(a.AtLeast)
}

// findings are what the constraint had to say about a case's object.
type findings struct {
	violations []string
	// faults are the reasons for which the policy came to no verdict.
	faults []string
}

// count is how many violations match; a fault counts only where a message asks
// for its text.
func (f findings) count(message *regexp.Regexp) int {
	if message == nil {
		return len(f.violations)
	}
	n := 0
	for _, v := range f.violations {
		if message.MatchString(v) {
			n++
		}
	}
	for _, v := range f.faults {
		if message.MatchString(v) {
			n++
		}
	}
	return n
}

// list is all that was found, each on a line of its own.
func (f findings) list() string {
	var b strings.Builder
	for _, v := range f.violations {
		b.WriteString("\n  violation: " + indent(v))
	}
	for _, v := range f.faults {
		b.WriteString("\n  fault: " + indent(v))
	}
	return b.String()
}

// indent keeps the lines of a message below each other.
func indent(text string) string { return strings.ReplaceAll(text, "\n", "\n    ") }

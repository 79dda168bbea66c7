package suite

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Filter selects tests and cases by name. Its zero value, like nil, selects all.
type Filter struct {
	test, testCase *regexp.Regexp
	// either selects what one of the two matches, as opposed to both.
	either bool
}

// NewFilter compiles a selection as gator verify's --run has it: "tests//cases"
// selects the cases that the second regular expression matches, in tests that
// the first matches; an expression without // selects the cases that it matches
// and all cases of tests that it matches. Matches need not be of the whole name.
func NewFilter(expression string) (*Filter, error) {
	parts := strings.Split(expression, "//")
	if len(parts) > 2 {
		return nil, errors.New(`at most one "//" may be in it, between the tests' and the cases' expression`)
	}
	test, err := regexp.Compile(parts[0])
	if err != nil {
		return nil, fmt.Errorf("compiling the tests' expression: %w", err)
	}
	if len(parts) == 1 {
		return &Filter{test: test, testCase: test, either: true}, nil
	}
	testCase, err := regexp.Compile(parts[1])
	if err != nil {
		return nil, fmt.Errorf("compiling the cases' expression: %w", err)
	}
	return &Filter{test: test, testCase: testCase}, nil
}

// Test tells whether t is run: whether any of its cases may be.
func (f *Filter) Test(t *Test) bool {
	if f == nil || f.test == nil || f.test.MatchString(t.Name) {
		return true
	}
	if !f.either {
		return false
	}
	for i := range t.Cases {
		if f.testCase.MatchString(t.Cases[i].Name) {
			return true
		}
	}
	return false
}

// Case tells whether c of t is run.
func (f *Filter) Case(t *Test, c *Case) bool {
	if f == nil || f.test == nil {
		return true
	}
	test, testCase := f.test.MatchString(t.Name), f.testCase.MatchString(c.Name)
	if f.either {
		return test || testCase
	}
	return test && testCase
}

package suite

import (
	"errors"
	"fmt"
)

// Problem is why a suite, a test or a case did not pass, and where.
type Problem struct {
	// File and Line are the place to look at; Line is 0 if the file as a whole
	// is meant.
	File string
	Line int
	// Broken tells that it could not be run, as opposed to having been run with
	// another outcome than it says.
	Broken bool
	Err    error
}

// Error is the problem on a line, or several, as in "suite.yaml:12: ...".
func (p *Problem) Error() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %v", p.File, p.Err)
	}
	return fmt.Sprintf("%s:%d: %v", p.File, p.Line, p.Err)
}

// Unwrap returns the underlying error.
func (p *Problem) Unwrap() error { return p.Err }

// broken tells whether err, or any error that it joins, could not be run. An
// error that is no Problem counts as such.
func broken(err error) bool {
	if err == nil {
		return false
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			if broken(e) {
				return true
			}
		}
		return false
	}
	var p *Problem
	return !errors.As(err, &p) || p.Broken
}

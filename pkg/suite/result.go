package suite

import "time"

// Result is the outcome of a suite.
type Result struct {
	*Suite
	Skipped bool
	// Elapsed is the time that its tests took, those run side by side added.
	Elapsed time.Duration
	Tests   []TestResult
}

// TestResult is the outcome of a test.
type TestResult struct {
	*Test
	Skipped bool
	// Err is why its cases were not run or, for a test that expects something
	// invalid, why it failed. A *Problem says where.
	Err     error
	Elapsed time.Duration
	Cases   []CaseResult
}

// CaseResult is the outcome of a case.
type CaseResult struct {
	*Case
	Skipped bool
	// Err is why it failed: a *Problem, or several joined.
	Err     error
	Elapsed time.Duration
}

// Outcome tells what a run of suites came to.
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

func outcomeOf(err error) Outcome {
	switch {
	case err == nil:
		return Passed
	case broken(err):
		return Broken
	}
	return Failed
}

// Outcome of the suite is the worst of its tests.
func (r *Result) Outcome() Outcome {
	worst := Passed
	for i := range r.Tests {
		worst = max(worst, r.Tests[i].Outcome())
	}
	return worst
}

// Outcome of the test is its own or the worst of its cases.
func (r *TestResult) Outcome() Outcome {
	worst := outcomeOf(r.Err)
	for i := range r.Cases {
		worst = max(worst, r.Cases[i].Outcome())
	}
	return worst
}

// Outcome of the case.
func (r *CaseResult) Outcome() Outcome { return outcomeOf(r.Err) }

// ran tells whether any case of the suite, or a test without cases, was run.
func (r *Result) ran() bool {
	for i := range r.Tests {
		if !r.Tests[i].Skipped {
			return true
		}
	}
	return false
}

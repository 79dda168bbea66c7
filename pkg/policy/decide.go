package policy

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNothingJudged is wrapped by the error of a Decision that had constraints
// to judge by and came to no verdict on any of them.
var ErrNothingJudged = errors.New("no constraint could be judged")

// Decision is what an admission request is answered with.
type Decision struct {
	Allowed bool
	// Message is the text of a denial: a line for each violation, or as many as its
	// message has. Neither it nor Warnings are printable yet: they quote objects.
	Message string
	// Warnings are shown to the user whether or not the request is allowed.
	Warnings []string
	// Err is set when the request cannot be decided. The caller must then
	// fail as a server (HTTP 5xx), so that the API server applies the
	// webhook's failurePolicy, and must not send the other fields.
	Err error
}

// Decide turns what the engine found into the answer of an admission request.
// It is a pure function of r, which must be sorted.
//
// Violations of constraints whose action is deny deny the request, those
// whose action is warn become warnings, all others have no effect here.
//
// A fault that the input caused denies the request if its constraint's action
// is deny and its OnFault is not OnFaultAllow: a crafted object must not buy
// its way past a policy by breaking it. Any other fault never denies and is a
// warning instead; if nothing at all could be judged because of such faults,
// the decision is an error, except for constraints that are known not to be
// enforced until their inventory is complete: their status says so.
func Decide(r Result) Decision {
	var denials, warnings []string
	for _, v := range r.Violations {
		line := Line(v.Constraint, v.Message)
		if v.Constraint.Has(Deny) {
			denials = append(denials, line)
		}
		if v.Constraint.Has(Warn) {
			warnings = append(warnings, line)
		}
	}
	var undecided []error
	for _, f := range r.Faults {
		switch {
		case f.silent():
		case f.denies():
			denials = append(denials, Line(f.Constraint, fmt.Sprintf("the policy failed on this object: %v", f.Err)))
		case f.Cause == CauseInput:
			warnings = append(warnings, Line(f.Constraint, fmt.Sprintf("not judged, the policy failed on this object: %v", f.Err)))
		case f.Cause == CauseInventory:
			warnings = append(warnings, Line(f.Constraint, fmt.Sprintf("not judged, the policy is not enforced: %v", f.Err)))
		default:
			undecided = append(undecided, f)
			warnings = append(warnings, Line(f.Constraint, fmt.Sprintf("not judged: %v", f.Err)))
		}
	}
	if len(denials) == 0 && r.Evaluated == 0 && len(undecided) > 0 {
		return Decision{Err: fmt.Errorf("%w: %w", ErrNothingJudged, errors.Join(undecided...))}
	}
	return Decision{
		Allowed:  len(denials) == 0,
		Message:  strings.Join(denials, "\n"),
		Warnings: warnings,
	}
}

// silent tells whether the fault concerns a constraint that would have had no
// effect on the request whatever it found. A fault of the review as a whole
// names no constraint and is never silent.
func (f Fault) silent() bool {
	return f.Constraint.Name != "" && !f.Constraint.Has(Deny) && !f.Constraint.Has(Warn)
}

func (f Fault) denies() bool {
	return f.Cause == CauseInput && f.Constraint.Has(Deny) && f.Constraint.OnFault != OnFaultAllow
}

// Line is a finding as users see it: the constraint's name in brackets and
// the message, or the message alone if it concerns no single constraint.
func Line(c Constraint, message string) string {
	if c.Name == "" {
		return message
	}
	return "[" + c.Name + "] " + message
}

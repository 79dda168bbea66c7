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
	// Message is the text of a denial, printable and of MaxAnswerText bytes at
	// most: a line for each violation, or as many as its message has, and what
	// there is no room for is counted.
	Message string
	// Warnings are shown to the user whether or not the request is allowed. They
	// are printable and bounded, too.
	Warnings []string
	// CutOff are the constraints that were not judged to the end, since it was
	// known by then that the request is denied.
	CutOff []Constraint
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
	var denials, warnings statements
	for _, v := range r.Violations {
		if v.Constraint.Has(Deny) {
			denials.add(v.Constraint, "", v.Message)
		}
		if v.Constraint.Has(Warn) {
			warnings.add(v.Constraint, "", v.Message)
		}
	}
	for _, m := range r.More {
		if m.Constraint.Has(Deny) {
			denials.more = append(denials.more, m)
		}
		if m.Constraint.Has(Warn) {
			warnings.more = append(warnings.more, m)
		}
	}
	undecided := decideFaults(r.Faults, &denials, &warnings)
	denied := len(denials.list) > 0 || len(denials.more) > 0
	if !denied && r.Evaluated == 0 && len(undecided) > 0 {
		return Decision{Err: fmt.Errorf("%w: %w", ErrNothingJudged, errors.Join(undecided[:min(len(undecided), maxUndecided)]...))}
	}
	return Decision{
		Allowed:  !denied,
		Message:  strings.Join(denials.lines(denialBounds), "\n"),
		Warnings: warnings.lines(warningBounds),
		CutOff:   r.CutOff,
	}
}

// maxUndecided is how many faults an error names.
const maxUndecided = 8

// decideFaults says what comes of faults, and returns those that leave a
// constraint undecided.
func decideFaults(faults []Fault, denials, warnings *statements) (undecided []error) {
	for _, f := range faults {
		switch {
		case f.silent():
		case f.Denies():
			denials.add(f.Constraint, "the policy failed on this object: ", fmt.Sprint(f.Err))
		case f.Cause == CauseInput, f.Cause == CausePolicy:
			warnings.add(f.Constraint, "not judged, the policy failed on this object: ", fmt.Sprint(f.Err))
		case f.Cause == CauseInventory:
			warnings.add(f.Constraint, "not judged, the policy is not enforced: ", fmt.Sprint(f.Err))
		default:
			undecided = append(undecided, f)
			warnings.add(f.Constraint, "not judged: ", fmt.Sprint(f.Err))
		}
	}
	return undecided
}

// silent tells whether the fault concerns a constraint that would have had no
// effect on the request whatever it found. A fault of the review as a whole
// names no constraint and is never silent.
func (f Fault) silent() bool {
	return f.Constraint.Name != "" && !f.Constraint.Has(Deny) && !f.Constraint.Has(Warn)
}

// Denies tells whether the fault denies a request.
func (f Fault) Denies() bool {
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

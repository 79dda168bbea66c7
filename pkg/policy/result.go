package policy

import (
	"cmp"
	"fmt"
	"slices"
)

// Constraint identifies a constraint and what it asks for at the enforcement
// point of a review.
type Constraint struct {
	Group, Version, Kind, Name string
	// Action is spec.enforcementAction, deny when unset.
	Action Action
	// ScopedActions are the actions that a constraint with the action Scoped
	// asks for at the review's enforcement point, sorted.
	ScopedActions []Action
	// OnFault is what a fault that the input caused does to the request.
	OnFault OnFault
}

// String is the constraint's kind and name, as in K8sRequiredLabels/owner.
func (c Constraint) String() string { return c.Kind + "/" + c.Name }

// OnFault is the value of the annotation fusegate.dev/on-fault.
type OnFault string

// The values of OnFault. The empty value means OnFaultDeny.
const (
	OnFaultDeny  OnFault = "deny"
	OnFaultAllow OnFault = "allow"
)

// Violation is one finding of one constraint about the reviewed object.
type Violation struct {
	Constraint Constraint
	Message    string
	// Details is what the template's rule gave as details, decoded JSON.
	Details any
}

// FaultCause says whose doing a fault is. It decides what the fault means for
// the request.
type FaultCause string

const (
	// CauseInput is a run-time error of the policy that the reviewed object
	// brought about, such as a type error or conflicting rule outputs.
	CauseInput FaultCause = "Input"
	// CausePolicy is a policy that takes more than it is granted, and the object
	// is not to blame: it is small, is to be deleted, or was no better before.
	CausePolicy FaultCause = "Policy"
	// CauseTimeout is an evaluation cut off by its deadline.
	CauseTimeout FaultCause = "Timeout"
	// CauseMatch is a constraint that could not be matched, as when the
	// object's namespace is not known.
	CauseMatch FaultCause = "Match"
	// CauseInventory is a policy that is not judged by yet, since the objects
	// that it reads beside the reviewed one are not all known.
	CauseInventory FaultCause = "Inventory"
	// CauseInternal is an error of Fusegate's own.
	CauseInternal FaultCause = "Internal"
)

// Fault is a constraint that could not be judged for the reviewed object. It
// is not a verdict: other constraints are judged all the same.
type Fault struct {
	Constraint Constraint
	Cause      FaultCause
	// Err is for whoever sent the object: it may quote values of it.
	Err error
	// Brief is Err as far as it may be logged and shown to others: it holds
	// nothing of the object. Empty if Err does not either.
	Brief string
}

// Summary is what may be logged of the fault.
func (f Fault) Summary() string {
	if f.Brief != "" || f.Err == nil {
		return f.Brief
	}
	return f.Err.Error()
}

// Error makes a Fault usable as an error that names its constraint, if any.
func (f Fault) Error() string {
	if f.Constraint.Name == "" {
		return f.Err.Error()
	}
	return fmt.Sprintf("constraint %s: %v", f.Constraint, f.Err)
}

// Unwrap returns the underlying error.
func (f Fault) Unwrap() error { return f.Err }

// More is how many violations of a constraint there are that a Result does not
// hold.
type More struct {
	Constraint Constraint
	Count      int
	// AtLeast is set when there may be yet more, since the constraint was cut
	// off.
	AtLeast bool
}

// Cost is how much of its budget a constraint used on the reviewed object.
type Cost struct {
	Constraint Constraint
	// Percent is over 50, and 1000 at most. Over 100 the constraint could not be
	// judged, or could not by a budget that is announced.
	Percent int
}

// Result is what the engine found about one review.
type Result struct {
	// Violations are all, or of a bounded review those that are shown; More
	// counts the others.
	Violations []Violation
	More       []More
	Faults     []Fault
	// CutOff are the constraints that were not judged, or not to the end, since
	// a denial was known and the review has an AnswerBy.
	CutOff []Constraint
	// Costs are of the constraints that used over half of their budget.
	Costs []Cost
	// Evaluated counts the constraints that matched and came to a verdict.
	Evaluated int
}

// Sort orders violations and faults the way Gatekeeper orders its answers: by
// action, then by message. Ties are broken by constraint; findings that differ
// in their details only stay in the order in which the policy gave them.
func (r *Result) Sort() {
	slices.SortStableFunc(r.Violations, func(a, b Violation) int {
		return cmp.Or(
			cmp.Compare(a.Constraint.Action, b.Constraint.Action),
			cmp.Compare(a.Message, b.Message),
			compareConstraints(a.Constraint, b.Constraint))
	})
	slices.SortStableFunc(r.Faults, func(a, b Fault) int {
		return compareConstraints(a.Constraint, b.Constraint)
	})
	slices.SortStableFunc(r.More, func(a, b More) int { return compareConstraints(a.Constraint, b.Constraint) })
	slices.SortStableFunc(r.CutOff, compareConstraints)
}

func compareConstraints(a, b Constraint) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

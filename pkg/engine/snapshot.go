package engine

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

// everyPoint are the names under which a review comes through all doors.
var everyPoint = []policy.EnforcementPoint{"", "*"}

// served tells whether reviews may come through a point.
func served(point policy.EnforcementPoint) bool {
	return slices.Contains(everyPoint, point) || slices.Contains(policy.EnforcementPoints(), string(point))
}

// place is a point's place in entry.at.
func place(point policy.EnforcementPoint) int {
	for i, p := range policy.EnforcementPoints() {
		if string(point) == p {
			return i
		}
	}
	return len(policy.EnforcementPoints()) // every point
}

// entry is a constraint, ready to judge. It is immutable once it is in a
// snapshot.
type entry struct {
	kind, name string
	canary     bool // it is the built-in one
	uid        types.UID
	generation int64
	match      *match.Matcher
	program    *rego.Program
	parameters *rego.Parameters
	timer      func(time.Duration) // of its template; nil if nobody asks
	operations []policy.Operation
	reads      Reads
	// spec is a digest.
	spec [sha256.Size]byte
	// kinds are those, of whatever group, that it matches, sorted; nil if they
	// cannot be listed.
	kinds []string
	// withheld is why it is not judged by; nil if it is.
	withheld error
	// stale says what it is judged by that is not followed any more.
	stale string
	// revision is the registry's as of when a verdict may last have changed.
	revision uint64
	// data is the registry's revision as of when what it reads in
	// data.inventory may last have changed.
	data uint64
	// at says what the constraint asks for, by the place of the review's point.
	at []policy.Constraint
}

// on says what the constraint asks for at a point.
func (x *entry) on(point policy.EnforcementPoint) policy.Constraint { return x.at[place(point)] }

// newEntry compiles what c says. Program and operations are the caller's to add.
func newEntry(c *unstructured.Unstructured) (*entry, error) {
	m, err := compileMatch(c)
	if err != nil {
		return nil, err
	}
	x := &entry{
		kind: c.GetKind(), name: c.GetName(), canary: c.GetKind() == canaryPolicy, uid: c.GetUID(), generation: c.GetGeneration(),
		match: m, kinds: kindsOf(m),
	}
	if x.parameters, err = rego.NewParameters(c); err != nil {
		return nil, err
	}
	spec, err := json.Marshal(c.Object["spec"])
	if err != nil {
		return nil, fmt.Errorf("reading the spec of constraint %s: %w", c.GetName(), err)
	}
	x.spec = sha256.Sum256(spec)
	for _, point := range policy.EnforcementPoints() {
		x.at = append(x.at, describe(c, policy.EnforcementPoint(point)))
	}
	x.at = append(x.at, describe(c, ""))
	return x, nil
}

// applies tells whether the constraint has a say at this point and in this
// operation. Only requests have operations that a template can narrow.
func (x *entry) applies(r *policy.Review, place int, canary bool) bool {
	if canary != x.canary {
		return false // as all of Fusegate's own kinds are outside policy
	}
	c := &x.at[place]
	if c.Action == policy.Scoped && len(c.ScopedActions) == 0 {
		return false
	}
	return r.Point != policy.PointWebhook || len(x.operations) == 0 ||
		slices.Contains(x.operations, r.Operation) || slices.Contains(x.operations, "*")
}

// review is one review on its way through the constraints.
type review struct {
	*policy.Review
	place  int // of its point
	canary bool
	data   *rego.Data
	input  *rego.Input
	result policy.Result
	// steps are what the constraints took that deny and read no other objects.
	steps int
	// keeps is set when the findings are to be kept for a check.
	keeps  bool
	judged []judged
}

// unmatched is why a match block cannot be compared, without the name of the
// namespace: whoever reaches the webhook's port can make it up, and it would come
// into a status.
const unmatched = "spec.match.namespaceSelector: the namespace of the object is not known, so its labels cannot be compared"

// usualViolations is how many violations there is room for at first.
const usualViolations = 8

// judge is how reviews are judged: by what the template was compiled to.
func judge(ctx context.Context, v *review, x *entry) (rego.Findings, *rego.Failure) {
	return x.program.Judge(ctx, v.data, v.input, x.parameters)
}

// passes is how often the constraints are gone through: where time may run out,
// those that deny come first, so that others do not use it up.
func (v *review) passes() int {
	if v.AnswerBy.IsZero() {
		return 1
	}
	return 2
}

// turn is the pass in which a constraint is judged.
func (v *review) turn(x *entry) int {
	if v.AnswerBy.IsZero() || x.at[v.place].Has(policy.Deny) {
		return 0
	}
	return 1
}

func (v *review) judge(share *budget, x *entry, how evaluator) {
	if !x.applies(v.Review, v.place, v.canary) {
		return
	}
	c := &x.at[v.place]
	matches, err := x.match.Match(v.Review)
	if err != nil {
		v.result.Faults = append(v.result.Faults, policy.Fault{Constraint: *c, Cause: policy.CauseMatch, Err: err, Brief: unmatched})
	}
	if !matches || err != nil {
		return
	}
	if x.withheld != nil {
		v.result.Faults = append(v.result.Faults, policy.Fault{Constraint: *c, Cause: policy.CauseInventory, Err: x.withheld})
		return
	}
	start := time.Now()
	if share.settled(start) {
		v.cutOff(c)
		return
	}
	share.review, share.match = v.Review, x.match
	share.begin(start, c.Has(policy.Deny))
	found, failure := how(share, v, x)
	share.end()
	if x.timer != nil {
		x.timer(time.Since(start))
	}
	if share.denies && len(x.program.Inventory()) == 0 {
		v.steps += found.Steps
	}
	if found.Used > 0 {
		v.result.Costs = append(v.result.Costs, policy.Cost{Constraint: *c, Percent: found.Used})
	}
	if failure != nil {
		v.fail(share, c, found, failure)
		return
	}
	v.result.Evaluated++
	if v.keeps {
		v.judged = append(v.judged, judged{entry: x, constraint: *c, found: found})
	}
	share.denied = share.denied || found.Len() > 0 && share.denies
	if found.More > 0 {
		v.result.More = append(v.result.More, policy.More{Constraint: *c, Count: found.More})
	}
	v.violates(c, found.Kept)
}

func (v *review) violates(c *policy.Constraint, found []rego.Finding) {
	if len(found) > 0 && v.result.Violations == nil {
		v.result.Violations = make([]policy.Violation, 0, usualViolations)
	}
	for _, f := range found {
		v.result.Violations = append(v.result.Violations, policy.Violation{Constraint: *c, Message: f.Message, Details: f.Details})
	}
}

// fail takes down an evaluation that did not come to its end. What a deny
// constraint had found by then denies a request all the same: a fault is not to
// hide a violation. Time that ran out is then no fault, since the verdict would
// be the same.
func (v *review) fail(share *budget, c *policy.Constraint, found rego.Findings, failure *rego.Failure) {
	late := failure.Cause == policy.CauseTimeout
	if found.Len() > 0 && share.answers() && share.denies {
		v.result.Evaluated++
		v.result.More = append(v.result.More, policy.More{Constraint: *c, Count: found.More, AtLeast: true})
		v.violates(c, found.Kept)
		share.denied = true
		if late {
			v.cutOff(c)
			return
		}
	}
	if late && share.answers() && share.denied {
		v.cutOff(c)
		return
	}
	f := policy.Fault{Constraint: *c, Cause: failure.Cause, Err: failure.Err, Brief: failure.Brief}
	v.result.Faults = append(v.result.Faults, f)
	share.denied = share.denied || f.Denies()
}

// blame finds out whether a request ran out of time by its own object, which many
// policies can take long for though none comes to its limits. Were that let in, there
// would be a way past the policies that were left. What load of others or other objects
// take is not its doing.
func (v *review) blame() {
	if v.AnswerBy.IsZero() || v.steps < rego.TogetherSteps() {
		return
	}
	for i := range v.result.Faults {
		f := &v.result.Faults[i]
		if f.Cause != policy.CauseTimeout || !f.Constraint.Has(policy.Deny) || !rego.ToBlame(v.Review) {
			continue
		}
		f.Cause, f.Brief = policy.CauseInput, ""
		f.Err = fmt.Errorf("no time is left to judge this object: the policies have taken %d steps on it, and %d are granted to them together", v.steps, rego.TogetherSteps())
	}
}

// cutOff takes down a constraint that is not judged, or not to the end, since a
// denial is known. One that has no say in the answer is not missed.
func (v *review) cutOff(c *policy.Constraint) {
	if c.ActsOnRequests() {
		v.result.CutOff = append(v.result.CutOff, *c)
	}
}

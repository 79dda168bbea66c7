package engine

import (
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

// entry is a constraint, ready to judge. It is immutable once it is in a
// snapshot.
type entry struct {
	kind, name string
	uid        types.UID
	generation int64
	match      *match.Matcher
	program    *rego.Program
	parameters *rego.Parameters
	operations []policy.Operation
	reads      Reads
	spec       any
	// withheld is why it is not judged by; nil if it is.
	withheld error
	// revision is the registry's as of when a verdict may last have changed.
	revision uint64
	// data is the registry's revision as of when what it reads in
	// data.inventory may last have changed.
	data uint64
	// at says what the constraint asks for, by the review's point.
	at map[policy.EnforcementPoint]policy.Constraint
}

// newEntry compiles what c says. Program, parameters and operations are the
// caller's to add.
func newEntry(c *unstructured.Unstructured) (*entry, error) {
	m, err := compileMatch(c)
	if err != nil {
		return nil, err
	}
	x := &entry{
		kind: c.GetKind(), name: c.GetName(), uid: c.GetUID(), generation: c.GetGeneration(),
		match: m, spec: c.DeepCopy().Object["spec"], at: map[policy.EnforcementPoint]policy.Constraint{},
	}
	for _, point := range policy.EnforcementPoints() {
		x.at[policy.EnforcementPoint(point)] = describe(c, policy.EnforcementPoint(point))
	}
	for _, point := range everyPoint {
		x.at[point] = describe(c, "")
	}
	return x, nil
}

// applies tells whether the constraint has a say at this point and in this
// operation. Only requests have operations that a template can narrow.
func (x *entry) applies(r *policy.Review) bool {
	if IsCanary(r) != (x.kind == canaryPolicy) {
		return false // as all of Fusegate's own kinds are outside policy
	}
	c := x.at[r.Point]
	if c.Action == policy.Scoped && len(c.ScopedActions) == 0 {
		return false
	}
	return r.Point != policy.PointWebhook || len(x.operations) == 0 ||
		slices.Contains(x.operations, r.Operation) || slices.Contains(x.operations, "*")
}

// snapshot is all constraints at one time, found by the kinds that they match.
// It is immutable.
type snapshot struct {
	entries []*entry
	byKind  map[string][]*entry
	// others are the constraints on every kind.
	others []*entry
}

func newSnapshot(entries []*entry) *snapshot {
	s := &snapshot{entries: entries, byKind: map[string][]*entry{}}
	for _, x := range entries {
		for _, kind := range kindsOf(x) {
			s.byKind[kind] = nil
		}
	}
	for _, x := range entries {
		kinds := kindsOf(x)
		if kinds == nil {
			s.others = append(s.others, x)
		}
		for kind := range s.byKind {
			if kinds == nil || slices.Contains(kinds, kind) {
				s.byKind[kind] = append(s.byKind[kind], x)
			}
		}
	}
	return s
}

// kindsOf lists the kinds, of whatever group, that a constraint matches; nil if
// they cannot be listed.
func kindsOf(x *entry) []string {
	var out []string
	for _, k := range x.match.Kinds() {
		if k.Kinds == nil {
			return nil
		}
		out = append(out, k.Kinds...)
	}
	return out
}

// of returns the constraints that may match objects of a kind.
func (s *snapshot) of(kind string) []*entry {
	if found, ok := s.byKind[kind]; ok {
		return found
	}
	return s.others
}

// review is one review on its way through the constraints.
type review struct {
	*policy.Review
	data   *rego.Data
	input  *rego.Input
	result policy.Result
}

func (v *review) judge(share *budget, x *entry) {
	if !x.applies(v.Review) {
		return
	}
	c := x.at[v.Point]
	matches, err := x.match.Match(v.Review)
	if err != nil {
		v.result.Faults = append(v.result.Faults, policy.Fault{Constraint: c, Cause: policy.CauseMatch, Err: err})
	}
	if !matches || err != nil {
		return
	}
	if x.withheld != nil {
		v.result.Faults = append(v.result.Faults, policy.Fault{Constraint: c, Cause: policy.CauseInventory, Err: x.withheld})
		return
	}
	share.begin(time.Now())
	found, failure := x.program.Judge(share, v.data, v.input, x.parameters)
	if failure != nil {
		v.result.Faults = append(v.result.Faults, policy.Fault{
			Constraint: c, Cause: failure.Cause, Err: failure.Err, Brief: failure.Brief,
		})
		return
	}
	v.result.Evaluated++
	for _, f := range found {
		v.result.Violations = append(v.result.Violations, policy.Violation{Constraint: c, Message: f.Message, Details: f.Details})
	}
}

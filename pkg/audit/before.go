package audit

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/policy"
)

// Before is what was last recorded of a constraint.
type Before struct {
	// Counted is false if nothing was ever found out by it; then the rest is
	// zero.
	Counted                      bool
	Total, Exempt                int64
	Violations, ExemptViolations []v1alpha1.Violation
	Costly                       int64
	CostlyObjects                []v1alpha1.CostlyObject
	// At is when that was found.
	At time.Time
}

// past is what is known of a constraint from before it was judged by here. Its
// first two fields never change, the others are guarded by the Auditor's lock.
type past struct {
	Constraint policy.Constraint
	UID        types.UID
	recalled   bool // whether the sink was asked
	before     Before
}

// past makes what was found by a constraint its past.
func (o *Outcome) past() *past {
	return &past{Constraint: o.Constraint, UID: o.UID, recalled: true, before: Before{
		Counted: !o.Uncounted, Total: o.Total, Exempt: o.Exempt, At: o.At,
		Violations: o.Violations, ExemptViolations: o.ExemptViolations, Costly: o.Costly, CostlyObjects: o.CostlyObjects,
	}}
}

// take has an outcome say what was found before.
func (o *Outcome) take(b Before) {
	o.Uncounted, o.Total, o.Exempt = !b.Counted, b.Total, b.Exempt
	o.Violations, o.ExemptViolations = b.Violations, b.ExemptViolations
	o.Costly, o.CostlyObjects = b.Costly, b.CostlyObjects
	if b.Counted {
		o.At = b.At
	}
}

// unread tells whether the objects of a kind have not been read as c judges
// them. The caller holds the lock.
func (k *kind) unread(c *constraint) bool { return k.swept < c.first }

// unreadBy tells of which kinds, by group and kind, nothing is known by c but
// what was found before: none of those that are there has been read, or it is
// not known what is there. It returns nil if there are none.
func (a *Auditor) unreadBy(c *constraint) func(group, kind string) bool {
	kinds, some := map[[2]string]bool{}, false // by group and kind: whether it is unread
	for gk, k := range a.kinds {
		if k.constraints[c] {
			kinds[[2]string{gk.Group, gk.Kind}] = k.unread(c)
			some = some || k.unread(c)
		}
	}
	for group := range a.unserved {
		some = some || group == everyGroup || c.mayConcern(group)
	}
	if !some || !c.scope.Acts() {
		return nil
	}
	return func(group, kind string) bool {
		if unread, there := kinds[[2]string{group, kind}]; there {
			return unread
		}
		return failedFor(a.unserved, group) != nil && c.mayConcern(group)
	}
}

// foundIn is how many violations were found now in a kind that was read.
type foundIn struct {
	kind schema.GroupVersionKind
	n    int64
}

// carry returns what has to be kept of the violations that were found before: of
// the list those of unread kinds, and how many there are of these kinds. A list
// is of the lowest, so that what was not listed is of the kind of its last entry
// or a later one; of that, those are taken to be of read kinds that are found
// there now.
func carry(list []v1alpha1.Violation, total int64, found []foundIn, unread func(group, kind string) bool) (kept []v1alpha1.Violation, n int64) {
	last := v1alpha1.Violation{}
	if len(list) > 0 {
		last = list[len(list)-1]
	}
	var late int64
	for _, f := range found {
		if compareKinds(v1alpha1.Violation{Group: f.kind.Group, Version: f.kind.Version, Kind: f.kind.Kind}, last) >= 0 {
			late += f.n
		}
	}
	for _, v := range list {
		switch {
		case unread(v.Group, v.Kind):
			kept = append(kept, v)
		case compareKinds(v, last) == 0:
			late--
		}
	}
	unlisted := max(0, total-int64(len(list)))
	return kept, int64(len(kept)) + unlisted - min(unlisted, max(0, late))
}

// keepCostly adds those of unread kinds that were listed before, and returns how
// many those are.
func (o *Outcome) keepCostly(before []v1alpha1.CostlyObject, unread func(group, kind string) bool) (n int64) {
	for _, x := range before {
		if !unread(x.Group, x.Kind) {
			continue
		}
		n++
		same := func(y v1alpha1.CostlyObject) bool { y.Percent = x.Percent; return x == y }
		if !slices.ContainsFunc(o.CostlyObjects, same) {
			o.CostlyObjects = append(o.CostlyObjects, x)
		}
	}
	slices.SortStableFunc(o.CostlyObjects, func(a, b v1alpha1.CostlyObject) int { return cmp.Compare(b.Percent, a.Percent) })
	o.CostlyObjects = o.CostlyObjects[:min(len(o.CostlyObjects), maxCostly)]
	return n
}

// merge returns the lowest of two lists, each but once; a negative limit stands
// for none.
func merge(a, b []v1alpha1.Violation, limit int) []v1alpha1.Violation {
	if len(b) == 0 {
		return a
	}
	out := slices.Concat(a, b)
	slices.SortStableFunc(out, compareViolations)
	out = slices.CompactFunc(out, func(x, y v1alpha1.Violation) bool { return compareViolations(x, y) == 0 })
	if limit > 0 {
		out = out[:min(len(out), limit)]
	}
	return out
}

func compareViolations(a, b v1alpha1.Violation) int {
	return cmp.Or(compareKinds(a, b),
		cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Message, b.Message))
}

func compareKinds(a, b v1alpha1.Violation) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Kind, b.Kind))
}

func compareConstraints(a, b policy.Constraint) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

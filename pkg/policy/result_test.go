package policy_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/policy"
)

func lines(r policy.Result) []string {
	var out []string
	for _, v := range r.Violations {
		out = append(out, string(v.Constraint.Action)+" "+v.Constraint.String()+" "+v.Message)
	}
	for _, f := range r.Faults {
		out = append(out, f.Error())
	}
	return out
}

// TestSort shuffles: the order must not depend on where the findings came from.
func TestSort(t *testing.T) {
	other := constraint("a", policy.Deny)
	other.Kind = "J"
	r := policy.Result{
		Violations: []policy.Violation{
			violation(constraint("z", policy.Deny), "a"),
			violation(other, "b"),
			violation(constraint("a", policy.Deny), "b"),
			violation(constraint("b", policy.Deny), "b"),
			violation(constraint("a", policy.Deny), "c"),
			violation(constraint("a", policy.DryRun), "a"),
			violation(constraint("a", policy.Scoped, policy.Deny), "a"),
			violation(constraint("a", policy.Warn), "a"),
		},
		Faults: []policy.Fault{
			fault(policy.Constraint{}, policy.CauseInternal, "x"),
			fault(other, policy.CauseTimeout, "y"),
			fault(constraint("a", policy.Warn), policy.CauseInput, "z"),
			fault(constraint("b", policy.Deny), policy.CauseInput, "a"),
		},
	}
	want := []string{
		"deny K/z a", "deny J/a b", "deny K/a b", "deny K/b b", "deny K/a c", "dryrun K/a a", "scoped K/a a", "warn K/a a",
		"x", "constraint J/a: y", "constraint K/a: z", "constraint K/b: a",
	}
	for range 50 {
		rand.Shuffle(len(r.Violations), func(i, j int) { r.Violations[i], r.Violations[j] = r.Violations[j], r.Violations[i] })
		rand.Shuffle(len(r.Faults), func(i, j int) { r.Faults[i], r.Faults[j] = r.Faults[j], r.Faults[i] })
		r.Sort()
		if diff := cmp.Diff(want, lines(r)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
}

// TestSortKeepsDetailsInOrder has more findings than a sort needs to be
// unstable, equal in all but their details.
func TestSortKeepsDetailsInOrder(t *testing.T) {
	r := policy.Result{}
	for i := range 64 {
		v := violation(constraint("a", policy.Deny), "same")
		if i%2 == 1 {
			v = violation(constraint("a", policy.Deny), "other")
		}
		v.Details = i
		r.Violations = append(r.Violations, v)
	}
	r.Sort()
	var got []int
	for _, v := range r.Violations {
		got = append(got, v.Details.(int))
	}
	if !slices.IsSorted(got[:32]) || !slices.IsSorted(got[32:]) {
		t.Errorf("findings of one constraint with one message changed places: %v", got)
	}
}

func TestFaultIsAnError(t *testing.T) {
	cause := errors.New("broken")
	f := policy.Fault{Constraint: constraint("a", policy.Deny), Err: cause}
	if got, want := f.Error(), "constraint K/a: broken"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(f, cause) {
		t.Error("a fault does not unwrap to its error")
	}
}

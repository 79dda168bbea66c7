package rego_test

import (
	"strings"
	"testing"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

// squares looks at each element of a list as often as the list is long.
var squares = v0(`l := input.review.object.list; n := numbers.range(1, count(l)); count({1 | n[_]; n[_]; n[_]}) == 7; msg := "m"`)

// listed is an object with a list of n elements and so much text beside it.
func listed(n, size int) map[string]any {
	list := make([]any, n)
	for i := range list {
		list[i] = int64(1)
	}
	return map[string]any{"list": list, "text": strings.Repeat("t", size)}
}

// TestExceeded: who is to blame for what takes too much, and so what is refused.
func TestExceeded(t *testing.T) {
	const padding = 2 * rego.SmallObject
	cases := map[string]struct {
		reason      string
		operation   policy.Operation
		object, old map[string]any
		want        policy.FaultCause // empty for a verdict
	}{
		"within":          {"what is within the budget is judged", policy.Create, listed(100, padding), nil, ""},
		"large":           {"a large object is to blame", policy.Create, listed(400, padding), nil, policy.CauseInput},
		"small":           {"a small object never is", policy.Create, listed(400, 0), nil, policy.CausePolicy},
		"deleted":         {"an object can always be deleted", policy.Delete, listed(400, padding), listed(400, padding), policy.CausePolicy},
		"changed":         {"what was stored can be changed", policy.Update, listed(400, padding), listed(400, padding), policy.CausePolicy},
		"made smaller":    {"and made smaller", policy.Update, listed(400, padding), listed(400, padding+1), policy.CausePolicy},
		"made larger":     {"but not larger", policy.Update, listed(400, padding+1), listed(400, padding), policy.CauseInput},
		"padding swapped": {"padding that cost nothing must not be swapped for what does", policy.Update, listed(400, padding), listed(100, 2*padding), policy.CauseInput},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			d, c := newDriver(t, squares, nil)
			r := &policy.Review{Operation: tc.operation, Object: tc.object, OldObject: tc.old}
			got := query(t.Context(), d, r, c)
			switch {
			case tc.want == "" && len(got.faults) == 0:
			case len(got.faults) != 1 || got.faults[0].Cause != tc.want:
				t.Errorf("%s: got %+v, want a fault by %q", tc.reason, got, tc.want)
			}
		})
	}
}

// TestBudgetGrows: an object is granted more for its size. Others add nothing.
func TestBudgetGrows(t *testing.T) {
	steps := v0(`n := numbers.range(1, 2200); count({1 | n[_]; n[_]}) == 7; msg := "m"`) // nearly five million steps
	const enough = 2 << 20
	for name, tc := range map[string]struct {
		r    *policy.Review
		want int
	}{
		"a large object":        {&policy.Review{Operation: policy.Create, Object: listed(1, enough)}, 0},
		"a small object":        {&policy.Review{Operation: policy.Create, Object: listed(1, 1)}, 1},
		"a large object before": {&policy.Review{Operation: policy.Update, Object: listed(1, 1), OldObject: listed(1, enough)}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			d, c := newDriver(t, steps, nil)
			if got := query(t.Context(), d, tc.r, c); len(got.faults) != tc.want {
				t.Errorf("got %+v, want %d faults", got, tc.want)
			}
		})
	}
}

package rego_test

import (
	"strings"
	"testing"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
	"github.com/fusegate/fusegate/pkg/rego/cost"
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

// ranges builds up a list of as many elements as the object says, of which a million
// is what is granted.
var ranges = v0(`count(numbers.range(1, input.review.object.n)) == 7; msg := "m"`)

// TestUsed: what is told of what a policy uses.
func TestUsed(t *testing.T) {
	announced := cost.Announced
	defer func() { cost.Announced = announced }()
	marshals := v0(`json.marshal(numbers.range(1, input.review.object.n)) == "7"; msg := "m"`)
	// shared is computed by the first constraint for both.
	shared := v0(`s == 7; msg := "m" } s = count({1 | n[_]; n[_]}) { n := numbers.range(1, input.review.object.n)`)
	cases := map[string]struct {
		reason      string
		source      source
		n           int64
		announced   int // bytes
		by          func() *rego.Runtime
		constraints int  // of the template, of which the last is looked at
		bounded     bool // as at admission
		least, most int  // percent
		faults      int
	}{
		"half":           {"up to half of it nothing is told", ranges, 500_000, announced.Bytes, rego.New, 1, true, 0, 0, 0},
		"over half":      {"over half is", ranges, 600_000, announced.Bytes, rego.New, 1, true, 58, 58, 0},
		"interpreted":    {"whatever judges", ranges, 400_000, announced.Bytes, rego.NewReference, 1, true, 60, 70, 0},
		"asked for":      {"what would be built up counts", marshals, 80_000, announced.Bytes, rego.New, 1, true, 52, 60, 0},
		"exceeded":       {"what is exceeded is told as well", ranges, 1_100_000, announced.Bytes, rego.New, 1, true, 105, 105, 1},
		"announced":      {"a smaller budget is told of before it holds", ranges, 600_000, announced.Bytes / 2, rego.New, 1, true, 115, 115, 0},
		"announced more": {"a larger one does not hold yet", ranges, 600_000, 2 * announced.Bytes, rego.New, 1, true, 58, 58, 0},
		"beside others":  {"what the first has computed is not counted", shared, 1500, announced.Bytes, rego.New, 2, true, 0, 0, 0},
		"by itself":      {"but where there is time to find out", shared, 1500, announced.Bytes, rego.New, 2, false, 56, 58, 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			cost.Announced.Bytes = tc.announced
			d := drive(tc.by())
			if err := d.AddTemplate(t.Context(), template("K", tc.source)); err != nil {
				t.Fatal(err)
			}
			in := rego.NewInput(&policy.Review{Object: map[string]any{"n": tc.n}, Bounded: tc.bounded})
			used, faults := 0, 0
			for i := range tc.constraints {
				c := constraint("K", string(rune('a'+i)), nil)
				if err := d.AddConstraint(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				program, params := d.lookup(c)
				found, failure := program.Judge(t.Context(), d.Data(), in, params)
				used = found.Used
				if failure != nil {
					faults++
				}
			}
			if used < tc.least || used > tc.most || faults != tc.faults {
				t.Errorf("%s: got %d %% and %d faults, want %d to %d %% and %d", tc.reason, used, faults, tc.least, tc.most, tc.faults)
			}
		})
	}
}

package engine_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fusegate/fusegate/pkg/engine"
)

// The table may grow; it cannot shrink unseen.
const (
	minSemanticCases    = 270
	minAPIServerCases   = 170
	minCasesWithFaults  = 20
	minCasesWithActions = 35
)

// TestSemantics takes every case through the engine and its answer.
func TestSemantics(t *testing.T) {
	table := readSemantics(t)
	for _, tc := range table.Cases {
		t.Run(tc.Name, func(t *testing.T) {
			e := engineFor(t, table, tc)
			r := tc.review(table)
			got := outcome(r, e.Review(t.Context(), r))
			if tc.Want.Details == nil {
				got.Details = nil
			}
			want := tc.Want
			want.Details = asJSON(t, want.Details)
			got.Details = asJSON(t, got.Details)
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.Reason, diff)
			}
		})
	}
}

func engineFor(t *testing.T, table semanticTable, tc semanticCase) *engine.Engine {
	t.Helper()
	e := newEngine(t)
	added := map[string]bool{}
	for _, c := range tc.constraints() {
		if kind := c.GetKind(); !added[kind] {
			added[kind] = true
			tpl, err := engine.ParseTemplate(tc.template(t, table, kind))
			if err != nil {
				t.Fatal(err)
			}
			if err := e.AddTemplate(t.Context(), tpl); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.AddConstraint(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// asJSON writes values out, so that a number is compared as it is shown: an
// integer that has become a float of some size is not the same.
func asJSON(t *testing.T, values []any) []any {
	t.Helper()
	var out []any
	for _, v := range values {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(text))
	}
	return out
}

// TestSemanticTable holds the table to its size and to its own rules.
func TestSemanticTable(t *testing.T) {
	table := readSemantics(t)
	cases, constraints := map[string]bool{}, map[string]string{}
	var inAPIServer, withFaults, withActions int
	for _, tc := range table.Cases {
		if tc.Name == "" || tc.Reason == "" || cases[tc.Name] {
			t.Errorf("case %q: a name of its own and a reason are wanted", tc.Name)
		}
		cases[tc.Name] = true
		if tc.Matches != nil && len(tc.Constraints) != 1 {
			t.Errorf("case %s: matches speaks of one constraint", tc.Name)
		}
		if len(tc.Want.Faults) > 0 {
			withFaults++
		}
		if tc.scoped() {
			withActions++
		}
		if !tc.APIServer {
			continue
		}
		inAPIServer++
		for _, c := range tc.constraints() {
			id := c.GetKind() + "/" + c.GetName()
			if other := constraints[id]; other != "" {
				t.Errorf("cases %s and %s both have the constraint %s, and share a cluster", other, tc.Name, id)
			}
			constraints[id] = tc.Name
		}
	}
	for what, n := range map[string][2]int{
		"cases":                       {len(cases), minSemanticCases},
		"cases for the API server":    {inAPIServer, minAPIServerCases},
		"cases with faults":           {withFaults, minCasesWithFaults},
		"cases with explicit actions": {withActions, minCasesWithActions},
	} {
		if n[0] < n[1] {
			t.Errorf("the table has %d %s, want at least %d", n[0], what, n[1])
		}
		t.Logf("%d %s", n[0], what)
	}
}

// scoped tells whether a constraint of the case says what is to be done.
func (c *semanticCase) scoped() bool {
	for _, u := range c.constraints() {
		spec, _ := u.Object["spec"].(map[string]any)
		if spec["enforcementAction"] != nil {
			return true
		}
	}
	return false
}

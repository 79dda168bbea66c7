package trial_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/manifest"
	"github.com/fusegate/fusegate/pkg/trial"
)

func explained(t *testing.T, text string, s trial.Selection) ([]string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "all.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	x, err := trial.Prepare(t.Context(), trial.Options{Input: manifest.Options{Paths: []string{path}}})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	err = x.Explain(t.Context(), s, func(e trial.Explained) error {
		line := fmt.Sprintf("%s by %s: %v %s", e.Object, e.Constraint, e.Matches, e.Silent)
		for _, c := range e.Clauses {
			line += fmt.Sprintf(" [%s %v]", c.Field, c.Holds)
		}
		for _, r := range e.Rules {
			line += fmt.Sprintf(" {%s %v}", r.At, r.Values)
		}
		for _, f := range e.Findings {
			line += fmt.Sprintf(" %s fault=%v", f.Message, f.Fault)
		}
		if s.Steps && !strings.Contains(e.Steps, "Eval") {
			line += " without steps"
		}
		out = append(out, line)
		return nil
	})
	return out, err
}

func TestExplain(t *testing.T) {
	policies := template("Large", `n := input.review.object.data[key]
count(n) > input.parameters.max
msg := sprintf("%v is large", [key])`) + "---\n" +
		"apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: Large\nmetadata: {name: three}\nspec: {match: {namespaces: [prod-*]}}\n---\n" +
		constraint("Large", "elsewhere", "enforcementAction: scoped, scopedEnforcementActions: [{action: deny, enforcementPoints: [{name: audit.gatekeeper.sh}]}]")
	policies = strings.Replace(policies, "input.parameters.max", "3", 1) + "---\n"
	objects := object("v1", "ConfigMap", "name: a, namespace: prod-1") + "data: {v: abcd, x: abcde, z: a}\n---\n" +
		object("v1", "ConfigMap", "name: b, namespace: test") + "---\n" + object("v1", "Pod", "name: b, namespace: test")
	cases := map[string]struct {
		reason string
		s      trial.Selection
		want   []string
		err    string
	}{
		"Fired": {
			reason: "Each time that a rule fires is told, with the values of its variables.",
			s:      trial.Selection{Object: "configmap/prod-1/a", Constraint: "Large/three", Steps: true},
			want:   []string{`ConfigMap prod-1/a by Large/three: true  [namespaces true] {rego:3 map[key:"v" msg:"v is large" n:"abcd"]} {rego:3 map[key:"x" msg:"x is large" n:"abcde"]} v is large fault=false x is large fault=false`},
		},
		"NotMatched": {
			reason: "The clause that does not hold is named.",
			s:      trial.Selection{Object: "b", Constraint: "three"},
			want:   []string{"ConfigMap test/b by Large/three: false  [namespaces false]", "Pod test/b by Large/three: false  [namespaces false]"},
		},
		"Silent": {
			reason: "A constraint may have no say here at all.",
			s:      trial.Selection{Object: "Pod/b", Constraint: "elsewhere"},
			want:   []string{"Pod test/b by Large/elsewhere: true its scoped actions ask for nothing at gator.gatekeeper.sh"},
		},
		"NoConstraint": {"A typing error is told.", trial.Selection{Constraint: "four"}, nil, "there is no constraint four"},
		"NoObject":     {"And so is this one.", trial.Selection{Object: "Pod/x"}, nil, "there is no object Pod/x"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := explained(t, policies+objects, c.s)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("%s: got error %v, want %q", c.reason, err, c.err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s\n(-want +got)\n%s", c.reason, diff)
			}
		})
	}
	many := policies
	for i := range 60 {
		many += object("v1", "Pod", fmt.Sprintf("name: p%d", i)) + "---\n"
	}
	if _, err := explained(t, many, trial.Selection{}); !errors.Is(err, trial.ErrTooMany) {
		t.Errorf("explaining 120 pairs: got %v, want that these are too many", err)
	}
}

package engine_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
)

// canaryAnswer is how the denial of the canary with nonce n1 is worded.
const canaryAnswer = "[canary] nonce n1"

func canaryReview() *policy.Review {
	return &policy.Review{
		Kind:      schema.GroupVersionKind{Group: "fusegate.dev", Version: "v1alpha1", Kind: "Canary"},
		Name:      "policy-1",
		Operation: policy.Create,
		Point:     policy.PointWebhook,
		Object: map[string]any{
			"apiVersion": "fusegate.dev/v1alpha1", "kind": "Canary",
			"metadata": map[string]any{"name": "policy-1"}, "spec": map[string]any{"nonce": "n1"},
		},
	}
}

// TestCanary checks that a canary is denied with its nonce by the built-in
// policy and judged by no other.
func TestCanary(t *testing.T) {
	e, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	denyAll := map[string]any{
		"apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate", "metadata": map[string]any{"name": "denyall"},
		"spec": map[string]any{
			"crd": map[string]any{"spec": map[string]any{"names": map[string]any{"kind": "DenyAll"}}},
			"targets": []any{map[string]any{
				"target": engine.TargetName, "rego": `package denyall
violation[{"msg": "no"}] { true }`,
			}},
		},
	}
	template, err := engine.ParseTemplate(&unstructured.Unstructured{Object: denyAll})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.AddTemplate(t.Context(), template); err != nil {
		t.Fatal(err)
	}
	all := &unstructured.Unstructured{}
	all.SetAPIVersion("constraints.gatekeeper.sh/v1beta1")
	all.SetKind("DenyAll")
	all.SetName("everything")
	if err := e.AddConstraint(t.Context(), all); err != nil {
		t.Fatal(err)
	}

	decision := policy.Decide(e.Review(t.Context(), canaryReview()))
	if decision.Allowed || decision.Message != canaryAnswer {
		t.Errorf("got %+v, want a denial that says %q only", decision, canaryAnswer)
	}
	if scopes := e.AdmissionScopes(); len(scopes) != 1 || scopes[0].Kind != "DenyAll" {
		t.Errorf("got scopes %+v, want those of users' constraints only", scopes)
	}
}

// TestReserved checks that nobody can take the built-in policy away.
func TestReserved(t *testing.T) {
	e, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	template := &engine.Template{}
	template.Name = "fusegatecanary"
	constraint := &unstructured.Unstructured{}
	constraint.SetAPIVersion("constraints.gatekeeper.sh/v1beta1")
	constraint.SetKind("FusegateCanary")
	constraint.SetName("canary")
	for name, err := range map[string]error{
		"CheckTemplate": e.CheckTemplate(t.Context(), template),
		"AddTemplate":   e.AddTemplate(t.Context(), template),
	} {
		if err == nil || !strings.Contains(err.Error(), "reserved") {
			t.Errorf("%s: got %v, want an error that says that the name is reserved", name, err)
		}
	}
	for name, err := range map[string]error{
		"CheckConstraint": e.CheckConstraint(constraint),
		"AddConstraint":   e.AddConstraint(t.Context(), constraint),
	} {
		if !engine.IsNoTemplate(err) {
			t.Errorf("%s: got %v, want %v", name, err, engine.ErrNoTemplate)
		}
	}
	if err := e.RemoveTemplate(t.Context(), "fusegatecanary"); err != nil {
		t.Error(err)
	}
	if err := e.RemoveConstraint(t.Context(), "FusegateCanary", "canary"); err != nil {
		t.Error(err)
	}
	want := []string{canaryAnswer}
	if got := lines(e.Review(t.Context(), canaryReview())); !cmp.Equal(got, want) {
		t.Errorf("afterwards canaries are answered with %q, want %q", got, want)
	}
}

func lines(r policy.Result) []string {
	var out []string
	for _, v := range r.Violations {
		out = append(out, policy.Line(v.Constraint, v.Message))
	}
	return out
}

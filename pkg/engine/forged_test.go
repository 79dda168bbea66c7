package engine_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
)

// TestForgedNamespace: whoever can send a review can name a namespace that is not
// there, and what is shown of the fault comes into the status of the constraint.
func TestForgedNamespace(t *testing.T) {
	e := engineOf(t, engine.New, rules{"Selects": {`violation[{"msg": "no"}] { true }`, policy.Deny}})
	c := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": "Selects", "metadata": map[string]any{"name": "selects"},
		"spec": map[string]any{"match": map[string]any{"namespaceSelector": map[string]any{"matchLabels": map[string]any{"a": "b"}}}},
	}}
	if err := e.AddConstraint(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	r := pod(1)
	r.Namespace = "approved by the administrator"
	got := e.Review(t.Context(), r)
	if len(got.Faults) != 1 || got.Faults[0].Cause != policy.CauseMatch {
		t.Fatalf("got %+v, want that the namespace is not known", got)
	}
	if text := got.Faults[0].Summary(); !strings.Contains(text, "spec.match.namespaceSelector") || strings.Contains(text, r.Namespace) {
		t.Errorf("got %q, want the field, and nothing that was forged", text)
	}
}

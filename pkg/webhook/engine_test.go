package webhook_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/webhook"
)

const requiredTemplate = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: required}
spec:
  crd: {spec: {names: {kind: Required}, validation: {openAPIV3Schema: {type: object, properties: {labels: {type: array, items: {type: string}}}}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package required
      violation[{"msg": msg}] {
        key := input.parameters.labels[_]
        not input.review.object.metadata.labels[key]
        msg := sprintf("%v of %v needs label %v (size %v, %v)", [input.review.operation, input.review.userInfo.username, key, input.review.object.size, input.review.namespaceObject.metadata.name])
      }
      violation[{"msg": msg}] { msg := input.review.object.broken }
`

const requiredConstraint = `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: Required
metadata: {name: owner}
spec: {parameters: {labels: [owner]}}
`

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

func newEngine(t *testing.T) *engine.Engine {
	t.Helper()
	e, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	template, err := engine.ParseTemplate(object(t, requiredTemplate))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.AddTemplate(t.Context(), template); err != nil {
		t.Fatal(err)
	}
	if err := e.AddConstraint(t.Context(), object(t, requiredConstraint)); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestThroughTheEngine goes from JSON to JSON through the real engine.
func TestThroughTheEngine(t *testing.T) {
	h := newHandler(t, parts{
		reviewer:   newEngine(t),
		namespaces: namespaces{"tenant": {"metadata": map[string]any{"name": "tenant"}}},
	})
	unlabelled := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"cm"},"size":9007199254740993}`
	cases := map[string]struct {
		reason string
		body   string
		want   string // the message of the denial, empty if allowed
	}{
		"Denied":  {"integers are shown as written", raw(t, unlabelled), "[owner] CREATE of ann needs label owner (size 9007199254740993, tenant)"},
		"Allowed": {"a good object passes", raw(t, `{"metadata":{"labels":{"owner":"me"}}}`), ""},
		"Deleted": {
			"a DELETE is judged by the old object",
			strings.Replace(request(t, map[string]any{"operation": "DELETE", "object": nil, "oldObject": "OLD"}), `"OLD"`, unlabelled, 1),
			"[owner] DELETE of ann needs label owner (size 9007199254740993, tenant)",
		},
		"Breaking": {
			"an object that breaks the policy does not get past it",
			raw(t, `{"metadata":{"labels":{"owner":"me"}},"broken":{}}`),
			"[owner] the policy failed on this object: the rule violation fired without a string msg: msg is {}",
		},
		"Deepest": {
			"nor does one that is nested as deep as can be",
			raw(t, `{"size":1,"metadata":`+nested(9999)+`}`), "[owner] CREATE of ann needs label owner (size 1, tenant)",
		},
		"CaseVariant": {
			"labels in another case are other labels",
			raw(t, `{"size":1,"Metadata":{"labels":{"owner":"me"}},"metadata":{"Labels":{"owner":"me"},"labels":{"Owner":"me"}}}`),
			"[owner] CREATE of ann needs label owner (size 1, tenant)",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := answered(t, post(h, tc.body))
			if got.Allowed != (tc.want == "") || got.Result.Message != tc.want {
				t.Errorf("%s: got allowed %t, %q, want %q", tc.reason, got.Allowed, got.Result.Message, tc.want)
			}
		})
	}
}

// TestPolicyValidator applies templates and constraints.
func TestPolicyValidator(t *testing.T) {
	e := newEngine(t)
	h := newHandler(t, parts{reviewer: unreachable(t), validator: webhook.NewPolicyValidator(e, exempt.Perimeter{})})
	apply := func(t *testing.T, o *unstructured.Unstructured) *admissionv1.AdmissionResponse {
		gvk := o.GroupVersionKind()
		return answered(t, post(h, request(t, map[string]any{
			"namespace": nil, "name": o.GetName(), "object": o.Object,
			"kind":     map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind},
			"resource": map[string]any{"group": gvk.Group, "version": gvk.Version, "resource": strings.ToLower(gvk.Kind)},
		})))
	}
	set := func(text string, v any, path ...string) func(*testing.T) *unstructured.Unstructured {
		return func(t *testing.T) *unstructured.Unstructured {
			o := object(t, text)
			if err := unstructured.SetNestedField(o.Object, v, path...); err != nil {
				t.Fatal(err)
			}
			return o
		}
	}
	long := strings.Repeat("x", 64)
	rego := func(text string) func(*testing.T) *unstructured.Unstructured {
		return set(requiredTemplate, []any{map[string]any{"target": "admission.k8s.gatekeeper.sh", "rego": text}}, "spec", "targets")
	}
	cases := map[string]struct {
		reason   string
		object   func(*testing.T) *unstructured.Unstructured
		refused  string // a part of the message, empty if allowed
		warnings []string
	}{
		"Template":     {reason: "a good template", object: func(t *testing.T) *unstructured.Unstructured { return object(t, requiredTemplate) }},
		"Syntax":       {reason: "an error in the Rego is located", object: rego("package k\nviolation[{\"msg\": m}] { m := }"), refused: "rego:2:"},
		"NoEntry":      {reason: "a template without the entry rule", object: rego("package k\nx = 1"), refused: "rego_entry_error"},
		"Escape":       {reason: "a template that reaches outside", object: rego("package k\nviolation[{\"msg\": m}] { m := data.x }"), refused: "rego_reference_error"},
		"TemplateName": {reason: "a name that is not the kind's", object: set(requiredTemplate, "other", "metadata", "name"), refused: "required"},
		"NoTargets":    {reason: "a template without a target", object: set(requiredTemplate, []any{}, "spec", "targets"), refused: "target"},
		"SpecIsText":   {reason: "a template that is not even one", object: set(requiredTemplate, "text", "spec"), refused: "ConstraintTemplate"},
		"CodeNoSource": {reason: "code without a source", object: set(requiredTemplate, []any{map[string]any{"target": "admission.k8s.gatekeeper.sh", "code": []any{map[string]any{"engine": "Rego"}}}}, "spec", "targets"), refused: "source"},
		"Constraint":   {reason: "a good constraint", object: func(t *testing.T) *unstructured.Unstructured { return object(t, requiredConstraint) }},
		"Action":       {reason: "an action that nothing acts on", object: set(requiredConstraint, "explode", "spec", "enforcementAction"), refused: `"explode" is not supported`},
		"Parameters":   {reason: "parameters against the schema", object: set(requiredConstraint, "text", "spec", "parameters", "labels"), refused: "labels"},
		"Name63":       {reason: "a name of 63 characters", object: set(requiredConstraint, long[:63], "metadata", "name")},
		"Name64":       {reason: "a name of 64 characters", object: set(requiredConstraint, long, "metadata", "name"), refused: "metadata.name: 64 characters long, at most 63 are allowed"},
		"NoTemplate":   {reason: "a replica that lags does not refuse", object: set(requiredConstraint, "Unheard", "kind"), warnings: []string{`Unheard "owner" is not validated: its ConstraintTemplate is still being read, or gone; see its status`}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := apply(t, tc.object(t))
			if got.Allowed != (tc.refused == "") || !strings.Contains(got.Result.Message, tc.refused) {
				t.Errorf("%s: got allowed %t, %q, want %q", tc.reason, got.Allowed, got.Result.Message, tc.refused)
			}
			if !got.Allowed && (got.Result.Code != 422 || got.Result.Reason != "Invalid") {
				t.Errorf("%s: got %d %s, want 422 Invalid", tc.reason, got.Result.Code, got.Result.Reason)
			}
			if diff := cmp.Diff(tc.warnings, got.Warnings); diff != "" {
				t.Errorf("%s: warnings (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
	if got := fmt.Sprint(len(e.AdmissionScopes())); got != "1" {
		t.Errorf("validation changed the engine: it has %s constraints, want 1", got)
	}
}

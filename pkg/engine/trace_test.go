package engine_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
)

const talkative = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: talkative}
spec:
  crd: {spec: {names: {kind: Talkative}, validation: {openAPIV3Schema: {type: object, properties: {name: {type: string}}}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package talkative
      violation[{"msg": msg}] {
        print("name is", input.review.object.metadata.name)
        input.review.object.metadata.name == input.parameters.name
        msg := "taken"
      }
`

const talkativeOne = `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: Talkative
metadata: {name: one}
spec: {parameters: {name: web}}
`

const talkativeServices = `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: Talkative
metadata: {name: services}
spec: {parameters: {name: web}, match: {kinds: [{apiGroups: [""], kinds: [Service]}]}}
`

func TestTrace(t *testing.T) {
	e := newEngine(t, talkative)
	add(t, e, nil, object(t, talkativeOne), object(t, talkativeServices))
	r := &policy.Review{
		Name: "web", Operation: policy.Create, Point: policy.PointWebhook,
		Object: map[string]any{"kind": "Pod", "metadata": map[string]any{"name": "web"}},
	}
	r.Kind.Version, r.Kind.Kind = "v1", "Pod"
	want := e.Review(t.Context(), r)
	got, traces := e.Trace(t.Context(), r, engine.Tracing{})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the verdict differs (-reviewed +traced):\n%s", diff)
	}
	if len(got.Violations) != 1 || len(traces) != 1 || traces[0].Constraint.Name != "one" || traces[0].Steps != "" {
		t.Fatalf("got %d violations and traces %+v, want one of each, without steps", len(got.Violations), traces)
	}
	if diff := cmp.Diff([]string{"rego:3: name is web"}, traces[0].Prints); diff != "" {
		t.Errorf("prints (-want +got):\n%s", diff)
	}
	if _, traces = e.Trace(t.Context(), r, engine.Tracing{Steps: true}); !strings.Contains(traces[0].Steps, "Enter data.template.violation") {
		t.Errorf("no account of steps:\n%s", traces[0].Steps)
	}
}

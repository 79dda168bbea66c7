package engine_test

import (
	"reflect"
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
	got, err := e.Explain(t.Context(), r, "Talkative", "one", engine.Tracing{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e.Review(t.Context(), r), got.Result); diff != "" {
		t.Errorf("the verdict differs (-reviewed +traced):\n%s", diff)
	}
	if !got.Matches || len(got.Result.Violations) != 1 || got.Trace.Constraint.Name != "one" || got.Trace.Steps != "" {
		t.Fatalf("got %+v, want a violation and a trace without steps", got)
	}
	if diff := cmp.Diff([]string{"rego:3: name is web"}, got.Trace.Prints); diff != "" {
		t.Errorf("prints (-want +got):\n%s", diff)
	}
	got, err = e.Explain(t.Context(), r, "Talkative", "one", engine.Tracing{Steps: true})
	if err != nil || !strings.Contains(got.Trace.Steps, "Enter data.template.violation") {
		t.Errorf("no account of steps: %v\n%s", err, got.Trace.Steps)
	}
	got, err = e.Explain(t.Context(), r, "Talkative", "services", engine.Tracing{})
	if err != nil || got.Matches || len(got.Result.Violations) != 0 || !reflect.DeepEqual(got.Trace, engine.Trace{}) {
		t.Errorf("got %+v, %v, want no match, no violation and no trace", got, err)
	}
}

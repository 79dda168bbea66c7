package rego_test

import (
	"context"
	"testing"

	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

const target = "admission.k8s.gatekeeper.sh"

// source is the Rego of a template.
type source struct {
	version string
	rego    string
	libs    []string
}

func template(kind string, s source) *templates.ConstraintTemplate {
	libs := make([]any, len(s.libs))
	for i, lib := range s.libs {
		libs[i] = lib
	}
	t := &templates.ConstraintTemplate{}
	t.Spec.CRD.Spec.Names.Kind = kind
	t.Spec.Targets = []templates.Target{{
		Target: target,
		Code: []templates.Code{{Engine: "Rego", Source: &templates.Anything{
			Value: map[string]any{"version": s.version, "rego": s.rego, "libs": libs},
		}}},
	}}
	return t
}

func constraint(kind, name string, parameters any) *unstructured.Unstructured {
	c := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": kind, "metadata": map[string]any{"name": name},
	}}
	if parameters != nil {
		c.Object["spec"] = map[string]any{"parameters": parameters}
	}
	return c
}

// newDriver returns a driver with one template of kind K and one constraint c.
func newDriver(t testing.TB, s source, parameters any) (*rego.Driver, *unstructured.Unstructured) {
	t.Helper()
	d := rego.NewDriver()
	if err := d.AddTemplate(t.Context(), template("K", s)); err != nil {
		t.Fatalf("adding the template: %v", err)
	}
	c := constraint("K", "c", parameters)
	if err := d.AddConstraint(t.Context(), c); err != nil {
		t.Fatalf("adding the constraint: %v", err)
	}
	return d, c
}

// finding is a violation, as far as tests compare them.
type finding struct {
	Msg     string
	Details any
}

// outcome is what a query came to.
type outcome struct {
	findings  []finding
	faults    []rego.Fault
	evaluated int
}

func query(ctx context.Context, t testing.TB, d *rego.Driver, r *policy.Review, cs ...*unstructured.Unstructured) outcome {
	t.Helper()
	in := rego.NewInput(r)
	response, err := d.Query(ctx, target, cs, in)
	if err != nil {
		t.Fatalf("querying: %v", err)
	}
	out := outcome{faults: in.Faults(), evaluated: in.Evaluated()}
	for _, res := range response.Results {
		out.findings = append(out.findings, finding{res.Msg, res.Metadata["details"]})
	}
	return out
}

// verdict runs one constraint on an object and wants no fault.
func verdict(t *testing.T, s source, parameters any, object map[string]any) []finding {
	t.Helper()
	d, c := newDriver(t, s, parameters)
	got := query(t.Context(), t, d, &policy.Review{Object: object}, c)
	if len(got.faults) != 0 || got.evaluated != 1 {
		t.Fatalf("got faults %v after %d evaluations, want a verdict", got.faults, got.evaluated)
	}
	return got.findings
}

// failure runs one constraint on an object and wants a fault and nothing else.
func failure(t *testing.T, s source, object map[string]any) rego.Fault {
	t.Helper()
	d, c := newDriver(t, s, nil)
	got := query(t.Context(), t, d, &policy.Review{Object: object}, c)
	if len(got.faults) != 1 || got.evaluated != 0 || len(got.findings) != 0 {
		t.Fatalf("got %+v, want one fault", got)
	}
	return got.faults[0]
}

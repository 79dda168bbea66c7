package rego_test

import (
	"context"
	"sync"
	"testing"

	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
	"github.com/open-policy-agent/opa/v1/storage"
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

// driver holds programs and parameters, as an engine does.
type driver struct {
	*rego.Runtime
	mu         sync.RWMutex
	programs   map[string]*rego.Program               // by kind
	parameters map[string]map[string]*rego.Parameters // by kind and name
}

func drive(r *rego.Runtime) *driver {
	return &driver{Runtime: r, programs: map[string]*rego.Program{}, parameters: map[string]map[string]*rego.Parameters{}}
}

// AddTemplate has the arguments that the framework's drivers have, as the other
// methods have.
func (d *driver) AddTemplate(ctx context.Context, t *templates.ConstraintTemplate) error {
	program, err := d.Compile(ctx, t)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	kind := t.Spec.CRD.Spec.Names.Kind
	if before := d.programs[kind]; before != nil {
		d.Forget(before)
	}
	d.programs[kind] = program
	return nil
}

func (d *driver) AddConstraint(_ context.Context, c *unstructured.Unstructured) error {
	params, err := rego.NewParameters(c)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.parameters[c.GetKind()] == nil {
		d.parameters[c.GetKind()] = map[string]*rego.Parameters{}
	}
	d.parameters[c.GetKind()][c.GetName()] = params
	return nil
}

func (d *driver) AddData(_ context.Context, _ string, path storage.Path, document any) error {
	return d.Runtime.AddData(path, document)
}

// lookup returns what a constraint is judged by.
func (d *driver) lookup(c *unstructured.Unstructured) (*rego.Program, *rego.Parameters) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.programs[c.GetKind()], d.parameters[c.GetKind()][c.GetName()]
}

// newDriver returns a driver with one template of kind K and one constraint c.
func newDriver(t testing.TB, s source, parameters any) (*driver, *unstructured.Unstructured) {
	t.Helper()
	d := drive(rego.New())
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
	faults    []*rego.Failure
	evaluated int
}

// query judges a review by constraints that the driver knows.
func query(ctx context.Context, d *driver, r *policy.Review, cs ...*unstructured.Unstructured) outcome {
	in, data := rego.NewInput(r), d.Data()
	var out outcome
	for _, c := range cs {
		program, params := d.lookup(c)
		found, failure := program.Judge(ctx, data, in, params)
		if failure != nil {
			out.faults = append(out.faults, failure)
			continue
		}
		out.evaluated++
		for _, f := range found.Kept {
			out.findings = append(out.findings, finding{f.Message, f.Details})
		}
	}
	return out
}

// verdict runs one constraint on an object and wants no fault.
func verdict(t *testing.T, s source, parameters any, object map[string]any) []finding {
	t.Helper()
	d, c := newDriver(t, s, parameters)
	got := query(t.Context(), d, &policy.Review{Object: object}, c)
	if len(got.faults) != 0 || got.evaluated != 1 {
		t.Fatalf("got faults %v after %d evaluations, want a verdict", got.faults, got.evaluated)
	}
	return got.findings
}

// failure runs one constraint on an object and wants a fault and nothing else.
func failure(t *testing.T, s source, object map[string]any) *rego.Failure {
	t.Helper()
	d, c := newDriver(t, s, nil)
	got := query(t.Context(), d, &policy.Review{Object: object}, c)
	if len(got.faults) != 1 || got.evaluated != 0 || len(got.findings) != 0 {
		t.Fatalf("got %+v, want one fault", got)
	}
	return got.faults[0]
}

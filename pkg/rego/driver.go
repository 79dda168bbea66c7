// Package rego is the Rego driver of the constraint framework: a template's
// source becomes a program once, a constraint's parameters become a value once,
// and a review is converted once however many templates read it. It is the
// only package that imports OPA.
//
// The framework's own driver is not used; it parses its query again for every
// template of every request and turns a policy's run-time error into a
// violation. Here such an error is a fault of the one constraint that erred.
package rego

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/open-policy-agent/frameworks/constraint/pkg/client/drivers"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/drivers/rego/schema"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/reviews"
	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
	"github.com/open-policy-agent/frameworks/constraint/pkg/types"
	"github.com/open-policy-agent/opa/v1/storage"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/rego/tree"
)

// Driver implements drivers.Driver. It is safe for concurrent use; no lock of
// its own is held while a policy is evaluated.
type Driver struct {
	data        *tree.Tree
	interpreted bool
	references  references
	// compiling keeps compilers, which make a lot of garbage, one after the other.
	compiling sync.Mutex
	observer  Observer

	mu         sync.RWMutex
	programs   map[string]*Program               // by constraint kind
	parameters map[string]map[string]*Parameters // by constraint kind and name
}

var _ drivers.Driver = (*Driver)(nil)

// NewDriver returns a driver that knows no template.
func NewDriver() *Driver {
	return &Driver{
		data:       tree.New(),
		observer:   unobserved{},
		programs:   map[string]*Program{},
		parameters: map[string]map[string]*Parameters{},
	}
}

// NewReference returns a driver that runs every template by OPA's interpreter,
// to compare with.
func NewReference() *Driver {
	d := NewDriver()
	d.interpreted = true
	return d
}

// Observe sets who is told what goes on. It is to be called before the first
// template is added.
func (d *Driver) Observe(o Observer) { d.observer = o }

// Name is "Rego", the engine name that templates use.
func (d *Driver) Name() string { return schema.Name }

// Compile checks a template's Rego without keeping the result. Its errors are
// Diagnostics.
func Compile(t *templates.ConstraintTemplate) error {
	source, err := regoSource(t)
	if err != nil {
		return err
	}
	c, err := compileSource(source, false)
	if err != nil {
		return err
	}
	_, err = interpret(c)
	return err
}

// AddTemplate compiles t and replaces the program of its kind. On error, which
// is of type Diagnostics, the previous program stays.
func (d *Driver) AddTemplate(ctx context.Context, t *templates.ConstraintTemplate) error {
	d.compiling.Lock()
	program, err := compile(ctx, t)
	d.compiling.Unlock()
	if err != nil {
		return err
	}
	if d.interpreted {
		reference, err := program.interpreter()
		if err != nil {
			return err
		}
		program.refuse(errReference, reference)
	}
	program.references, program.observer = &d.references, d.observer
	d.mu.Lock()
	defer d.mu.Unlock()
	kind := t.Spec.CRD.Spec.Names.Kind
	if before := d.programs[kind]; before != nil {
		d.references.drop(before)
	}
	d.programs[kind] = program
	return nil
}

// RemoveTemplate forgets the program and the constraints of t's kind.
func (d *Driver) RemoveTemplate(_ context.Context, t *templates.ConstraintTemplate) error {
	kind := t.Spec.CRD.Spec.Names.Kind
	d.mu.Lock()
	defer d.mu.Unlock()
	if before := d.programs[kind]; before != nil {
		d.references.drop(before)
	}
	delete(d.programs, kind)
	delete(d.parameters, kind)
	return nil
}

// AddConstraint remembers the constraint's parameters. It never fails on
// decoded JSON; the framework would not try again if it did.
func (d *Driver) AddConstraint(_ context.Context, c *unstructured.Unstructured) error {
	params, err := parametersOf(c)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	byName := d.parameters[c.GetKind()]
	if byName == nil {
		byName = map[string]*Parameters{}
		d.parameters[c.GetKind()] = byName
	}
	byName[c.GetName()] = params
	return nil
}

// RemoveConstraint forgets the constraint's parameters.
func (d *Driver) RemoveConstraint(_ context.Context, c *unstructured.Unstructured) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.parameters[c.GetKind()], c.GetName())
	return nil
}

// AddData stores data, which is decoded JSON and from then on the driver's, at
// data.inventory followed by path.
func (d *Driver) AddData(_ context.Context, _ string, path storage.Path, data any) error {
	return d.data.Put(inventoryPath(path), data)
}

// RemoveData deletes what lies at path. Deleting what is not there is no error.
func (d *Driver) RemoveData(_ context.Context, _ string, path storage.Path) error {
	d.data.Remove(inventoryPath(path))
	return nil
}

// Edit says what is to lie at a path below data.inventory: an object with these
// documents by key, or nothing if there are none. The documents are decoded
// JSON and the driver's from then on.
type Edit = tree.Edit

// UpdateData makes all edits at once. An error means that it made none.
func (d *Driver) UpdateData(edits []Edit) error {
	below := make([]Edit, len(edits))
	for i, e := range edits {
		below[i] = Edit{Path: inventoryPath(e.Path), Objects: e.Objects}
	}
	return d.data.Apply(below)
}

// GetData returns what lies at path. It must not be modified.
func (d *Driver) GetData(path []string) (any, bool) { return d.data.Get(inventoryPath(path)) }

// errReference is why a driver for comparison interprets.
var errReference = errors.New("all templates are to be interpreted")

func inventoryPath(path storage.Path) storage.Path {
	return append(storage.Path{"inventory"}, path...)
}

// Query judges the review, which must be an *Input, by the given constraints.
// Whatever goes wrong with a constraint is reported to the Input as a fault;
// the only error is a review of another type.
func (d *Driver) Query(ctx context.Context, _ string, cs []*unstructured.Unstructured, review any, _ ...reviews.ReviewOpt) (*drivers.QueryResponse, error) {
	in, ok := review.(*Input)
	if !ok {
		return nil, fmt.Errorf("reviewing a %T: want a *rego.Input", review)
	}
	e := d.Data()
	response := &drivers.QueryResponse{}
	for _, c := range cs {
		response.Results = append(response.Results, d.judge(ctx, e, in, c)...)
	}
	return response, nil
}

func (d *Driver) judge(ctx context.Context, e *Data, in *Input, c *unstructured.Unstructured) []*types.Result {
	program, params := d.Lookup(c.GetKind(), c.GetName())
	found, failure := program.Judge(ctx, e, in, params)
	if failure != nil {
		in.Report(Fault{Constraint: c, Cause: failure.Cause, Err: failure.Err, Brief: failure.Brief})
		return nil
	}
	in.evaluated++
	results := make([]*types.Result, len(found))
	for i, f := range found {
		results[i] = &types.Result{Msg: f.Message, Metadata: map[string]any{"details": f.Details}, Constraint: c}
	}
	return results
}

// Checked forgets what a series of CheckOneOfMany needed.
func (d *Driver) Checked() { d.references.giveBack() }

// Lookup returns the program of a kind and the parameters of a constraint, nil
// for what is not known.
func (d *Driver) Lookup(kind, name string) (*Program, *Parameters) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.programs[kind], d.parameters[kind][name]
}

// Interpreted says, by kind, why templates run by OPA's interpreter instead of
// compiled: a hundred times slower, with the same verdicts.
func (d *Driver) Interpreted() map[string]error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := map[string]error{}
	for kind, p := range d.programs {
		if why := p.Refused(); why != nil {
			out[kind] = why
		}
	}
	return out
}

// Dump describes what the driver holds, for debugging.
func (d *Driver) Dump(ctx context.Context) (string, error) {
	d.mu.RLock()
	held := make(map[string][]string, len(d.programs))
	for kind := range d.programs {
		held[kind] = slices.Sorted(maps.Keys(d.parameters[kind]))
	}
	d.mu.RUnlock()
	out, err := json.Marshal(map[string]any{"constraints": held})
	return string(out), err
}

// GetDescriptionForStat knows no statistic: what Fusegate measures, it
// measures outside the framework.
func (d *Driver) GetDescriptionForStat(stat string) (string, error) {
	return "", fmt.Errorf("unknown statistic %q", stat)
}

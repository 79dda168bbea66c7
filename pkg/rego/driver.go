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
	"runtime/debug"
	"slices"
	"sync"

	"github.com/open-policy-agent/frameworks/constraint/pkg/client/drivers"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/drivers/rego/schema"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/reviews"
	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
	"github.com/open-policy-agent/frameworks/constraint/pkg/types"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/policy"
)

// Driver implements drivers.Driver. It is safe for concurrent use; no lock of
// its own is held while a policy is evaluated.
type Driver struct {
	store storage.Store

	mu         sync.RWMutex
	programs   map[string]evaluator            // by constraint kind
	parameters map[string]map[string]*ast.Term // by constraint kind and name

	names nameTable
}

var _ drivers.Driver = (*Driver)(nil)

// NewDriver returns a driver that knows no template.
func NewDriver() *Driver {
	return &Driver{
		store:      inmem.NewWithOpts(inmem.OptRoundTripOnWrite(false), inmem.OptReturnASTValuesOnRead(true)),
		programs:   map[string]evaluator{},
		parameters: map[string]map[string]*ast.Term{},
	}
}

// Name is "Rego", the engine name that templates use.
func (d *Driver) Name() string { return schema.Name }

// Compile checks a template's Rego without keeping the result. Its errors are
// Diagnostics.
func Compile(t *templates.ConstraintTemplate) error {
	_, err := compile(t)
	return err
}

// AddTemplate compiles t and replaces the program of its kind. On error, which
// is of type Diagnostics, the previous program stays.
func (d *Driver) AddTemplate(_ context.Context, t *templates.ConstraintTemplate) error {
	program, err := compile(t)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.programs[t.Spec.CRD.Spec.Names.Kind] = program
	return nil
}

// RemoveTemplate forgets the program and the constraints of t's kind.
func (d *Driver) RemoveTemplate(_ context.Context, t *templates.ConstraintTemplate) error {
	kind := t.Spec.CRD.Spec.Names.Kind
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.programs, kind)
	delete(d.parameters, kind)
	return nil
}

// AddConstraint converts the constraint's parameters. It never fails on
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
		byName = map[string]*ast.Term{}
		d.parameters[c.GetKind()] = byName
	}
	byName[c.GetName()] = params
	return nil
}

// parametersOf returns spec.parameters, {} when there are none.
func parametersOf(c *unstructured.Unstructured) (*ast.Term, error) {
	params, found, err := unstructured.NestedFieldNoCopy(c.Object, "spec", "parameters")
	if err != nil || !found || params == nil {
		params = map[string]any{}
	}
	v, err := ast.InterfaceToValue(params)
	if err != nil {
		return nil, fmt.Errorf("converting spec.parameters of constraint %s: %w", c.GetName(), err)
	}
	return ast.NewTerm(v), nil
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
func (d *Driver) AddData(ctx context.Context, _ string, path storage.Path, data any) error {
	full := inventoryPath(path)
	return storage.Txn(ctx, d.store, storage.WriteParams, func(txn storage.Transaction) error {
		if err := storage.MakeDir(ctx, d.store, txn, full[:len(full)-1]); err != nil {
			return fmt.Errorf("making room at %v: %w", full, err)
		}
		return d.store.Write(ctx, txn, storage.AddOp, full, data)
	})
}

// RemoveData deletes what lies at path. Deleting what is not there is no error.
func (d *Driver) RemoveData(ctx context.Context, _ string, path storage.Path) error {
	err := storage.Txn(ctx, d.store, storage.WriteParams, func(txn storage.Transaction) error {
		return d.store.Write(ctx, txn, storage.RemoveOp, inventoryPath(path), nil)
	})
	if storage.IsNotFound(err) {
		return nil
	}
	return err
}

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
	txn, err := d.store.NewTransaction(ctx)
	if err != nil {
		reportAll(in, cs, fmt.Errorf("opening the inventory: %w", err))
		return &drivers.QueryResponse{}, nil
	}
	defer d.store.Abort(ctx, txn)
	cancel := topdown.NewCancel()
	defer context.AfterFunc(ctx, cancel.Cancel)()

	e := environment{store: d.store, txn: txn, cancel: cancel, cache: &ruleCache{}}
	response := &drivers.QueryResponse{}
	for _, c := range cs {
		response.Results = append(response.Results, d.judge(ctx, e, in, c)...)
	}
	return response, nil
}

func reportAll(in *Input, cs []*unstructured.Unstructured, err error) {
	for _, c := range cs {
		in.Report(Fault{Constraint: c, Cause: policy.CauseInternal, Err: err})
	}
}

func (d *Driver) judge(ctx context.Context, e environment, in *Input, c *unstructured.Unstructured) []*types.Result {
	found, err := d.evaluate(ctx, e, in, c)
	if err != nil {
		in.Report(Fault{Constraint: c, Cause: causeOf(err), Err: evalError{err}, Brief: brief(err)})
		return nil
	}
	in.evaluated++
	results := make([]*types.Result, len(found))
	for i, f := range found {
		results[i] = &types.Result{Msg: f.msg, Metadata: map[string]any{"details": f.details}, Constraint: c}
	}
	return results
}

// errUnknown cannot happen while the framework's client and its driver agree.
var errUnknown = errors.New("the template or constraint was removed during the review")

func (d *Driver) evaluate(ctx context.Context, e environment, in *Input, c *unstructured.Unstructured) ([]finding, error) {
	program, params := d.lookup(c.GetKind(), c.GetName())
	if program == nil || params == nil {
		return nil, errUnknown
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("no time left to evaluate: %w", err)
	}
	review, err := in.term(&d.names)
	if err != nil {
		return nil, fmt.Errorf("converting the review: %w", err)
	}
	input := ast.ObjectTerm(
		ast.Item(ast.InternedTerm("review"), review),
		ast.Item(ast.InternedTerm("parameters"), params),
	)
	return guarded(ctx, program, e, input)
}

// guarded turns a panic of the evaluator into an error: it concerns one
// constraint, and the others are to be judged.
func guarded(ctx context.Context, program evaluator, e environment, input *ast.Term) (found []finding, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{value: p, stack: string(debug.Stack())}
		}
	}()
	return program.evaluate(ctx, e, input)
}

// panicError is what an evaluator panicked with.
type panicError struct {
	value any
	stack string
}

func (e *panicError) Error() string { return fmt.Sprintf("the evaluator panicked: %v", e.value) }

// Stack is where it panicked.
func (e *panicError) Stack() string { return e.stack }

func (d *Driver) lookup(kind, name string) (evaluator, *ast.Term) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.programs[kind], d.parameters[kind][name]
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

package bench

import (
	"context"
	"errors"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/manifest"
	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/policies"
	"github.com/fusegate/fusegate/pkg/suite"
	"github.com/fusegate/fusegate/pkg/trial"
)

// What Load cannot do without.
var (
	ErrNoConstraints = errors.New("no constraint was given that can be judged by: add the files of templates and constraints")
	ErrNoObjects     = errors.New("no object was given besides templates and constraints: add some to judge")
)

// Load reads templates, constraints and objects from files and folders, in any
// order. The objects are the inventory, too. The error joins all that cannot be
// read or judged by. The compiler tries the templates first; nil has them compiled
// without limits.
func Load(ctx context.Context, paths []string, by engine.Compiler) (*Subject, error) {
	var all objects
	var errs []error
	for o, err := range manifest.Read(ctx, manifest.Options{Paths: paths}) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all.add(o)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return all.subject(ctx, paths, by)
}

// objects are what was read, by what it is for.
type objects struct {
	policies []manifest.Object
	others   []manifest.Object
}

func (x *objects) add(o manifest.Object) {
	switch {
	case policies.IsTemplate(o.Unstructured), policies.IsConstraint(o.Unstructured):
		x.policies = append(x.policies, o)
	case o.GroupVersionKind().Group == suite.Group:
	default:
		x.others = append(x.others, o)
	}
}

func (x *objects) subject(ctx context.Context, paths []string, by engine.Compiler) (*Subject, error) {
	if len(x.others) == 0 {
		return nil, ErrNoObjects
	}
	s := &Subject{}
	if err := x.reviews(ctx, s, paths, by); err != nil {
		return nil, err
	}
	if err := x.part(ctx, s, by, All, func(string) bool { return true }); err != nil {
		return nil, err
	}
	if s.Parts[0].Constraints == 0 {
		return nil, ErrNoConstraints
	}
	for _, kind := range x.kinds() {
		if err := x.part(ctx, s, by, kind, func(k string) bool { return k == kind }); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// reviews puts the objects before the engine as fusegate test does. Those that
// name no namespace and need one have the default one afterwards.
func (x *objects) reviews(ctx context.Context, s *Subject, paths []string, by engine.Compiler) error {
	t, err := trial.Prepare(ctx, trial.Options{Input: manifest.Options{Paths: paths}, Compiler: by})
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range x.others {
		r, err := t.Review(o.Unstructured)
		if err != nil {
			errs = append(errs, output.Problem{File: o.File, Line: o.Line, Err: err})
			continue
		}
		s.Reviews = append(s.Reviews, r)
	}
	return errors.Join(errs...)
}

// kinds are those of the constraints.
func (x *objects) kinds() []string {
	kinds := map[string]bool{}
	for _, o := range x.policies {
		if policies.IsConstraint(o.Unstructured) {
			kinds[o.GetKind()] = true
		}
	}
	return slices.Sorted(maps.Keys(kinds))
}

// part adds an engine with the constraints of some kinds.
func (x *objects) part(ctx context.Context, s *Subject, by engine.Compiler, name string, want func(kind string) bool) error {
	set := &policies.Set{}
	for _, o := range x.policies {
		if want(constraintKind(o.Unstructured)) {
			set.Add(o)
		}
	}
	e, err := engine.New()
	if err != nil {
		return err
	}
	e.CompileBy(by)
	added, problems := set.Load(ctx, e)
	var errs []error
	for _, p := range problems {
		errs = append(errs, p)
	}
	s.Parts = append(s.Parts, Part{Name: name, Constraints: added, Engine: e})
	return errors.Join(append(errs, x.fill(ctx, e))...)
}

// constraintKind is the kind of the constraints that a policy is about.
func constraintKind(u *unstructured.Unstructured) string {
	if policies.IsConstraint(u) {
		return u.GetKind()
	}
	kind, _, _ := unstructured.NestedString(u.Object, "spec", "crd", "spec", "names", "kind")
	return kind
}

// fill puts the objects into the engine's inventory, if a policy reads it.
func (x *objects) fill(ctx context.Context, e *engine.Engine) error {
	if len(e.InventoryNeeds()) == 0 {
		return nil
	}
	for _, o := range x.others {
		path := []string{"cluster", o.GetAPIVersion(), o.GetKind(), o.GetName()}
		if ns := o.GetNamespace(); ns != "" {
			path = append([]string{"namespace", ns}, path[1:]...)
		}
		if err := e.AddData(ctx, path, o.DeepCopy().Object); err != nil {
			return output.Problem{File: o.File, Line: o.Line, Err: err}
		}
	}
	return nil
}

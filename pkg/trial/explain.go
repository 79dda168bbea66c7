package trial

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/manifest"
	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/output"
)

// maxExplained is how many pairs of object and constraint are explained: more
// nobody reads.
const maxExplained = 100

// ErrTooMany says that too much was asked to be explained.
var ErrTooMany = fmt.Errorf("more than %d pairs of object and constraint are to be explained: name one with --object and --constraint", maxExplained)

// Selection says what to explain.
type Selection struct {
	// Object is a kind and a name, or a kind, a namespace and a name, or a name
	// alone, with slashes between; empty is every object. Constraint is a kind
	// and a name, or a name; empty is every constraint.
	Object, Constraint string
	// Steps asks for each step of the interpreter.
	Steps bool
}

// Explained is how a constraint comes to what it says of an object.
type Explained struct {
	Object       output.Object     `json:"object"`
	Constraint   output.Constraint `json:"constraint"`
	ConstraintAt string            `json:"constraintAt"`
	// Silent is why the constraint has no say; empty if it has.
	Silent  string         `json:"silent,omitempty"`
	Clauses []match.Clause `json:"clauses"`
	Matches bool           `json:"matches"`
	// Rules are those that fired, Prints what the policy printed.
	Rules    []Rule           `json:"rules"`
	Prints   []string         `json:"prints,omitempty"`
	Findings []output.Finding `json:"findings"`
	Steps    string           `json:"steps,omitempty"`
}

// Rule is one that fired, with the values of its variables.
type Rule struct {
	At     string            `json:"at"`
	Values map[string]string `json:"values"`
}

// Explain explains what is selected, in the order of the manifests, and hands
// over one pair after the other. What is wrong with the policies is in Problems.
func (t *Trial) Explain(ctx context.Context, s Selection, take func(Explained) error) error {
	constraints := t.selected(s.Constraint)
	if len(constraints) == 0 {
		return fmt.Errorf("there is no constraint %s", s.Constraint)
	}
	n := 0
	for object, err := range t.read(ctx, nil, nil) {
		if err != nil && !isProblem(err) {
			return err
		}
		if err != nil || isMachinery(object.Unstructured) {
			continue
		}
		t.settle(object.Unstructured)
		if !selects(s.Object, object.Unstructured) {
			continue
		}
		if n += len(constraints); n > maxExplained {
			return ErrTooMany
		}
		if err := t.explain(ctx, object, constraints, s.Steps, take); err != nil {
			return err
		}
	}
	if n == 0 {
		return fmt.Errorf("there is no object %s: give its kind, namespace and name, as in Pod/default/web", s.Object)
	}
	return nil
}

// Problems are what is wrong with the policies.
func (t *Trial) Problems() []output.Problem { return t.problems }

func (t *Trial) selected(constraint string) []manifest.Object {
	return slices.DeleteFunc(t.set.Constraints(), func(c manifest.Object) bool {
		return constraint != "" && constraint != c.GetName() && !strings.EqualFold(constraint, c.GetKind()+"/"+c.GetName())
	})
}

func selects(object string, u *unstructured.Unstructured) bool {
	name := u.GetName()
	return object == "" || object == name ||
		strings.EqualFold(object, u.GetKind()+"/"+name) || strings.EqualFold(object, u.GetKind()+"/"+u.GetNamespace()+"/"+name)
}

func (t *Trial) explain(ctx context.Context, object manifest.Object, constraints []manifest.Object, steps bool, take func(Explained) error) error {
	r, err := t.Review(object.Unstructured)
	if err != nil {
		return output.Problem{File: object.File, Line: object.Line, Err: err}
	}
	for _, c := range constraints {
		x, err := t.engine.Explain(ctx, r, c.GetKind(), c.GetName(), engine.Tracing{Steps: steps})
		if err != nil {
			return err
		}
		o := describe(object, r)
		out := Explained{
			Object: o, Constraint: output.Constraint{Kind: c.GetKind(), Name: c.GetName()}, ConstraintAt: c.Place(),
			Silent: x.Silent, Clauses: append([]match.Clause{}, x.Clauses...), Matches: x.Matches, Rules: []Rule{},
			Prints: x.Trace.Prints, Steps: x.Trace.Steps, Findings: append([]output.Finding{}, findings(o, x.Result)...),
		}
		for _, f := range x.Trace.Fired {
			out.Rules = append(out.Rules, Rule{At: f.Location, Values: f.Values})
		}
		if err := take(out); err != nil {
			return err
		}
	}
	return nil
}

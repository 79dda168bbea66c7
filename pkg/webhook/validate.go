package webhook

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/policy"
)

// maxName is how long a constraint's name may be: tools put it into labels.
const maxName = 63

// Checker is the part of the engine that validation needs.
type Checker interface {
	CheckTemplate(ctx context.Context, t *engine.Template) error
	CheckConstraint(c *unstructured.Unstructured) error
}

// PolicyValidator validates ConstraintTemplates and constraints.
type PolicyValidator struct {
	checker   Checker
	perimeter exempt.Perimeter
}

// NewPolicyValidator returns a Validator that asks c, and that warns of
// constraints on what p keeps from the webhook.
func NewPolicyValidator(c Checker, p exempt.Perimeter) *PolicyValidator {
	return &PolicyValidator{checker: c, perimeter: p}
}

// Validate implements Validator. An error names the object: one file may hold
// many. A constraint whose template this process does not know is let through
// with a warning: whether it is valid shows in its status, and a replica that
// lags must not refuse what is right. So is a template that could not be compiled
// in time.
func (v *PolicyValidator) Validate(ctx context.Context, r *policy.Review) ([]string, error) {
	object := &unstructured.Unstructured{Object: r.Object}
	if r.Kind.Group == engine.TemplateGroup {
		t, err := engine.ParseTemplate(object)
		if err != nil {
			return nil, err
		}
		err = v.checker.CheckTemplate(ctx, t)
		if errors.Is(err, engine.ErrNoAnswer) {
			return []string{fmt.Sprintf("ConstraintTemplate %q is not validated: %v; see its status", object.GetName(), err)}, nil
		}
		return nil, ofObject(object, err)
	}
	if n := len(object.GetName()); n > maxName {
		return nil, ofObject(object, fmt.Errorf("metadata.name: %d characters long, at most %d are allowed", n, maxName))
	}
	err := v.checker.CheckConstraint(object)
	if engine.IsNoTemplate(err) {
		return []string{fmt.Sprintf("%s %q is not validated: its ConstraintTemplate is still being read, or gone; see its status", r.Kind.Kind, object.GetName())}, nil
	}
	if err != nil {
		return nil, ofObject(object, err)
	}
	return unenforceable(object, v.perimeter), nil
}

// ofObject names the object that err is about.
func ofObject(object *unstructured.Unstructured, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %q: %w", object.GetKind(), object.GetName(), err)
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/open-policy-agent/frameworks/constraint/pkg/apis/constraints"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/policy"
)

// ConstraintGroup is the API group of constraints.
const ConstraintGroup = constraints.Group

// AnnotationOnFault is the annotation of a constraint that says what a request
// comes to when the policy fails on its object.
const AnnotationOnFault = "fusegate.dev/on-fault"

// ErrNoTemplate is returned for a constraint whose template is not, or not
// yet, known to the engine.
var ErrNoTemplate = errors.New("missing ConstraintTemplate")

// CheckConstraint returns what is wrong with a constraint: its schema, match
// block and action. The error is ErrNoTemplate if its template is not known.
func (e *Engine) CheckConstraint(c *unstructured.Unstructured) error {
	if checkReserved(c.GetKind()) != nil {
		return ErrNoTemplate
	}
	_, _, err := e.kinds.check(c)
	return reword(err)
}

// AddConstraint checks c and adds it, or replaces the one with its kind and
// name. On error the previous version stays in force.
func (e *Engine) AddConstraint(_ context.Context, c *unstructured.Unstructured) error {
	if checkReserved(c.GetKind()) != nil {
		return ErrNoTemplate
	}
	return e.addConstraint(c)
}

func (e *Engine) addConstraint(c *unstructured.Unstructured) error {
	held := c.DeepCopy()
	of, crd, err := e.kinds.check(held)
	if err != nil {
		return reword(err)
	}
	if err := complete(held, crd); err != nil {
		return err
	}
	x, err := newEntry(held)
	if err != nil {
		return err
	}
	x.program = of.program
	e.registry.addConstraint(x)
	return nil
}

// RemoveConstraint forgets a constraint. Removing what is not there is no error.
func (e *Engine) RemoveConstraint(_ context.Context, kind, name string) error {
	if checkReserved(kind) != nil {
		return nil // it was never added
	}
	c := &unstructured.Unstructured{}
	c.SetAPIVersion(ConstraintGroup + "/v1beta1")
	c.SetKind(kind)
	c.SetName(name)
	if err := checkIdentity(c); err != nil {
		return err
	}
	e.registry.removeConstraint(kind, name)
	return nil
}

// validateAction refuses actions that nothing acts on, so that a typing error
// does not leave a constraint without effect.
func validateAction(c *unstructured.Unstructured) error {
	action, err := constraints.GetEnforcementAction(c)
	if err != nil {
		return err
	}
	parsed, err := policy.ParseAction(action)
	if err != nil {
		return fmt.Errorf("spec.enforcementAction: %w", err)
	}
	if parsed == policy.Scoped {
		return validateScoped(c)
	}
	return validateOnFault(c)
}

func validateScoped(c *unstructured.Unstructured) error {
	scoped, err := constraints.GetEnforcementActionsForEP(c, policy.EnforcementPoints())
	if err != nil {
		return fmt.Errorf("spec.scopedEnforcementActions: %w", err)
	}
	for _, as := range scoped {
		for _, a := range as {
			if _, err := policy.ParseScopedAction(a); err != nil {
				return fmt.Errorf("spec.scopedEnforcementActions: action %w", err)
			}
		}
	}
	return validateOnFault(c)
}

func validateOnFault(c *unstructured.Unstructured) error {
	v, found := c.GetAnnotations()[AnnotationOnFault]
	if !found || v == string(policy.OnFaultDeny) || v == string(policy.OnFaultAllow) {
		return nil
	}
	return fmt.Errorf("metadata.annotations[%s]: %q is not supported: use %s or %s",
		AnnotationOnFault, v, policy.OnFaultDeny, policy.OnFaultAllow)
}

// describe says who a constraint is and what it asks for at this point.
func describe(c *unstructured.Unstructured, point policy.EnforcementPoint) policy.Constraint {
	gvk := c.GroupVersionKind()
	out := policy.Constraint{
		Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Name: c.GetName(),
		OnFault: policy.OnFault(c.GetAnnotations()[AnnotationOnFault]),
	}
	action, err := constraints.GetEnforcementAction(c)
	if err != nil {
		return out
	}
	out.Action = policy.Action(action)
	if out.Action == policy.Scoped {
		out.ScopedActions = scopedActions(c, point)
	}
	return out
}

// scopedActions are those of a point, or of all if the review has none, as the
// framework has it.
func scopedActions(c *unstructured.Unstructured, point policy.EnforcementPoint) []policy.Action {
	points := []string{string(point)}
	if point == "" {
		points = policy.EnforcementPoints()
	}
	byPoint, err := constraints.GetEnforcementActionsForEP(c, points)
	if err != nil {
		return nil
	}
	var out []policy.Action
	for _, as := range byPoint {
		for _, a := range as {
			out = append(out, policy.Action(a))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// IsNoTemplate tells whether err is, or wraps, ErrNoTemplate.
func IsNoTemplate(err error) bool { return errors.Is(err, ErrNoTemplate) }

// ActsAtAdmission tells whether a constraint can change the answer to an
// admission request: whether it denies or warns there.
func ActsAtAdmission(c *unstructured.Unstructured) bool {
	return describe(c, policy.PointWebhook).ActsOnRequests()
}

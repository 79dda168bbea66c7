package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/open-policy-agent/frameworks/constraint/pkg/client/crds"
	clienterrors "github.com/open-policy-agent/frameworks/constraint/pkg/client/errors"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/match"
)

// TargetName is the one target that templates may name.
const TargetName = "admission.k8s.gatekeeper.sh"

// matchSchema gives the generated CRDs the schema of spec.match.
type matchSchema struct{}

// MatchSchema implements crds.MatchSchemaProvider.
func (matchSchema) MatchSchema() apiextensions.JSONSchemaProps { return match.Schema() }

// createCRD checks a template's names, target and schema, and makes the CRD of
// its constraints as the framework does (Client.CreateCRD in its package
// client). It does not modify t.
func createCRD(ctx context.Context, t *Template) (*apiextensions.CustomResourceDefinition, error) {
	if err := checkNames(t); err != nil {
		return nil, err
	}
	if err := checkTarget(t); err != nil {
		return nil, fmt.Errorf("%w: %w", clienterrors.ErrInvalidConstraintTemplate, err)
	}
	// The framework adds a label to the template that it is given.
	crd, err := crds.CreateCRD(t.DeepCopy(), crds.CreateSchema(t, matchSchema{}))
	if err != nil {
		return nil, err
	}
	if err := crds.ValidateCRD(ctx, crd); err != nil {
		return nil, fmt.Errorf("%w: %w", clienterrors.ErrInvalidConstraintTemplate, err)
	}
	return crd, nil
}

// checkTarget returns what is wrong with a template's target, as the framework
// words it.
func checkTarget(t *Template) error {
	if len(t.Spec.Targets) != 1 {
		return errors.New("must declare exactly one target")
	}
	switch name := t.Spec.Targets[0].Target; name {
	case TargetName:
		return nil
	case "":
		return errors.New("target name must not be empty")
	default:
		return fmt.Errorf("target %q not recognized, known targets [%s]", name, TargetName)
	}
}

// checkSpec checks of a constraint what the schema cannot.
func checkSpec(c *unstructured.Unstructured) error {
	if _, err := compileMatch(c); err != nil {
		return err
	}
	return validateAction(c)
}

func compileMatch(c *unstructured.Unstructured) (*match.Matcher, error) {
	block, _, err := unstructured.NestedFieldNoCopy(c.Object, "spec", "match")
	if err != nil {
		return nil, fmt.Errorf("spec.match: %w", err)
	}
	if block == nil {
		return match.Compile(nil)
	}
	fields, ok := block.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("spec.match: must be an object, got %T", block)
	}
	return match.Compile(fields)
}

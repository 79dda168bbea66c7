package engine

import (
	"fmt"

	"github.com/open-policy-agent/frameworks/constraint/pkg/core/constraints"
	"github.com/open-policy-agent/frameworks/constraint/pkg/handler"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/rego"
)

// TargetName is the one target that templates may name.
const TargetName = "admission.k8s.gatekeeper.sh"

// target tells the constraint framework how Kubernetes objects are matched.
type target struct{}

var _ handler.TargetHandler = target{}

func (target) GetName() string { return TargetName }

// MatchSchema is the schema of spec.match in the generated constraint CRDs.
func (target) MatchSchema() apiextensions.JSONSchemaProps { return match.Schema() }

// HandleReview accepts what Engine.Review passes and nothing else.
func (target) HandleReview(obj any) (bool, any, error) {
	in, ok := obj.(*rego.Input)
	return ok, in, nil
}

// ProcessData handles nothing: inventory goes to the driver directly, since
// the framework would turn its integers into floats.
func (target) ProcessData(any) (bool, []string, any, error) { return false, nil, nil, nil }

// ValidateConstraint checks what the schema cannot.
func (target) ValidateConstraint(c *unstructured.Unstructured) error { return checkTarget(c) }

func checkTarget(c *unstructured.Unstructured) error {
	if _, err := compileMatch(c); err != nil {
		return err
	}
	return validateAction(c)
}

// ToMatcher returns what matches nothing: no review goes through the framework.
func (target) ToMatcher(*unstructured.Unstructured) (constraints.Matcher, error) {
	return matcher{}, nil
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

// matcher matches nothing.
type matcher struct{}

func (matcher) Match(any) (bool, error) { return false, nil }

package engine

import (
	"context"
	"fmt"
	"strings"

	templatesv1 "github.com/open-policy-agent/frameworks/constraint/pkg/apis/templates/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/policy"
)

// The kind of the built-in policy's constraint, and the kind that it denies.
const (
	canaryPolicy = "FusegateCanary"
	canaryGroup  = "fusegate.dev"
	canaryKind   = "Canary"
)

// canaryTemplate denies every canary with its own nonce. It runs as any other
// policy does, so that an answer proves that policies are judged.
const canaryTemplate = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata:
  name: fusegatecanary
spec:
  crd:
    spec:
      names:
        kind: FusegateCanary
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package fusegatecanary

      violation[{"msg": msg}] {
        msg := sprintf("nonce %v", [input.review.object.spec.nonce])
      }
`

const canaryConstraint = `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: FusegateCanary
metadata:
  name: canary
spec:
  match:
    kinds:
    - apiGroups: [fusegate.dev]
      kinds: [Canary]
`

// IsCanary tells whether a review is Fusegate's own question to itself. The
// built-in policy judges it, and no other.
func IsCanary(r *policy.Review) bool {
	return r.Kind.Group == canaryGroup && r.Kind.Kind == canaryKind
}

// addCanary adds the built-in policy.
func (e *Engine) addCanary(ctx context.Context) error {
	versioned := &templatesv1.ConstraintTemplate{}
	if err := yaml.UnmarshalStrict([]byte(canaryTemplate), versioned); err != nil {
		return fmt.Errorf("reading the built-in template: %w", err)
	}
	t, err := versioned.ToVersionless()
	if err != nil {
		return fmt.Errorf("converting the built-in template: %w", err)
	}
	if err := e.addTemplate(ctx, t); err != nil {
		return fmt.Errorf("adding the built-in template: %w", err)
	}
	c := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(canaryConstraint), &c.Object); err != nil {
		return fmt.Errorf("reading the built-in constraint: %w", err)
	}
	if err := e.addConstraint(c); err != nil {
		return fmt.Errorf("adding the built-in constraint: %w", err)
	}
	return nil
}

// checkReserved refuses templates that would take the built-in one's place.
func checkReserved(name string) error {
	if !strings.EqualFold(name, canaryPolicy) {
		return nil
	}
	return fmt.Errorf("metadata.name: %q is reserved: Fusegate's own policy for canaries has this name; choose another", name)
}

func checkTemplateName(t *Template) error {
	if t == nil {
		return nil // checkNames words that
	}
	return checkReserved(t.Name)
}

package engine

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/frameworks/constraint/pkg/apis/constraints"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/crds"
	clienterrors "github.com/open-policy-agent/frameworks/constraint/pkg/client/errors"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/rego"
)

// kinds are the templates: what constraints are checked against and judged by.
// Of a kind's CRD the parameters' schema is kept, and the rest, which is the same
// for all, once: whole CRDs would take more memory than all else that the engine
// holds.
type kinds struct {
	mu     sync.RWMutex
	byName map[string]*kind // by template name, which is the kind in lower case
	// shell is the schema of a constraint without parameters.
	shell *apiextensions.JSONSchemaProps
}

// kind is a template, as constraints see it. It is immutable.
type kind struct {
	name string // of the kind, as it is written
	// spec is a digest of the template's.
	spec [sha256.Size]byte
	// parameters is the schema of spec.parameters; nil if there is none.
	parameters *apiextensions.JSONSchemaProps
	program    *rego.Program
}

func newKinds() *kinds { return &kinds{byName: map[string]*kind{}} }

// of returns the kind of a template, nil if it is not known.
func (k *kinds) of(template string) *kind {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.byName[template]
}

func (k *kinds) remove(template string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.byName, template)
}

// interpreted says, by the kinds' names, why their programs are interpreted.
func (k *kinds) interpreted() map[string]error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := map[string]error{}
	for _, of := range k.byName {
		if why := of.program.Refused(); why != nil {
			out[of.name] = why
		}
	}
	return out
}

// put remembers a template with this CRD and program.
func (k *kinds) put(t *Template, spec [sha256.Size]byte, crd *apiextensions.CustomResourceDefinition, program *rego.Program) *kind {
	shell := *crd.Spec.Validation.OpenAPIV3Schema
	fields := shell.Properties["spec"]
	out := &kind{name: t.Spec.CRD.Spec.Names.Kind, spec: spec, program: program}
	if p, found := fields.Properties["parameters"]; found {
		delete(fields.Properties, "parameters")
		out.parameters = &p
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.shell == nil {
		k.shell = &shell
	}
	k.byName[t.Name] = out
	return out
}

// definition is the part of the CRD of a kind that a constraint is checked by.
func (k *kinds) definition(of *kind) *apiextensions.CustomResourceDefinition {
	k.mu.RLock()
	shell := *k.shell
	k.mu.RUnlock()
	if of.parameters != nil {
		fields := shell.Properties["spec"]
		fields.Properties = maps.Clone(fields.Properties)
		fields.Properties["parameters"] = *of.parameters
		shell.Properties = maps.Clone(shell.Properties)
		shell.Properties["spec"] = fields
	}
	return &apiextensions.CustomResourceDefinition{Spec: apiextensions.CustomResourceDefinitionSpec{
		Names:      apiextensions.CustomResourceDefinitionNames{Kind: of.name},
		Validation: &apiextensions.CustomResourceValidation{OpenAPIV3Schema: &shell},
	}}
}

// check returns a constraint's kind, what it is checked by, and what is wrong
// with it.
func (k *kinds) check(c *unstructured.Unstructured) (*kind, *apiextensions.CustomResourceDefinition, error) {
	if err := checkIdentity(c); err != nil {
		return nil, nil, err
	}
	name := strings.ToLower(c.GetKind())
	of := k.of(name)
	if of == nil {
		return nil, nil, fmt.Errorf("%w: template %q not found", ErrNoTemplate, name)
	}
	if err := checkSpec(c); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", constraints.ErrInvalidConstraint, err)
	}
	if err := checkSize(c); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", constraints.ErrInvalidConstraint, err)
	}
	crd := k.definition(of)
	return of, crd, crds.ValidateCR(c, crd)
}

// checkIdentity refuses what is not a constraint.
func checkIdentity(c *unstructured.Unstructured) error {
	gvk := c.GroupVersionKind()
	switch {
	case c.GetName() == "":
		return fmt.Errorf("%w: missing metadata.name", constraints.ErrInvalidConstraint)
	case gvk.Kind == "":
		return fmt.Errorf("%w: missing kind", constraints.ErrInvalidConstraint)
	case gvk.Group != ConstraintGroup:
		return fmt.Errorf("%w: wrong API Group %q of constraint %q: use %s", constraints.ErrInvalidConstraint, gvk.Group, c.GetName(), ConstraintGroup)
	}
	return nil
}

// complete gives a constraint the defaults of its kind.
func complete(c *unstructured.Unstructured, crd *apiextensions.CustomResourceDefinition) error {
	structural, err := schema.NewStructural(crd.Spec.Validation.OpenAPIV3Schema)
	if err != nil {
		return err
	}
	defaulting.Default(c.Object, structural)
	return nil
}

// addKind compiles t, unless it is known as it is, and remembers what came of it.
// Constraints in force cannot change their target.
func (e *Engine) addKind(ctx context.Context, t *Template) (*kind, error) {
	if err := checkNames(t); err != nil {
		return nil, err
	}
	if len(t.Spec.Targets) == 1 && t.Spec.Targets[0].Target != "" && t.Spec.Targets[0].Target != TargetName && e.registry.has(t.Name) {
		return nil, fmt.Errorf("%w: old targets [%s], new targets [%s]", clienterrors.ErrChangeTargets, TargetName, t.Spec.Targets[0].Target)
	}
	text, err := json.Marshal(t.Spec)
	if err != nil {
		return nil, fmt.Errorf("reading the spec of ConstraintTemplate %q: %w", t.Name, err)
	}
	digest := sha256.Sum256(text)
	before := e.kinds.of(t.Name)
	if before != nil && before.spec == digest {
		return before, nil
	}
	crd, err := createCRD(ctx, t)
	if err != nil {
		return nil, err
	}
	if !runs(t) {
		return nil, fmt.Errorf("ConstraintTemplate %q has no code for an engine that Fusegate has: add Rego to spec.targets[0] (its engines: %s)",
			t.Name, strings.Join(engines(t), ", "))
	}
	// The reviews do not wait for it: it is done elsewhere.
	if err := e.rego.Try(ctx, t); err != nil {
		return nil, err
	}
	defer e.yield(ctx, time.Now())
	program, err := e.rego.Compile(ctx, t)
	if err != nil {
		return nil, err
	}
	if before != nil {
		e.rego.Forget(before.program)
	}
	return e.kinds.put(t, digest, crd, program), nil
}

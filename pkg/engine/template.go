package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	templatesv1 "github.com/open-policy-agent/frameworks/constraint/pkg/apis/templates/v1"
	templatesv1alpha1 "github.com/open-policy-agent/frameworks/constraint/pkg/apis/templates/v1alpha1"
	templatesv1beta1 "github.com/open-policy-agent/frameworks/constraint/pkg/apis/templates/v1beta1"
	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	"github.com/fusegate/fusegate/pkg/rego"
)

// TemplateGroup is the API group of ConstraintTemplates.
const TemplateGroup = "templates.gatekeeper.sh"

// Template is a ConstraintTemplate in the framework's version-less form.
type Template = templates.ConstraintTemplate

var scheme = newScheme()

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		apiextensionsv1.AddToScheme, apiextensions.AddToScheme,
	} {
		utilruntime.Must(add(s))
	}
	return s
}

// ParseTemplate reads a ConstraintTemplate of any served version, with the
// defaults of that version applied. It does not modify u.
func ParseTemplate(u *unstructured.Unstructured) (*Template, error) {
	gvk := u.GroupVersionKind()
	if gvk.Group != TemplateGroup || gvk.Kind != "ConstraintTemplate" {
		return nil, fmt.Errorf("%s %q is not a ConstraintTemplate of %s", gvk, u.GetName(), TemplateGroup)
	}
	versioned, err := versionedTemplate(gvk.Version)
	if err != nil {
		return nil, fmt.Errorf("ConstraintTemplate %q: %w", u.GetName(), err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.DeepCopy().Object, versioned); err != nil {
		return nil, fmt.Errorf("reading ConstraintTemplate %q: %w", u.GetName(), err)
	}
	t, err := versioned.ToVersionless()
	if err != nil {
		return nil, fmt.Errorf("converting ConstraintTemplate %q: %w", u.GetName(), err)
	}
	return t, nil
}

func versionedTemplate(version string) (interface{ ToVersionless() (*Template, error) }, error) {
	switch version {
	case "v1":
		return &templatesv1.ConstraintTemplate{}, nil
	case "v1beta1":
		return &templatesv1beta1.ConstraintTemplate{}, nil
	case "v1alpha1":
		return &templatesv1alpha1.ConstraintTemplate{}, nil
	}
	return nil, fmt.Errorf("apiVersion %s/%s is not supported: use %s/v1", TemplateGroup, version, TemplateGroup)
}

// CheckTemplate returns what is wrong with a template: its names, its parameter
// schema, its Rego; or ErrNoAnswer. The engine is not changed.
func (e *Engine) CheckTemplate(ctx context.Context, t *Template) error {
	if err := checkTemplateName(t); err != nil {
		return err
	}
	if _, err := createCRD(ctx, t); err != nil {
		return reword(err)
	}
	return e.rego.CheckTemplate(ctx, t)
}

// ConstraintCRD generates the CustomResourceDefinition of the template's
// constraint kind. It differs from the framework's in its status: byPod and
// conditions are lists keyed by id and type, so that every pod can own its own
// entry by server-side apply, and everything else in status is kept.
func (e *Engine) ConstraintCRD(ctx context.Context, t *Template) (*apiextensionsv1.CustomResourceDefinition, error) {
	internal, err := createCRD(ctx, t)
	if err != nil {
		return nil, err
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := scheme.Convert(internal, crd, nil); err != nil {
		return nil, fmt.Errorf("converting the CRD of ConstraintTemplate %q: %w", t.Name, err)
	}
	crd.SetGroupVersionKind(apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"))
	for i := range crd.Spec.Versions {
		v := &crd.Spec.Versions[i]
		v.Schema.OpenAPIV3Schema.Properties["status"] = constraintStatusSchema()
		v.AdditionalPrinterColumns = append(v.AdditionalPrinterColumns, apiextensionsv1.CustomResourceColumnDefinition{
			Name: "exempt-violations", Type: "integer", JSONPath: ".status.exemptViolations.total", Priority: 1,
			Description: "Violations of objects in exempt namespaces, where nothing is enforced.",
		}, apiextensionsv1.CustomResourceColumnDefinition{
			Name: "enforced", Type: "string", JSONPath: `.status.conditions[?(@.type=="Enforced")].status`,
			Description: "Whether the next request that it matches is judged by it at admission.",
		}, apiextensionsv1.CustomResourceColumnDefinition{
			Name: "age", Type: "date", JSONPath: ".metadata.creationTimestamp",
		})
	}
	crd.Status = apiextensionsv1.CustomResourceDefinitionStatus{}
	return crd, nil
}

func constraintStatusSchema() apiextensionsv1.JSONSchemaProps {
	return apiextensionsv1.JSONSchemaProps{
		Type:                   "object",
		XPreserveUnknownFields: ptrTo(true),
		Properties: map[string]apiextensionsv1.JSONSchemaProps{
			"byPod":      listByKey("id"),
			"conditions": listByKey("type"),
		},
	}
}

// listByKey is a list of objects of any fields, merged by key.
func listByKey(key string) apiextensionsv1.JSONSchemaProps {
	return apiextensionsv1.JSONSchemaProps{
		Type:         "array",
		XListType:    ptrTo("map"),
		XListMapKeys: []string{key},
		Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &apiextensionsv1.JSONSchemaProps{
			Type:                   "object",
			XPreserveUnknownFields: ptrTo(true),
			Required:               []string{key},
			Properties:             map[string]apiextensionsv1.JSONSchemaProps{key: {Type: "string"}},
		}},
	}
}

func ptrTo[T any](v T) *T { return &v }

// AddTemplate compiles t and replaces what was known of its kind. Constraints
// that were added before stay. On error, which may be ErrNoAnswer, the previous
// version stays in force.
func (e *Engine) AddTemplate(ctx context.Context, t *Template) error {
	if err := checkTemplateName(t); err != nil {
		return err
	}
	return e.addTemplate(ctx, t)
}

func (e *Engine) addTemplate(ctx context.Context, t *Template) error {
	k, err := e.addKind(ctx, t)
	if err != nil {
		return reword(err)
	}
	e.registry.addTemplate(t, k.program, e.observer.Timer(k.name))
	return nil
}

// yieldShare is how many times as long as a change took the next one waits
// while reviews are judged.
const yieldShare = 4

// yield leaves reviews the processors for a while after a change that was begun
// at start by this process: compiling takes milliseconds and makes garbage. While nothing is
// judged, changes follow each other without a pause.
func (e *Engine) yield(ctx context.Context, start time.Time) {
	if e.reviewing.Load() > 0 {
		rest(ctx, yieldShare*time.Since(start))
	}
}

// runs tells whether a template has code in a language that is evaluated.
func runs(t *Template) bool { return slices.Contains(engines(t), rego.EngineName) }

func engines(t *Template) []string {
	var out []string
	for _, target := range t.Spec.Targets {
		for _, code := range target.Code {
			out = append(out, code.Engine)
		}
	}
	if len(out) == 0 {
		return []string{"none"}
	}
	return out
}

// RemoveTemplate forgets the template with this name and its constraints.
// Removing what is not there is no error.
func (e *Engine) RemoveTemplate(_ context.Context, name string) error {
	if checkReserved(name) != nil {
		return nil // it was never added
	}
	if k := e.kinds.of(name); k != nil {
		e.rego.Forget(k.program)
		e.kinds.remove(name)
	}
	e.registry.removeTemplate(name)
	e.observer.Forget(name)
	return nil
}

// Problem is one thing wrong with a template.
type Problem struct {
	// Code is a stable identifier; empty when the problem is not in the Rego.
	Code    string
	Message string
	// Location is where in the Rego, as in "rego:3:7" or "libs[0]:2:1".
	Location string
}

// Problems takes an error of AddTemplate or CheckTemplate apart.
func Problems(err error) []Problem {
	var ds rego.Diagnostics
	if !errors.As(err, &ds) {
		return []Problem{{Message: err.Error()}}
	}
	out := make([]Problem, len(ds))
	for i, d := range ds {
		out[i] = Problem(d)
	}
	return out
}

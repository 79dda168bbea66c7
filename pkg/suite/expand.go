package suite

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/policy"
)

const expansionGroup = "expansion.gatekeeper.sh"

// expansion is an ExpansionTemplate: objects of some kinds imply an object of
// another, as a Deployment implies a Pod. Only suites expand; nothing in the
// cluster does.
type expansion struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		ApplyTo []struct {
			Groups   []string `json:"groups"`
			Versions []string `json:"versions"`
			Kinds    []string `json:"kinds"`
		} `json:"applyTo"`
		TemplateSource string `json:"templateSource"`
		GeneratedGVK   struct {
			Group   string `json:"group"`
			Version string `json:"version"`
			Kind    string `json:"kind"`
		} `json:"generatedGVK"`
	} `json:"spec"`
}

func (e *expansion) generated() schema.GroupVersionKind {
	return schema.GroupVersionKind(e.Spec.GeneratedGVK)
}

func (e *expansion) appliesTo(gvk schema.GroupVersionKind) bool {
	for _, a := range e.Spec.ApplyTo {
		if slices.Contains(a.Groups, gvk.Group) && slices.Contains(a.Versions, gvk.Version) && slices.Contains(a.Kinds, gvk.Kind) {
			return true
		}
	}
	return false
}

func parseExpansion(u *unstructured.Unstructured) (*expansion, error) {
	if gvk := u.GroupVersionKind(); gvk.Group != expansionGroup || gvk.Kind != "ExpansionTemplate" {
		return nil, fmt.Errorf("%s is not an ExpansionTemplate of %s", name(u), expansionGroup)
	}
	e := &expansion{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, e); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name(u), err)
	}
	switch {
	case e.Metadata.Name == "":
		return nil, errors.New("metadata.name is missing")
	case len(e.Spec.ApplyTo) == 0:
		return nil, errors.New("spec.applyTo is missing or empty")
	case e.Spec.TemplateSource == "":
		return nil, errors.New("spec.templateSource is missing")
	case e.generated().Empty():
		return nil, errors.New("spec.generatedGVK is missing")
	case e.appliesTo(e.generated()):
		return nil, fmt.Errorf("spec.applyTo includes what spec.generatedGVK generates, %s", e.generated())
	}
	return e, nil
}

// implied is an object that another implies, and by which expansion.
type implied struct {
	by     string
	object *unstructured.Unstructured
}

// maxDepth bounds how far what is implied implies more.
const maxDepth = 30

// expand returns all that an object implies, directly or not.
func expand(es []*expansion, parent *unstructured.Unstructured, depth int) ([]implied, error) {
	if depth == maxDepth {
		return nil, fmt.Errorf("objects imply one another, more than %d levels deep", maxDepth)
	}
	var out []implied
	for _, e := range es {
		if !e.appliesTo(parent.GroupVersionKind()) {
			continue
		}
		child, err := e.apply(parent)
		if err != nil {
			return nil, fmt.Errorf("expanding %s by %s: %w", name(parent), e.Metadata.Name, err)
		}
		more, err := expand(es, child, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(append(out, implied{e.Metadata.Name, child}), more...)
	}
	return out, nil
}

// apply makes the implied object as the controller of its parent would: from the
// parent's template, in its namespace, under a name after its own, owned by it.
func (e *expansion) apply(parent *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	source, found, err := unstructured.NestedMap(parent.Object, strings.Split(e.Spec.TemplateSource, ".")...)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("it has no %s", e.Spec.TemplateSource)
	}
	child := &unstructured.Unstructured{Object: source}
	child.SetGroupVersionKind(e.generated())
	if ns := parent.GetNamespace(); ns != "" {
		child.SetNamespace(ns)
	}
	child.SetName(strings.ToLower(parent.GetName() + "-" + e.generated().Kind))
	child.SetOwnerReferences(append(child.GetOwnerReferences(), metav1.OwnerReference{
		APIVersion: parent.GetAPIVersion(), Kind: parent.GetKind(), Name: parent.GetName(),
	}))
	return child, nil
}

// review puts the implied object before the engine.
func (i implied) review(inventory []*unstructured.Unstructured) *policy.Review {
	r := objectReview(i.object)
	r.NamespaceObject = namespaceIn(inventory, r.Namespace)
	r.Source, r.Point = policy.SourceGenerated, policy.PointCLI
	return r
}

// word marks what was found in the implied object.
func (i implied) word(f findings) findings {
	prefix := "[Implied by " + i.by + "] "
	for n := range f.violations {
		f.violations[n] = prefix + f.violations[n]
	}
	for n := range f.faults {
		f.faults[n] = prefix + f.faults[n]
	}
	return f
}

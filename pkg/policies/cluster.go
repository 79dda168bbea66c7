package policies

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/manifest"
	"github.com/fusegate/fusegate/pkg/output"
)

// Cluster is the place of what was read from a cluster.
const Cluster = "cluster"

const pageSize = 500

var templates = schema.GroupVersionResource{Group: engine.TemplateGroup, Version: "v1", Resource: "constrainttemplates"}

// ErrNoTemplates says that the cluster has no such thing as a template.
var ErrNoTemplates = errors.New("the cluster serves no ConstraintTemplates: install Fusegate in it, or give templates and constraints as files")

// AddCluster adds what is in force in a cluster: all templates and constraints
// or, if constraints were added before, only the templates that those lack. What
// cannot be read is a problem; the error is ErrNoTemplates or the end of ctx.
func (s *Set) AddCluster(ctx context.Context, c dynamic.Interface) error {
	own := len(s.constraints) > 0
	if own && !slices.ContainsFunc(s.Kinds(), s.lacks) {
		return nil
	}
	found, err := list(ctx, c, templates)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("reading templates: %w", context.Cause(ctx))
	case apierrors.IsNotFound(err) && own:
		return nil // what lacks its template is told below
	case apierrors.IsNotFound(err):
		return ErrNoTemplates
	case err != nil:
		s.clusterProblem(fmt.Errorf("reading ConstraintTemplates: %w", err))
		return nil
	}
	for i := range found {
		if err := s.addFromCluster(ctx, c, &found[i], own); err != nil {
			return err
		}
	}
	return nil
}

// addFromCluster adds a template of the cluster, and its constraints unless own
// ones are to be judged by.
func (s *Set) addFromCluster(ctx context.Context, c dynamic.Interface, template *unstructured.Unstructured, own bool) error {
	kind, _, _ := unstructured.NestedString(template.Object, "spec", "crd", "spec", "names", "kind")
	if own {
		if s.lacks(kind) {
			s.Add(manifest.Object{Unstructured: template, File: Cluster})
		}
		return nil
	}
	s.Add(manifest.Object{Unstructured: template, File: Cluster})
	gvr := schema.GroupVersionResource{Group: engine.ConstraintGroup, Version: "v1beta1", Resource: strings.ToLower(kind)}
	found, err := list(ctx, c, gvr)
	if ctx.Err() != nil {
		return fmt.Errorf("reading constraints: %w", context.Cause(ctx))
	}
	if apierrors.IsNotFound(err) && template.GetDeletionTimestamp() == nil {
		err = fmt.Errorf("the cluster does not serve the kind: see the status of ConstraintTemplate %s", template.GetName())
	}
	if err != nil {
		s.clusterProblem(fmt.Errorf("reading the constraints of kind %s: %w", kind, err))
	}
	for i := range found {
		s.Add(manifest.Object{Unstructured: &found[i], File: Cluster})
	}
	return nil
}

// lacks tells whether there are constraints of a kind, but no template.
func (s *Set) lacks(kind string) bool {
	if s.HasTemplate(kind) {
		return false
	}
	for _, c := range s.constraints {
		if c.GetKind() == kind {
			return true
		}
	}
	return false
}

func (s *Set) clusterProblem(err error) {
	s.problems = append(s.problems, output.Problem{File: Cluster, Err: err})
}

// list reads all objects of a resource, and those it could read if it fails.
func list(ctx context.Context, c dynamic.Interface, gvr schema.GroupVersionResource) ([]unstructured.Unstructured, error) {
	var out []unstructured.Unstructured
	o := metav1.ListOptions{Limit: pageSize}
	for {
		page, err := c.Resource(gvr).List(ctx, o)
		if meta.IsNoMatchError(err) {
			err = apierrors.NewNotFound(gvr.GroupResource(), "")
		}
		if err != nil {
			return out, err
		}
		out = append(out, page.Items...)
		if o.Continue = page.GetContinue(); o.Continue == "" {
			return out, nil
		}
	}
}

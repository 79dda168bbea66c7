package webhook

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/policy"
)

// Parents reads what a request changes without showing it: the Pod of a Binding, and
// what a Scale scales.
type Parents interface {
	// Object reads an object past every cache. It is nil if there is none of that
	// name.
	Object(ctx context.Context, of schema.GroupVersionResource, namespace, name string) (map[string]any, error)
	// Replicas is the path of the field of a resource that scaling changes.
	Replicas(ctx context.Context, of schema.GroupVersionResource) ([]string, error)
}

// scaleReviewer is the part of an engine that judges by some constraints only.
type scaleReviewer interface {
	ReviewBy(ctx context.Context, r *policy.Review, by func(kind, name string) bool) policy.Result
	Reading(path ...string) (by func(kind, name string) bool, found bool)
}

// errGone is wrapped where the object that a request is about is not there.
var errGone = errors.New("not found")

// judge has a request judged, by the object that it changes where it carries another.
func (h *Handler) judge(ctx context.Context, r *policy.Review) (policy.Result, error) {
	switch gr := r.Resource.GroupResource(); {
	case exempt.IsBinding(gr, r.SubResource):
		pod, err := h.bound(ctx, r)
		if err != nil {
			return policy.Result{}, err
		}
		return h.reviewer.Review(ctx, pod), nil
	case r.SubResource == "scale" && r.Operation == policy.Update:
		return h.judgeScale(ctx, r)
	}
	return h.reviewer.Review(ctx, r), nil
}

// bound is the review of the Pod that a Binding changes, as it becomes (Kubernetes
// pkg/registry/core/pod/storage, setPodNodeAndMetadata).
func (h *Handler) bound(ctx context.Context, r *policy.Review) (*policy.Review, error) {
	binding := unstructured.Unstructured{Object: r.Object}
	name := binding.GetName()
	if name == "" {
		name = r.Name
	}
	pods := corev1.SchemeGroupVersion.WithResource("pods")
	old, err := h.parent(ctx, pods, r.Namespace, name)
	if err != nil {
		return nil, err
	}
	pod := runtime.DeepCopyJSON(old)
	metadata, spec := within(pod, "metadata"), within(pod, "spec")
	brought := within(r.Object, "metadata")
	for _, field := range []string{"labels", "annotations"} {
		if more := within(brought, field); len(more) > 0 {
			merged := within(metadata, field)
			if merged == nil {
				merged = map[string]any{}
				metadata[field] = merged
			}
			maps.Copy(merged, more)
		}
	}
	if node, found, _ := unstructured.NestedString(r.Object, "target", "name"); found && spec != nil {
		spec["nodeName"] = node
	}
	out := updateOf(r, pod, old)
	out.Resource, out.SubResource, out.Name = pods, "binding", name
	return out, nil
}

// judgeScale judges a Scale by the constraints that match Scales, and what it scales
// by those whose policy may read how many replicas there are.
func (h *Handler) judgeScale(ctx context.Context, r *policy.Review) (policy.Result, error) {
	result := h.reviewer.Review(ctx, r)
	engine, ok := h.reviewer.(scaleReviewer)
	if !ok || h.parents == nil {
		return result, nil
	}
	path, err := h.parents.Replicas(ctx, r.Resource)
	if err != nil {
		return result, fmt.Errorf("reading which field scaling %s changes: %w", r.Resource.GroupResource(), err)
	}
	by, found := engine.Reading(path...)
	if !found {
		return result, nil
	}
	old, err := h.parent(ctx, r.Resource, r.Namespace, r.Name)
	if err != nil {
		return result, err
	}
	scaled, err := withReplicas(old, path, r.Object)
	if err != nil || scaled == nil {
		return result, err
	}
	more := engine.ReviewBy(ctx, updateOf(r, scaled, old), by)
	merge(&result, more)
	return result, nil
}

// withReplicas is an object with as many replicas as a Scale says, nil if it has
// them.
func withReplicas(old map[string]any, path []string, scale map[string]any) (map[string]any, error) {
	replicas, found, err := unstructured.NestedFieldNoCopy(scale, "spec", "replicas")
	if err != nil {
		return nil, badRequest("reading the Scale: %w", err)
	}
	if !found {
		replicas = int64(0)
	}
	before, had, err := unstructured.NestedFieldNoCopy(old, path...)
	if err == nil && had && reflect.DeepEqual(before, replicas) {
		return nil, nil
	}
	scaled := runtime.DeepCopyJSON(old)
	if err := unstructured.SetNestedField(scaled, replicas, path...); err != nil {
		return nil, fmt.Errorf("setting the replicas of what is scaled: %w", err)
	}
	return scaled, nil
}

// merge adds what was found of an object to what was found of the Scale that changes
// it. What a constraint says of one it need not say of the other.
func merge(into *policy.Result, more policy.Result) {
	said := map[string]bool{}
	for _, v := range into.Violations {
		said[v.Constraint.String()] = true
	}
	for _, v := range more.Violations {
		if !said[v.Constraint.String()] {
			into.Violations = append(into.Violations, v)
		}
	}
	for _, m := range more.More {
		if !said[m.Constraint.String()] {
			into.More = append(into.More, m)
		}
	}
	into.Faults = append(into.Faults, more.Faults...)
	into.CutOff = append(into.CutOff, more.CutOff...)
	into.Evaluated += more.Evaluated
	into.Sort()
}

// parent reads an object that must be there.
func (h *Handler) parent(ctx context.Context, of schema.GroupVersionResource, namespace, name string) (map[string]any, error) {
	if h.parents == nil {
		return nil, fmt.Errorf("reading %s %s/%s: there is nobody to ask", of.GroupResource(), namespace, name)
	}
	object, err := h.parents.Object(ctx, of, namespace, name)
	if err != nil {
		return nil, fmt.Errorf("reading %s %s/%s, which the request changes: %w", of.GroupResource(), namespace, name, err)
	}
	if object == nil {
		return nil, fmt.Errorf("%s %q %w", of.GroupResource(), name, errGone)
	}
	return object, nil
}

// updateOf is the review of an update that a request makes in another guise.
func updateOf(r *policy.Review, object, old map[string]any) *policy.Review {
	out := *r
	u := unstructured.Unstructured{Object: object}
	out.Kind, out.Operation = u.GroupVersionKind(), policy.Update
	out.Object, out.OldObject, out.Request = object, old, nil
	return &out
}

// within is a part of an object, nil if it is not there.
func within(object map[string]any, field string) map[string]any {
	part, _ := object[field].(map[string]any)
	return part
}

// notFound answers what the API server is about to answer itself: what a request is
// to change is not there. To let it through would let in what is created meanwhile.
func notFound(uid string, err error) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{
		UID:    types.UID(uid),
		Result: &metav1.Status{Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound, Message: err.Error()},
	}
}

// ClusterParents are Parents by an API server.
type ClusterParents struct{ client dynamic.Interface }

// NewClusterParents reads by a client that must not have a limit of its own: who
// could make it wait would have requests let through.
func NewClusterParents(c dynamic.Interface) *ClusterParents { return &ClusterParents{client: c} }

// Object implements Parents.
func (p *ClusterParents) Object(ctx context.Context, of schema.GroupVersionResource, namespace, name string) (map[string]any, error) {
	u, err := p.client.Resource(of).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return u.Object, nil
}

// definitions are the resource of CustomResourceDefinitions.
var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// Replicas implements Parents: of a custom resource the definition says it, and of
// what has none it is spec.replicas, as of Kubernetes' own.
func (p *ClusterParents) Replicas(ctx context.Context, of schema.GroupVersionResource) ([]string, error) {
	usual := []string{"spec", "replicas"}
	if of.Group == "" || of.Group == "apps" {
		return usual, nil
	}
	definition, err := p.Object(ctx, definitions, "", of.Resource+"."+of.Group)
	if err != nil || definition == nil {
		return usual, err
	}
	versions, _, _ := unstructured.NestedSlice(definition, "spec", "versions")
	for _, v := range versions {
		version, _ := v.(map[string]any)
		path, _, _ := unstructured.NestedString(version, "subresources", "scale", "specReplicasPath")
		if version["name"] == of.Version && path != "" {
			return strings.Split(strings.Trim(path, "."), "."), nil
		}
	}
	return usual, nil
}

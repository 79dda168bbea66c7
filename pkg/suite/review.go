package suite

import (
	"errors"
	"fmt"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/policy"
)

// reviewOf puts the object of a case before the engine, as it is or, if it is
// an AdmissionReview, as the request that it holds. inventory are the objects
// beside it, among which its namespace may be.
func reviewOf(u *unstructured.Unstructured, inventory []*unstructured.Unstructured) (*policy.Review, error) {
	gvk := u.GroupVersionKind()
	r, err := objectReview(u), error(nil)
	if gvk.Kind == "AdmissionReview" && gvk.Group == admissionv1.GroupName {
		r, err = requestReview(u)
	}
	if err != nil {
		return nil, err
	}
	r.NamespaceObject = namespaceIn(inventory, r.Namespace)
	r.Source, r.Point = policy.SourceOriginal, policy.PointCLI
	return r, nil
}

// objectReview has no operation and no user, like a review made by audit:
// whoever wants them writes an AdmissionReview.
func objectReview(u *unstructured.Unstructured) *policy.Review {
	return &policy.Review{
		Kind: u.GroupVersionKind(), Name: u.GetName(), Namespace: u.GetNamespace(), Object: u.Object,
	}
}

var (
	errNoRequest = errors.New("the AdmissionReview has no request")
	errNoObject  = errors.New("request.object and request.oldObject are both missing: there is nothing to review")
)

func requestReview(u *unstructured.Unstructured) (*policy.Review, error) {
	typed := &admissionv1.AdmissionReview{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u.Object, typed, true); err != nil {
		return nil, fmt.Errorf("reading the AdmissionReview: %w", err)
	}
	request, _ := u.Object["request"].(map[string]any)
	if request == nil {
		return nil, errNoRequest
	}
	r, err := withObjects(request)
	if err != nil {
		return nil, err
	}
	q := typed.Request
	r.UID, r.SubResource, r.UserInfo = string(q.UID), q.SubResource, q.UserInfo
	r.Resource, r.Operation = schema.GroupVersionResource(q.Resource), policy.Operation(q.Operation)
	if r.Operation == policy.Delete {
		if r.OldObject == nil {
			return nil, errors.New("request.oldObject is missing: in a DELETE it is the object that is deleted")
		}
		r.Object = r.OldObject
	}
	identify(r, q)
	r.Request = request
	return r, nil
}

// withObjects reads object and oldObject, of which there is at least one. An
// object says of which kind it is, or else nothing could tell whether the
// constraint matches.
func withObjects(request map[string]any) (*policy.Review, error) {
	r := &policy.Review{}
	for field, out := range map[string]*map[string]any{"object": &r.Object, "oldObject": &r.OldObject} {
		v, found := request[field]
		if !found || v == nil {
			continue
		}
		o, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("request.%s: want an object, got %T", field, v)
		}
		if kind, _ := o["kind"].(string); kind == "" {
			return nil, fmt.Errorf("request.%s.kind is missing", field)
		}
		*out = o
	}
	if r.Object == nil && r.OldObject == nil {
		return nil, errNoObject
	}
	return r, nil
}

// identify says what the request is about: what its object says of itself, and
// what the request says where the object is silent. Hand-written requests often
// leave out what the API server would repeat.
func identify(r *policy.Review, q *admissionv1.AdmissionRequest) {
	u := unstructured.Unstructured{Object: r.Object}
	if r.Object == nil {
		u.Object = r.OldObject
	}
	r.Kind = u.GroupVersionKind()
	if r.Name = u.GetName(); r.Name == "" {
		r.Name = q.Name
	}
	if r.Namespace = u.GetNamespace(); r.Namespace == "" {
		r.Namespace = q.Namespace
	}
}

// namespaceIn finds the Namespace with this name among the objects. One that is
// not there is not known, and a constraint that selects by its labels cannot be
// judged.
func namespaceIn(objects []*unstructured.Unstructured, name string) policy.Namespace {
	for _, u := range slices.Backward(objects) {
		gvk := u.GroupVersionKind()
		if name != "" && gvk.Group == "" && gvk.Kind == "Namespace" && u.GetName() == name {
			return policy.Namespace{Known: true, Object: u.Object}
		}
	}
	return policy.Namespace{}
}

// inventoryPath is where data.inventory holds an object.
func inventoryPath(u *unstructured.Unstructured) []string {
	where := []string{u.GetAPIVersion(), u.GetKind(), u.GetName()}
	if u.GetNamespace() == "" {
		return append([]string{"cluster"}, where...)
	}
	return append([]string{"namespace", u.GetNamespace()}, where...)
}

// found sorts out what the engine says.
func found(result policy.Result) findings {
	var f findings
	for _, v := range result.Violations {
		f.violations = append(f.violations, v.Message)
	}
	for _, fault := range result.Faults {
		f.faults = append(f.faults, faultText(fault))
	}
	return f
}

func faultText(f policy.Fault) string {
	if f.Cause == policy.CauseMatch {
		return fmt.Sprintf("the constraint could not be matched: %v (missing Namespace: add it to the inventory of the case)", f.Err)
	}
	return fmt.Sprintf("the policy failed on this object: %v", f.Err)
}

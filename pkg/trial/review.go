package trial

import (
	"cmp"
	"errors"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/policy"
)

func isAdmissionReview(u *unstructured.Unstructured) bool {
	return u.GroupVersionKind().Group == admissionv1.GroupName && u.GetKind() == "AdmissionReview"
}

// Review makes of an object the review that its creation would be, and of an
// AdmissionReview the one that it stands for.
func (t *Trial) Review(u *unstructured.Unstructured) (*policy.Review, error) {
	if isAdmissionReview(u) {
		return t.requested(u)
	}
	t.settle(u)
	gvk := u.GroupVersionKind()
	r := &policy.Review{
		Kind: gvk, Name: u.GetName(), Namespace: u.GetNamespace(), Operation: policy.Create,
		Object: u.Object, Source: policy.SourceOriginal, Point: policy.PointCLI,
	}
	if r.IsNamespace() {
		r.Namespace = r.Name // as the API server has it
	}
	r.NamespaceObject = t.lookup(r.Namespace)
	return r, nil
}

var errNoRequest = errors.New("request: is missing on this AdmissionReview: add it")

// requested reads the request of an AdmissionReview as the webhook does, but for
// what only an API server needs: it may lack a UID and the resource.
func (t *Trial) requested(u *unstructured.Unstructured) (*policy.Review, error) {
	request, _ := u.Object["request"].(map[string]any)
	if request == nil {
		return nil, errNoRequest
	}
	typed, err := header(request)
	if err != nil {
		return nil, err
	}
	r := &policy.Review{
		UID: string(typed.UID), Kind: schema.GroupVersionKind(typed.Kind), Resource: schema.GroupVersionResource(typed.Resource),
		SubResource: typed.SubResource, Operation: policy.Operation(typed.Operation), UserInfo: typed.UserInfo,
		Source: policy.SourceOriginal, Request: request, Point: policy.PointCLI,
	}
	if r.Object, err = objectOf(request, "object"); err != nil {
		return nil, err
	}
	if r.OldObject, err = objectOf(request, "oldObject"); err != nil {
		return nil, err
	}
	if r.Operation == policy.Delete {
		r.Object = r.OldObject
	}
	return t.identify(r, typed)
}

// identify says what the request is about; what it leaves out is taken from its
// object.
func (t *Trial) identify(r *policy.Review, typed *admissionv1.AdmissionRequest) (*policy.Review, error) {
	object := unstructured.Unstructured{Object: r.Object}
	if r.Object == nil {
		object.Object = r.OldObject
	}
	if object.Object == nil && r.Operation != policy.Connect {
		return nil, errors.New("request: has neither object nor oldObject: add the one that the operation has")
	}
	if r.Kind.Kind == "" && object.Object != nil {
		r.Kind = object.GroupVersionKind()
	}
	if r.Kind.Kind == "" {
		return nil, errors.New("request.kind.kind: is missing: add it")
	}
	r.Name, r.Namespace = typed.Name, typed.Namespace
	if object.Object != nil {
		r.Name = cmp.Or(r.Name, object.GetName())
		r.Namespace = cmp.Or(r.Namespace, object.GetNamespace())
	}
	r.NamespaceObject = t.lookup(r.Namespace)
	return r, nil
}

// header reads the fields of a request but the objects.
func header(request map[string]any) (*admissionv1.AdmissionRequest, error) {
	small := make(map[string]any, len(request))
	for k, v := range request {
		if k != "object" && k != "oldObject" && k != "options" {
			small[k] = v
		}
	}
	typed := &admissionv1.AdmissionRequest{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(small, typed); err != nil {
		return nil, fmt.Errorf("reading the request of this AdmissionReview: %w", err)
	}
	switch typed.Operation {
	case "", admissionv1.Create, admissionv1.Update, admissionv1.Delete, admissionv1.Connect:
		return typed, nil
	}
	return nil, fmt.Errorf("request.operation: is %q: use CREATE, UPDATE, DELETE or CONNECT", typed.Operation)
}

func objectOf(request map[string]any, field string) (map[string]any, error) {
	switch v := request[field].(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return v, nil
	default:
		return nil, fmt.Errorf("request.%s: must be an object", field)
	}
}

package webhook

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/fusegate/fusegate/pkg/policy"
)

// httpError is an answer that is not an AdmissionReview. The API server then
// applies the webhook's failurePolicy, which an AdmissionReview would evade.
type httpError struct {
	code int
	err  error
}

func (e *httpError) Error() string { return e.err.Error() }
func (e *httpError) Unwrap() error { return e.err }

func badRequest(format string, args ...any) error {
	return &httpError{http.StatusBadRequest, fmt.Errorf(format, args...)}
}

// checkHeader refuses what cannot be an AdmissionReview before its body is read.
func checkHeader(r *http.Request, limit int64) error {
	if r.Method != http.MethodPost {
		return &httpError{http.StatusMethodNotAllowed, fmt.Errorf("method %s: want POST", r.Method)}
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return &httpError{http.StatusUnsupportedMediaType, fmt.Errorf("content type %q: want application/json", r.Header.Get("Content-Type"))}
	}
	if r.ContentLength > limit {
		return tooLarge(limit)
	}
	return nil
}

func tooLarge(limit int64) error {
	return &httpError{http.StatusRequestEntityTooLarge, fmt.Errorf("body larger than %d bytes", limit)}
}

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, tooLarge(limit)
	}
	if err != nil {
		return nil, badRequest("reading the body: %w", err)
	}
	return body, nil
}

// decode reads the body of an admission.k8s.io/v1 AdmissionReview. Integers
// stay integers, so that messages show them as written.
func decode(body []byte) (*policy.Review, error) {
	var doc map[string]any
	if err := utiljson.Unmarshal(body, &doc); err != nil {
		return nil, badRequest("decoding the AdmissionReview: %w", err)
	}
	want := admissionv1.SchemeGroupVersion.String()
	if doc["kind"] != "AdmissionReview" || doc["apiVersion"] != want {
		return nil, badRequest("got %v of %v: want AdmissionReview of %s", doc["kind"], doc["apiVersion"], want)
	}
	request, ok := doc["request"].(map[string]any)
	if !ok {
		return nil, badRequest("the AdmissionReview has no request")
	}
	return reviewOf(request)
}

func reviewOf(request map[string]any) (*policy.Review, error) {
	typed, err := header(request)
	if err != nil {
		return nil, err
	}
	if typed.UID == "" {
		return nil, badRequest("request.uid is empty")
	}
	r := &policy.Review{
		UID:         string(typed.UID),
		Kind:        schema.GroupVersionKind(typed.Kind),
		Resource:    schema.GroupVersionResource(typed.Resource),
		SubResource: typed.SubResource,
		Name:        typed.Name,
		Namespace:   typed.Namespace,
		Operation:   policy.Operation(typed.Operation),
		UserInfo:    typed.UserInfo,
		Source:      policy.SourceOriginal,
		Request:     request,
		Point:       policy.PointWebhook,
	}
	if r.Object, err = object(request, "object"); err != nil {
		return nil, err
	}
	if r.OldObject, err = object(request, "oldObject"); err != nil {
		return nil, err
	}
	if r.Operation == policy.Delete && r.Object == nil {
		r.Object = r.OldObject
	}
	return r, nil
}

// header reads the typed fields of a request, all but the objects.
func header(request map[string]any) (*admissionv1.AdmissionRequest, error) {
	small := make(map[string]any, len(request))
	for k, v := range request {
		if k != "object" && k != "oldObject" && k != "options" {
			small[k] = v
		}
	}
	typed := &admissionv1.AdmissionRequest{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(small, typed); err != nil {
		return nil, badRequest("reading the request: %w", err)
	}
	return typed, nil
}

func object(request map[string]any, field string) (map[string]any, error) {
	switch v := request[field].(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return v, nil
	default:
		return nil, badRequest("request.%s is a %T: want an object", field, v)
	}
}

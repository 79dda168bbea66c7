package webhook

import (
	"bytes"
	"encoding/json"
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
	"github.com/fusegate/fusegate/pkg/rawjson"
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

// checkTransport refuses what cannot be an AdmissionReview before its body is
// read.
func checkTransport(r *http.Request) error {
	if r.Method != http.MethodPost {
		return &httpError{http.StatusMethodNotAllowed, fmt.Errorf("method %s: want POST", r.Method)}
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return &httpError{http.StatusUnsupportedMediaType, fmt.Errorf("content type %q: want application/json", r.Header.Get("Content-Type"))}
	}
	if r.ContentLength > maxBody {
		return tooLarge(maxBody)
	}
	return nil
}

func tooLarge(limit int64) error {
	return &httpError{http.StatusRequestEntityTooLarge, fmt.Errorf("body larger than %d bytes", limit)}
}

// decode reads the body of an admission.k8s.io/v1 AdmissionReview. Integers
// stay integers, so that messages show them as written.
func decode(body []byte) (*policy.Review, error) {
	doc, err := document(body)
	if err != nil {
		return nil, badRequest("decoding the AdmissionReview: %w", err)
	}
	version, _ := doc["apiVersion"].(string)
	kind, _ := doc["kind"].(string)
	if want := admissionv1.SchemeGroupVersion.String(); kind != "AdmissionReview" || version != want {
		return nil, badRequest("got %.80q of %.80q: want AdmissionReview of %s", kind, version, want)
	}
	request, ok := doc["request"].(map[string]any)
	if !ok {
		return nil, badRequest("the AdmissionReview has no request")
	}
	return reviewOf(request)
}

// document decodes the body, in one pass if it is as plain as bodies are.
func document(body []byte) (map[string]any, error) {
	if doc, ok := rawjson.Decode(body); ok {
		fields, _ := doc.(map[string]any)
		if _, ok := fields["request"].(map[string]any); ok {
			return fields, nil
		}
	}
	return envelope(body) // which words what is wrong
}

// envelope decodes an AdmissionReview and its request field by field, the
// values of the fields each on its own. JSON decoders take 10000 levels of
// nesting (maxNestingDepth in sigs.k8s.io/json). The API server has read the
// object by itself and sends it two levels down, so in one go its deepest
// objects could not be read and would pass unjudged.
//
// A field that comes twice is an error: readers differ in which one counts.
func envelope(body []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	doc, err := fields(d, func(name string) (any, error) {
		if name != "request" {
			return value(d)
		}
		return fields(d, func(string) (any, error) { return value(d) })
	})
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the AdmissionReview")
	}
	return doc, nil
}

// fields reads an object, of which read decodes the value of each field.
func fields(d *json.Decoder, read func(name string) (any, error)) (map[string]any, error) {
	start, err := d.Token()
	if err != nil {
		return nil, err
	}
	if start != json.Delim('{') {
		return nil, fmt.Errorf("got %.80v: want an object", start)
	}
	out := map[string]any{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		key := name.(string) // Nothing else is a name in JSON.
		if _, found := out[key]; found {
			return nil, fmt.Errorf("field %.80q comes twice", key)
		}
		if out[key], err = read(key); err != nil {
			return nil, fmt.Errorf("field %.80q: %w", key, err)
		}
	}
	_, err = d.Token()
	return out, err
}

// value decodes the next value as the API server decodes objects.
func value(d *json.Decoder) (any, error) {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return nil, err
	}
	var out any
	err := utiljson.Unmarshal(raw, &out)
	return out, err
}

func reviewOf(request map[string]any) (*policy.Review, error) {
	typed, err := header(request)
	if err != nil {
		return nil, err
	}
	if err := checkHeader(typed); err != nil {
		return nil, err
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
	if r.Operation == policy.Delete {
		r.Object = r.OldObject
	}
	if r.Object == nil && r.Operation != policy.Connect {
		return nil, badRequest("the request to %s %s has no object", r.Operation, r.Kind)
	}
	return r, nil
}

// checkHeader refuses a request that lacks what matching goes by.
func checkHeader(r *admissionv1.AdmissionRequest) error {
	switch r.Operation {
	case admissionv1.Create, admissionv1.Update, admissionv1.Delete, admissionv1.Connect:
	default:
		return badRequest("request.operation is %.80q: want CREATE, UPDATE, DELETE or CONNECT", r.Operation)
	}
	if r.UID == "" || r.Kind.Kind == "" || r.Resource.Resource == "" {
		return badRequest("request.uid, request.kind.kind or request.resource.resource is empty")
	}
	return nil
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

package webhook_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/webhook"
	"github.com/fusegate/fusegate/test/env"
)

// plane is shared by all tests that need one.
var plane env.Shared

func TestMain(m *testing.M) { os.Exit(env.Run(m, &plane)) }

// reviewerFunc is a Reviewer.
type reviewerFunc func(context.Context, *policy.Review) policy.Result

func (f reviewerFunc) Review(ctx context.Context, r *policy.Review) policy.Result { return f(ctx, r) }

// finds is a Reviewer that always finds the same.
func finds(r policy.Result) reviewerFunc {
	return func(context.Context, *policy.Review) policy.Result { return r }
}

// unreachable is a Reviewer that must not be asked.
func unreachable(t *testing.T) reviewerFunc {
	return func(_ context.Context, r *policy.Review) policy.Result {
		t.Errorf("the reviewer was asked about %s %s %s", r.Operation, r.Kind, r.Name)
		return policy.Result{}
	}
}

// validatorFunc is a Validator.
type validatorFunc func(context.Context, *policy.Review) ([]string, error)

func (f validatorFunc) Validate(ctx context.Context, r *policy.Review) ([]string, error) {
	return f(ctx, r)
}

// namespaces is a Namespaces that knows these.
type namespaces map[string]map[string]any

func (n namespaces) Namespace(_ context.Context, name string) policy.Namespace {
	object, known := n[name]
	return policy.Namespace{Known: known, Object: object}
}

// parts of a handler; the zero value allows everything.
type parts struct {
	reviewer   webhook.Reviewer
	validator  webhook.Validator
	namespaces namespaces
	options    webhook.Options
}

func newHandler(t testing.TB, p parts) *webhook.Handler {
	t.Helper()
	if p.reviewer == nil {
		p.reviewer = finds(policy.Result{})
	}
	if p.validator == nil {
		p.validator = validatorFunc(func(context.Context, *policy.Review) ([]string, error) { return nil, nil })
	}
	h, err := webhook.New(exempt.Perimeter{}, p.reviewer, p.validator, p.namespaces, p.options)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// request is an AdmissionReview of a ConfigMap in its JSON form, changed by the
// given fields of its request; a nil value removes a field.
func request(t testing.TB, changes map[string]any) string {
	t.Helper()
	fields := map[string]any{
		"uid":       "705ab4f5-6393-11e8-b7cc-42010a800002",
		"kind":      map[string]any{"group": "", "version": "v1", "kind": "ConfigMap"},
		"resource":  map[string]any{"group": "", "version": "v1", "resource": "configmaps"},
		"name":      "cm",
		"namespace": "tenant",
		"operation": "CREATE",
		"userInfo":  map[string]any{"username": "ann", "groups": []string{"dev"}},
		"object":    configMap(),
		"oldObject": json.RawMessage("null"),
		"dryRun":    false,
		"options":   map[string]any{"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
	}
	for k, v := range changes {
		fields[k] = v
		if v == nil {
			delete(fields, k)
		}
	}
	text, err := json.Marshal(map[string]any{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": fields})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func configMap() map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": "cm", "namespace": "tenant"},
		"data":     map[string]any{"a": "b"},
	}
}

// post sends body as the API server does.
func post(h http.Handler, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, webhook.Path+"?timeout=3s", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// answered decodes an answer and wants one.
func answered(t *testing.T, w *httptest.ResponseRecorder) *admissionv1.AdmissionResponse {
	t.Helper()
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &review); err != nil || w.Code != http.StatusOK || review.Response == nil {
		t.Fatalf("got %d %q, want an AdmissionReview", w.Code, w.Body)
	}
	return review.Response
}

// failed wants an answer to which the API server applies its failurePolicy,
// and nothing in it that could be read as a verdict.
func failed(t *testing.T, w *httptest.ResponseRecorder, code int, text string) {
	t.Helper()
	body := w.Body.String()
	if w.Code != code || !strings.Contains(body, text) {
		t.Errorf("got %d %q, want %d with %q", w.Code, body, code, text)
	}
	if strings.Contains(body, "allowed") || strings.Contains(body, "response") || strings.Contains(w.Header().Get("Content-Type"), "json") {
		t.Errorf("got %q as %s, which reads like a verdict", body, w.Header().Get("Content-Type"))
	}
}

// counted returns the value of a counter with one label.
func counted(t *testing.T, reg *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

package policy_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/fusegate/fusegate/pkg/policy"
)

var (
	pod       = map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "p", "generation": int64(7)}}
	oldPod    = map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "p", "generation": int64(6)}}
	namespace = map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "ns"}}
	user      = authenticationv1.UserInfo{
		Username: "ann", UID: "1", Groups: []string{"dev", "ops"},
		Extra: map[string]authenticationv1.ExtraValue{"scopes": {"a", "b"}},
	}
)

// decoded is v as the API server would send it, read with its own rules.
func decoded(t *testing.T, v any) map[string]any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := utiljson.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func request(t *testing.T) *admissionv1.AdmissionRequest {
	t.Helper()
	raw := func(v any) runtime.RawExtension {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return runtime.RawExtension{Raw: text}
	}
	dryRun := true
	return &admissionv1.AdmissionRequest{
		UID: "u", Operation: admissionv1.Update, DryRun: &dryRun,
		Kind:            metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
		Resource:        metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
		SubResource:     "status",
		RequestKind:     &metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
		RequestResource: &metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
		Name:            "p", Namespace: "ns", UserInfo: user,
		Object: raw(pod), OldObject: raw(oldPod),
		Options: raw(map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": "UpdateOptions"}),
	}
}

// TestInputOfRequest: what Rego reads is the API server's AdmissionRequest and
// one field more.
func TestInputOfRequest(t *testing.T) {
	sent := decoded(t, request(t))
	r := &policy.Review{
		Request: sent, Object: pod, OldObject: oldPod,
		NamespaceObject: policy.Namespace{Known: true, Object: namespace},
	}
	want := decoded(t, request(t))
	want["namespaceObject"] = namespace
	if diff := cmp.Diff(want, r.Input()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestInputOfFields: a review made without a request reads like the request
// that the API server would have sent, save for what only a request has.
func TestInputOfFields(t *testing.T) {
	r := &policy.Review{
		UID: "u", Operation: policy.Update, SubResource: "status", Name: "p", Namespace: "ns", UserInfo: user,
		Kind:     schema.GroupVersionKind{Version: "v1", Kind: "Pod"},
		Resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"},
		Object:   pod, OldObject: oldPod,
	}
	want := decoded(t, request(t))
	for _, k := range []string{"dryRun", "requestKind", "requestResource"} {
		delete(want, k)
	}
	want["options"], want["namespaceObject"] = nil, nil
	if diff := cmp.Diff(want, r.Input()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestInputOfAudit(t *testing.T) {
	r := &policy.Review{Kind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, Object: pod}
	want := map[string]any{
		"uid": "", "operation": "", "userInfo": map[string]any{}, "options": nil,
		"kind":     map[string]any{"group": "apps", "version": "v1", "kind": "Deployment"},
		"resource": map[string]any{"group": "", "version": "", "resource": ""},
		"object":   pod, "oldObject": nil, "namespaceObject": nil,
	}
	if diff := cmp.Diff(want, r.Input()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestInputCannotBeForged: fields that a request brings beside what was decoded
// from it have no say.
func TestInputCannotBeForged(t *testing.T) {
	r := &policy.Review{
		Object: pod,
		Request: map[string]any{
			"object": map[string]any{"forged": true}, "oldObject": map[string]any{"forged": true},
			"namespaceObject": map[string]any{"forged": true},
		},
	}
	want := map[string]any{"object": pod, "oldObject": nil, "namespaceObject": nil}
	if diff := cmp.Diff(want, r.Input()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestInputIsTheCallers: changing the top level changes neither the review nor
// the next Input.
func TestInputIsTheCallers(t *testing.T) {
	for name, r := range map[string]*policy.Review{
		"request": {Request: map[string]any{"uid": "u", "operation": "CREATE"}, Object: pod},
		"fields":  {UID: "u", Operation: policy.Create, Object: pod},
	} {
		t.Run(name, func(t *testing.T) {
			want := r.Input()
			in := r.Input()
			clear(in)
			in["object"] = "mine"
			if diff := cmp.Diff(want, r.Input()); diff != "" {
				t.Errorf("the review changed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIsNamespace(t *testing.T) {
	for kind, want := range map[schema.GroupVersionKind]bool{
		{Version: "v1", Kind: "Namespace"}:                       true,
		{Version: "v9", Kind: "Namespace"}:                       true,
		{Version: "v1", Kind: "namespace"}:                       false,
		{Version: "v1", Kind: "Pod"}:                             false,
		{Group: "example.com", Version: "v1", Kind: "Namespace"}: false,
	} {
		if got := (&policy.Review{Kind: kind}).IsNamespace(); got != want {
			t.Errorf("%v: got %t, want %t", kind, got, want)
		}
	}
}

package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/webhook"
)

// reviewed returns what the reviewer was asked for body.
func reviewed(t *testing.T, body string, known namespaces) *policy.Review {
	t.Helper()
	var got *policy.Review
	h := newHandler(t, parts{namespaces: known, reviewer: reviewerFunc(func(_ context.Context, r *policy.Review) policy.Result {
		got = r
		return policy.Result{}
	})})
	answered(t, post(h, body))
	if got == nil {
		t.Fatal("the reviewer was not asked")
	}
	return got
}

// TestReview: the reviewer gets the request as it was sent.
func TestReview(t *testing.T) {
	ns := map[string]any{"metadata": map[string]any{"name": "tenant"}}
	body := request(t, map[string]any{
		"operation": "UPDATE", "subResource": "x", "oldObject": map[string]any{"old": true},
		"userInfo": map[string]any{"username": "ann", "uid": "1", "groups": []string{"dev"}, "extra": map[string]any{"k": []string{"v"}}},
	})
	got := reviewed(t, body, namespaces{"tenant": ns})
	want := &policy.Review{
		UID: "705ab4f5-6393-11e8-b7cc-42010a800002", Operation: policy.Update, SubResource: "x", Name: "cm", Namespace: "tenant",
		Kind:     schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"},
		Resource: schema.GroupVersionResource{Version: "v1", Resource: "configmaps"},
		UserInfo: authenticationv1.UserInfo{
			Username: "ann", UID: "1", Groups: []string{"dev"}, Extra: map[string]authenticationv1.ExtraValue{"k": {"v"}},
		},
		Object: configMap(), OldObject: map[string]any{"old": true}, Source: policy.SourceOriginal,
		NamespaceObject: policy.Namespace{Known: true, Object: ns},
		Request:         decoded(t, body)["request"].(map[string]any),
		Point:           policy.PointWebhook,
		Bounded:         true, AnswerBy: got.AnswerBy, // see TestTimesOfAReview
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func decoded(t testing.TB, text string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := utiljson.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestReviewOf looks at one thing in a review each.
func TestReviewOf(t *testing.T) {
	old := map[string]any{"metadata": map[string]any{"name": "gone"}}
	exec := map[string]any{"kind": "PodExecOptions", "apiVersion": "v1", "stdin": true, "command": []any{"sh"}}
	cases := map[string]struct {
		reason string
		body   string
		look   func(*policy.Review) any
		want   any
	}{
		"DeleteObject": {
			"DELETE has the old object as its object", request(t, map[string]any{"operation": "DELETE", "object": json.RawMessage("null"), "oldObject": old}),
			func(r *policy.Review) any { return []any{r.Object, r.OldObject} }, []any{old, old},
		},
		"DeleteInput": {
			"also for Rego", request(t, map[string]any{"operation": "DELETE", "object": nil, "oldObject": old}),
			func(r *policy.Review) any { return []any{r.Input()["object"], r.Input()["oldObject"]} }, []any{old, old},
		},
		"DeleteForged": {
			"a DELETE has no object of its own", request(t, map[string]any{"operation": "DELETE", "oldObject": old}),
			func(r *policy.Review) any { return r.Input()["object"] }, old,
		},
		"GenerateName": {
			"a CREATE may have no name", request(t, map[string]any{"name": nil}),
			func(r *policy.Review) any { return r.Name }, "",
		},
		"Connect": {
			"CONNECT is judged by its options",
			request(t, map[string]any{
				"operation": "CONNECT", "subResource": "exec", "object": exec,
				"kind":     map[string]any{"group": "", "version": "v1", "kind": "PodExecOptions"},
				"resource": map[string]any{"group": "", "version": "v1", "resource": "pods"},
			}),
			func(r *policy.Review) any {
				return []any{r.Kind.Kind, r.Resource.Resource, r.SubResource, r.Object, r.Input()["object"]}
			},
			[]any{"PodExecOptions", "pods", "exec", exec, exec},
		},
		"ConnectWithoutOptions": {
			"CONNECT may have no options", request(t, map[string]any{"operation": "CONNECT", "object": nil}),
			func(r *policy.Review) any { return r.Input()["object"] }, nil,
		},
		"EphemeralContainers": {
			"a subresource is named",
			request(t, map[string]any{
				"operation": "UPDATE", "subResource": "ephemeralcontainers", "oldObject": old,
				"resource": map[string]any{"group": "", "version": "v1", "resource": "pods"},
			}),
			func(r *policy.Review) any {
				return []any{r.Resource.Resource, r.SubResource, r.Input()["subResource"]}
			},
			[]any{"pods", "ephemeralcontainers", "ephemeralcontainers"},
		},
		"ServiceStatus": {
			"also status",
			request(t, map[string]any{
				"operation": "UPDATE", "subResource": "status", "oldObject": old,
				"resource": map[string]any{"group": "", "version": "v1", "resource": "services"},
			}),
			func(r *policy.Review) any { return []any{r.Resource.Resource, r.SubResource} }, []any{"services", "status"},
		},
		"Integers": {
			"integers stay integers, fractions floats, and what fits into neither is the float the API server stores",
			raw(t, `{"a":1000000,"b":9223372036854775807,"c":-9007199254740993,"d":0.5,"e":1.0,"f":1e3,"g":18446744073709551616}`),
			func(r *policy.Review) any { return r.Object },
			map[string]any{
				"a": int64(1000000), "b": int64(9223372036854775807), "c": int64(-9007199254740993),
				"d": 0.5, "e": 1.0, "f": 1000.0, "g": 18446744073709551616.0,
			},
		},
		"KeysByCase": {
			"keys that differ in case are different keys", raw(t, `{"Spec":1,"spec":2,"SPEC":3}`),
			func(r *policy.Review) any { return r.Object }, map[string]any{"Spec": int64(1), "spec": int64(2), "SPEC": int64(3)},
		},
		"KeysTwice": {
			"of a key that comes twice in an object the last counts, as it does for the API server", raw(t, `{"a":{"x":1},"a":{"y":2}}`),
			func(r *policy.Review) any { return r.Object }, map[string]any{"a": map[string]any{"y": int64(2)}},
		},
		"EscapedKeys": {
			"an escaped key is the key", raw(t, `{"\u0061":1}`),
			func(r *policy.Review) any { return r.Object }, map[string]any{"a": int64(1)},
		},
		"InvalidUTF8": {
			"what is no UTF-8 is replaced as by the API server", raw(t, "{\"a\":\"\xff\\ud800\",\"\xfe\":1}"),
			func(r *policy.Review) any { return r.Object }, map[string]any{"a": "\ufffd\ufffd", "\ufffd": int64(1)},
		},
		"ForgedNamespaceObject": {
			"the request cannot bring its namespace", request(t, map[string]any{"namespaceObject": old}),
			func(r *policy.Review) any { return r.Input()["namespaceObject"] }, nil,
		},
		"ForgedTwin": {
			"a field that is an object's name but for case is no object", request(t, map[string]any{"Object": old, "Operation": "DELETE"}),
			func(r *policy.Review) any { return []any{r.Operation, r.Input()["object"]} }, []any{policy.Create, configMap()},
		},
		"UnknownNamespace": {
			"a namespace that is not found is not known", request(t, nil),
			func(r *policy.Review) any { return r.NamespaceObject }, policy.Namespace{},
		},
		"Namespace": {
			"a Namespace does not live in itself",
			request(t, map[string]any{
				"namespace": "known", "name": "known",
				"kind":     map[string]any{"group": "", "version": "v1", "kind": "Namespace"},
				"resource": map[string]any{"group": "", "version": "v1", "resource": "namespaces"},
			}),
			func(r *policy.Review) any { return r.NamespaceObject }, policy.Namespace{},
		},
		"ClusterScoped": {
			"what has no namespace looks for none", request(t, map[string]any{"namespace": nil}),
			func(r *policy.Review) any { return r.NamespaceObject }, policy.Namespace{},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := tc.look(reviewed(t, tc.body, namespaces{"known": {"a": "b"}, "": {"c": "d"}}))
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestDeepestObject: the API server takes objects of up to 10000 levels and
// sends them two levels down. Seen on kube-apiserver 1.36: such an object is
// stored whatever becomes of its review.
func TestDeepestObject(t *testing.T) {
	for _, body := range []string{
		raw(t, nested(10000)),
		strings.Replace(request(t, map[string]any{"operation": "UPDATE", "oldObject": "OLD"}), `"OLD"`, nested(10000), 1),
	} {
		r := reviewed(t, body, nil)
		depth := 0
		for at, ok := r.Input()["object"].(map[string]any); ok; at, ok = at["a"].(map[string]any) {
			depth++
		}
		if r.Operation == policy.Create && depth != 10000 {
			t.Errorf("got %d levels, want 10000", depth)
		}
	}
}

// TestDeadline: the reviewer has what the API server said it waits, less the
// time for the answer, and no more than three seconds.
func TestDeadline(t *testing.T) {
	const slack = 150 * time.Millisecond
	for query, want := range map[string]time.Duration{
		"":               2500 * time.Millisecond,
		"?timeout=3s":    2500 * time.Millisecond,
		"?timeout=30s":   2500 * time.Millisecond,
		"?timeout=1s":    833 * time.Millisecond,
		"?timeout=300ms": 250 * time.Millisecond,
		"?timeout=0s":    2500 * time.Millisecond,
		"?timeout=-1s":   2500 * time.Millisecond,
		"?timeout=soon":  2500 * time.Millisecond,
	} {
		t.Run(query, func(t *testing.T) {
			var left time.Duration
			h := newHandler(t, parts{reviewer: reviewerFunc(func(ctx context.Context, _ *policy.Review) policy.Result {
				deadline, _ := ctx.Deadline()
				left = time.Until(deadline)
				return policy.Result{}
			})})
			r := httptest.NewRequest(http.MethodPost, webhook.Path+query, strings.NewReader(request(t, nil)))
			r.Header.Set("Content-Type", "application/json")
			h.ServeHTTP(httptest.NewRecorder(), r)
			if left > want || left < want-slack {
				t.Errorf("got %s, want a little less than %s", left, want)
			}
		})
	}
}

// TestExempt: what the perimeter keeps out does not reach the reviewer, should
// the API server send it all the same.
func TestExempt(t *testing.T) {
	for name, changes := range map[string]map[string]any{
		"Namespace": {"namespace": "kube-system"},
		"User":      {"userInfo": map[string]any{"username": "system:apiserver"}},
		"Node":      {"userInfo": map[string]any{"username": "system:node:a", "groups": []string{"system:nodes"}}},
		"Lease": {
			"resource": map[string]any{"group": "coordination.k8s.io", "version": "v1", "resource": "leases"},
			"kind":     map[string]any{"group": "coordination.k8s.io", "version": "v1", "kind": "Lease"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := answered(t, post(newHandler(t, parts{reviewer: unreachable(t)}), request(t, changes)))
			if !got.Allowed || got.Result.Code != http.StatusOK || got.Result.Message != "" || len(got.Warnings) != 0 {
				t.Errorf("got %+v, want a plain allow", got)
			}
		})
	}
}

// TestPolicyObjects: templates and constraints are validated, never judged.
func TestPolicyObjects(t *testing.T) {
	of := func(group, kind, resource string, changes map[string]any) string {
		all := map[string]any{
			"namespace": nil, "name": "x",
			"kind":     map[string]any{"group": group, "version": "v1beta1", "kind": kind},
			"resource": map[string]any{"group": group, "version": "v1beta1", "resource": resource},
		}
		for k, v := range changes {
			all[k] = v
		}
		return request(t, all)
	}
	deleting := map[string]any{"metadata": map[string]any{"name": "x", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
	cases := map[string]struct {
		reason  string
		changes map[string]any
		refused bool
	}{
		"Create":   {"what is wrong is refused", nil, true},
		"Update":   {"also in an update", map[string]any{"operation": "UPDATE", "oldObject": configMap()}, true},
		"Delete":   {"what is wrong may go", map[string]any{"operation": "DELETE", "oldObject": configMap()}, false},
		"Deleting": {"and lose its finalizers", map[string]any{"operation": "UPDATE", "object": deleting, "oldObject": deleting}, false},
		"Status":   {"and its status be written", map[string]any{"operation": "UPDATE", "subResource": "status", "oldObject": configMap()}, false},
	}
	for name, tc := range cases {
		for _, body := range []string{
			of("templates.gatekeeper.sh", "ConstraintTemplate", "constrainttemplates", tc.changes),
			of("constraints.gatekeeper.sh", "K", "k", tc.changes),
		} {
			t.Run(name, func(t *testing.T) {
				h := newHandler(t, parts{
					reviewer:  unreachable(t),
					options:   webhook.Options{Ready: func() error { return fmt.Errorf("not yet") }},
					validator: validatorFunc(func(context.Context, *policy.Review) ([]string, error) { return nil, fmt.Errorf("spec is wrong") }),
				})
				got := answered(t, post(h, body))
				if got.Allowed == tc.refused {
					t.Fatalf("%s: got %+v", tc.reason, got)
				}
				if tc.refused && (got.Result.Code != 422 || got.Result.Reason != "Invalid" || got.Result.Message != "spec is wrong") {
					t.Errorf("got %+v, want 422 Invalid with the message", got.Result)
				}
			})
		}
	}
}

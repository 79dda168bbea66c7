package webhook_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/webhook"
	"github.com/fusegate/fusegate/test/controlplane"
)

// parent is a Parents that has one object, or none, or an error.
type parent struct {
	object map[string]any
	err    error
}

func (p parent) Object(context.Context, schema.GroupVersionResource, string, string) (map[string]any, error) {
	return p.object, p.err
}

func (p parent) Replicas(context.Context, schema.GroupVersionResource) ([]string, error) {
	return []string{"spec", "replicas"}, nil
}

// scaling is an engine of which all policies, or none, read replicas. It remembers
// what it judged.
type scaling struct {
	reads  bool
	judged *[]*policy.Review
	found  []policy.Violation
}

func (s scaling) Review(_ context.Context, r *policy.Review) policy.Result {
	*s.judged = append(*s.judged, r)
	return policy.Result{}
}

func (s scaling) ReviewBy(ctx context.Context, r *policy.Review, _ func(kind, name string) bool) policy.Result {
	s.Review(ctx, r)
	return policy.Result{Violations: s.found}
}

func (s scaling) Reading(...string) (func(kind, name string) bool, bool) {
	return func(string, string) bool { return s.reads }, s.reads
}

func binding(t *testing.T, metadata map[string]any) string {
	metadata["name"] = "web"
	return request(t, map[string]any{
		"kind": map[string]any{"group": "", "version": "v1", "kind": "Binding"}, "subResource": "binding", "name": "web",
		"resource": map[string]any{"group": "", "version": "v1", "resource": "pods"},
		"object":   map[string]any{"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": map[string]any{"kind": "Node", "name": "n1"}},
	})
}

func scaleTo(t *testing.T, replicas int) string {
	object := map[string]any{"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": map[string]any{"name": "web"}, "spec": map[string]any{"replicas": replicas}}
	return request(t, map[string]any{
		"kind": map[string]any{"group": "autoscaling", "version": "v1", "kind": "Scale"}, "subResource": "scale", "name": "web", "operation": "UPDATE",
		"resource": map[string]any{"group": "apps", "version": "v1", "resource": "deployments"}, "object": object, "oldObject": object,
	})
}

// TestParentsOfBindings: a Binding that brings metadata is judged as the update of its
// Pod, and an error in reading that is one of ours.
func TestParentsOfBindings(t *testing.T) {
	pod := map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": "web", "labels": map[string]any{"a": "1", "b": "1"}},
		"spec":     map[string]any{"containers": []any{}},
	}
	var judged []*policy.Review
	h := newHandler(t, parts{reviewer: scaling{judged: &judged}, options: webhook.Options{Parents: parent{object: pod}}})
	if resp := answered(t, post(h, binding(t, map[string]any{"labels": map[string]any{"b": "2"}, "annotations": map[string]any{"c": "3"}}))); !resp.Allowed {
		t.Errorf("got %v, want it allowed", resp.Result)
	}
	want := map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": "web", "labels": map[string]any{"a": "1", "b": "2"}, "annotations": map[string]any{"c": "3"}},
		"spec":     map[string]any{"containers": []any{}, "nodeName": "n1"},
	}
	if len(judged) != 1 {
		t.Fatalf("%d reviews, want 1", len(judged))
	}
	r := judged[0]
	if diff := cmp.Diff([]any{want, pod}, []any{r.Object, r.OldObject}); diff != "" || r.Kind.Kind != "Pod" || r.Operation != policy.Update || r.SubResource != "binding" {
		t.Errorf("%s of %s %s (-want +got):\n%s", r.Operation, r.Kind.Kind, r.SubResource, diff)
	}
	answered(t, post(h, binding(t, map[string]any{})))
	if len(judged) != 1 {
		t.Error("a bare Binding is judged")
	}

	labelled := binding(t, map[string]any{"labels": map[string]any{"b": "2"}})
	broken := newHandler(t, parts{reviewer: unreachable(t), options: webhook.Options{Parents: parent{err: errors.New("no answer")}}})
	failed(t, post(broken, labelled), http.StatusInternalServerError, "no answer")
	failed(t, post(newHandler(t, parts{reviewer: unreachable(t)}), labelled), http.StatusInternalServerError, "nobody to ask")
	gone := answered(t, post(newHandler(t, parts{reviewer: unreachable(t), options: webhook.Options{Parents: parent{}}}), labelled))
	if gone.Allowed || gone.Result.Code != http.StatusNotFound {
		t.Errorf("a Pod that is not there: got %v, want that it is not found", gone)
	}
}

// TestParentsOfScales: what is scaled is read and judged only where that can matter.
func TestParentsOfScales(t *testing.T) {
	deployment := map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "web"}, "spec": map[string]any{"replicas": int64(2)},
	}
	violation := []policy.Violation{{Constraint: policy.Constraint{Kind: "K", Name: "n", Action: policy.Deny}, Message: "too many"}}
	for name, tc := range map[string]struct {
		reads   bool
		parents webhook.Parents
		to      int
		kinds   []string
		allowed bool
		code    int
	}{
		"Judged":      {true, parent{object: deployment}, 5, []string{"Scale", "Deployment"}, false, 200},
		"Unread":      {false, parent{err: errors.New("no answer")}, 5, []string{"Scale"}, true, 200},
		"AsItWas":     {true, parent{object: deployment}, 2, []string{"Scale"}, true, 200},
		"NotReadable": {true, parent{err: errors.New("no answer")}, 5, []string{"Scale"}, true, 500},
		"Gone":        {true, parent{}, 5, []string{"Scale"}, false, 200},
	} {
		t.Run(name, func(t *testing.T) {
			var judged []*policy.Review
			h := newHandler(t, parts{reviewer: scaling{reads: tc.reads, judged: &judged, found: violation}, options: webhook.Options{Parents: tc.parents}})
			w := post(h, scaleTo(t, tc.to))
			var kinds []string
			for _, r := range judged {
				kinds = append(kinds, r.Kind.Kind)
			}
			if diff := cmp.Diff(tc.kinds, kinds); diff != "" {
				t.Errorf("judged (-want +got):\n%s", diff)
			}
			if tc.code != http.StatusOK {
				failed(t, w, tc.code, "no answer")
				return
			}
			if resp := answered(t, w); resp.Allowed != tc.allowed {
				t.Errorf("got %v, want it allowed: %t", resp.Result, tc.allowed)
			}
		})
	}
}

// TestClusterParents reads what there is, what there is not, and what may not be read.
func TestClusterParents(t *testing.T) {
	cp := plane.Get(t)
	parents := func(user string) *webhook.ClusterParents {
		c, err := dynamic.NewForConfig(cp.Config(user))
		if err != nil {
			t.Fatal(err)
		}
		return webhook.NewClusterParents(c)
	}
	namespaces := schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	if object, err := parents(controlplane.Admin).Object(t.Context(), namespaces, "", "default"); err != nil || object == nil {
		t.Errorf("what is there: got %v, %v", object, err)
	}
	if object, err := parents(controlplane.Admin).Object(t.Context(), namespaces, "", "nowhere"); err != nil || object != nil {
		t.Errorf("what is not there: got %v, %v", object, err)
	}
	if _, err := parents(controlplane.Tenant).Object(t.Context(), namespaces, "", "default"); err == nil {
		t.Error("what may not be read: got no error")
	}
	for _, of := range []schema.GroupVersionResource{{Group: "apps", Version: "v1", Resource: "deployments"}, {Group: "none.example.com", Version: "v1", Resource: "things"}} {
		if path, err := parents(controlplane.Admin).Replicas(t.Context(), of); err != nil || cmp.Diff([]string{"spec", "replicas"}, path) != "" {
			t.Errorf("the replicas of %v: got %v, %v", of, path, err)
		}
	}
}

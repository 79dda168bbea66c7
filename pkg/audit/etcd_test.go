package audit_test

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// compact makes etcd forget all but the present.
func compact(t *testing.T) {
	t.Helper()
	if err := shared.Get(t).Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// names lists the objects in a namespace, sorted.
func (w *world) names(gvr schema.GroupVersionResource, namespace string) []string {
	w.t.Helper()
	list, err := w.admin.Resource(gvr).Namespace(namespace).List(w.t.Context(), metav1.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, u := range list.Items {
		out = append(out, u.GetName())
	}
	slices.Sort(out)
	return out
}

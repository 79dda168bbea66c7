package controller

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestTrim(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		object *unstructured.Unstructured
		kept   bool // what kubectl keeps
	}{
		"Template":   {"it is as large as its Rego", template("Trimmed", "word", "string"), false},
		"Constraint": {"there are many", constraint("Trimmed", "one", "1"), false},
		"Other":      {"it is not ours", newObject(schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}), true},
	} {
		t.Run(name, func(t *testing.T) {
			u, want := tc.object.DeepCopy(), tc.object.DeepCopy()
			u.SetAnnotations(map[string]string{"kept": "a", lastApplied: "{}"})
			u.Object["metadata"].(map[string]any)["managedFields"] = []any{map[string]any{"manager": "m"}}
			want.SetAnnotations(map[string]string{"kept": "a"})
			if tc.kept {
				want.SetAnnotations(u.GetAnnotations())
			}
			for range 2 { // the cache may do it again
				got, err := Trim(u)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s, -want +got:\n%s", tc.reason, diff)
				}
			}
		})
	}
}

package templates_test

import (
	"fmt"
	"path"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
)

// odd are the values that TestMalformed puts where another was.
var odd = []any{nil, int64(-1), "odd", []any{nil, "odd"}, map[string]any{"odd": []any{int64(1)}}}

// TestMalformed puts odd values in the place of everything in two samples. No
// template may fail on what it does not expect: a fault tells the user nothing
// about the object.
func TestMalformed(t *testing.T) {
	for _, folder := range folders(t) {
		t.Run(folder, func(t *testing.T) {
			for _, test := range readSuite(t, folder).Tests {
				e := newEngine(t, path.Join(folder, test.Template), path.Join(folder, test.Constraint))
				for _, file := range samples(t, folder, "inventory") {
					addInventory(t, e, file)
				}
				for _, name := range []string{"allowed", "disallowed"} {
					checkMalformed(t, e, path.Join(folder, "samples", name+".yaml"))
				}
			}
		})
	}
}

func checkMalformed(t *testing.T, e *engine.Engine, name string) {
	t.Helper()
	u := object(t, name)
	if u.GetKind() == "AdmissionReview" {
		return
	}
	for key := range u.Object {
		if key == "apiVersion" || key == "kind" {
			continue
		}
		mangle(u.Object, key, key, func(where string) {
			r := objectReview(u)
			r.Namespace, r.NamespaceObject = "team-a", namespace("team-a")
			if got := e.Review(t.Context(), r); len(got.Faults) > 0 {
				t.Errorf("%s with %s changed to an odd value:\n%s", name, where, lines(got))
			}
		})
	}
}

// mangle calls try with m[key], and everything below, set to each odd value in
// turn and then removed. It leaves m as it was.
func mangle(m map[string]any, key, where string, try func(where string)) {
	before := m[key]
	defer func() { m[key] = before }()
	for _, value := range odd {
		m[key] = value
		try(fmt.Sprintf("%s=%v", where, value))
	}
	delete(m, key)
	try(where + " removed")
	m[key] = before
	descend(before, where, try)
}

func descend(value any, where string, try func(where string)) {
	switch v := value.(type) {
	case map[string]any:
		for key := range v {
			mangle(v, key, where+"."+key, try)
		}
	case []any:
		for i := range v {
			element := map[string]any{"": v[i]}
			mangle(element, "", fmt.Sprintf("%s[%d]", where, i), func(where string) {
				saved := v[i]
				v[i] = element[""]
				try(where)
				v[i] = saved
			})
		}
	}
}

// TestNameless takes the names away that messages quote: an object whose name
// the API server is to generate, and a container that has none. A violation
// that depends on a name for its message would be none.
func TestNameless(t *testing.T) {
	for _, folder := range folders(t) {
		t.Run(folder, func(t *testing.T) {
			e := newEngine(t, path.Join(folder, "template.yaml"), path.Join(folder, "samples/constraint.yaml"))
			u := object(t, path.Join(folder, "samples/disallowed.yaml"))
			if u.GetKind() == "AdmissionReview" || u.GetKind() == "Namespace" {
				return
			}
			want := reviewed(t, e, folder, u)
			u.SetGenerateName(u.GetName() + "-")
			unstructured.RemoveNestedField(u.Object, "metadata", "name")
			for _, spec := range podSpecs(u.Object) {
				for _, c := range containersOf(spec) {
					delete(c, "name")
				}
			}
			got := reviewed(t, e, folder, u)
			if len(got.Violations) != len(want.Violations) || len(got.Faults) > 0 {
				t.Errorf("without names:\n%s\nwith names:\n%s", lines(got), lines(want))
			}
		})
	}
}

func reviewed(t *testing.T, e *engine.Engine, folder string, u *unstructured.Unstructured) policy.Result {
	t.Helper()
	u = &unstructured.Unstructured{Object: runtime.DeepCopyJSON(u.Object)}
	return withInventory(t, e, objectReview(u), samples(t, folder, "inventory"))
}

// podSpecs returns every object below value that has a list of containers.
func podSpecs(value map[string]any) []map[string]any {
	var out []map[string]any
	if _, ok := value["containers"].([]any); ok {
		out = append(out, value)
	}
	for _, child := range value {
		if m, ok := child.(map[string]any); ok {
			out = append(out, podSpecs(m)...)
		}
	}
	return out
}

func containersOf(spec map[string]any) []map[string]any {
	var out []map[string]any
	for _, field := range []string{"containers", "initContainers", "ephemeralContainers"} {
		list, _ := spec[field].([]any)
		for _, c := range list {
			if m, ok := c.(map[string]any); ok {
				out = append(out, m)
			}
		}
	}
	return out
}

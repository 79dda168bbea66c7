package templates_test

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/suite"
	"github.com/fusegate/fusegate/templates"
)

// folders are the names of the library's templates.
func folders(t *testing.T) []string {
	t.Helper()
	entries, err := fs.ReadDir(templates.FS, ".")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func readSuite(t *testing.T, folder string) *suite.Suite {
	t.Helper()
	suites, err := suite.Find(templates.FS, path.Join(folder, "suite.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(suites) != 1 || len(suites[0].Warnings) > 0 {
		t.Fatalf("%s: want one suite without warnings, got %d: %q", folder, len(suites), suites[0].Warnings)
	}
	return suites[0]
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := fs.ReadFile(templates.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// object reads a document as the API server would decode it: integers stay
// integers, and a key that is there twice is an error.
func object(t *testing.T, name string) *unstructured.Unstructured {
	t.Helper()
	text, err := yaml.YAMLToJSONStrict(read(t, name))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(text, &u.Object); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return u
}

// newEngine returns an engine with one template and one constraint.
func newEngine(t *testing.T, template, constraint string) *engine.Engine {
	t.Helper()
	e, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := engine.ParseTemplate(object(t, template))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.AddTemplate(t.Context(), parsed); err != nil {
		t.Fatalf("%s: %v", template, err)
	}
	if err := e.AddConstraint(t.Context(), object(t, constraint)); err != nil {
		t.Fatalf("%s: %v", constraint, err)
	}
	return e
}

// withInventory judges r while data.inventory holds the named objects.
func withInventory(t *testing.T, e *engine.Engine, r *policy.Review, files []string) policy.Result {
	t.Helper()
	for _, file := range files {
		where := addInventory(t, e, file)
		defer func() {
			if err := e.RemoveData(t.Context(), where); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}()
	}
	return e.Review(t.Context(), r)
}

// addInventory puts the object in a file into data.inventory and returns where.
func addInventory(t *testing.T, e *engine.Engine, file string) []string {
	t.Helper()
	u := object(t, file)
	where := inventoryPath(u)
	if err := e.AddData(t.Context(), where, u.Object); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return where
}

func inventoryPath(u *unstructured.Unstructured) []string {
	where := []string{u.GetAPIVersion(), u.GetKind(), u.GetName()}
	if u.GetNamespace() == "" {
		return append([]string{"cluster"}, where...)
	}
	return append([]string{"namespace", u.GetNamespace()}, where...)
}

// objectReview puts an object before the engine as if it were created.
func objectReview(u *unstructured.Unstructured) *policy.Review {
	return &policy.Review{
		Kind: u.GroupVersionKind(), Name: u.GetName(), Namespace: u.GetNamespace(),
		Operation: policy.Create, Object: u.Object, Source: policy.SourceOriginal,
		NamespaceObject: namespace(u.GetNamespace()), Point: policy.PointCLI,
	}
}

// namespace is what the engine is told about the namespace with this name.
func namespace(name string) policy.Namespace {
	if name == "" {
		return policy.Namespace{}
	}
	return policy.Namespace{Known: true, Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{
			"name": name, "labels": map[string]any{"kubernetes.io/metadata.name": name},
		},
	}}
}

// lines are the violations and faults of a result, for a person to read.
func lines(r policy.Result) string {
	var out []string
	for _, v := range r.Violations {
		out = append(out, "violation: "+v.Message)
	}
	for _, f := range r.Faults {
		out = append(out, fmt.Sprintf("fault: %v", f))
	}
	if len(out) == 0 {
		return "nothing found"
	}
	return strings.Join(out, "\n")
}

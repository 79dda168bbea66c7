package templates_test

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/templates"
)

// suite is a Gatekeeper Suite, as far as the library uses it.
type suite struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Tests []suiteTest `json:"tests"`
}

type suiteTest struct {
	Name       string      `json:"name"`
	Template   string      `json:"template"`
	Constraint string      `json:"constraint"`
	Cases      []suiteCase `json:"cases"`
}

type suiteCase struct {
	Name       string      `json:"name"`
	Object     string      `json:"object"`
	Inventory  []string    `json:"inventory"`
	Assertions []assertion `json:"assertions"`
}

// assertion compares the number of violations whose message matches Message
// with Violations: yes, no or a number, yes when absent. YAML reads a plain
// yes or no as a boolean.
type assertion struct {
	Violations any    `json:"violations"`
	Message    string `json:"message"`
}

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

func readSuite(t *testing.T, folder string) suite {
	t.Helper()
	var s suite
	if err := yaml.UnmarshalStrict(read(t, path.Join(folder, "suite.yaml")), &s); err != nil {
		t.Fatalf("reading the suite of %s: %v", folder, err)
	}
	return s
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

// review puts an object before the engine as if it were created, or an
// AdmissionReview as the request that it holds.
func review(t *testing.T, name string) *policy.Review {
	t.Helper()
	u := object(t, name)
	if u.GetKind() == "AdmissionReview" {
		return requestReview(t, name, u)
	}
	return objectReview(u)
}

func objectReview(u *unstructured.Unstructured) *policy.Review {
	return &policy.Review{
		Kind: u.GroupVersionKind(), Name: u.GetName(), Namespace: u.GetNamespace(),
		Operation: policy.Create, Object: u.Object, Source: policy.SourceOriginal,
		NamespaceObject: namespace(u.GetNamespace()), Point: policy.PointCLI,
	}
}

// request is the part of an AdmissionReview's request that a Review holds.
type request struct {
	UID         string                      `json:"uid"`
	Kind        metav1.GroupVersionKind     `json:"kind"`
	Resource    metav1.GroupVersionResource `json:"resource"`
	SubResource string                      `json:"subResource"`
	Name        string                      `json:"name"`
	Namespace   string                      `json:"namespace"`
	Operation   policy.Operation            `json:"operation"`
	UserInfo    authenticationv1.UserInfo   `json:"userInfo"`
}

func requestReview(t *testing.T, name string, u *unstructured.Unstructured) *policy.Review {
	t.Helper()
	raw, _, err := unstructured.NestedMap(u.Object, "request")
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var r request
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &r); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	out := &policy.Review{
		UID: r.UID, Kind: schema.GroupVersionKind(r.Kind), Resource: schema.GroupVersionResource(r.Resource), SubResource: r.SubResource,
		Name: r.Name, Namespace: r.Namespace, Operation: r.Operation, UserInfo: r.UserInfo,
		Source: policy.SourceOriginal, NamespaceObject: namespace(r.Namespace), Point: policy.PointCLI,
	}
	out.Object, _ = raw["object"].(map[string]any)
	out.OldObject, _ = raw["oldObject"].(map[string]any)
	if out.Operation == policy.Delete {
		out.Object = out.OldObject
	}
	return out
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

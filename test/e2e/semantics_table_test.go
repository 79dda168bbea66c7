package e2e_test

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/test/env/fusegate"
)

// semanticFiles are the cases that pkg/engine's TestSemantics takes through the
// engine. Its semanticTable says what the fields mean.
const semanticFiles = "../../pkg/engine/testdata/semantics/*.yaml"

// semanticDoc is decoded JSON whose integers are int64.
type semanticDoc map[string]any

func (d *semanticDoc) UnmarshalJSON(data []byte) error {
	return utiljson.Unmarshal(data, (*map[string]any)(d))
}

type semanticTable struct {
	Namespaces map[string]map[string]string `json:"namespaces"`
	Templates  map[string]semanticDoc       `json:"templates"`
	Cases      []semanticCase               `json:"cases"`
}

// semanticCase is what the API server's half of the test reads of a case.
type semanticCase struct {
	Name        string        `json:"name"`
	Reason      string        `json:"reason"`
	Template    string        `json:"template"`
	Rego        string        `json:"rego"`
	Constraints []semanticDoc `json:"constraints"`
	Match       semanticDoc   `json:"match"`
	Request     struct {
		Operation string      `json:"operation"`
		Object    semanticDoc `json:"object"`
		OldObject semanticDoc `json:"oldObject"`
		User      string      `json:"user"`
	} `json:"request"`
	Matches *bool `json:"matches"`
	Want    struct {
		Denied   string   `json:"denied"`
		Warnings []string `json:"warnings"`
	} `json:"want"`
	APIServer bool `json:"apiserver"`
}

// readSemantics returns the table with its cases for the API server only, each
// written out and kept apart from the others.
func readSemantics(t *testing.T) semanticTable {
	t.Helper()
	files, err := filepath.Glob(semanticFiles)
	if err != nil {
		t.Fatal(err)
	}
	all := semanticTable{Namespaces: map[string]map[string]string{}, Templates: map[string]semanticDoc{}}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var one semanticTable
		if err := yaml.Unmarshal(content, &one); err != nil {
			t.Fatalf("reading %s: %v", name, err)
		}
		maps.Copy(all.Namespaces, one.Namespaces)
		maps.Copy(all.Templates, one.Templates)
		for _, tc := range one.Cases {
			if tc.APIServer {
				tc.expand()
				all.Cases = append(all.Cases, tc)
			}
		}
	}
	return all
}

// expand writes out what the case says in short.
func (c *semanticCase) expand() {
	if c.Matches != nil && *c.Matches {
		c.Want.Denied = "[" + c.Name + "] violated"
	}
	if len(c.Constraints) == 0 {
		c.Constraints = []semanticDoc{{}}
	}
	if c.Match != nil {
		c.Constraints[0] = semanticDoc{"spec": map[string]any{"match": map[string]any(c.Match)}}
	}
	r := &c.Request
	r.Operation = cmp.Or(r.Operation, "CREATE")
	if r.Object == nil && r.Operation != "DELETE" {
		r.Object = semanticDoc{}
	}
	for _, object := range []semanticDoc{r.Object, r.OldObject} {
		if object != nil {
			c.complete(object)
		}
	}
}

// complete gives an object what it does not say of itself, and the mark by
// which the shared templates know it as this case's.
func (c *semanticCase) complete(object semanticDoc) {
	u := unstructured.Unstructured{Object: object}
	if u.GetKind() == "" {
		u.SetAPIVersion("v1")
		u.SetKind("ConfigMap")
		u.SetNamespace(cmp.Or(u.GetNamespace(), "sem-plain"))
		if u.GetGenerateName() == "" {
			u.SetName(cmp.Or(u.GetName(), "subject"))
		}
	}
	u.SetAnnotations(map[string]string{"semantics": c.Name})
}

// kind is the kind of the case's template.
func (c *semanticCase) kind() string {
	if c.Rego == "" {
		return cmp.Or(c.Template, "Always")
	}
	return "Sem" + strings.ReplaceAll(c.Name, "-", "")
}

// templateOf finds or makes the template of a kind that the case uses.
func (c *semanticCase) templateOf(table semanticTable, kind string) semanticDoc {
	if c.Rego == "" {
		return table.Templates[kind]
	}
	return semanticDoc{
		"apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate",
		"metadata": map[string]any{"name": strings.ToLower(kind)},
		"spec": map[string]any{
			"crd":     map[string]any{"spec": map[string]any{"names": map[string]any{"kind": kind}}},
			"targets": []any{map[string]any{"target": "admission.k8s.gatekeeper.sh", "rego": c.Rego}},
		},
	}
}

// guarded are the templates whose constraints find nothing about an object of
// another case, by their parameter case.
var guarded = map[string]bool{"Always": true, "Echo": true, "OnCreate": true, "OnUpdate": true, "OnDelete": true, "OnAny": true}

// constraints are the case's constraints in full.
func (c *semanticCase) constraints(t *testing.T) []semanticDoc {
	t.Helper()
	var out []semanticDoc
	for _, declared := range c.Constraints {
		u := unstructured.Unstructured{Object: declared}
		u.SetAPIVersion(cmp.Or(u.GetAPIVersion(), "constraints.gatekeeper.sh/v1beta1"))
		u.SetKind(cmp.Or(u.GetKind(), c.kind()))
		u.SetName(cmp.Or(u.GetName(), c.Name))
		if guarded[u.GetKind()] {
			if err := unstructured.SetNestedField(u.Object, c.Name, "spec", "parameters", "case"); err != nil {
				t.Fatal(err)
			}
		} else if !confined(u) {
			t.Fatalf("case %s: a constraint of the template %s must keep to what lives in one namespace", c.Name, u.GetKind())
		}
		out = append(out, u.Object)
	}
	return out
}

// confined tells whether a constraint keeps to the objects in one namespace.
// What lives in none matches whatever a constraint's namespaces are.
func confined(u unstructured.Unstructured) bool {
	scope, _, _ := unstructured.NestedString(u.Object, "spec", "match", "scope")
	in, _, _ := unstructured.NestedSlice(u.Object, "spec", "match", "namespaces")
	return scope == "Namespaced" && len(in) == 1
}

// answer is what is said of the request when the case is right.
func (c *semanticCase) answer() string {
	var lines []string
	for _, w := range c.Want.Warnings {
		lines = append(lines, "Warning: "+w)
	}
	if c.Want.Denied != "" {
		lines = append(lines, fusegate.Denied+c.Want.Denied)
	}
	return strings.Join(lines, "\n")
}

// printed is what kubectl prints to standard error then.
func (c *semanticCase) printed() string {
	verb := map[string]string{"CREATE": "creating", "UPDATE": "replacing", "DELETE": "deleting"}[c.Request.Operation]
	return strings.Replace(c.answer(), fusegate.Denied, fmt.Sprintf(`Error from server (Forbidden): error when %s "STDIN": %s`, verb, fusegate.Denied), 1)
}

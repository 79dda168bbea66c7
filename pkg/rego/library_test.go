package rego

import (
	"flag"
	"io/fs"
	"path"
	"strings"
	"testing"

	framework "github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/templates"
)

// evaluations is how many evaluations the differential tests compare, roughly.
var evaluations = flag.Int("evaluations", 12_000, "how many evaluations by both evaluators to compare")

// readYAML decodes a file of the library as the API server would.
func readYAML(t testing.TB, name string) map[string]any {
	t.Helper()
	text, err := fs.ReadFile(templates.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	data, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	out := map[string]any{}
	if err := utiljson.Unmarshal(data, &out); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out
}

// valueAt is what lies at a path of fields, nil if nothing does.
func valueAt(doc any, path ...string) any {
	for _, p := range path {
		if list, ok := doc.([]any); ok && len(list) > 0 {
			doc = list[0]
		}
		m, ok := doc.(map[string]any)
		if !ok {
			return nil
		}
		doc = m[p]
	}
	return doc
}

// libraryTemplate is a template of the library, read without Kubernetes' types.
func libraryTemplate(t testing.TB, folder string) (string, *framework.ConstraintTemplate) {
	t.Helper()
	doc := readYAML(t, path.Join(folder, "template.yaml"))
	kind, _ := valueAt(doc, "spec", "crd", "spec", "names", "kind").(string)
	source := valueAt(doc, "spec", "targets", "code", "source")
	if source == nil {
		fields := map[string]any{"rego": valueAt(doc, "spec", "targets", "rego")}
		if libs := valueAt(doc, "spec", "targets", "libs"); libs != nil {
			fields["libs"] = libs
		}
		source = fields
	}
	out := &framework.ConstraintTemplate{}
	out.Spec.CRD.Spec.Names.Kind = kind
	out.Spec.Targets = []framework.Target{{Code: []framework.Code{{
		Engine: "Rego", Source: &framework.Anything{Value: source},
	}}}}
	return kind, out
}

// sample is what a template of the library is tried on.
type sample struct {
	reviews    []map[string]any
	parameters []any
	inventory  map[string]any
}

func samples(t testing.TB, folder, kind string) sample {
	t.Helper()
	files, err := fs.Glob(templates.FS, folder+"/samples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := sample{inventory: map[string]any{}}
	for _, f := range files {
		doc := readYAML(t, f)
		switch doc["kind"] {
		case kind:
			s.parameters = append(s.parameters, valueAt(doc, "spec", "parameters"))
		case "AdmissionReview":
			s.reviews = append(s.reviews, doc["request"].(map[string]any))
		default:
			s.reviews = append(s.reviews, created(doc))
			s.store(doc)
		}
	}
	s.parameters = append(s.parameters, map[string]any{})
	return s
}

// created is the review of an object that is created.
func created(doc map[string]any) map[string]any {
	version, _ := doc["apiVersion"].(string)
	group, version, found := strings.Cut(version, "/")
	if !found {
		group, version = "", group
	}
	return map[string]any{
		"uid": "u", "operation": "CREATE", "name": valueAt(doc, "metadata", "name"), "namespace": valueAt(doc, "metadata", "namespace"),
		"kind":     map[string]any{"group": group, "version": version, "kind": doc["kind"]},
		"userInfo": map[string]any{"username": "ann", "groups": []any{"system:authenticated"}},
		"object":   doc, "oldObject": nil, "namespaceObject": map[string]any{"metadata": map[string]any{"name": "team-a", "labels": map[string]any{"a": "b"}}},
	}
}

func (s *sample) store(doc map[string]any) {
	version, _ := doc["apiVersion"].(string)
	kind, _ := doc["kind"].(string)
	name, _ := valueAt(doc, "metadata", "name").(string)
	if ns, ok := valueAt(doc, "metadata", "namespace").(string); ok {
		s.inventory[strings.Join([]string{"namespace", ns, version, kind, name}, "|")] = doc
		return
	}
	s.inventory[strings.Join([]string{"cluster", version, kind, name}, "|")] = doc
}

// TestLibrary compares the evaluators on the library's templates: its samples,
// and samples and parameters changed at random.
func TestLibrary(t *testing.T) {
	folders, err := fs.ReadDir(templates.FS, ".")
	if err != nil {
		t.Fatal(err)
	}
	c := &comparison{}
	for i, f := range folders {
		kind, template := libraryTemplate(t, f.Name())
		p := c.program(t, template)
		if p.Refused() != nil {
			t.Errorf("%s is refused: %v", f.Name(), p.Refused())
		}
		s := samples(t, f.Name(), kind)
		c.vary(t, f.Name(), p, s, uint64(i), *evaluations/2/len(folders))
	}
	t.Log(c)
}

// vary compares on all samples as they are, and then on changed ones.
func (c *comparison) vary(t *testing.T, name string, p *Program, s sample, seed uint64, n int) {
	t.Helper()
	e := stored(t, s.inventory)
	for _, r := range s.reviews {
		for _, params := range s.parameters {
			c.check(t, name, p, e, r, params)
		}
	}
	m := newMutator(seed)
	for range n - len(s.reviews)*len(s.parameters) {
		r, params := s.reviews[m.IntN(len(s.reviews))], s.parameters[m.IntN(len(s.parameters))]
		if changed, ok := m.mutate(r, 1+m.IntN(4)).(map[string]any); ok {
			r = changed
		}
		if m.IntN(3) == 0 {
			params = m.mutate(params, 1+m.IntN(3))
		}
		c.check(t, name, p, e, r, params)
	}
}

func (c *comparison) check(t *testing.T, name string, p *Program, e *Data, review map[string]any, params any) {
	t.Helper()
	if diff := c.agree(t.Context(), p, e, review, params); diff != "" {
		t.Errorf("%s differs (-interpreted +compiled):\n%s\nreview: %s\nparameters: %s", name, diff, textOf(review), textOf(params))
	}
}

func textOf(v any) string {
	out, err := utiljson.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(out)
}

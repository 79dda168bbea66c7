package engine

import (
	"io/fs"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// TestDefinition: what is put together of the parameters' schema and the part
// that all kinds share is the CRD's schema, whatever template came first.
func TestDefinition(t *testing.T) {
	e, err := New()
	if err != nil {
		t.Fatal(err)
	}
	library := os.DirFS("../../templates")
	names, err := fs.Glob(library, "*/template.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("got %d templates (%v), want the library's", len(names), err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(library, name)
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(text, &u.Object); err != nil {
			t.Fatal(err)
		}
		template, err := ParseTemplate(u)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.AddTemplate(t.Context(), template); err != nil {
			t.Fatal(err)
		}
		want, err := createCRD(t.Context(), template)
		if err != nil {
			t.Fatal(err)
		}
		got := e.kinds.definition(e.kinds.of(template.Name))
		if diff := cmp.Diff(want.Spec.Validation, got.Spec.Validation); diff != "" {
			t.Errorf("%s, -want +got:\n%s", name, diff)
		}
		if want, got := want.Spec.Names.Kind, got.Spec.Names.Kind; want != got {
			t.Errorf("%s: got kind %s, want %s", name, got, want)
		}
	}
}

// TestRemovedTemplateIsForgotten: nothing of a template and its constraints stays.
func TestRemovedTemplateIsForgotten(t *testing.T) {
	e, err := New()
	if err != nil {
		t.Fatal(err)
	}
	held := func() []int {
		r, s := e.registry, e.registry.current.Load()
		return []int{
			len(e.kinds.byName), len(r.operations), len(r.entries), len(r.reads), len(r.timers),
			len(r.needs), len(r.withheld), len(r.stale), len(s.entries), len(s.byKind), len(s.others),
		}
	}
	before := held()
	addChecked(t, e, "Stored", checkedTemplates["Stored"])
	if cmp.Equal(before, held()) {
		t.Fatal("nothing is held of a template")
	}
	if err := e.RemoveTemplate(t.Context(), "stored"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, held()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

package controller

import (
	"testing"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/engine"
)

// TestAdmitOnce asks which constraints are given to the engine, by ones that it
// would refuse.
func TestAdmitOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		edit   func(i *Ingest, u *unstructured.Unstructured)
		asked  bool
	}{
		"Status":     {"only its status has changed", func(*Ingest, *unstructured.Unstructured) {}, false},
		"Generation": {"its spec has changed", func(_ *Ingest, u *unstructured.Unstructured) { u.SetGeneration(2) }, true},
		"UID":        {"it is another object", func(_ *Ingest, u *unstructured.Unstructured) { u.SetUID("2") }, true},
		"OnFault": {"an annotation counts", func(_ *Ingest, u *unstructured.Unstructured) {
			u.SetAnnotations(map[string]string{engine.AnnotationOnFault: "allow"})
		}, true},
		"Template": {"its template has changed", func(i *Ingest, _ *unstructured.Unstructured) { i.ingested["once"] = version{generation: 7} }, true},
		"Forgotten": {"the engine has it no longer", func(i *Ingest, _ *unstructured.Unstructured) {
			delete(i.inForce, key{"Once", "one"})
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := engine.New()
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := engine.ParseTemplate(template("Once", "word", "string"))
			if err != nil {
				t.Fatal(err)
			}
			if err := e.AddTemplate(t.Context(), parsed); err != nil {
				t.Fatal(err)
			}
			i := NewIngest(e, nil, NewReadiness(), logr.Discard())
			u, k := constraint("Once", "one", "1"), key{"Once", "one"}
			u.SetUID("1")
			u.SetGeneration(1)
			if errs := i.admit(t.Context(), k, u); len(errs) > 0 {
				t.Fatal(errs)
			}
			if err := unstructured.SetNestedField(u.Object, "nonsense", "spec", "enforcementAction"); err != nil {
				t.Fatal(err)
			}
			tc.edit(i, u)
			if asked := len(i.admit(t.Context(), k, u)) > 0; asked != tc.asked {
				t.Errorf("the engine was asked: %t, want %t: %s", asked, tc.asked, tc.reason)
			}
		})
	}
}

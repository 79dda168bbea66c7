package engine_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/engine"
)

// FuzzTemplate compiles arbitrary Rego, in both versions, and judges with what
// compiles. Nothing may panic, and what CheckTemplate accepts AddTemplate must
// accept too: the webhook asks the one and the controllers the other.
func FuzzTemplate(f *testing.F) {
	for _, seed := range []struct {
		rego, lib string
		v1        bool
	}{
		{"package p\nviolation[{\"msg\": \"m\"}] { true }", "", false},
		{"package p\nviolation contains {\"msg\": \"m\"} if input.review.object.x", "", true},
		{"package p\nimport data.lib.a\nviolation[{\"msg\": m}] { m := a.f(input.parameters.p) }", "package lib.a\nf(x) = x", false},
		{"package p\nviolation[x] { x := data.inventory.cluster[_] }", "", false},
		{"package p\nviolation[{\"msg\": m}] { some i; m := input.review.object.metadata.labels[i] with input as {} }", "", false},
		{"package p\nviolation[{\"msg\": \"m\"}] { every x in [1] { x > 0 } }", "", true},
		{"package p\nx = {y | y := input.z[_]}\nviolation[{\"msg\": \"m\", \"details\": x}] { count(x) > 0 }", "", false},
	} {
		f.Add(seed.rego, seed.lib, seed.v1)
	}
	f.Fuzz(func(t *testing.T, rego, lib string, v1 bool) {
		e, err := engine.New()
		if err != nil {
			t.Fatal(err)
		}
		tpl, err := engine.ParseTemplate(fuzzTemplate(rego, lib, v1))
		if err != nil {
			return
		}
		checked := e.CheckTemplate(t.Context(), tpl)
		added := e.AddTemplate(t.Context(), tpl)
		if (checked == nil) != (added == nil) {
			t.Fatalf("CheckTemplate says %v, AddTemplate %v", checked, added)
		}
		if added != nil {
			return
		}
		c := object(t, "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: Probe\nmetadata: {name: probe}\n")
		if err := e.AddConstraint(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		e.Review(ctx, configMap(map[string]any{"a": "b"}))
	})
}

func fuzzTemplate(rego, lib string, v1 bool) *unstructured.Unstructured {
	source := map[string]any{"rego": rego, "version": "v0"}
	if v1 {
		source["version"] = "v1"
	}
	if lib != "" {
		source["libs"] = []any{lib}
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate",
		"metadata": map[string]any{"name": "probe"},
		"spec": map[string]any{
			"crd": map[string]any{"spec": map[string]any{"names": map[string]any{"kind": "Probe"}}},
			"targets": []any{map[string]any{
				"target": "admission.k8s.gatekeeper.sh",
				"code":   []any{map[string]any{"engine": "Rego", "source": source}},
			}},
		},
	}}
}

// FuzzSchema gives a template an arbitrary schema of parameters, and a
// constraint arbitrary parameters. Nothing may panic, and what CheckConstraint
// accepts AddConstraint must accept too.
func FuzzSchema(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"type":"object","properties":{"a":{"type":"string","default":"x"}}}`, `{"a":"y"}`},
		{`{"type":"object","properties":{"a":{"type":"array","items":{"type":"integer"}}}}`, `{"a":[1,"2"]}`},
		{`{"type":"object","required":["a"],"additionalProperties":{"type":"string"}}`, `{}`},
		{`{"x-kubernetes-preserve-unknown-fields":true}`, `[1]`},
		{`{"type":"object","properties":{"a":{"type":"string","pattern":"("}}}`, `{"a":"b"}`},
		{`{"type":"object","x-kubernetes-validations":[{"rule":"self.a > 1"}]}`, `{"a":2}`},
		{`{"type":"object","default":{"a":null}}`, `null`},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, schema, parameters string) {
		var decodedSchema, decodedParameters any
		if json.Unmarshal([]byte(schema), &decodedSchema) != nil || json.Unmarshal([]byte(parameters), &decodedParameters) != nil {
			return
		}
		u := fuzzTemplate("package p\nviolation[{\"msg\": \"m\"}] { input.parameters.a }", "", false)
		crd := u.Object["spec"].(map[string]any)["crd"].(map[string]any)["spec"].(map[string]any)
		crd["validation"] = map[string]any{"openAPIV3Schema": decodedSchema}
		tpl, err := engine.ParseTemplate(u)
		if err != nil {
			return
		}
		e, err := engine.New()
		if err != nil {
			t.Fatal(err)
		}
		if err := e.AddTemplate(t.Context(), tpl); err != nil {
			return
		}
		if _, err := e.ConstraintCRD(t.Context(), tpl); err != nil {
			t.Fatalf("no CRD for an accepted template: %v", err)
		}
		c := object(t, "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: Probe\nmetadata: {name: probe}\nspec: {}\n")
		c.Object["spec"].(map[string]any)["parameters"] = decodedParameters
		checked, added := e.CheckConstraint(c), e.AddConstraint(t.Context(), c)
		if checked == nil && added != nil && !strings.Contains(added.Error(), "default") {
			t.Fatalf("CheckConstraint accepts, AddConstraint says %v", added)
		}
		e.Review(t.Context(), configMap(nil))
	})
}

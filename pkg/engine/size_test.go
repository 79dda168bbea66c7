package engine

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// nest puts a value into so many lists.
func nest(v any, times int) any {
	for range times {
		v = []any{v}
	}
	return v
}

func repeat(item any, times int) []any {
	out := make([]any, times)
	for i := range out {
		out[i] = item
	}
	return out
}

// addSized adds a template that takes any parameters.
func addSized(t *testing.T, e *Engine) {
	t.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": TemplateGroup + "/v1", "kind": "ConstraintTemplate", "metadata": map[string]any{"name": "sized"},
		"spec": map[string]any{
			"crd": map[string]any{"spec": map[string]any{
				"names": map[string]any{"kind": "Sized"},
				"validation": map[string]any{"openAPIV3Schema": map[string]any{
					"type": "object", "x-kubernetes-preserve-unknown-fields": true,
				}},
			}},
			"targets": []any{map[string]any{"target": TargetName, "rego": "package p\nviolation[{\"msg\": \"x\"}] { true }"}},
		},
	}}
	parsed, err := ParseTemplate(u)
	if err == nil {
		err = e.AddTemplate(t.Context(), parsed)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestConstraintSize: a constraint that is too large is refused with the field, the
// count, the limit and the fix, and the others stay as they are.
func TestConstraintSize(t *testing.T) {
	e, err := New()
	if err != nil {
		t.Fatal(err)
	}
	addSized(t, e)
	groups := make([]any, 40_000)
	for i := range groups {
		groups[i] = fmt.Sprintf("g%05d.example.com", i)
	}
	kinds := func(groups, kinds []any) map[string]any {
		return map[string]any{"kinds": []any{map[string]any{"apiGroups": groups, "kinds": kinds}}}
	}
	names := func(field string, items []any) map[string]any { return map[string]any{field: items} }
	expression := func(key string, values []any) any {
		return map[string]any{"key": key, "operator": "In", "values": values}
	}
	cases := map[string]struct {
		spec map[string]any
		want string // empty for what may be
	}{
		"Usual": {map[string]any{"match": kinds([]any{"", "apps"}, []any{"Pod", "Deployment"})}, ""},
		"Most": {map[string]any{
			"match": map[string]any{
				"kinds":              []any{map[string]any{"apiGroups": groups[:1000], "kinds": repeat("Pod", 1000)}},
				"excludedNamespaces": append(repeat("a-*", 1000), repeat("team", 9000)...),
				"labelSelector":      map[string]any{"matchExpressions": repeat(expression("a", repeat("b", 40)), 250)},
			},
			"parameters": map[string]any{"text": strings.Repeat("x", 250<<10), "list": repeat("x", 20_000)},
		}, ""},
		"Groups": {map[string]any{"match": kinds(groups, []any{"*"})}, `spec.match.kinds[0].apiGroups: 40000 items, at most 2000 are allowed: use "*" for every group or kind, or split the constraint`},
		"Kinds":  {map[string]any{"match": kinds([]any{""}, groups[:2001])}, `spec.match.kinds[0].kinds: 2001 items, at most 2000 are allowed: use "*"`},
		"Names": {map[string]any{"match": map[string]any{"kinds": repeat(map[string]any{"apiGroups": groups[:100], "kinds": []any{"*"}}, 20)}},
			"spec.match.kinds: 2020 API groups and kinds in all entries, at most 2000 are allowed: "},
		"Entries":    {map[string]any{"match": map[string]any{"kinds": repeat(map[string]any{}, 501)}}, "spec.match.kinds: 501 entries, at most 500 are allowed: "},
		"LongGroup":  {map[string]any{"match": kinds([]any{strings.Repeat("g", 256)}, []any{"*"})}, "spec.match.kinds[0].apiGroups[0]: 256 bytes long, at most 255 are allowed: "},
		"Namespaces": {map[string]any{"match": names("namespaces", repeat("a", 10_001))}, "spec.match.namespaces: 10001 items, at most 10000 are allowed: select namespaces by their labels"},
		"Excluded":   {map[string]any{"match": names("excludedNamespaces", repeat("a-*", 1001))}, "spec.match.excludedNamespaces: 1001 items with a star, at most 1000 are allowed: select namespaces by their labels"},
		"LongName":   {map[string]any{"match": map[string]any{"name": strings.Repeat("n", 256)}}, "spec.match.name: 256 bytes long, at most 255 are allowed: "},
		"Labels": {map[string]any{"match": map[string]any{"labelSelector": map[string]any{"matchExpressions": repeat(expression("a", repeat("b", 1)), 251)}}},
			"spec.match.labelSelector: 251 labels in matchLabels and matchExpressions, at most 250 are allowed: label what is meant"},
		"Values": {map[string]any{"match": map[string]any{"namespaceSelector": map[string]any{"matchExpressions": repeat(expression("a", repeat("b", 101)), 100)}}},
			"spec.match.namespaceSelector.matchExpressions: 10100 values in all expressions, at most 10000 are allowed: "},
		"Errors":     {map[string]any{"match": map[string]any{"namespaces": repeat("a*b", 10_000)}}, "spec.match: 9980 more errors"},
		"Bytes":      {map[string]any{"parameters": map[string]any{"text": strings.Repeat("x", 1<<20)}}, "spec: 1048602 bytes of JSON, at most 524288 are allowed: split the constraint"},
		"Everywhere": {map[string]any{"parameters": map[string]any{"list": repeat(map[string]any{}, 50_000)}}, "spec: more than 50000 values: split the constraint"},
		"Deep":       {map[string]any{"parameters": map[string]any{"list": nest("x", 9000)}}, "spec: more than 100 lists and objects lie in each other: flatten"},
		"Scoped": {map[string]any{"enforcementAction": "scoped", "scopedEnforcementActions": repeat(map[string]any{"action": "deny", "enforcementPoints": repeat(map[string]any{"name": "*"}, 1)}, 3000)},
			"spec.scopedEnforcementActions: 3000 entries, at most 100 are allowed: "},
		"Points": {map[string]any{"enforcementAction": "scoped", "scopedEnforcementActions": []any{map[string]any{"action": "deny", "enforcementPoints": repeat(map[string]any{"name": "*"}, 101)}}},
			"spec.scopedEnforcementActions[0].enforcementPoints: 101 entries, at most 100 are allowed: "},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			before := len(e.AuditScopes())
			c := &unstructured.Unstructured{Object: map[string]any{"spec": tc.spec}}
			c.SetAPIVersion(ConstraintGroup + "/v1beta1")
			c.SetKind("Sized")
			c.SetName("sized")
			for door, err := range map[string]error{"CheckConstraint": e.CheckConstraint(c), "AddConstraint": e.AddConstraint(t.Context(), c)} {
				if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
					t.Errorf("%s: %v, want %q", door, err, tc.want)
				}
				if err != nil && len(err.Error()) > 8<<10 {
					t.Errorf("%s: the error is %d bytes long", door, len(err.Error()))
				}
			}
			if after := len(e.AuditScopes()); tc.want != "" && after != before {
				t.Errorf("%d constraints are in force, want %d", after, before)
			}
			if err := e.RemoveConstraint(t.Context(), "Sized", "sized"); err != nil {
				t.Fatal(err)
			}
		})
	}
}

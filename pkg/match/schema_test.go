package match_test

import (
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"

	"github.com/fusegate/fusegate/pkg/match"
)

func TestSchemaIsStructural(t *testing.T) {
	s := match.Schema()
	// The block is embedded in a CRD, whose root has rules of its own.
	root := &apiextensions.JSONSchemaProps{Type: "object", Properties: map[string]apiextensions.JSONSchemaProps{
		"spec": {Type: "object", Properties: map[string]apiextensions.JSONSchemaProps{"match": s}},
	}}
	structural, err := structuralschema.NewStructural(root)
	if err != nil {
		t.Fatalf("NewStructural: %v", err)
	}
	if errs := structuralschema.ValidateStructural(nil, structural); len(errs) > 0 {
		t.Errorf("ValidateStructural: %v", errs.ToAggregate())
	}
}

func TestSchemaAccepts(t *testing.T) {
	cases := map[string]struct {
		reason string
		match  string
		want   bool
	}{
		"Empty": {"a block may be empty", `{}`, true},
		"Everything": {
			"every field of Gatekeeper's", `
kinds: [{apiGroups: ["", "apps", "*"], kinds: [Pod, "*"]}, {kinds: []}, {}]
scope: Namespaced
namespaces: [a, "kube-*", "*-system", "*x*", "*", "a:b", ""]
excludedNamespaces: ["b-1"]
labelSelector: {matchLabels: {a: b}, matchExpressions: [{key: a, operator: In, values: [b]}, {key: c, operator: Exists}]}
namespaceSelector: {matchExpressions: [{key: a, operator: NotIn, values: [b]}, {key: c, operator: DoesNotExist, values: []}]}
name: "web-*"
source: Generated`, true,
		},
		"UnknownScope":    {"tolerated, as Gatekeeper does", `scope: cluster`, true},
		"DottedName":      {"a CRD's name", `name: foos.example.com`, true},
		"Kinds":           {"not a list", `kinds: Pod`, false},
		"KindsEntry":      {"not an object", `kinds: [Pod]`, false},
		"APIGroups":       {"not a list", `kinds: [{apiGroups: apps}]`, false},
		"KindsItem":       {"not a string", `kinds: [{kinds: [1]}]`, false},
		"Scope":           {"not a string", `scope: true`, false},
		"Source":          {"no such source", `source: original`, false},
		"Namespaces":      {"star inside", `namespaces: ["a*b"]`, false},
		"NamespacesUpper": {"no namespace can be called that", `namespaces: [Shop]`, false},
		"Excluded":        {"star inside", `excludedNamespaces: ["***"]`, false},
		"Name":            {"star inside", `name: "*a*b*"`, false},
		"MatchLabels":     {"not a string", `labelSelector: {matchLabels: {a: true}}`, false},
		"Selector":        {"not an object", `namespaceSelector: [a]`, false},
		"NoKey":           {"a condition without a key", `labelSelector: {matchExpressions: [{operator: Exists}]}`, false},
		"NoOperator":      {"a condition without an operator", `labelSelector: {matchExpressions: [{key: a}]}`, false},
		"Operator":        {"no such operator", `labelSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}`, false},
		"Values":          {"not strings", `labelSelector: {matchExpressions: [{key: a, operator: In, values: [1]}]}`, false},
	}
	schema := match.Schema()
	validator, _, err := validation.NewSchemaValidator(&schema)
	if err != nil {
		t.Fatalf("NewSchemaValidator: %v", err)
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := block(t, tc.match)
			errs := validation.ValidateCustomResource(nil, b, validator)
			if got := len(errs) == 0; got != tc.want {
				t.Errorf("%s: valid: %t, want %t (%v)", tc.reason, got, tc.want, errs)
			}
			// What the API server lets in must compile, and what cannot be
			// compiled must not get in.
			if _, err := match.Compile(b); tc.want != (err == nil) && name != "NamespacesUpper" {
				t.Errorf("%s: Compile: %v, schema valid: %t", tc.reason, err, tc.want)
			}
		})
	}
}

// TestSchemaPrunesNothing catches a field that Compile reads and the schema
// lacks: the API server would drop it without a word.
func TestSchemaPrunesNothing(t *testing.T) {
	schema := match.Schema()
	structural, err := structuralschema.NewStructural(&schema)
	if err != nil {
		t.Fatalf("NewStructural: %v", err)
	}
	b := block(t, `
kinds: [{apiGroups: [""], kinds: [Pod]}]
scope: Namespaced
namespaces: [a]
excludedNamespaces: [b]
labelSelector: {matchLabels: {a: b}, matchExpressions: [{key: a, operator: In, values: [b]}]}
namespaceSelector: {matchLabels: {a: b}, matchExpressions: [{key: a, operator: In, values: [b]}]}
name: a
source: All`)
	options := structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	if pruned := pruning.PruneWithOptions(b, structural, false, options); len(pruned) > 0 {
		t.Errorf("the schema lacks %v", pruned)
	}
}

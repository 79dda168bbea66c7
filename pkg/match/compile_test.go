package match_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/policy"
)

func TestCompileErrors(t *testing.T) {
	cases := map[string]struct {
		reason string
		match  string
		want   string
	}{
		"Kinds":      {"not a list", `kinds: Pod`, `spec.match.kinds: must be a list, is a string`},
		"KindsEntry": {"not an object", `kinds: [Pod]`, `spec.match.kinds[0]: must be an object with apiGroups and kinds, is a string`},
		"KindsNull":  {"a null entry would stand for everything", `kinds: [null]`, `spec.match.kinds[0]: must be an object with apiGroups and kinds, is null`},
		"APIGroups":  {"not a list", `kinds: [{apiGroups: apps}]`, `spec.match.kinds[0].apiGroups: must be a list, is a string`},
		"KindsItem":  {"not a string", `kinds: [{kinds: [Pod, 1]}]`, `spec.match.kinds[0].kinds[1]: must be a string, is a number`},
		"Scope":      {"not a string", `scope: true`, `spec.match.scope: must be a string, is a boolean`},
		"Source":     {"no such source", `source: original`, `spec.match.source: "original" is not a source, use All, Original or Generated`},
		"Namespaces": {"star inside", `namespaces: [a, "a*b"]`, `spec.match.namespaces[1]: "a*b": "*" may stand only at the start, at the end, or both; list the names one by one instead`},
		"Excluded":   {"star inside", `excludedNamespaces: ["***"]`, `spec.match.excludedNamespaces[0]: "***": "*" may stand only at the start, at the end, or both; list the names one by one instead`},
		"Name":       {"star inside", `name: "*a*b*"`, `spec.match.name: "*a*b*": "*" may stand only at the start, at the end, or both; list the names one by one instead`},
		"NameType":   {"not a string", `name: {}`, `spec.match.name: must be a string, is an object`},
		"Selector":   {"not an object", `labelSelector: [a]`, `spec.match.labelSelector: must be an object, is a list`},
		"MatchLabels": {
			"YAML reads yes and numbers as what they look like", `labelSelector: {matchLabels: {a: true}}`,
			`spec.match.labelSelector.matchLabels[a]: must be a string, is a boolean; put it in quotes`,
		},
		"LabelKey": {
			"no label can be called that", `labelSelector: {matchLabels: {"a b": c}}`,
			`spec.match.labelSelector.matchLabels[a b]: "a b" is not a label key: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`,
		},
		"LabelValue": {
			"no label can be that", `namespaceSelector: {matchExpressions: [{key: a, operator: In, values: ["b c"]}]}`,
			`spec.match.namespaceSelector.matchExpressions[0].values: "b c" is not a label value: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`,
		},
		"Expression": {"not an object", `labelSelector: {matchExpressions: [a]}`, `spec.match.labelSelector.matchExpressions[0]: must be an object with key, operator and values, is a string`},
		"Operator":   {"no such operator", `labelSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}`, `spec.match.labelSelector.matchExpressions[0].operator: "in" is not an operator, use In, NotIn, Exists or DoesNotExist`},
		"OperatorGt": {"a label selector's operator that a LabelSelector lacks", `labelSelector: {matchExpressions: [{key: a, operator: gt, values: ["1"]}]}`, `spec.match.labelSelector.matchExpressions[0].operator: "gt" is not an operator, use In, NotIn, Exists or DoesNotExist`},
		"Values":     {"not strings, and no other error on top", `labelSelector: {matchExpressions: [{key: a, operator: In, values: [1]}]}`, `spec.match.labelSelector.matchExpressions[0].values[0]: must be a string, is a number`},
		"InNothing":  {"In without values", `namespaceSelector: {matchExpressions: [{key: a, operator: In}]}`, `spec.match.namespaceSelector.matchExpressions[0].values: must hold at least one value for the operator In`},
		"ExistsOne":  {"Exists with values", `labelSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}`, `spec.match.labelSelector.matchExpressions[0].values: must be left out for the operator Exists`},
		"Order":      {"labels have no order, errors do", `labelSelector: {matchLabels: {e: 1, d: 1, b: 1, a: 1, c: 1, f: 1, i: 1, h: 1, g: 1, j: 1}}`, strings.Join(labelErrors("a", "b", "c", "d", "e", "f", "g", "h", "i", "j"), "\n")},
		"Several":    {"all errors are told, in the order of the fields", "source: x\nscope: 1", "spec.match.scope: must be a string, is a number\nspec.match.source: \"x\" is not a source, use All, Original or Generated"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			m, err := match.Compile(block(t, tc.match))
			if m != nil || err == nil {
				t.Fatalf("%s: Compile = %v, %v, want only an error", tc.reason, m, err)
			}
			if diff := cmp.Diff(tc.want, err.Error()); diff != "" {
				t.Errorf("%s: Compile error (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func labelErrors(keys ...string) []string {
	var out []string
	for _, k := range keys {
		out = append(out, "spec.match.labelSelector.matchLabels["+k+"]: must be a string, is a number; put it in quotes")
	}
	return out
}

func TestAccessors(t *testing.T) {
	type declared struct {
		Kinds      []match.Kinds
		Scope      match.Scope
		Namespaces []string
	}
	cases := map[string]struct {
		reason string
		match  string
		want   declared
	}{
		"Empty": {"nothing is declared", ``, declared{}},
		"Kinds": {
			"sorted, without duplicates, a star or nothing is any", `kinds: [{apiGroups: [b, a, b], kinds: [Pod]}, {apiGroups: [c], kinds: ["*", X]}, {kinds: [Z]}]`,
			declared{Kinds: []match.Kinds{{Groups: []string{"a", "b"}, Kinds: []string{"Pod"}}, {Groups: []string{"c"}}, {Kinds: []string{"Z"}}}},
		},
		"EveryKind": {"one entry for everything is no restriction", `kinds: [{apiGroups: [a], kinds: [Pod]}, {apiGroups: ["*"], kinds: ["*"]}]`, declared{}},
		"Others": {
			"as declared", "scope: Namespaced\nnamespaces: [b, \"a*\"]\nexcludedNamespaces: [c]",
			declared{Scope: match.ScopeNamespaced, Namespaces: []string{"b", "a*"}},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			m := compile(t, tc.match)
			got := declared{m.Kinds(), m.Scope(), m.Namespaces()}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// FuzzCompile asks for no panic, for the same answer every time, and for a
// matcher that does not panic either.
func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `{"kinds":[{"apiGroups":[""],"kinds":["Pod"]}]}`, `{"kinds":[null,1,{"kinds":"x"}]}`,
		`{"namespaces":["a*","*b","*c*","d"],"excludedNamespaces":["*"],"name":"w*"}`, `{"name":"a*b","scope":1,"source":"x"}`,
		`{"labelSelector":{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"a","operator":"In","values":["b"]}]}}`,
		`{"namespaceSelector":{"matchExpressions":[{"key":"","operator":"Exists","values":[1]}]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var in map[string]any
		if err := json.Unmarshal(data, &in); err != nil {
			return
		}
		m, err := match.Compile(in)
		if (m == nil) == (err == nil) {
			t.Fatalf("Compile = %v, %v, want either a matcher or an error", m, err)
		}
		if _, again := match.Compile(in); err != nil && err.Error() != again.Error() {
			t.Fatalf("Compile says %q, then %q", err, again)
		}
		if err != nil {
			return
		}
		for _, r := range []policy.Review{pod(), pod(unknownNamespace), namespace("n"), clusterRole("r"), {}} {
			if matched, err := m.Match(&r); matched && err != nil {
				t.Errorf("Match = true, %v, want no error with a match", err)
			}
		}
	})
}

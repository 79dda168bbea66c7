package match_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/match"
)

func TestClauses(t *testing.T) {
	type clauses struct{ Name, Source, Labels, NamespaceLabels string }
	cases := map[string]struct {
		reason string
		block  string
		want   clauses
	}{
		"Empty":  {"what is absent narrows nothing", `{}`, clauses{}},
		"Exact":  {"a name without a star", `{name: web}`, clauses{Name: "web"}},
		"Ends":   {"a star at the end", `{name: web-*}`, clauses{Name: "web-*"}},
		"Starts": {"a star at the start", `{name: "*-web"}`, clauses{Name: "*-web"}},
		"Both":   {"stars at both ends", `{name: "*web*"}`, clauses{Name: "*web*"}},
		"Star":   {"a lone star", `{name: "*"}`, clauses{Name: "*"}},
		"Source": {"a source that narrows", `{source: Generated}`, clauses{Source: "Generated"}},
		"All":    {"every source", `{source: All}`, clauses{}},
		"Selectors": {
			"the two selectors are told apart", `{labelSelector: {matchLabels: {a: b}}, namespaceSelector: {matchExpressions: [{key: c, operator: Exists}]}}`,
			clauses{Labels: "a=b", NamespaceLabels: "c"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			m := compile(t, tc.block)
			got := clauses{Name: m.Name(), Source: string(m.Source())}
			if s := m.LabelSelector(); s != nil {
				got.Labels = s.String()
			}
			if s := m.NamespaceSelector(); s != nil {
				got.NamespaceLabels = s.String()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestSelectsNamespace(t *testing.T) {
	team := map[string]string{"team": "a"}
	cases := map[string]struct {
		reason string
		block  string
		labels map[string]string
		want   bool
	}{
		"Empty":        {"every namespace", `{}`, nil, true},
		"Named":        {"by pattern", `{namespaces: [te*]}`, nil, true},
		"Other":        {"another name", `{namespaces: [x]}`, nil, false},
		"Excluded":     {"excluded by pattern", `{excludedNamespaces: ["*-a"]}`, nil, false},
		"Labels":       {"by its labels", `{namespaceSelector: {matchLabels: {team: a}}}`, team, true},
		"NoLabels":     {"without the label", `{namespaceSelector: {matchLabels: {team: a}}}`, nil, false},
		"OtherClauses": {"the other clauses have no say", `{name: x, scope: Cluster, kinds: [{kinds: [X]}], labelSelector: {matchLabels: {a: b}}}`, nil, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := compile(t, tc.block).SelectsNamespace("team-a", tc.labels); got != tc.want {
				t.Errorf("%s: SelectsNamespace = %t, want %t", tc.reason, got, tc.want)
			}
		})
	}
	if !(*match.Matcher)(nil).SelectsNamespace("team-a", nil) {
		t.Error("no matcher selects every namespace")
	}
}

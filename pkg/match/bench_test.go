package match_test

import (
	"testing"

	"github.com/fusegate/fusegate/pkg/policy"
)

// decisions are the ways in which a match ends, each as early or late as its
// clause is tested.
func decisions() map[string]struct {
	match  string
	review policy.Review
	want   bool
} {
	return map[string]struct {
		match  string
		review policy.Review
		want   bool
	}{
		"OtherKind":       {"kinds: [{apiGroups: [apps], kinds: [Deployment, StatefulSet, DaemonSet]}]", pod(), false},
		"OtherNamespace":  {"kinds: [{apiGroups: [\"\"], kinds: [Pod]}]\nnamespaces: [a, b, \"c-*\"]", pod(), false},
		"OtherLabels":     {"labelSelector: {matchLabels: {app: db}, matchExpressions: [{key: x, operator: NotIn, values: [z]}]}", pod(), false},
		"OtherPlace":      {"namespaceSelector: {matchLabels: {tier: lead}}", pod(), false},
		"OtherBoth":       {"labelSelector: {matchLabels: {app: db}}", pod(func(r *policy.Review) { r.OldObject = r.Object }), false},
		"ExcludedCompany": {"excludedNamespaces: [kube-system, \"sho*\"]", pod(), false},
		"EveryClause":     {"kinds: [{apiGroups: [\"\"], kinds: [Pod]}]\nscope: Namespaced\nnamespaces: [shop]\nexcludedNamespaces: [\"kube-*\"]\nlabelSelector: {matchLabels: {app: web}}\nnamespaceSelector: {matchLabels: {tier: gold}}\nname: \"web-*\"\nsource: Original", pod(), true},
	}
}

// TestMatchAllocatesNothing holds the price of a constraint that does not
// apply, which every request pays for every constraint.
func TestMatchAllocatesNothing(t *testing.T) {
	for name, tc := range decisions() {
		t.Run(name, func(t *testing.T) {
			m := compile(t, tc.match)
			if got, err := m.Match(&tc.review); got != tc.want || err != nil {
				t.Fatalf("Match = %t, %v, want %t", got, err, tc.want)
			}
			allocations := testing.AllocsPerRun(100, func() { _, _ = m.Match(&tc.review) })
			if allocations != 0 {
				t.Errorf("Match allocates %v times, want 0", allocations)
			}
		})
	}
}

func BenchmarkMatch(b *testing.B) {
	for name, tc := range decisions() {
		b.Run(name, func(b *testing.B) {
			m := compile(b, tc.match)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = m.Match(&tc.review)
			}
		})
	}
}

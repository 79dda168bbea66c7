package intercept_test

import (
	"fmt"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/intercept"
	"github.com/fusegate/fusegate/pkg/match"
)

// manyNeeds are the constraints of a large cluster.
func manyNeeds(t testing.TB) []match.Need {
	blocks := []string{pods, services, deployments, everyKind, pods + "\nnamespaces: [team-*]", everyApp + "\nlabelSelector: {matchLabels: {app: web}}"}
	var in []need
	for i := range 2000 {
		in = append(in, need{blocks[i%len(blocks)], ""})
	}
	return needs(t, in...)
}

func tenants(n int) []intercept.Namespace {
	out := []intercept.Namespace{{Name: "kube-system"}, {Name: "default"}}
	for i := range n {
		out = append(out, intercept.Namespace{Name: fmt.Sprintf("team-%d", i), Labels: map[string]string{"team": fmt.Sprint(i)}})
	}
	return out
}

func live(p exempt.Perimeter, rules []admissionregistrationv1.RuleWithOperations) admissionregistrationv1.ValidatingWebhook {
	ignore := admissionregistrationv1.Ignore
	return admissionregistrationv1.ValidatingWebhook{
		Name: string(exempt.PolicyEntry), FailurePolicy: &ignore, Rules: rules,
		NamespaceSelector: p.NamespaceSelector(), MatchConditions: p.MatchConditions(exempt.PolicyEntry),
	}
}

// BenchmarkSamples makes the samples of 2,000 constraints in 5,000 namespaces.
func BenchmarkSamples(b *testing.B) {
	all, served, namespaces := manyNeeds(b), cluster(), tenants(5000)
	var count int
	for b.Loop() {
		count = 0
		s := intercept.NewSampler(served, namespaces, exempt.Perimeter{})
		for _, n := range all {
			samples, _ := s.Samples(n)
			count += len(samples)
		}
	}
	b.ReportMetric(float64(count), "samples")
}

// BenchmarkVerdict judges the samples of 2,000 constraints after a change of
// the live configuration.
func BenchmarkVerdict(b *testing.B) {
	all := manyNeeds(b)
	rules, _ := intercept.Rules(all, cluster())
	s := intercept.NewSampler(cluster(), tenants(5000), exempt.Perimeter{})
	var samples [][]intercept.Request
	for _, n := range all {
		of, _ := s.Samples(n)
		samples = append(samples, of)
	}
	for b.Loop() {
		sim, err := intercept.NewSimulator(live(exempt.Perimeter{}, rules), intercept.Server{})
		if err != nil {
			b.Fatal(err)
		}
		for i, of := range samples {
			if v := sim.Verdict(b.Context(), of); v.State != intercept.Intercepted {
				b.Fatalf("constraint %d: %s: %v", i, v.State, v.Reasons())
			}
		}
	}
}

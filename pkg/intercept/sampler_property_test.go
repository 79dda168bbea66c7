package intercept_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/intercept"
	"github.com/fusegate/fusegate/pkg/match"
)

// randomClauses draws the clauses of a match block beside its kinds.
func randomClauses(rnd *rand.Rand) string {
	pick := func(from ...string) string { return from[rnd.IntN(len(from))] }
	namespaces := func() string {
		return pick("team-*", `"*-system"`, "kube-*", "kube-system", "team-a", "later", "default", `"*"`, "x*")
	}
	selector := func() string {
		return pick("{matchLabels: {team: a}}", "{matchLabels: {team: z}}", "{matchExpressions: [{key: team, operator: Exists}]}",
			"{matchExpressions: [{key: team, operator: NotIn, values: [a]}]}", "{matchExpressions: [{key: control-plane, operator: DoesNotExist}]}",
			"{matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [later, kube-system]}]}",
			"{matchExpressions: [{key: a, operator: In, values: [b, c]}, {key: a, operator: NotIn, values: [b]}]}",
			"{matchExpressions: [{key: a, operator: Exists}, {key: a, operator: NotIn, values: [fusegate-sample]}]}",
			"{matchExpressions: [{key: a, operator: Exists}, {key: a, operator: DoesNotExist}]}")
	}
	clauses := []func() string{
		func() string { return fmt.Sprintf("namespaces: [%s, %s]", namespaces(), namespaces()) },
		func() string { return fmt.Sprintf("excludedNamespaces: [%s]", namespaces()) },
		func() string { return "namespaceSelector: " + selector() },
		func() string { return "labelSelector: " + selector() },
		func() string {
			return "name: " + pick("web", "web-*", `"*-web"`, `"*web*"`, `"*"`, "team-a", "kube-system")
		},
		func() string { return "scope: " + pick("Cluster", "Namespaced", `"*"`) },
	}
	var out []string
	for _, c := range clauses {
		if rnd.IntN(4) == 0 {
			out = append(out, c())
		}
	}
	return strings.Join(out, "\n")
}

func randomNeed(t *testing.T, rnd *rand.Rand) (match.Need, string) {
	t.Helper()
	kinds := []string{
		everyKind, pods, services, deployments, everyApp, everyCore, `kinds: [{kinds: [Widget]}]`, `kinds: [{kinds: [Namespace, Lease]}]`,
		`kinds: [{apiGroups: ["*"], kinds: [ClusterRole, Ingress]}]`, `kinds: [{kinds: [Scale]}]`, `kinds: [{kinds: [PodExecOptions, ConsoleOptions]}]`,
		`kinds: [{apiGroups: [autoscaling], kinds: ["*"]}, {kinds: [Absent]}]`,
	}
	block := kinds[rnd.IntN(len(kinds))]
	if block == everyKind {
		block = ""
	}
	block += "\n" + randomClauses(rnd)
	ops := []string{"", "", "CREATE", "UPDATE", "DELETE", "CONNECT", "*"}[rnd.IntN(7)]
	return needs(t, need{block, ops})[0], block + "\noperations: " + ops
}

// TestSamplesAreSent draws match blocks: what is rendered and armed for them
// must be sent every sample, each sample must be one of the match block's and
// outside the perimeter, and where there is none the coverage must say why.
func TestSamplesAreSent(t *testing.T) {
	wide, err := exempt.New(exempt.Options{Namespaces: []string{"team-*"}, Groups: []string{"ops"}, KubeSystemAccounts: exempt.ControllerManagerOnly})
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]exempt.Perimeter{"Smallest": {}, "Wide": wide} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const runs = 1500
			rnd := rand.New(rand.NewPCG(3, 4))
			sampler := intercept.NewSampler(cluster(), town(), p)
			shuffled := intercept.NewSampler(cluster(), shuffle(rnd, town()), p)
			// Compiling the conditions for every need would take minutes.
			perimeter := armed(t, p, nil, setRules(rule("CUDX", "*", "*/*")))
			var sampled int
			for range runs {
				n, text := randomNeed(t, rnd)
				samples, coverage := sampler.Samples(n)
				checkCoverage(t, text, samples, coverage)
				rules := armed(t, p, []match.Need{n}, func(h *hook) { h.MatchConditions = nil })
				for _, s := range []*intercept.Simulator{rules, perimeter} {
					if v := s.Verdict(t.Context(), samples); len(v.Missed) > 0 {
						t.Fatalf("%s is not sent: %v\n%s", v.Missed[0].Request, v.Reasons(), text)
					}
				}
				for _, r := range samples {
					checkSample(t, text, n, p, r)
				}
				again, _ := shuffled.Samples(n)
				if diff := cmp.Diff(samples, again); diff != "" {
					t.Fatalf("the samples depend on the order of the namespaces (-first +shuffled):\n%s", diff)
				}
				sampled += min(1, len(samples))
			}
			if sampled < runs/3 {
				t.Errorf("only %d of %d needs have samples, so they show little", sampled, runs)
			}
		})
	}
}

func shuffle(rnd *rand.Rand, namespaces []intercept.Namespace) []intercept.Namespace {
	rnd.Shuffle(len(namespaces), func(i, j int) { namespaces[i], namespaces[j] = namespaces[j], namespaces[i] })
	return namespaces
}

func checkCoverage(t *testing.T, text string, samples []intercept.Request, c intercept.Coverage) {
	t.Helper()
	for _, list := range [][]string{c.NotServed, c.NotInterceptable, c.Exempt, c.Unknown} {
		if !slices.IsSorted(list) {
			t.Fatalf("coverage %+v is not sorted\n%s", c, text)
		}
	}
	if len(samples) == 0 && len(c.NotServed)+len(c.NotInterceptable)+len(c.Exempt)+len(c.Unknown) == 0 {
		t.Fatalf("no samples and no reason why\n%s", text)
	}
}

func checkSample(t *testing.T, text string, n match.Need, p exempt.Perimeter, r intercept.Request) {
	t.Helper()
	review := r.Review()
	if matched, err := n.Match.Match(review); !matched || err != nil {
		t.Fatalf("%s does not match: %v\n%s", r, err, text)
	}
	if why, outside := p.Judge(review); outside {
		t.Fatalf("%s is exempt: %s\n%s", r, why, text)
	}
	if !asks(n, r.Operation) {
		t.Fatalf("%s is not asked for\n%s", r, text)
	}
}

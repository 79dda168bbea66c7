package intercept_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/intercept"
	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/policy"
)

// request is one way in which the cluster can be written to.
type request struct {
	group, version, resource string
	kind                     schema.GroupVersionKind
	op                       policy.Operation
	// own tells that a subresource carries its parent's kind.
	own bool
}

func (r request) subresource() string {
	_, s, _ := strings.Cut(r.resource, "/")
	return s
}

// requests lists what can be asked of the fixture, worked out from verbs.
func requests(served []*metav1.APIResourceList) []request {
	operations := map[string][]policy.Operation{
		"create": {policy.Create}, "update": {policy.Update}, "patch": {policy.Update}, "delete": {policy.Delete},
	}
	var out []request
	for _, list := range served {
		gv, _ := schema.ParseGroupVersion(list.GroupVersion)
		kinds := map[string]string{}
		for _, r := range list.APIResources {
			kinds[r.Name] = r.Kind
		}
		for _, r := range list.APIResources {
			base := request{group: gv.Group, version: gv.Version, resource: r.Name, kind: gv.WithKind(r.Kind)}
			if r.Group != "" {
				base.kind.Group = r.Group
			}
			parent, _, _ := strings.Cut(r.Name, "/")
			base.own = r.Group == "" && kinds[parent] == r.Kind
			ops := map[policy.Operation]bool{}
			for _, v := range r.Verbs {
				for _, o := range operations[v] {
					ops[o] = true
				}
			}
			if gv.Group == "" && strings.HasSuffix(r.Kind, "Options") {
				ops = map[policy.Operation]bool{policy.Connect: true}
			}
			for o := range ops {
				base.op = o
				out = append(out, base)
			}
		}
	}
	return out
}

// intercepted is the API server's rule matching, as far as the rules here need
// it (k8s.io/apiserver, pkg/admission/plugin/webhook/predicates/rules).
func intercepted(rules []admissionregistrationv1.RuleWithOperations, r request) bool {
	holds := func(list []string, item string) bool {
		return slices.Contains(list, "*") || slices.Contains(list, item)
	}
	for _, rule := range rules {
		resource := slices.Contains(rule.Resources, r.resource) ||
			slices.Contains(rule.Resources, "*") && r.subresource() == "" ||
			r.subresource() != "" && slices.Contains(rule.Resources, "*/"+r.subresource())
		if resource && holds(rule.APIGroups, r.group) && holds(rule.APIVersions, r.version) &&
			slices.Contains(rule.Operations, admissionregistrationv1.OperationType(r.op)) {
			return true
		}
	}
	return false
}

// wanted says independently of the planner whether a request must be sent.
func wanted(t *testing.T, all []match.Need, r request) bool {
	t.Helper()
	for _, n := range all {
		if changes(t, n, r) {
			return true
		}
	}
	exempt := []string{"status", "binding", "finalize", "token", "approval", "eviction"}
	metadata := []string{"/namespaces/finalize", "/namespaces/status", "/pods/status", "apps/deployments/status", "networking.k8s.io/ingresses/status"}
	if slices.Contains(exempt, r.subresource()) && r.resource != "services/status" && !(slices.Contains(metadata, r.group+"/"+r.resource) && r.op == policy.Update) {
		return false
	}
	for _, n := range all {
		matched, err := n.Match.Match(&policy.Review{Kind: r.kind})
		if err != nil {
			t.Fatalf("Match: %v", err)
		}
		if matched && asks(n, r.op) && (r.subresource() == "" || r.own || r.op == policy.Connect || names(n, r) || scales(n, r)) {
			return true
		}
	}
	return false
}

// changes tells whether a need asks for the request for the sake of what it changes:
// the Pod of a Binding, and a custom resource that is scaled.
func changes(t *testing.T, n match.Need, r request) bool {
	t.Helper()
	of := schema.GroupVersionKind{}
	switch {
	case r.group == "" && (r.resource == "pods/binding" || r.resource == "bindings") && r.op == policy.Create:
		of.Kind = "Pod"
	case r.resource == "widgets/scale" && r.op == policy.Update:
		of.Group, of.Kind = r.group, "Widget"
	default:
		return false
	}
	matched, err := n.Match.Match(&policy.Review{Kind: of})
	if err != nil {
		t.Fatalf("Match: %v", err)
	}
	return matched && asks(n, policy.Update)
}

func asks(n match.Need, op policy.Operation) bool {
	if len(n.Operations) == 0 {
		return op == policy.Create || op == policy.Update
	}
	return slices.Contains(n.Operations, "*") || slices.Contains(n.Operations, op)
}

// scales tells whether somebody who asks for every kind asks for the request:
// who may scale changes what is scaled.
func scales(n match.Need, r request) bool {
	return n.Match.Kinds() == nil && r.subresource() == "scale" && r.op == policy.Update
}

func names(n match.Need, r request) bool {
	for _, k := range n.Match.Kinds() {
		if slices.Contains(k.Kinds, r.kind.Kind) && (len(k.Groups) == 0 || slices.Contains(k.Groups, r.kind.Group)) {
			return true
		}
	}
	return false
}

// randomNeeds draws match blocks from the fixture's kinds, its groups, and
// some that do not exist.
func randomNeeds(t *testing.T, rnd *rand.Rand) []match.Need {
	t.Helper()
	groups := []string{`""`, `""`, "apps", "autoscaling", "policy", "example.com", "events.k8s.io", "subresources.example.com", "absent.io", `"*"`}
	kinds := []string{
		"Pod", "Service", "Deployment", "Scale", "Event", "Widget", "Binding", "Eviction", "Namespace", "PodExecOptions",
		"NodeProxyOptions", "ConsoleOptions", "Absent", `"*"`,
	}
	ops := []string{"", "", "CREATE", "UPDATE", "DELETE", "CREATE DELETE", "CONNECT", "*", "CREATE CONNECT"}
	pick := func(from []string) string {
		var out []string
		for range rnd.IntN(3) {
			out = append(out, from[rnd.IntN(len(from))])
		}
		return strings.Join(out, ", ")
	}
	var out []need
	for range rnd.IntN(5) {
		var entries []string
		for range 1 + rnd.IntN(2) {
			entries = append(entries, fmt.Sprintf("{apiGroups: [%s], kinds: [%s]}", pick(groups), pick(kinds)))
		}
		out = append(out, need{"kinds: [" + strings.Join(entries, ", ") + "]", ops[rnd.IntN(len(ops))]})
	}
	return needs(t, out...)
}

func TestRulesCoverExactlyTheNeeds(t *testing.T) {
	const runs = 3000
	rnd := rand.New(rand.NewPCG(1, 2))
	served := cluster()
	possible := requests(served)
	for range runs {
		all := randomNeeds(t, rnd)
		rules, missing := intercept.Rules(all, served)
		for _, r := range possible {
			if got, want := intercepted(rules, r), wanted(t, all, r); got != want {
				t.Fatalf("%s of %s %s (%s) is intercepted: %t, want %t\nneeds: %s\nrules: %v", r.op, r.group, r.resource, r.kind, got, want, describe(all), rules)
			}
		}
		checkForm(t, rules)
		rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		rnd.Shuffle(len(served), func(i, j int) { served[i], served[j] = served[j], served[i] })
		again, missingAgain := intercept.Rules(all, served)
		if diff := cmp.Diff(rules, again) + cmp.Diff(missing, missingAgain); diff != "" {
			t.Fatalf("the result depends on the order (-first +shuffled):\n%s", diff)
		}
	}
}

// checkForm checks what the API server's validation demands of rules, and that
// nothing is said twice.
func checkForm(t *testing.T, rules []admissionregistrationv1.RuleWithOperations) {
	t.Helper()
	seen := map[string]bool{}
	say := func(what string) {
		if seen[what] {
			t.Fatalf("%s is said twice in %v", what, rules)
		}
		seen[what] = true
	}
	for _, r := range rules {
		if len(r.Operations) == 0 || len(r.Resources) == 0 || len(r.APIGroups) != 1 || !slices.IsSorted(r.Resources) {
			t.Fatalf("malformed rule %v", r)
		}
		say(fmt.Sprint(r.APIGroups, r.Operations))
		star := slices.Contains(r.Resources, "*")
		for _, resource := range r.Resources {
			if strings.Contains(resource, "*") && resource != "*" && resource != "*/scale" {
				t.Fatalf("%s in rule %v", resource, r)
			}
			if star && resource != "*" && !strings.Contains(resource, "/") {
				t.Fatalf("%s beside a star in rule %v, which the API server refuses", resource, r)
			}
			for _, op := range r.Operations {
				say(fmt.Sprint(r.APIGroups, resource, op))
			}
		}
	}
}

func describe(all []match.Need) string {
	var out []string
	for _, n := range all {
		out = append(out, fmt.Sprintf("%v %q", n.Match.Kinds(), n.Operations))
	}
	return strings.Join(out, "; ")
}

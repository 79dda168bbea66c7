package intercept_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fusegate/fusegate/pkg/intercept"
	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/policy"
)

type need struct {
	kinds string
	ops   string
}

func needs(t testing.TB, in ...need) []match.Need {
	t.Helper()
	var out []match.Need
	for _, n := range in {
		var ops []policy.Operation
		for _, o := range strings.Fields(n.ops) {
			ops = append(ops, policy.Operation(o))
		}
		out = append(out, match.Need{Match: matcher(t, n.kinds), Operations: ops})
	}
	return out
}

// rule abbreviates a rule: its operations' initials (X is CONNECT), its group
// and its resources.
func rule(ops, group string, resources ...string) admissionregistrationv1.RuleWithOperations {
	names := map[rune]admissionregistrationv1.OperationType{'C': "CREATE", 'U': "UPDATE", 'D': "DELETE", 'X': "CONNECT"}
	scope := admissionregistrationv1.AllScopes
	r := admissionregistrationv1.RuleWithOperations{Rule: admissionregistrationv1.Rule{
		APIGroups: []string{group}, APIVersions: []string{"*"}, Resources: resources, Scope: &scope,
	}}
	for _, o := range ops {
		r.Operations = append(r.Operations, names[o])
	}
	return r
}

const (
	everyKind   = `{}`
	pods        = `kinds: [{apiGroups: [""], kinds: [Pod]}]`
	services    = `kinds: [{apiGroups: [""], kinds: [Service]}]`
	deployments = `kinds: [{apiGroups: [apps], kinds: [Deployment]}]`
	everyApp    = `kinds: [{apiGroups: [apps], kinds: ["*"]}]`
	everyCore   = `kinds: [{apiGroups: [""], kinds: ["*"]}]`
)

var (
	coreStatuses = rule("U", "", "namespaces/finalize", "namespaces/status", "pods/status")
	podBinding   = rule("C", "", "pods/binding")
	appStatuses  = rule("U", "apps", "deployments/status")
	netStatuses  = rule("U", "networking.k8s.io", "ingresses/status")
)

var coreSubresources = []string{"pods/ephemeralcontainers", "pods/resize", "services/status"}

func TestRules(t *testing.T) {
	type rules = []admissionregistrationv1.RuleWithOperations
	cases := map[string]struct {
		reason  string
		needs   []need
		want    rules
		missing []string
	}{
		"None":       {"no constraint, no interception", nil, nil, nil},
		"Pod":        {"a Pod can be changed through two of its subresources", []need{{pods, ""}}, rules{rule("C", "", "bindings", "pods/binding"), rule("U", "", "pods/status"), rule("CU", "", "pods", "pods/ephemeralcontainers", "pods/resize")}, nil},
		"Service":    {"a Service's status holds addresses that users write", []need{{services, ""}}, rules{rule("CU", "", "services", "services/status")}, nil},
		"Deployment": {"of its status what changes metadata, and no scale of what no policy reads", []need{{deployments, ""}}, rules{appStatuses, rule("CU", "apps", "deployments")}, nil},
		"Namespace":  {"namespaces/finalize and status are for what changes metadata", []need{{`kinds: [{apiGroups: [""], kinds: [Namespace]}]`, ""}}, rules{rule("U", "", "namespaces/finalize", "namespaces/status"), rule("CU", "", "namespaces")}, nil},
		"Versions":   {"all versions of a kind are one resource, and may be scaled by any field", []need{{`kinds: [{apiGroups: [example.com], kinds: [Widget]}]`, ""}}, rules{rule("U", "example.com", "widgets/scale"), rule("CU", "example.com", "widgets")}, nil},
		"AnyGroup":   {"a kind of any group is looked up in all", []need{{`kinds: [{apiGroups: ["*"], kinds: [Event]}]`, ""}}, rules{rule("CU", "", "events"), rule("CU", "events.k8s.io", "events")}, nil},
		"NoGroups":   {"no groups are any group", []need{{`kinds: [{kinds: [Event]}]`, ""}}, rules{rule("CU", "", "events"), rule("CU", "events.k8s.io", "events")}, nil},
		"ReadOnly":   {"what cannot be written needs no rule and is not missing", []need{{`kinds: [{apiGroups: [""], kinds: [ComponentStatus]}]`, ""}}, nil, nil},
		"Scale": {
			"a kind that only subresources carry", []need{{`kinds: [{apiGroups: [autoscaling], kinds: [Scale]}]`, ""}},
			rules{rule("CU", "", "replicationcontrollers/scale"), rule("CU", "apps", "deployments/scale", "statefulsets/scale"), rule("CU", "example.com", "widgets/scale")}, nil,
		},
		"ScaleOfApps": {"Scale is a kind of autoscaling only", []need{{`kinds: [{apiGroups: [apps], kinds: [Scale]}]`, ""}}, nil, []string{"Scale.apps"}},
		"Autoscaling": {"every kind of a group does not reach into other groups' resources", []need{{`kinds: [{apiGroups: [autoscaling], kinds: ["*"]}]`, ""}}, rules{rule("CU", "autoscaling", "*")}, nil},
		"Eviction":    {"drains never wait for a policy, even by name", []need{{`kinds: [{apiGroups: [policy], kinds: [Eviction]}]`, "*"}}, nil, nil},
		"Binding":     {"nor does the scheduler", []need{{`kinds: [{apiGroups: [""], kinds: [Binding]}]`, ""}}, rules{rule("CU", "", "bindings")}, nil},
		"NoParent":    {"a subresource whose parent is not served here", []need{{`kinds: [{apiGroups: [subresources.example.com], kinds: [ConsoleOptions]}]`, "*"}}, rules{rule("CUDX", "subresources.example.com", "machines/console")}, nil},

		"LikeOptions": {"only the core group's options are known to come with CONNECT alone", []need{{`kinds: [{apiGroups: [subresources.example.com], kinds: [PodExecOptions]}]`, ""}}, rules{rule("CU", "subresources.example.com", "machines/exec")}, nil},

		"Delete":        {"only what was asked for", []need{{deployments, "DELETE"}}, rules{rule("D", "apps", "deployments")}, nil},
		"AllOperations": {"a star is all four, and CONNECT is never for a resource", []need{{deployments, "*"}}, rules{appStatuses, rule("CUD", "apps", "deployments")}, nil},
		"UnknownOp":     {"an unknown operation would invalidate every rule", []need{{deployments, "CREATE PATCH"}, {services, "WATCH"}}, rules{rule("C", "apps", "deployments")}, nil},
		"Exec":          {"options come with CONNECT", []need{{`kinds: [{apiGroups: [""], kinds: [PodExecOptions, PodAttachOptions]}]`, "*"}}, rules{rule("X", "", "pods/attach", "pods/exec")}, nil},
		"ExecNoConnect": {"and with nothing else", []need{{`kinds: [{apiGroups: [""], kinds: [PodExecOptions]}]`, "CREATE UPDATE DELETE"}}, nil, nil},
		"PodConnect":    {"exec does not carry the kind Pod", []need{{pods, "CONNECT"}}, nil, nil},
		"OtherConnects": {
			"every kind of options", []need{{`kinds: [{apiGroups: [""], kinds: [PodPortForwardOptions, PodProxyOptions, ServiceProxyOptions, NodeProxyOptions]}]`, "CONNECT"}},
			rules{rule("X", "", "nodes/proxy", "pods/portforward", "pods/proxy", "services/proxy")}, nil,
		},

		"Everything": {
			"one star, and the subresources that it does not cover", []need{{everyKind, ""}},
			rules{podBinding, coreStatuses, rule("CU", "", coreSubresources...), rule("U", "*", "*/scale"), rule("CU", "*", "*"), appStatuses, netStatuses}, nil,
		},
		"EverythingAlways": {
			"with CONNECT come its subresources", []need{{everyKind, "*"}},
			rules{
				podBinding, coreStatuses, rule("CUD", "", coreSubresources...),
				rule("X", "", "nodes/proxy", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy"),
				rule("U", "*", "*/scale"), rule("CUD", "*", "*"), appStatuses, netStatuses,
			}, nil,
		},
		"EveryApp":        {"a star for the group", []need{{everyApp, ""}}, rules{appStatuses, rule("CU", "apps", "*")}, nil},
		"EveryCore":       {"and the subresources that it does not cover", []need{{everyCore, ""}}, rules{podBinding, coreStatuses, rule("CU", "", append([]string{"*"}, coreSubresources...)...)}, nil},
		"EveryKindEntry":  {"a star of stars is everything, whatever is beside it", []need{{`kinds: [{apiGroups: [apps], kinds: [Deployment]}, {apiGroups: ["*"], kinds: ["*"]}]`, ""}}, rules{podBinding, coreStatuses, rule("CU", "", coreSubresources...), rule("U", "*", "*/scale"), rule("CU", "*", "*"), appStatuses, netStatuses}, nil},
		"EveryConnect":    {"CONNECT alone needs no star", []need{{everyApp, "CONNECT"}}, nil, nil},
		"CoveredByGroup":  {"what the group's star covers is not listed", []need{{everyApp, ""}, {deployments, ""}}, rules{appStatuses, rule("CU", "apps", "*")}, nil},
		"CoveredByAll":    {"what the star covers is not listed", []need{{everyKind, ""}, {deployments, ""}, {everyApp, ""}, {pods, ""}}, rules{podBinding, coreStatuses, rule("CU", "", coreSubresources...), rule("U", "*", "*/scale"), rule("CU", "*", "*"), appStatuses, netStatuses}, nil},
		"PartlyCovered":   {"only the rest is listed", []need{{everyKind, "CREATE"}, {everyApp, "UPDATE"}, {deployments, "*"}}, rules{rule("C", "", coreSubresources...), rule("C", "*", "*"), rule("U", "apps", "*", "deployments/status"), rule("D", "apps", "deployments")}, nil},
		"Merged":          {"one rule for a group", []need{{pods, ""}, {services, ""}}, rules{rule("C", "", "bindings", "pods/binding"), rule("U", "", "pods/status"), rule("CU", "", "pods", "pods/ephemeralcontainers", "pods/resize", "services", "services/status")}, nil},
		"Split":           {"one rule for each set of operations", []need{{`kinds: [{apiGroups: [apps], kinds: [Deployment, StatefulSet]}]`, ""}, {deployments, "DELETE"}}, rules{appStatuses, rule("CU", "apps", "statefulsets"), rule("CUD", "apps", "deployments")}, nil},
		"Missing":         {"kinds that are not served", []need{{`kinds: [{apiGroups: [""], kinds: [Pot]}, {apiGroups: [b, a], kinds: [Foo]}, {kinds: [Bar]}]`, ""}, {deployments, ""}}, rules{appStatuses, rule("CU", "apps", "deployments")}, []string{"Bar.*", "Foo.a", "Foo.b", "Pot"}},
		"MissingInOne":    {"a kind that one of the groups serves is there", []need{{`kinds: [{apiGroups: [extensions, networking.k8s.io], kinds: [Ingress]}]`, ""}}, rules{netStatuses, rule("CU", "networking.k8s.io", "ingresses")}, nil},
		"MissingGroup":    {"a group still to come has no rule before it is served", []need{{`kinds: [{apiGroups: [later.example.com, apps], kinds: ["*"]}]`, ""}}, rules{appStatuses, rule("CU", "apps", "*")}, []string{"*.later.example.com"}},
		"OtherClauses":    {"the other clauses are the engine's", []need{{deployments + "\nnamespaces: [a]\nscope: Cluster", ""}}, rules{appStatuses, rule("CU", "apps", "deployments")}, nil},
		"SameKindInOther": {"groups are told apart", []need{{`kinds: [{apiGroups: [events.k8s.io], kinds: [Event]}]`, ""}}, rules{rule("CU", "events.k8s.io", "events")}, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, missing := intercept.Rules(needs(t, tc.needs...), cluster())
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: rules (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.missing, missing); diff != "" {
				t.Errorf("%s: missing (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestRulesOfOddInput(t *testing.T) {
	odd := []*metav1.APIResourceList{nil, {GroupVersion: "a/b/c", APIResources: []metav1.APIResource{entry("x", "X", full)}}, {}}
	got, missing := intercept.Rules([]match.Need{{}}, odd)
	if diff := cmp.Diff([]admissionregistrationv1.RuleWithOperations{rule("U", "*", "*/scale"), rule("CU", "*", "*")}, got); diff != "" {
		t.Errorf("a need without a matcher wants every kind (-want +got):\n%s", diff)
	}
	if missing != nil {
		t.Errorf("missing = %v, want none", missing)
	}
}

func TestEqual(t *testing.T) {
	unscoped := rule("CU", "apps", "deployments")
	unscoped.Scope = nil
	namespaced := rule("CU", "apps", "deployments")
	scope := admissionregistrationv1.NamespacedScope
	namespaced.Scope = &scope
	star := rule("", "apps", "deployments")
	star.Operations = []admissionregistrationv1.OperationType{"*"}
	type rules = []admissionregistrationv1.RuleWithOperations
	cases := map[string]struct {
		reason string
		a, b   rules
		want   bool
	}{
		"None":       {"nil and empty", nil, rules{}, true},
		"Scope":      {"the API server fills in the scope", rules{unscoped}, rules{rule("CU", "apps", "deployments")}, true},
		"OtherScope": {"another scope is another rule", rules{unscoped}, rules{namespaced}, false},
		"Order":      {"order means nothing", rules{rule("C", "a", "x", "z"), rule("D", "b", "w")}, rules{rule("D", "b", "w"), rule("C", "a", "z", "x")}, true},
		"Split":      {"nor does how rules are split", rules{rule("CU", "a", "x", "z")}, rules{rule("CU", "a", "x"), rule("C", "a", "z"), rule("U", "a", "z")}, true},
		"Star":       {"a star is all operations", rules{star}, rules{rule("CUDX", "apps", "deployments")}, true},
		"Operation":  {"an operation less", rules{rule("CU", "a", "x")}, rules{rule("C", "a", "x")}, false},
		"Resource":   {"a resource more", rules{rule("CU", "a", "x")}, rules{rule("CU", "a", "x", "z")}, false},
		"Group":      {"another group", rules{rule("CU", "a", "x")}, rules{rule("CU", "b", "x")}, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := intercept.Equal(tc.a, tc.b); got != tc.want {
				t.Errorf("%s: Equal = %t, want %t", tc.reason, got, tc.want)
			}
			a, b := slices.Clone(tc.b), slices.Clone(tc.a)
			if got := intercept.Equal(a, b); got != tc.want {
				t.Errorf("%s: Equal the other way round = %t, want %t", tc.reason, got, tc.want)
			}
		})
	}
}

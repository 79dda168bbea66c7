package exempt_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/policy"
)

var webhookVariables = cel.OptionalVariableDeclarations{HasAuthorizer: true}

// TestConditionsAreValid holds every perimeter to the API server's validation
// of webhooks (k8s.io/kubernetes pkg/apis/admissionregistration/validation).
func TestConditionsAreValid(t *testing.T) {
	// The first version with matchConditions, and the one built against.
	for _, v := range []*version.Version{version.MajorMinor(1, 30), environment.DefaultCompatibilityVersion()} {
		compiler := cel.NewCompiler(environment.MustBaseEnvSet(v))
		for name, o := range withLargest() {
			for _, entry := range entries {
				t.Run(fmt.Sprintf("%s/%s/%s", v, name, entry), func(t *testing.T) {
					checkConditions(t, compiler, mustNew(t, o).MatchConditions(entry))
				})
			}
		}
	}
}

func checkConditions(t *testing.T, compiler cel.Compiler, conditions []admissionregistrationv1.MatchCondition) {
	t.Helper()
	// One place is the fuse's, one the canary's.
	if len(conditions) > 62 {
		t.Errorf("%d conditions, of which the API server takes 64", len(conditions))
	}
	seen := map[string]bool{"fuse-open": true}
	for _, c := range conditions {
		if problems := validation.IsQualifiedName(c.Name); len(problems) > 0 || seen[c.Name] {
			t.Errorf("condition %q is named twice or wrongly: %v", c.Name, problems)
		}
		seen[c.Name] = true
		for _, mode := range []environment.Type{environment.NewExpressions, environment.StoredExpressions} {
			accessor := matchconditions.MatchCondition(c)
			if got := compiler.CompileCELExpression(&accessor, webhookVariables, mode); got.Error != nil {
				t.Errorf("condition %s: %v", c.Name, got.Error)
			}
		}
	}
}

// TestConditionNames pins what metrics and people refer to.
func TestConditionNames(t *testing.T) {
	want := []string{
		"not-system-namespace", "not-system-user", "not-node", "not-bootstrapping-node", "not-fusegate",
		"not-controller-except-workloads", "not-critical-resource", "not-critical-subresource",
		"not-exempt-user", "not-exempt-group", "not-policy-object",
	}
	var got []string
	for _, c := range mustNew(t, perimeters["Widened"]).MatchConditions(exempt.PolicyEntry) {
		got = append(got, c.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names of the conditions (-want +got):\n%s", diff)
	}
}

func TestNamespaceSelector(t *testing.T) {
	p := mustNew(t, exempt.Options{Namespaces: []string{"b", "a-*", "kube-system", "a", "b"}})
	want := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
		Key: "kubernetes.io/metadata.name", Operator: "NotIn",
		Values: []string{"a", "b", "fusegate-system", "kube-node-lease", "kube-public", "kube-system"},
	}}}
	if diff := cmp.Diff(want, p.NamespaceSelector()); diff != "" {
		t.Errorf("NamespaceSelector() (-want +got):\n%s", diff)
	}
	problems := metav1validation.ValidateLabelSelector(p.NamespaceSelector(), metav1validation.LabelSelectorValidationOptions{}, field.NewPath("namespaceSelector"))
	if len(problems) > 0 {
		t.Errorf("NamespaceSelector() is not valid: %v", problems)
	}
}

// TestDeterministic makes sure that the order in which options are written
// changes nothing of what is installed.
func TestDeterministic(t *testing.T) {
	o := perimeters["Widened"]
	reversed := o
	for _, l := range []*[]string{&reversed.Namespaces, &reversed.Users, &reversed.Groups} {
		*l = slices.Clone(*l)
		slices.Reverse(*l)
	}
	for _, entry := range entries {
		if diff := cmp.Diff(mustNew(t, o).MatchConditions(entry), mustNew(t, reversed).MatchConditions(entry)); diff != "" {
			t.Errorf("MatchConditions(%s) of reversed options (-want +got):\n%s", entry, diff)
		}
	}
}

// withLargest adds the largest Options there are.
func withLargest() map[string]exempt.Options {
	out := map[string]exempt.Options{"Largest": {Provider: "eks", KubeSystemAccounts: exempt.ControllerManagerOnly}}
	for name, o := range perimeters {
		out[name] = o
	}
	o := out["Largest"]
	for i := range 64 {
		long := fmt.Sprintf("%d-", i) + strings.Repeat("x", 256-4)
		o.Namespaces = append(o.Namespaces, fmt.Sprintf("ns-%s-%02d*", strings.Repeat("n", 50), i))
		o.Users = append(o.Users, long)
		o.Groups = append(o.Groups, long)
		o.Controllers = append(o.Controllers, long)
		o.ServiceAccounts = append(o.ServiceAccounts, fmt.Sprintf("ns-%d/%s", i, strings.Repeat("a", 253)))
		o.OwnServiceAccounts = append(o.OwnServiceAccounts, fmt.Sprintf("%02d%s", i, strings.Repeat("a", 251)))
	}
	out["Largest"] = o
	return out
}

// TestCost measures what the API server charges for the conditions, request by
// request, and fails where they come near the limits: beyond them, the API
// server skips the webhook under failurePolicy Ignore.
func TestCost(t *testing.T) {
	groups := func(n int) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = fmt.Sprintf("%s-%d", strings.Repeat("g", 240), i)
		}
		return out
	}
	cases := map[string]struct {
		reason string
		groups []string
		// at is the share of the limits that the conditions may cost.
		at    int64
		names []string
	}{
		"Ordinary":     {"what people and machines are in", groups(20), 100, []string{"Smallest", "ControllerManagerOnly"}},
		"ManyGroups":   {"a user in a thousand groups", groups(1000), 100, []string{"Smallest", "ControllerManagerOnly"}},
		"Widened":      {"a thousand groups and a perimeter widened as usual", groups(1000), 100, []string{"Widened"}},
		"Most":         {"as many groups as are looked through, of the largest perimeter", groups(4096), 2, []string{"Largest"}},
		"BeyondBounds": {"more groups than are looked through", groups(20_000), 2, []string{"Largest"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			for _, options := range tc.names {
				for _, entry := range entries {
					conditions := mustNew(t, withLargest()[options]).MatchConditions(entry)
					each, total := worstCost(t, conditions, tc.groups)
					t.Logf("%s, %s: %d at most for one condition, %d for all", options, entry, each, total)
					if each > celconfig.PerCallLimit/tc.at || total > celconfig.RuntimeCELCostBudgetMatchConditions/tc.at {
						t.Errorf("%s: %s at %s costs %d for one condition and %d for all, more than 1/%d of the limits", tc.reason, options, entry, each, total, tc.at)
					}
				}
			}
		})
	}
}

// worstCost is what the dearest condition and what all conditions cost, each
// for the dearest of the users that make conditions look at groups.
func worstCost(t *testing.T, conditions []admissionregistrationv1.MatchCondition, groups []string) (each, total int64) {
	t.Helper()
	long := strings.Repeat("n", 253)
	for _, u := range []string{"alice", "system:node:" + long, "system:bootstrap:" + long, "system:serviceaccount:kube-system:" + long, "system:serviceaccount:kube-system:ttl-controller"} {
		for _, gr := range []schema.GroupResource{{Resource: "pods"}, {Group: "fusegate.dev", Resource: "canaries"}, {Group: "example.com", Resource: "widgets"}} {
			r := combination(by(u, groups...), gr, "status", create, strings.Repeat("n", 63), long)
			var sum int64
			for _, c := range conditions {
				cost := costOf(t, c, r)
				each, sum = max(each, cost), sum+cost
			}
			total = max(total, sum)
		}
	}
	return each, total
}

// TestMetadataCost: however much metadata a request carries, what conditions that
// compare it cost stays far from the limits.
func TestMetadataCost(t *testing.T) {
	conditions := mustNew(t, exempt.Options{}).MatchConditions(exempt.PolicyEntry)
	for _, r := range dearest(alice) {
		var each, total int64
		for _, c := range conditions {
			cost := costOf(t, c, r)
			each, total = max(each, cost), total+cost
		}
		t.Logf("%s: %d at most for one condition, %d for all", describe(r), each, total)
		if each > celconfig.PerCallLimit/10 || total > celconfig.RuntimeCELCostBudgetMatchConditions/10 {
			t.Errorf("%s costs %d for one condition and %d for all, more than a tenth of the limits", describe(r), each, total)
		}
	}
}

// dearest are writes whose metadata conditions look at, with as many labels,
// annotations and owners as a request of 3 MiB can carry, the last of which differ.
func dearest(who authenticationv1.UserInfo) []*policy.Review {
	many := func(last string) map[string]any {
		texts, owners := map[string]any{}, []any{}
		for i := range 40_000 {
			texts[fmt.Sprintf("label-%d", i)] = "x"
			owners = append(owners, map[string]any{"kind": "K", "name": fmt.Sprint(i)})
		}
		texts["last"] = last
		return map[string]any{"metadata": map[string]any{"labels": texts, "annotations": texts, "ownerReferences": append(owners, last)}}
	}
	status := combination(who, schema.GroupResource{Resource: "pods"}, "status", update, "team-a", "web")
	status.Object, status.OldObject = many("now"), many("before")
	alike := combination(who, schema.GroupResource{Resource: "namespaces"}, "finalize", update, "team-a", "team-a")
	alike.Object, alike.OldObject = many("same"), many("same")
	binding := combination(who, schema.GroupResource{Resource: "pods"}, "binding", create, "team-a", "web")
	binding.Object = many("now")
	old := combination(who, schema.GroupResource{Resource: "bindings"}, "", create, "team-a", "web")
	old.Object = many("now")
	return []*policy.Review{status, alike, binding, old}
}

var compiled = map[string]cel.ConditionEvaluator{}

func costOf(t *testing.T, c admissionregistrationv1.MatchCondition, r *policy.Review) int64 {
	t.Helper()
	evaluator, ok := compiled[c.Expression]
	if !ok {
		accessor := matchconditions.MatchCondition(c)
		evaluator = compiler.CompileCondition([]cel.ExpressionAccessor{&accessor}, webhookVariables, environment.StoredExpressions)
		compiled[c.Expression] = evaluator
	}
	attributes := attributesOf(r)
	admissionRequest := cel.CreateAdmissionRequest(attributes, metav1.GroupVersionResource(attributes.GetResource()), metav1.GroupVersionKind(attributes.GetKind()))
	got, left, err := evaluator.ForInput(t.Context(), &admission.VersionedAttributes{
		Attributes: attributes, VersionedKind: r.Kind,
		VersionedObject: admission.NewLazyObject(attributes.GetObject()), VersionedOldObject: admission.NewLazyObject(attributes.GetOldObject()),
	}, admissionRequest, cel.OptionalVariableBindings{}, nil, celconfig.RuntimeCELCostBudgetMatchConditions)
	if err != nil || got[0].Error != nil {
		t.Fatalf("condition %s: %v, %v", c.Name, err, got[0].Error)
	}
	return celconfig.RuntimeCELCostBudgetMatchConditions - left
}

package intercept_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/intercept"
	"github.com/fusegate/fusegate/pkg/match"
)

// armed is the live entry as it should be for the needs, and then edited.
func armed(t *testing.T, p exempt.Perimeter, all []match.Need, edits ...edit) *intercept.Simulator {
	t.Helper()
	rules, _ := intercept.Rules(all, cluster())
	h := live(p, rules)
	for _, e := range edits {
		e(&h)
	}
	s, err := intercept.NewSimulator(h, intercept.Server{})
	if err != nil {
		t.Fatalf("NewSimulator: %v", err)
	}
	return s
}

func TestVerdict(t *testing.T) {
	of := func(cause intercept.Cause, field, condition string) []why {
		return []why{{cause, field, condition, "~"}}
	}
	leaveOutB := selectNamespaces(requirement("control-plane", "DoesNotExist"))
	cases := map[string]struct {
		reason string
		block  string
		edits  []edit
		state  intercept.State
		want   []why
	}{
		"AsRendered":    {"nobody wrote to it", pods, nil, intercept.Intercepted, nil},
		"Disarmed":      {"no rules at all", pods, []edit{setRules()}, intercept.Narrowed, of(intercept.NoRule, inRules, "")},
		"Scope":         {"rules for another scope", pods, []edit{scopedTo("Cluster")}, intercept.Narrowed, of(intercept.NoRule, inRules, "")},
		"OneOperation":  {"rules without one operation", deployments, []edit{setRules(rule("C", "apps", "deployments"))}, intercept.Narrowed, of(intercept.NoRule, inRules, "")},
		"OtherRules":    {"rules for other kinds", pods, []edit{setRules(rule("CU", "apps", "*"))}, intercept.Narrowed, of(intercept.NoRule, inRules, "")},
		"Condition":     {"a condition that is never true", pods, []edit{condition("x", "false")}, intercept.Narrowed, of(intercept.ConditionFalse, inCondition("x"), "x")},
		"ConditionOp":   {"one that takes away an operation", pods, []edit{condition("x", `request.operation != "UPDATE"`)}, intercept.Narrowed, of(intercept.ConditionFalse, inCondition("x"), "x")},
		"ConditionUser": {"one that takes away administrators", pods, []edit{condition("x", `!("system:masters" in request.userInfo.groups)`)}, intercept.Partly, of(intercept.ConditionFalse, inCondition("x"), "x")},
		"Error":         {"one that fails", pods, []edit{condition("x", "object.spec.a == 1")}, intercept.Narrowed, of(intercept.ConditionError, inCondition("x"), "x")},
		"Object":        {"objects must opt in", pods, []edit{selectObjects(requirement("policy", "Exists"))}, intercept.Narrowed, of(intercept.ObjectSelector, inObject, "")},
		"Namespace":     {"namespaces must opt in", pods, []edit{selectNamespaces(requirement("policy", "Exists"))}, intercept.Narrowed, of(intercept.NamespaceSelector, inNamespace, "")},
		"Provider":      {"a provider leaves out namespaces with a label", pods, []edit{leaveOutB}, intercept.Partly, of(intercept.NamespaceSelector, inNamespace, "")},
		"ProviderElse":  {"which those of the constraint do not carry", pods + "\nnamespaces: [default, team-a]", []edit{leaveOutB}, intercept.Intercepted, nil},
		"ProviderAll":   {"or which all of them carry", pods + "\nnamespaces: [team-b]", []edit{leaveOutB}, intercept.Narrowed, of(intercept.NamespaceSelector, inNamespace, "")},
		"Fuse":          {"the fuse is open", pods, []edit{condition("fuse-open", "false")}, intercept.Disarmed, of(intercept.FuseOpen, inCondition("fuse-open"), "fuse-open")},
		"FuseAndMore": {
			"and somebody makes use of it", pods, []edit{condition("fuse-open", "false"), condition("x", "false")}, intercept.Narrowed,
			[]why{{intercept.FuseOpen, inCondition("fuse-open"), "fuse-open", "~"}, {intercept.ConditionFalse, inCondition("x"), "x", "~"}},
		},
		"FuseAndPart": {
			"for some only", pods, []edit{condition("fuse-open", "false"), condition("x", `!("system:masters" in request.userInfo.groups)`)}, intercept.Narrowed,
			[]why{{intercept.FuseOpen, inCondition("fuse-open"), "fuse-open", "~"}, {intercept.ConditionFalse, inCondition("x"), "x", "~"}},
		},
		"Undecided": {"who knows", pods, []edit{condition("x", `authorizer.path("/x").check("get").allowed()`)}, intercept.Unclear, of(intercept.Undecided, inCondition("x"), "x")},
		"NoSamples": {"nothing to judge by", pods + "\nnamespaces: [kube-system]", nil, intercept.Unclear, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			all := needs(t, need{tc.block, ""})
			samples, _ := intercept.NewSampler(cluster(), town(), exempt.Perimeter{}).Samples(all[0])
			v := armed(t, exempt.Perimeter{}, all, tc.edits...).Verdict(t.Context(), samples)
			if v.State != tc.state {
				t.Errorf("%s: state %s, want %s", tc.reason, v.State, tc.state)
			}
			if diff := cmp.Diff(tc.want, reasons(v.Reasons()), textContains, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: reasons (-want +got):\n%s", tc.reason, diff)
			}
			if v.Sent+len(v.Missed) != len(samples) {
				t.Errorf("%d sent and %d missed of %d", v.Sent, len(v.Missed), len(samples))
			}
		})
	}
}

func TestAdded(t *testing.T) {
	want := live(exempt.Perimeter{}, podRules())
	cases := map[string]struct {
		reason string
		edits  []edit
		want   []why
	}{
		"Nothing":     {"the entry as it is rendered", nil, nil},
		"Rules":       {"rules are compared elsewhere", []edit{setRules()}, nil},
		"Less":        {"what is taken away widens", []edit{func(h *hook) { h.NamespaceSelector, h.MatchConditions = nil, nil }}, nil},
		"Requirement": {"a provider's", []edit{selectNamespaces(requirement("control-plane", "DoesNotExist"))}, []why{{intercept.Added, inNamespace, "", `~"!control-plane"`}}},
		"Label":       {"a label", []edit{func(h *hook) { h.NamespaceSelector.MatchLabels = map[string]string{"a": "b"} }}, []why{{intercept.Added, inNamespace, "", `~"a=b"`}}},
		"Object":      {"a way out for every user", []edit{selectObjects(requirement("ignore", "DoesNotExist"))}, []why{{intercept.Added, inObject, "", `~"!ignore"`}}},
		"Condition":   {"one user", []edit{condition("x", `request.userInfo.username != "mallory"`)}, []why{{intercept.Added, inCondition("x"), "x", "~mallory"}}},
		"Changed":     {"a condition of ours that says something else", []edit{func(h *hook) { h.MatchConditions[1].Expression = "false" }}, []why{{intercept.Added, inCondition("not-system-user"), "not-system-user", "~false"}}},
		"Fuse":        {"the fuse is nobody", []edit{condition("fuse-open", "false")}, []why{{intercept.FuseOpen, inCondition("fuse-open"), "fuse-open", "the fuse is open"}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := reasons(simulate(t, tc.edits...).Added(want))
			if diff := cmp.Diff(tc.want, got, textContains, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestLeftOut(t *testing.T) {
	cases := map[string]struct {
		reason string
		edits  []edit
		want   []string
	}{
		"AsRendered": {"only those of the perimeter", nil, nil},
		"Provider":   {"those that carry the label", []edit{selectNamespaces(requirement("control-plane", metav1.LabelSelectorOpDoesNotExist))}, []string{"team-b"}},
		"One":        {"one by name", []edit{selectNamespaces(requirement("kubernetes.io/metadata.name", "NotIn", "team-a"))}, []string{"team-a"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, simulate(t, tc.edits...).LeftOut(town(), exempt.Perimeter{})); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

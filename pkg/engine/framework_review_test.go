package engine_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/clienttest"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/clienttest/cts"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
)

// inNamespaces sets the match block's namespaces.
func inNamespaces(names ...any) cts.ConstraintArg {
	return cts.Set(names, "spec", "match", "namespaces")
}

// byLabel makes the constraint need its object's namespace.
func byLabel() cts.ConstraintArg {
	return cts.Set(map[string]any{"matchLabels": map[string]any{"a": "b"}}, "spec", "match", "namespaceSelector")
}

func TestFrameworkReview(t *testing.T) {
	type cs = []*unstructured.Unstructured
	for name, tc := range map[string]struct {
		reason      string
		template    *engine.Template
		constraints cs
		inventory   string
		review      *policy.Review
		want        []string
	}{
		"no template":   {reason: "an empty engine finds nothing", review: datum("", "bar")},
		"no constraint": {reason: "a template alone finds nothing", template: clienttest.TemplateDeny(), review: datum("", "bar")},
		"deny": {
			reason: "what a rule finds is reported", template: clienttest.TemplateDeny(), review: datum("", "bar"),
			constraints: cs{cts.MakeConstraint(t, clienttest.KindDeny, "constraint")},
			want:        []string{"deny [constraint] denied"},
		},
		"no action": {
			reason: "an action not given is deny", template: clienttest.TemplateDeny(), review: datum("", "bar"),
			constraints: cs{cts.MakeConstraintWithoutActions(t, clienttest.KindDeny, "constraint")},
			want:        []string{"deny [constraint] denied"},
		},
		"twice": {
			reason: "adding a constraint again does not add another", template: clienttest.TemplateDeny(), review: datum("", "bar"),
			constraints: cs{cts.MakeConstraint(t, clienttest.KindDeny, "constraint"), cts.MakeConstraint(t, clienttest.KindDeny, "constraint")},
			want:        []string{"deny [constraint] denied"},
		},
		"dryrun": {
			reason: "the action is reported", template: clienttest.TemplateDeny(), review: datum("", "bar"),
			constraints: cs{cts.MakeConstraint(t, clienttest.KindDeny, "constraint", cts.EnforcementAction("dryrun"))},
			want:        []string{"dryrun [constraint] denied"},
		},
		"library": {
			reason: "a rule may call a library", template: clienttest.TemplateDenyImport(), review: datum("", "bar"),
			constraints: cs{cts.MakeConstraint(t, clienttest.KindDenyImport, "constraint")},
			want:        []string{"deny [constraint] denied with library"},
		},
		"print": {
			reason: "printing does no harm", template: clienttest.TemplateDenyPrint(), review: datum("", "bar"),
			constraints: cs{cts.MakeConstraint(t, clienttest.KindDenyPrint, "constraint")},
			want:        []string{"deny [constraint] denied"},
		},
		"allow": {
			reason: "a rule that does not hold finds nothing", template: clienttest.TemplateAllow(), review: datum("", "bar"),
			constraints: cs{cts.MakeConstraint(t, clienttest.KindAllow, "constraint")},
		},
		"parameter met": {
			reason: "each constraint has its parameters", template: clienttest.TemplateCheckData(), review: datum("", "bar"),
			constraints: cs{cts.MakeConstraint(t, clienttest.KindCheckData, "constraint", cts.WantData("bar"))},
		},
		"parameter not met": {
			reason: "each constraint has its parameters", template: clienttest.TemplateCheckData(), review: datum("", "qux"),
			constraints: cs{
				cts.MakeConstraint(t, clienttest.KindCheckData, "one", cts.WantData("bar")),
				cts.MakeConstraint(t, clienttest.KindCheckData, "other", cts.WantData("qux")),
			},
			want: []string{"deny [one] got qux but want bar for data"},
		},
		"namespace unknown": {
			reason: "what cannot be matched is a fault of that constraint, and the others judge", template: clienttest.TemplateCheckData(),
			review: datum("aaa", "bar"),
			constraints: cs{
				cts.MakeConstraint(t, clienttest.KindCheckData, "constraint", cts.WantData("bar"), byLabel()),
				cts.MakeConstraint(t, clienttest.KindCheckData, "other", cts.WantData("qux"), cts.EnforcementAction("warn")),
			},
			want: []string{
				"warn [other] got bar but want qux for data",
				`Match [constraint] spec.match.namespaceSelector: namespace "aaa" is not known, so its labels cannot be compared`,
			},
		},
		"namespace matches": {
			reason: "the match block selects", template: clienttest.TemplateCheckData(), review: datum("billing", "qux"),
			constraints: cs{cts.MakeConstraint(t, clienttest.KindCheckData, "constraint", cts.WantData("bar"), inNamespaces("billing"))},
			want:        []string{"deny [constraint] got qux but want bar for data"},
		},
		"namespace does not match": {
			reason: "the match block selects", template: clienttest.TemplateCheckData(), review: datum("shipping", "qux"),
			constraints: cs{cts.MakeConstraint(t, clienttest.KindCheckData, "constraint", cts.WantData("bar"), inNamespaces("billing"))},
		},
		"inventory differs": {
			reason: "the inventory is compared", template: clienttest.TemplateForbidDuplicates(), inventory: "bar", review: datum("", "qux"),
			constraints: cs{cts.MakeConstraint(t, clienttest.KindForbidDuplicates, "constraint")},
		},
		"inventory equals": {
			reason: "the inventory is compared", template: clienttest.TemplateForbidDuplicates(), inventory: "bar", review: datum("", "bar"),
			constraints: cs{cts.MakeConstraint(t, clienttest.KindForbidDuplicates, "constraint")},
			want:        []string{"deny [constraint] duplicate data bar"},
		},
		"future keyword finds": {
			reason: "future.keywords may be imported", template: clienttest.TemplateFuture(), review: datum("", "1"),
			constraints: cs{cts.MakeConstraint(t, clienttest.KindFuture, "constraint")},
			want:        []string{"deny [constraint] bad data"},
		},
		"future keyword finds nothing": {
			reason: "future.keywords may be imported", template: clienttest.TemplateFuture(), review: datum("", "3"),
			constraints: cs{cts.MakeConstraint(t, clienttest.KindFuture, "constraint")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			if tc.template != nil {
				add(t, e, []*engine.Template{ours(tc.template)}, tc.constraints...)
			}
			if tc.inventory != "" {
				if err := e.AddData(t.Context(), []string{"cluster", "foo-1"}, map[string]any{"name": "foo-1", "data": tc.inventory}); err != nil {
					t.Fatal(err)
				}
			}
			wantMessages(t, tc.reason, e, tc.review, tc.want...)
		})
	}
}

// TestFrameworkRuntimeError: theirs is a violation with OPA's text, ours a
// fault with the same text that denies by policy.Decide.
func TestFrameworkRuntimeError(t *testing.T) {
	e := newEngine(t)
	add(t, e, []*engine.Template{ours(clienttest.TemplateRuntimeError()), ours(clienttest.TemplateDeny())},
		cts.MakeConstraint(t, clienttest.KindRuntimeError, "broken"), cts.MakeConstraint(t, clienttest.KindDeny, "whole"))
	got := e.Review(t.Context(), datum("", "qux"))
	if len(got.Violations) != 1 || got.Violations[0].Constraint.Name != "whole" {
		t.Errorf("got %v, want the violation of the constraint that works", messages(got))
	}
	if len(got.Faults) != 1 || got.Faults[0].Cause != policy.CauseInput || !strings.Contains(got.Faults[0].Err.Error(), "eval_conflict_error") {
		t.Fatalf("got %v, want one fault with OPA's text", messages(got))
	}
	got.Violations = nil
	if d := policy.Decide(got); d.Allowed || !strings.Contains(d.Message, "[broken]") {
		t.Errorf("got %+v, want a denial that names the constraint", d)
	}
}

// TestFrameworkEnforcementPoints: where a scoped constraint acts, and as what.
func TestFrameworkEnforcementPoints(t *testing.T) {
	const audit, webhook = string(policy.PointAudit), string(policy.PointWebhook)
	scoped := func(global string, actions []string, points ...string) *unstructured.Unstructured {
		return cts.MakeScopedEnforcementConstraint(t, clienttest.KindDeny, "constraint", global, actions, points...)
	}
	deny := []string{"deny"}
	for name, tc := range map[string]struct {
		reason     string
		constraint *unstructured.Unstructured
		point      policy.EnforcementPoint
		// want is what the one violation asks for; nil if there is none.
		want  []policy.Action
		fault string
	}{
		"listed":         {"the point is one of those listed", scoped("scoped", deny, audit, webhook), policy.PointAudit, []policy.Action{"deny"}, ""},
		"only one":       {"the point is the one listed", scoped("scoped", deny, string(policy.PointCLI)), policy.PointCLI, []policy.Action{"deny"}, ""},
		"any":            {"the star stands for every point", scoped("scoped", deny, "*"), policy.PointWebhook, []policy.Action{"deny"}, ""},
		"several":        {"all actions of the point are meant", scoped("scoped", []string{"warn", "deny"}, audit), policy.PointAudit, []policy.Action{"deny", "warn"}, ""},
		"another":        {"the point is not listed", scoped("scoped", deny, audit), policy.PointWebhook, nil, ""},
		"case":           {"points are compared by case", scoped("scoped", deny, "Audit.gateKeeper.sh"), policy.PointAudit, nil, ""},
		"no point":       {"a review without a point is of all", scoped("scoped", deny, audit), "", []policy.Action{"deny"}, ""},
		"no point, some": {"a review without a point is of all", scoped("scoped", []string{"deny", "warn"}, audit, webhook), "", []policy.Action{"deny", "warn"}, ""},
		"not scoped":     {"without action scoped the list has no meaning", scoped("deny", []string{"warn"}, audit), policy.PointWebhook, []policy.Action{"deny"}, ""},
		"not served":     {"a point that is not served must not look clean", scoped("scoped", deny, "*"), "other.example.com", nil, "other"},
		"not served case": {
			"nor one in other letters", scoped("deny", deny, audit), "Audit.gatekeeper.sh", nil, "Audit",
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			add(t, e, []*engine.Template{ours(clienttest.TemplateDeny())}, tc.constraint)
			r := datum("", "bar")
			r.Point = tc.point
			got := e.Review(t.Context(), r)
			if (len(got.Faults) > 0) != (tc.fault != "") || (len(got.Violations) > 0) != (tc.want != nil) {
				t.Fatalf("%s: got %v", tc.reason, messages(got))
			}
			if tc.fault != "" && (got.Faults[0].Cause != policy.CauseInternal || !strings.Contains(got.Faults[0].Err.Error(), "enforcement point")) {
				t.Errorf("%s: got %v, want a fault of ours about the point", tc.reason, messages(got))
			}
			for _, v := range got.Violations {
				if diff := cmp.Diff(tc.want, asked(v.Constraint)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
				}
			}
		})
	}
}

func asked(c policy.Constraint) []policy.Action {
	return slices.DeleteFunc([]policy.Action{policy.Deny, policy.Warn, policy.DryRun}, func(a policy.Action) bool { return !c.Has(a) })
}

func TestFrameworkDetails(t *testing.T) {
	e := newEngine(t)
	add(t, e, []*engine.Template{ours(clienttest.TemplateCheckData())},
		cts.MakeConstraint(t, clienttest.KindCheckData, "constraint", cts.WantData("bar")))
	want := []policy.Violation{{
		Constraint: policy.Constraint{Group: engine.ConstraintGroup, Version: "v1beta1", Kind: clienttest.KindCheckData, Name: "constraint", Action: policy.Deny},
		Message:    "got qux but want bar for data",
		Details:    map[string]any{"got": "qux"},
	}}
	if diff := cmp.Diff(want, e.Review(t.Context(), datum("", "qux")).Violations); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
}

// TestFrameworkNamespaceObject: Rego reads the namespace as
// input.review.namespaceObject, null when there is none.
func TestFrameworkNamespaceObject(t *testing.T) {
	labelled := func(key, value string) map[string]any {
		return map[string]any{"metadata": map[string]any{"name": "test-ns", "labels": map[string]any{key: value}}}
	}
	const missing = "deny [constraint] namespace is missing environment label"
	for name, tc := range map[string]struct {
		namespace string
		object    map[string]any
		want      []string
	}{
		"not known":      {"test-ns", nil, []string{missing}},
		"empty":          {"test-ns", map[string]any{}, []string{missing}},
		"right label":    {"test-ns", labelled("environment", "production"), nil},
		"wrong label":    {"test-ns", labelled("environment", "staging"), []string{"deny [constraint] namespace has environment staging but want production"}},
		"other label":    {"test-ns", labelled("team", "platform"), []string{missing}},
		"cluster-scoped": {"", nil, []string{missing}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			add(t, e, []*engine.Template{ours(clienttest.TemplateCheckNamespace())},
				cts.MakeConstraint(t, clienttest.KindCheckNamespace, "constraint", cts.WantEnvironment("production")))
			r := datum(tc.namespace, "data")
			r.NamespaceObject = policy.Namespace{Known: tc.object != nil, Object: tc.object}
			wantMessages(t, name, e, r, tc.want...)
		})
	}
}

func TestFrameworkRemove(t *testing.T) {
	for name, remove := range map[string]func(*engine.Engine) error{
		"constraint": func(e *engine.Engine) error {
			return e.RemoveConstraint(t.Context(), clienttest.KindDeny, "constraint")
		},
		"template": func(e *engine.Engine) error { return e.RemoveTemplate(t.Context(), "deny") },
	} {
		t.Run(name, func(t *testing.T) {
			e := denying(t)
			wantMessages(t, "before", e, datum("", "bar"), "deny [constraint] denied")
			for range 2 {
				if err := remove(e); err != nil {
					t.Fatal(err)
				}
				wantMessages(t, "after", e, datum("", "bar"))
			}
		})
	}
}

// TestFrameworkOperations: targets[].operations limits the template at the
// webhook and nowhere else.
func TestFrameworkOperations(t *testing.T) {
	for name, tc := range map[string]struct {
		listed    string
		operation policy.Operation
		point     policy.EnforcementPoint
		want      bool
	}{
		"none listed":        {"[]", policy.Create, policy.PointWebhook, true},
		"listed":             {"[CREATE]", policy.Create, policy.PointWebhook, true},
		"not listed":         {"[CREATE]", policy.Update, policy.PointWebhook, false},
		"one of several":     {"[CREATE, UPDATE]", policy.Create, policy.PointWebhook, true},
		"none of several":    {"[CREATE, UPDATE]", policy.Delete, policy.PointWebhook, false},
		"any":                {`["*"]`, policy.Delete, policy.PointWebhook, true},
		"any among others":   {`[CREATE, "*"]`, policy.Delete, policy.PointWebhook, true},
		"none given":         {"[CREATE]", "", policy.PointWebhook, false},
		"all listed":         {"[CREATE, UPDATE, DELETE, CONNECT]", policy.Update, policy.PointWebhook, true},
		"audit has none":     {"[CREATE]", "", policy.PointAudit, true},
		"audit ignores them": {"[CREATE]", policy.Update, policy.PointAudit, true},
	} {
		t.Run(name, func(t *testing.T) {
			text := template("package p\nviolation[{\"msg\": \"found\"}] { true }") + "    operations: " + tc.listed + "\n"
			e := newEngine(t, text)
			addConstraint(t, e, "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: Probe\nmetadata: {name: probe}\n")
			r := datum("", "bar")
			r.Operation, r.Point = tc.operation, tc.point
			if got := e.Review(t.Context(), r); (len(got.Violations) == 1) != tc.want || len(got.Faults) > 0 {
				t.Errorf("got %v, want a violation: %t", messages(got), tc.want)
			}
		})
	}
}

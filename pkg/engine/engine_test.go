package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

const requiredLabels = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: requiredlabels}
spec:
  crd:
    spec:
      names: {kind: RequiredLabels}
      validation:
        openAPIV3Schema:
          type: object
          properties:
            labels: {type: array, items: {type: string}}
            level: {type: integer, default: 1000000}
  targets:
  - target: admission.k8s.gatekeeper.sh
    libs:
    - |
      package lib.sets
      missing(want, have) = {w | w := want[_]} - {k | have[k]}
    rego: |
      package requiredlabels
      import data.lib.sets
      violation[{"msg": msg, "details": {"missing": gone}}] {
        gone := sets.missing(input.parameters.labels, object.get(input.review.object.metadata, "labels", {}))
        count(gone) > 0
        msg := sprintf("labels missing: %v at level %v", [gone, input.parameters.level])
      }
`

const owner = `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: RequiredLabels
metadata: {name: owner}
spec:
  parameters: {labels: [owner]}
`

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatalf("parsing test object: %v", err)
	}
	return u
}

func newEngine(t *testing.T, templates ...string) *engine.Engine {
	t.Helper()
	e, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range templates {
		addTemplate(t, e, text)
	}
	return e
}

func addTemplate(t *testing.T, e *engine.Engine, text string) {
	t.Helper()
	tpl, err := engine.ParseTemplate(object(t, text))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.AddTemplate(t.Context(), tpl); err != nil {
		t.Fatal(err)
	}
}

func addConstraint(t *testing.T, e *engine.Engine, text string) {
	t.Helper()
	if err := e.AddConstraint(t.Context(), object(t, text)); err != nil {
		t.Fatal(err)
	}
}

func configMap(labels map[string]any) *policy.Review {
	return &policy.Review{
		Kind: schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, Name: "cm", Namespace: "default",
		Operation: policy.Create, Point: policy.PointWebhook,
		Object: map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": map[string]any{"name": "cm", "namespace": "default", "labels": labels},
		},
		NamespaceObject: policy.Namespace{Known: true},
	}
}

func messages(r policy.Result) []string {
	var out []string
	for _, v := range r.Violations {
		out = append(out, string(v.Constraint.Action)+" "+policy.Line(v.Constraint, v.Message))
	}
	for _, f := range r.Faults {
		out = append(out, string(f.Cause)+" "+policy.Line(f.Constraint, f.Err.Error()))
	}
	return out
}

func TestReview(t *testing.T) {
	e := newEngine(t, requiredLabels)
	addConstraint(t, e, owner)
	warn := object(t, owner)
	warn.SetName("team")
	_ = unstructured.SetNestedField(warn.Object, "warn", "spec", "enforcementAction")
	_ = unstructured.SetNestedStringSlice(warn.Object, []string{"team"}, "spec", "parameters", "labels")
	_ = unstructured.SetNestedField(warn.Object, int64(3), "spec", "parameters", "level")
	if err := e.AddConstraint(t.Context(), warn); err != nil {
		t.Fatal(err)
	}

	got := messages(e.Review(t.Context(), configMap(nil)))
	want := []string{
		`deny [owner] labels missing: {"owner"} at level 1000000`,
		`warn [team] labels missing: {"team"} at level 3`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}

	clean := e.Review(t.Context(), configMap(map[string]any{"owner": "me", "team": "a"}))
	if len(messages(clean)) != 0 || clean.Evaluated != 2 {
		t.Errorf("clean object: got %v after %d evaluations, want nothing after 2", messages(clean), clean.Evaluated)
	}

	if err := e.RemoveConstraint(t.Context(), "RequiredLabels", "owner"); err != nil {
		t.Fatal(err)
	}
	if got := messages(e.Review(t.Context(), configMap(nil))); len(got) != 1 {
		t.Errorf("after removing a constraint: got %v, want only the other's violation", got)
	}
	if err := e.RemoveTemplate(t.Context(), "requiredlabels"); err != nil {
		t.Fatal(err)
	}
	if got := messages(e.Review(t.Context(), configMap(nil))); len(got) != 0 {
		t.Errorf("after removing the template: got %v, want nothing", got)
	}
}

func TestBrokenUpdateKeepsTheOldProgram(t *testing.T) {
	e := newEngine(t, requiredLabels)
	addConstraint(t, e, owner)
	broken, err := engine.ParseTemplate(object(t, strings.Replace(requiredLabels, "count(gone) > 0", "count(gonne) > 0", 1)))
	if err != nil {
		t.Fatal(err)
	}
	var ds rego.Diagnostics
	if err := e.AddTemplate(t.Context(), broken); !errors.As(err, &ds) {
		t.Fatalf("adding a broken template: got %v, want Diagnostics", err)
	}
	want := rego.Diagnostics{{Code: "rego_unsafe_var_error", Message: "var gonne is unsafe", Location: "rego:5:3"}}
	if diff := cmp.Diff(want, ds); diff != "" {
		t.Errorf("diagnostics (-want +got):\n%s", diff)
	}
	if got := messages(e.Review(t.Context(), configMap(nil))); len(got) != 1 {
		t.Errorf("after a broken update: got %v, want the old program's violation", got)
	}
}

// template makes a template of kind Probe around a body of Rego.
func template(rego string) string {
	return `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: probe}
spec:
  crd: {spec: {names: {kind: Probe}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      ` + strings.ReplaceAll(strings.TrimSpace(rego), "\n", "\n      ") + "\n"
}

func TestFaults(t *testing.T) {
	const probe = "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: Probe\nmetadata: {name: probe}\n"
	for name, tc := range map[string]struct {
		reason, rego, match string
		timeout             time.Duration
		cause               policy.FaultCause
		text                string
	}{
		"conflict": {
			reason: "two values of a complete rule are the input's doing",
			rego:   "package p\nx = 1 { input.review.kind }\nx = 2 { input.review.name }\nviolation[{\"msg\": \"m\"}] { x }",
			cause:  policy.CauseInput, text: "eval_conflict_error",
		},
		"no message": {
			reason: "a violation without a message must not vanish",
			rego:   "package p\nviolation[{\"details\": 1}] { true }",
			cause:  policy.CauseInput, text: "without a string msg",
		},
		"endless": {
			reason: "the deadline cuts evaluation off",
			rego:   "package p\nviolation[{\"msg\": \"m\"}] { numbers.range(1, 3000)[a]; numbers.range(1, 3000)[b]; a + b == 0 }",
			cause:  policy.CauseTimeout, text: "cancel", timeout: 50 * time.Millisecond,
		},
		"unknown namespace": {
			reason: "what cannot be matched is not denied",
			rego:   "package p\nviolation[{\"msg\": \"m\"}] { true }",
			match:  "spec: {match: {namespaceSelector: {matchLabels: {a: b}}}}\n",
			cause:  policy.CauseMatch, text: "namespace",
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, template(tc.rego), requiredLabels)
			addConstraint(t, e, probe+tc.match)
			addConstraint(t, e, owner)
			r := configMap(nil)
			r.NamespaceObject.Known = false
			ctx := t.Context()
			if tc.timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tc.timeout)
				defer cancel()
			}
			got := e.Review(ctx, r)
			if len(got.Faults) == 0 {
				t.Fatalf("%s: no fault; got %v", tc.reason, messages(got))
			}
			f := got.Faults[0]
			if f.Cause != tc.cause || f.Constraint.Kind != "Probe" || !strings.Contains(f.Err.Error(), tc.text) {
				t.Errorf("%s: got %s of %s: %v, want %s containing %q", tc.reason, f.Cause, f.Constraint, f.Err, tc.cause, tc.text)
			}
			if tc.timeout == 0 && len(got.Violations) != 1 {
				t.Errorf("the other constraint did not judge: %v", messages(got))
			}
		})
	}
}

func TestCheckTemplate(t *testing.T) {
	e := newEngine(t)
	for name, tc := range map[string]struct{ text, want string }{
		"valid":        {text: template("package p\nviolation[{\"msg\": \"m\"}] { data.inventory.cluster }")},
		"syntax":       {text: template("package p\nviolation[{\"msg\": \"m\"}] {"), want: "rego:3:1: rego_parse_error"},
		"entry":        {text: template("package p\ndeny[{\"msg\": \"m\"}] { true }"), want: "rego:1:1: rego_entry_error: no rule named violation"},
		"import":       {text: template("package p\nimport data.other\nviolation[{\"msg\": \"m\"}] { other }"), want: "rego:2:1: rego_import_error: bad import data.other"},
		"ref":          {text: template("package p\nviolation[{\"msg\": \"m\"}] { data.secrets.x }"), want: "rego:2:27: rego_reference_error: disallowed ref data.secrets.x"},
		"network":      {text: template("package p\nviolation[{\"msg\": \"m\"}] { http.send({\"url\": \"x\"}) }"), want: "undefined function http.send"},
		"name":         {text: strings.Replace(requiredLabels, "name: requiredlabels", "name: other", 1), want: "lowercase"},
		"target":       {text: strings.Replace(requiredLabels, "target: admission.k8s.gatekeeper.sh", "target: other", 1), want: `target "other" not recognized`},
		"lib package":  {text: strings.Replace(requiredLabels, "package lib.sets", "package sets", 1), want: "must lie below lib"},
		"empty source": {text: template("# nothing"), want: "rego"},
	} {
		t.Run(name, func(t *testing.T) {
			tpl, err := engine.ParseTemplate(object(t, tc.text))
			if err != nil {
				t.Fatal(err)
			}
			err = e.CheckTemplate(t.Context(), tpl)
			if tc.want == "" && err != nil {
				t.Errorf("got %v, want no error", err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want an error containing %q", err, tc.want)
			}
		})
	}
}

func TestCheckConstraint(t *testing.T) {
	e := newEngine(t, requiredLabels)
	for name, tc := range map[string]struct{ old, new, want string }{
		"valid":        {},
		"action":       {"spec:", "spec:\n  enforcementAction: dney", `spec.enforcementAction: "dney" is not supported: use one of deny, warn, dryrun, scoped`},
		"type":         {"labels: [owner]", "labels: owner", "spec.parameters.labels"},
		"unknown":      {"labels: [owner]", "labelz: [owner]", "unknown fields"},
		"match":        {"spec:", "spec:\n  match: {labelSelector: {matchExpressions: [{key: a, operator: Inn}]}}", "labelSelector"},
		"on-fault":     {"metadata: {name: owner}", "metadata: {name: owner, annotations: {fusegate.dev/on-fault: maybe}}", "use deny or allow"},
		"scoped":       {"spec:", "spec:\n  enforcementAction: scoped", "scopedEnforcementActions"},
		"scoped value": {"spec:", "spec:\n  enforcementAction: scoped\n  scopedEnforcementActions: [{action: block, enforcementPoints: [{name: \"*\"}]}]", `action "block" is not supported`},
	} {
		t.Run(name, func(t *testing.T) {
			err := e.CheckConstraint(object(t, strings.Replace(owner, tc.old, tc.new, 1)))
			if tc.want == "" && err != nil {
				t.Errorf("got %v, want no error", err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want an error containing %q", err, tc.want)
			}
		})
	}
	if err := newEngine(t).CheckConstraint(object(t, owner)); !engine.IsNoTemplate(err) {
		t.Errorf("constraint without template: got %v, want ErrNoTemplate", err)
	}
}

func TestInventory(t *testing.T) {
	e := newEngine(t, template(`package p
violation[{"msg": msg}] {
  other := data.inventory.namespace[ns]["v1"]["ConfigMap"][name]
  msg := sprintf("%s/%s has %v", [ns, name, other.data.n])
}`))
	addConstraint(t, e, "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: Probe\nmetadata: {name: probe}\n")
	path := []string{"namespace", "a", "v1", "ConfigMap", "other"}
	if got := messages(e.Review(t.Context(), configMap(nil))); len(got) != 0 {
		t.Errorf("empty inventory: got %v", got)
	}
	if err := e.AddData(t.Context(), path, map[string]any{"data": map[string]any{"n": int64(1000000)}}); err != nil {
		t.Fatal(err)
	}
	want := []string{"deny [probe] a/other has 1000000"}
	if diff := cmp.Diff(want, messages(e.Review(t.Context(), configMap(nil)))); diff != "" {
		t.Errorf("with an object (-want +got):\n%s", diff)
	}
	for range 2 {
		if err := e.RemoveData(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	if got := messages(e.Review(t.Context(), configMap(nil))); len(got) != 0 {
		t.Errorf("after removal: got %v", got)
	}
}

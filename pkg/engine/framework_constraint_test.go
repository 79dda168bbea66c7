package engine_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/clienttest"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/clienttest/cts"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
)

// horse is a template whose parameter fast is a boolean.
func horse() *engine.Template {
	t := kinded(clienttest.TemplateDeny(), "Horse")
	cts.OptCRDSchema(cts.PropMap{"fast": cts.PropTyped("boolean")})(t)
	return t
}

func TestFrameworkConstraint(t *testing.T) {
	made := func(args ...cts.ConstraintArg) *unstructured.Unstructured {
		return cts.MakeConstraint(t, "Horse", "mycr", args...)
	}
	for name, tc := range map[string]struct {
		reason     string
		constraint *unstructured.Unstructured
		want       string
	}{
		"empty parameters":     {"nothing is required", made(), ""},
		"parameter":            {"of the right type", made(cts.Set(true, "spec", "parameters", "fast")), ""},
		"parameter and match":  {"both of the right type", made(cts.Set(true, "spec", "parameters", "fast"), inNamespaces("a")), ""},
		"action":               {"another than the default", made(cts.EnforcementAction("dryrun")), ""},
		"status":               {"a status is no business of the engine", made(cts.Set("some status", "status")), ""},
		"alpha":                {"the other served version", made(cts.Set("constraints.gatekeeper.sh/v1alpha1", "apiVersion")), ""},
		"no name":              {"a name is needed", cts.MakeConstraint(t, "Horse", ""), "missing metadata.name"},
		"bad name":             {"that of an object", cts.MakeConstraint(t, "Horse", "My_CR"), "invalid name"},
		"no kind":              {"a kind is needed", cts.MakeConstraint(t, "", "mycr"), "missing kind"},
		"no template":          {"that some template has", cts.MakeConstraint(t, "Cat", "mycr"), `template "cat" not found`},
		"letters":              {"in the same letters", cts.MakeConstraint(t, "HORSE", "mycr"), "wrong kind"},
		"no group":             {"the group is that of constraints", &unstructured.Unstructured{Object: map[string]any{"kind": "Horse", "metadata": map[string]any{"name": "mycr"}}}, "wrong API Group"},
		"other group":          {"and no other", made(cts.Set("foo/v1beta1", "apiVersion")), "wrong API Group"},
		"other version":        {"the version is one that is served", made(cts.Set("constraints.gatekeeper.sh/v9", "apiVersion")), "unsupported version"},
		"unknown field":        {"a typing error does not pass", made(cts.Set(int64(3), "spec", "someRandomField")), "unknown fields"},
		"unknown parameter":    {"nor one in the parameters", made(cts.Set(true, "spec", "parameters", "fsat")), "unknown fields"},
		"type of parameter":    {"not of the right type", made(cts.Set("the fastest", "spec", "parameters", "fast")), "spec.parameters.fast"},
		"type of parameters":   {"not an object", made(cts.Set("fast", "spec", "parameters")), "spec.parameters"},
		"type of spec":         {"not an object", made(cts.Set("invalid", "spec")), "spec"},
		"type of match":        {"not of the right type", made(cts.Set(int64(3), "spec", "match", "namespaces")), "spec.match.namespaces"},
		"type of action":       {"not a string", made(cts.Set(int64(3), "spec", "enforcementAction")), "spec.enforcementAction"},
		"action not supported": {"nothing acts on it", made(cts.EnforcementAction("forbidden")), `"forbidden" is not supported`},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			add(t, e, []*engine.Template{horse()})
			before := tc.constraint.DeepCopy()
			wantError(t, tc.reason+", checking", e.CheckConstraint(tc.constraint), tc.want)
			wantError(t, tc.reason+", adding", e.AddConstraint(t.Context(), tc.constraint), tc.want)
			if diff := cmp.Diff(before, tc.constraint); diff != "" {
				t.Errorf("the constraint was changed (-want +got):\n%s", diff)
			}
			got := e.Review(t.Context(), datum("a", "bar"))
			if (len(got.Violations) == 1) != (tc.want == "") || len(got.Faults) > 0 {
				t.Errorf("%s: got %v", tc.reason, messages(got))
			}
			if err := e.RemoveConstraint(t.Context(), "Horse", "mycr"); err != nil {
				t.Errorf("removing the constraint: %v", err)
			}
			wantMessages(t, "after removal", e, datum("a", "bar"))
		})
	}
}

// TestFrameworkConstraintUpdate: labels, annotations and spec are read anew,
// and an update that is refused leaves what was there.
func TestFrameworkConstraintUpdate(t *testing.T) {
	e := newEngine(t)
	add(t, e, []*engine.Template{ours(clienttest.TemplateRuntimeError()), ours(clienttest.TemplateCheckData())})
	broken := func(onFault string) *unstructured.Unstructured {
		c := cts.MakeConstraint(t, clienttest.KindRuntimeError, "broken")
		c.SetAnnotations(map[string]string{engine.AnnotationOnFault: onFault})
		return c
	}
	for _, onFault := range []policy.OnFault{policy.OnFaultDeny, policy.OnFaultDeny, policy.OnFaultAllow} {
		add(t, e, nil, broken(string(onFault)))
		got := e.Review(t.Context(), datum("", "bar"))
		if len(got.Faults) != 1 || got.Faults[0].Constraint.OnFault != onFault {
			t.Errorf("annotation %s: got %+v", onFault, got.Faults)
		}
	}
	if err := e.RemoveConstraint(t.Context(), clienttest.KindRuntimeError, "broken"); err != nil {
		t.Fatal(err)
	}

	data := func(want string, args ...cts.ConstraintArg) *unstructured.Unstructured {
		return cts.MakeConstraint(t, clienttest.KindCheckData, "data", append([]cts.ConstraintArg{cts.WantData(want)}, args...)...)
	}
	add(t, e, nil, data("bar"))
	add(t, e, nil, data("qux", cts.EnforcementAction("warn")))
	const want = "warn [data] got bar but want qux for data"
	wantMessages(t, "action and parameters", e, datum("", "bar"), want)
	labelled := data("qux", cts.EnforcementAction("warn"))
	labelled.SetLabels(map[string]string{"env": "prod"})
	add(t, e, nil, labelled)
	wantMessages(t, "labels", e, datum("", "bar"), want)
	if err := e.AddConstraint(t.Context(), data("qux", cts.EnforcementAction("wran"))); err == nil {
		t.Error("an action of nobody was taken")
	}
	wantMessages(t, "a refused update", e, datum("", "bar"), want)
	add(t, e, nil, data("qux", inNamespaces("elsewhere")))
	wantMessages(t, "match", e, datum("here", "bar"))
}

// TestFrameworkRemoveConstraint: what is not there may be removed.
func TestFrameworkRemoveConstraint(t *testing.T) {
	for name, tc := range map[string]struct {
		kind, constraint, wantErr string
		left                      int
	}{
		"it":            {clienttest.KindDeny, "constraint", "", 0},
		"another":       {clienttest.KindDeny, "bar", "", 1},
		"of no kind":    {"", "constraint", "missing kind", 1},
		"without name":  {clienttest.KindDeny, "", "missing metadata.name", 1},
		"of other kind": {"Foos", "constraint", "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			e := denying(t)
			wantError(t, name, e.RemoveConstraint(t.Context(), tc.kind, tc.constraint), tc.wantErr)
			if got := e.Review(t.Context(), datum("", "bar")); len(got.Violations) != tc.left {
				t.Errorf("got %v, want %d violations", messages(got), tc.left)
			}
			if got := len(e.AdmissionScopes()); got != tc.left {
				t.Errorf("got %d scopes, want %d", got, tc.left)
			}
		})
	}
}

// TestFrameworkDefaults: Rego sees the defaults of the template's schema where
// the constraint says nothing.
func TestFrameworkDefaults(t *testing.T) {
	defaulted := func(typ string, value any) apiextensions.JSONSchemaProps {
		d := apiextensions.JSON(value)
		p := apiextensions.JSONSchemaProps{Type: typ, Default: &d}
		if typ == "array" {
			p.Items = &apiextensions.JSONSchemaPropsOrArray{Schema: &apiextensions.JSONSchemaProps{Type: "string"}}
		}
		return p
	}
	foo, bar := defaulted("array", []any{"foo", "bar"}), defaulted("array", []any{"a", "b"})
	for name, tc := range map[string]struct {
		schema cts.PropMap
		args   []cts.ConstraintArg
		want   string
	}{
		"none": {cts.PropMap{"foo": cts.PropTyped("string")}, nil, `{}`},
		"one":  {cts.PropMap{"foo": foo}, nil, `{"foo": ["foo", "bar"]}`},
		"two":  {cts.PropMap{"foo": foo, "bar": bar}, nil, `{"bar": ["a", "b"], "foo": ["foo", "bar"]}`},
		"given": {
			cts.PropMap{"foo": foo, "fuzz": defaulted("string", "not buzz")},
			[]cts.ConstraintArg{cts.Set("buzz", "spec", "parameters", "fuzz")}, `{"foo": ["foo", "bar"], "fuzz": "buzz"}`,
		},
		"number": {cts.PropMap{"n": defaulted("integer", int64(1000000))}, nil, `{"n": 1000000}`},
	} {
		t.Run(name, func(t *testing.T) {
			tpl := sourced("v0", `package p
violation[{"msg": msg}] { msg := sprintf("%v", [input.parameters]) }`)
			cts.OptCRDSchema(tc.schema)(tpl)
			e := newEngine(t)
			c := cts.MakeConstraint(t, "Probe", "c", tc.args...)
			before := c.DeepCopy()
			add(t, e, []*engine.Template{tpl}, c)
			wantMessages(t, name, e, datum("", "bar"), "deny [c] "+tc.want)
			if diff := cmp.Diff(before, c); diff != "" {
				t.Errorf("the defaults were written into the caller's constraint (-want +got):\n%s", diff)
			}
		})
	}
}

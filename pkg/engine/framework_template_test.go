package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/clienttest"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/clienttest/cts"
	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/fusegate/fusegate/pkg/engine"
)

// withTarget replaces the target of the template that denies.
func withTarget(targets ...templates.Target) func(*engine.Template) {
	return func(t *engine.Template) { t.Spec.Targets = targets }
}

// regoOf is a target whose Rego is source.
func regoOf(source string) func(*engine.Template) {
	return withTarget(cts.Target(engine.TargetName, source))
}

// celOnly is a target for an engine that Fusegate has not.
func celOnly() templates.Target {
	return cts.TargetCustomEngines(engine.TargetName, cts.Code("K8sNativeValidation", map[string]any{"validations": []any{}}))
}

func TestFrameworkTemplateRefused(t *testing.T) {
	long := strings.Repeat("a", 64)
	for name, tc := range map[string]struct {
		reason string
		change func(*engine.Template)
		want   string
	}{
		"long name": {"its list's kind has at most 63 characters", func(t *engine.Template) { t.Name, t.Spec.CRD.Spec.Names.Kind = long, long }, "at most 59 are allowed"},
		"no kind":   {"a kind is needed", func(t *engine.Template) { t.Spec.CRD.Spec.Names.Kind = "" }, "does not specify CRD Kind"},
		"no name":   {"a name is needed", func(t *engine.Template) { t.Name = "" }, `"deny"`},
		"mismatch":  {"the name is that of the kind", func(t *engine.Template) { t.Name = "refuse" }, `"deny"`},
		"empty":     {"nothing is no template", func(t *engine.Template) { *t = engine.Template{} }, "invalid ConstraintTemplate"},
		"no target": {"one target is needed", withTarget(), "exactly one target"},
		"two targets": {
			"and not more", withTarget(cts.Target(engine.TargetName, clienttest.ModuleDeny), cts.Target("other", clienttest.ModuleDeny)), "exactly one target",
		},
		"nameless target": {"the target has a name", withTarget(cts.Target("", clienttest.ModuleDeny)), "target name must not be empty"},
		"unknown target":  {"which Fusegate knows", withTarget(cts.Target("h2", clienttest.ModuleDeny)), "h2"},
		"no code":         {"code is needed", withTarget(cts.TargetNoEngine(engine.TargetName)), "Rego"},
		"other engine":    {"code of an engine that there is", withTarget(celOnly()), "Rego"},
		"no source": {
			"a source is needed",
			withTarget(templates.Target{Target: engine.TargetName, Code: []templates.Code{{Engine: "Rego"}}}), "no source",
		},
		"bad rego":      {"it must parse", regoOf("asd{"), "rego_parse_error"},
		"no rego":       {"it must not be empty", regoOf(""), "rego"},
		"no entry rule": {"it must have a rule violation", regoOf("package foo\nbreach[r] { r = 5 }"), "no rule named violation"},
	} {
		t.Run(name, func(t *testing.T) {
			e := denying(t)
			broken := ours(clienttest.TemplateDeny())
			tc.change(broken)
			wantError(t, tc.reason+", adding", e.AddTemplate(t.Context(), broken.DeepCopy()), tc.want)
			wantError(t, tc.reason+", checking", newEngine(t).CheckTemplate(t.Context(), broken), tc.want)
			wantMessages(t, "the version before stays in force", e, datum("", "bar"), "deny [constraint] denied")
			add(t, e, nil, cts.MakeConstraint(t, clienttest.KindDeny, "later"))
			wantMessages(t, "also for later constraints", e, datum("", "bar"), "deny [constraint] denied", "deny [later] denied")
			sound := ours(clienttest.TemplateDeny())
			regoOf(clienttest.ModuleAllow)(sound)
			add(t, e, []*engine.Template{sound})
			wantMessages(t, "until a sound one comes", e, datum("", "bar"))
		})
	}
	t.Run("removed", func(t *testing.T) {
		e := newEngine(t)
		broken := ours(clienttest.TemplateDeny())
		regoOf("asd{")(broken)
		wantError(t, "adding", e.AddTemplate(t.Context(), broken), "rego_parse_error")
		wantError(t, "nothing was kept", e.CheckConstraint(cts.MakeConstraint(t, clienttest.KindDeny, "c")), `template "deny" not found`)
		wantError(t, "what is not there may be removed", e.RemoveTemplate(t.Context(), broken.Name), "")
	})
	t.Run("nil", func(t *testing.T) {
		wantError(t, "nothing is no template", newEngine(t).CheckTemplate(t.Context(), nil), "nil ConstraintTemplate")
		_, err := newEngine(t).ConstraintCRD(t.Context(), nil)
		wantError(t, "nothing has no CRD", err, "nil ConstraintTemplate")
	})
}

// TestFrameworkTemplateUpdate: the constraints of a template outlive its
// updates, and adding it again changes nothing.
func TestFrameworkTemplateUpdate(t *testing.T) {
	e := denying(t)
	add(t, e, []*engine.Template{ours(clienttest.TemplateDeny())})
	wantMessages(t, "the same again", e, datum("", "bar"), "deny [constraint] denied")
	quiet := ours(clienttest.TemplateDeny())
	regoOf(clienttest.ModuleAllow)(quiet)
	add(t, e, []*engine.Template{quiet})
	wantMessages(t, "another Rego", e, datum("", "bar"))
	add(t, e, []*engine.Template{ours(clienttest.TemplateDeny())})
	wantMessages(t, "the first again", e, datum("", "bar"), "deny [constraint] denied")
	both := ours(clienttest.TemplateDeny())
	both.Spec.Targets[0].Code = append(celOnly().Code, both.Spec.Targets[0].Code...)
	add(t, e, []*engine.Template{both})
	wantMessages(t, "a further engine, first in the list", e, datum("", "bar"), "deny [constraint] denied")
	both = both.DeepCopy()
	both.Spec.Targets[0].Code[0], both.Spec.Targets[0].Code[1] = both.Spec.Targets[0].Code[1], both.Spec.Targets[0].Code[0]
	add(t, e, []*engine.Template{both})
	wantMessages(t, "a further engine, last in the list", e, datum("", "bar"), "deny [constraint] denied")
}

// TestFrameworkCascade: with a template go its constraints, and no other's.
func TestFrameworkCascade(t *testing.T) {
	e := newEngine(t)
	goes, stays := kinded(clienttest.TemplateDeny(), "CascadingDelete"), kinded(clienttest.TemplateDeny(), "StillPersists")
	add(t, e, []*engine.Template{goes, stays},
		cts.MakeConstraint(t, "CascadingDelete", "a"), cts.MakeConstraint(t, "CascadingDelete", "b"),
		cts.MakeConstraint(t, "StillPersists", "c"), cts.MakeConstraint(t, "StillPersists", "d"))
	left := []string{"deny [c] denied", "deny [d] denied"}
	wantMessages(t, "before", e, datum("", "bar"), append([]string{"deny [a] denied", "deny [b] denied"}, left...)...)
	if err := e.RemoveTemplate(t.Context(), goes.Name); err != nil {
		t.Fatal(err)
	}
	wantMessages(t, "after", e, datum("", "bar"), left...)
	if got := len(e.AdmissionScopes()); got != 2 {
		t.Errorf("got %d scopes, want those of the template that stayed", got)
	}
	if err := e.CheckConstraint(cts.MakeConstraint(t, "CascadingDelete", "a")); !engine.IsNoTemplate(err) {
		t.Errorf("got %v, want ErrNoTemplate", err)
	}
	add(t, e, []*engine.Template{goes})
	wantMessages(t, "the template comes back without them", e, datum("", "bar"), left...)
}

// TestFrameworkManyTemplates: templates of one kind of rule do not mix.
func TestFrameworkManyTemplates(t *testing.T) {
	e := newEngine(t)
	var want []string
	for i := range 5 {
		kind := clienttest.KindCheckDataNumbered(i)
		add(t, e, []*engine.Template{kinded(clienttest.TemplateCheckData(), kind)},
			cts.MakeConstraint(t, kind, fmt.Sprintf("c%d", i), cts.WantData(fmt.Sprint(i))))
		if i != 3 {
			want = append(want, fmt.Sprintf("deny [c%d] got 3 but want %d for data", i, i))
		}
	}
	wantMessages(t, "each has its own parameters", e, datum("", "3"), want...)
}

func TestFrameworkConstraintCRD(t *testing.T) {
	tpl := ours(cts.New(cts.OptName("horse"), cts.OptCRDNames("Horse"),
		cts.OptCRDSchema(cts.PropMap{"speed": cts.PropTyped("integer")}),
		cts.OptLabels(map[string]string{"horse": "smiley", "gatekeeper.sh/constraint": "no"})))
	before := tpl.DeepCopy()
	crd, err := newEngine(t).ConstraintCRD(t.Context(), tpl)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, tpl); diff != "" {
		t.Errorf("the template was changed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"horse": "smiley", "gatekeeper.sh/constraint": "yes"}, crd.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	names := apiextensionsv1.CustomResourceDefinitionNames{
		Kind: "Horse", ListKind: "HorseList", Plural: "horse", Singular: "horse", Categories: []string{"constraint", "constraints"},
	}
	if diff := cmp.Diff(names, crd.Spec.Names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	spec := crd.Spec
	if crd.Name != "horse.constraints.gatekeeper.sh" || spec.Group != engine.ConstraintGroup ||
		spec.Scope != apiextensionsv1.ClusterScoped || spec.PreserveUnknownFields || spec.Conversion.Strategy != apiextensionsv1.NoneConverter {
		t.Errorf("got %s of %s, scope %s, conversion %v", crd.Name, spec.Group, spec.Scope, spec.Conversion)
	}
	var versions []string
	for _, v := range spec.Versions {
		versions = append(versions, fmt.Sprintf("%s served=%t stored=%t status=%t", v.Name, v.Served, v.Storage, v.Subresources.Status != nil))
		checkColumns(t, v)
		checkSchema(t, v.Schema.OpenAPIV3Schema)
	}
	if diff := cmp.Diff([]string{"v1beta1 served=true stored=true status=true", "v1alpha1 served=true stored=false status=true"}, versions); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
}

func checkColumns(t *testing.T, v apiextensionsv1.CustomResourceDefinitionVersion) {
	t.Helper()
	var columns []string
	for _, c := range v.AdditionalPrinterColumns {
		columns = append(columns, c.Name+" "+c.Type+" "+c.JSONPath)
	}
	want := []string{
		"enforcement-action string .spec.enforcementAction",
		"total-violations integer .status.totalViolations", "exempt-violations integer .status.exemptViolations.total",
		`enforced string .status.conditions[?(@.type=="Enforced")].status`, "age date .metadata.creationTimestamp",
	}
	if diff := cmp.Diff(want, columns); diff != "" {
		t.Errorf("columns of %s (-want +got):\n%s", v.Name, diff)
	}
}

// checkSchema looks for what the framework puts into the schema beside the
// template's parameters and the target's match block.
func checkSchema(t *testing.T, s *apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	spec := s.Properties["spec"].Properties
	if got := spec["parameters"].Properties["speed"].Type; got != "integer" {
		t.Errorf("got parameters.speed of type %q", got)
	}
	if _, ok := spec["match"].Properties["namespaces"]; !ok {
		t.Error("the target's match block is missing")
	}
	if d := spec["enforcementAction"].Default; d == nil || string(d.Raw) != `"deny"` {
		t.Errorf("got default %v of enforcementAction", d)
	}
	scoped := spec["scopedEnforcementActions"].Items.Schema.Properties
	if scoped["action"].Type != "string" || scoped["enforcementPoints"].Items.Schema.Properties["name"].Type != "string" {
		t.Errorf("got scopedEnforcementActions of %v", scoped)
	}
	if got := s.Properties["metadata"].Properties["name"].MaxLength; got == nil || *got != 63 {
		t.Errorf("got maxLength %v of metadata.name", got)
	}
	if got := s.Properties["status"].XPreserveUnknownFields; got == nil || !*got {
		t.Error("unknown fields of status are pruned")
	}
}

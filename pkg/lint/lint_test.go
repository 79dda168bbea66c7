package lint_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fusegate/fusegate/pkg/lint"
)

const head = `# A comment.
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata:
  name: owned
spec:
  crd: {spec: {names: {kind: Owned}, validation: {openAPIV3Schema: {type: object, properties: {label: {type: string}}}}}}
  targets:
    - target: admission.k8s.gatekeeper.sh
`

// v0 is a template with this Rego, whose first line is line 11.
func v0(rego string) string { return head + "      rego: |\n" + indent(rego, 8) }

// v1 is the same in Rego v1; the first line is line 15.
func v1(rego string) string {
	return head + "      code:\n        - engine: Rego\n          source:\n            version: v1\n            rego: |\n" + indent(rego, 14)
}

func indent(text string, by int) string {
	margin := strings.Repeat(" ", by)
	return margin + strings.ReplaceAll(strings.Trim(text, "\n"), "\n", "\n"+margin) + "\n"
}

const (
	sound   = "package a\nviolation[{\"msg\": msg}] {\n  not input.review.object.metadata.labels[input.parameters.label]\n  msg := \"no label\"\n}\n"
	suite   = "apiVersion: test.gatekeeper.sh/v1alpha1\nkind: Suite\ntests:\n- template: template.yaml\n  cases: [{name: a}]\n"
	synced  = "metadata:\n  name: owned\n  annotations: {metadata.gatekeeper.sh/requires-sync-data: \"[]\"}\n"
	unnamed = "metadata:\n  name: owned\n"
)

func withAnnotation(template string) string { return strings.Replace(template, unnamed, synced, 1) }

// TestRules shows each rule with what it finds, and where, and with what it
// leaves alone.
func TestRules(t *testing.T) {
	cases := map[string]struct {
		reason, template string
		suite            string
		// want are the line, the rule and a part of the message of each finding.
		want []string
	}{
		"Sound":            {reason: "nothing is wrong", template: v0(sound), suite: suite},
		"NoSuite":          {reason: "nothing tests it", template: v0(sound), want: []string{"2 no-tests: no suite tests it"}},
		"SuiteSkipped":     {reason: "a suite that is skipped tests nothing", template: v0(sound), suite: suite + "skip: true\n", want: []string{"2 no-tests: "}},
		"SuiteOfOthers":    {reason: "a suite of another template", template: v0(sound), suite: strings.Replace(suite, "template.yaml", "other.yaml", 1), want: []string{"2 no-tests: "}},
		"Version":          {reason: "no such version", template: strings.Replace(v0(sound), "sh/v1", "sh/v7", 1), suite: suite, want: []string{"2 invalid: ConstraintTemplate \"owned\": apiVersion"}},
		"Name":             {reason: "not the kind in lower case", template: strings.Replace(v0(sound), "name: owned", "name: owner", 1), suite: suite, want: []string{"2 invalid: "}},
		"Rego":             {reason: "does not compile", template: v0(sound + "x { y }"), suite: suite, want: []string{"16 invalid: rego_unsafe_var_error: var y is unsafe"}},
		"RegoV1":           {reason: "the line is that of the file in the field code, too", template: v1("package a\nviolation contains {\"msg\": x} if true"), suite: suite, want: []string{"16 invalid: rego_unsafe_var_error"}},
		"UnusedVariable":   {reason: "a mistake, mostly", template: v0(sound + "x { y := 1 }"), suite: suite, want: []string{"16 strict: assigned var y unused"}},
		"UnusedImport":     {reason: "left over", template: v0(strings.Replace(sound, "package a\n", "package a\nimport data.lib.b\n", 1)) + "      libs:\n        - |\n          package lib.b\n          c = 1\n", suite: suite, want: []string{"12 strict: import data.lib.b unused"}},
		"Shadowing":        {reason: "input is no longer the input", template: v0(sound + "x { input := 1; input == 1 }"), suite: suite, want: []string{"16 strict: assigned var input unused", "16 strict: variables must not shadow input"}},
		"StrictInLibrary":  {reason: "libraries are looked at", template: v0(sound) + "      libs:\n        - |\n          package lib.b\n          c { d := 1 }\n", suite: suite, want: []string{"19 strict: assigned var d unused"}},
		"Deprecated":       {reason: "gone in v1", template: v0(sound + "x { any([true]) }\ny { re_match(\"a\", \"b\") }"), suite: suite, want: []string{"16 deprecated-builtin: the builtin any", "17 deprecated-builtin: the builtin re_match"}},
		"NoMessage":        {reason: "a fault of the constraint", template: v0("package a\nviolation[{\"message\": \"a\"}] { true }"), suite: suite, want: []string{"12 missing-msg: this violation has no msg"}},
		"NumberAsMessage":  {reason: "not text", template: v0("package a\nviolation[{\"msg\": 1}] { true }"), suite: suite, want: []string{"12 missing-msg: "}},
		"TextAsViolation":  {reason: "no object", template: v0("package a\nviolation[\"a\"] { true }"), suite: suite, want: []string{"12 missing-msg: "}},
		"BoundNoMessage":   {reason: "an object in a variable", template: v1("package a\nviolation contains v if {\n  v := {\"details\": {}}\n}"), suite: suite, want: []string{"16 missing-msg: "}},
		"BoundMessage":     {reason: "an object in a variable, with msg", template: v1("package a\nviolation contains v if {\n  v := {\"msg\": \"a\"}\n}"), suite: suite},
		"ComputedMessage":  {reason: "what a function returns is not known", template: v1("package a\nviolation contains v if {\n  v := f(1)\n}\nf(_) := {\"msg\": \"a\"}"), suite: suite},
		"CompleteRule":     {reason: "no set", template: v1("package a\nviolation := {\"msg\": \"a\"}"), suite: suite, want: []string{"16 missing-msg: violation is no set"}},
		"WholeInventory":   {reason: "every object there is", template: withAnnotation(v0("package a\nviolation[{\"msg\": \"a\"}] { walk(data.inventory, [_, \"a\"]) }")), suite: suite, want: []string{"13 unbounded-inventory: data.inventory goes through every kind"}},
		"EveryKind":        {reason: "neither group and version nor kind", template: withAnnotation(v0("package a\nviolation[{\"msg\": \"a\"}] { data.inventory.namespace[_][_][_][_].a }")), suite: suite, want: []string{"13 unbounded-inventory: "}},
		"EveryScope":       {reason: "nor whether it is in a namespace", template: withAnnotation(v0("package a\nviolation[{\"msg\": \"a\"}] { data.inventory[_][\"v1\"].Node[_].a }")), suite: suite, want: []string{"13 unbounded-inventory: "}},
		"EveryClusterKind": {reason: "nor the kind of what is cluster-scoped", template: withAnnotation(v0("package a\nviolation[{\"msg\": k}] { data.inventory.cluster[v][k][_].a == v }")), suite: suite, want: []string{"13 unbounded-inventory: "}},
		"OneKind":          {reason: "the kind is said", template: withAnnotation(v0("package a\nviolation[{\"msg\": \"a\"}] { data.inventory.namespace[_][_].Service[_].a }")), suite: suite},
		"OneVersion":       {reason: "the group and version are said", template: withAnnotation(v0("package a\nviolation[{\"msg\": k}] { data.inventory.cluster[\"v1\"][k][_].a }")), suite: suite},
		"KindOfObject":     {reason: "the kind is that of the object", template: withAnnotation(v1("package a\nviolation contains {\"msg\": \"a\"} if {\n  kind := input.review.kind.kind\n  data.inventory.cluster[_][kind][_].a\n}")), suite: suite},
		"KindOfList":       {reason: "the kinds are listed", template: withAnnotation(v1("package a\nviolation contains {\"msg\": \"a\"} if {\n  some kind in {\"A\", \"B\"}\n  data.inventory.cluster[_][kind][_].a\n}")), suite: suite},
		"NoSyncData":       {reason: "nobody knows what to sync", template: v0("package a\nviolation[{\"msg\": \"a\"}] { data.inventory.cluster[\"v1\"].Node[_].a }"), suite: suite, want: []string{"12 no-sync-data: it reads data.inventory"}},
		"Audit":            {reason: "audit has no user", template: v0("package a\nviolation[{\"msg\": \"a\"}] {\n  input.review.userInfo.username == \"a\"\n}"), suite: suite, want: []string{"13 audit-blind: it reads input.review.userInfo"}},
		"AuditAlias":       {reason: "nor by another name", template: v0("package a\nviolation[{\"msg\": \"a\"}] {\n  r := input.review\n  r.userInfo.username == \"a\"\n}"), suite: suite, want: []string{"14 audit-blind: it reads input.review.userInfo"}},
		"AuditKnows":       {reason: "the operations say so", template: v0("package a\nviolation[{\"msg\": \"a\"}] {\n  input.review.userInfo.username == \"a\"\n}") + "      operations: [CREATE]\n", suite: suite},
		"Parameter":        {reason: "a parameter that the schema does not have", template: v0(strings.Replace(sound, "parameters.label", "parameters.labels", 1)), suite: suite, want: []string{"13 undescribed-parameter: it reads input.parameters.labels"}},
		"Interpreted":      {reason: "what OPA makes no plan for", template: v1(interpreted), suite: suite, want: []string{"2 interpreted: Owned is interpreted: "}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			write(t, filepath.Join(folder, "template.yaml"), tc.template)
			if tc.suite != "" {
				write(t, filepath.Join(folder, "suite.yaml"), tc.suite)
			}
			found, err := lint.Run(t.Context(), []string{filepath.Join(folder, "template.yaml")}, nil)
			if err != nil || len(found.Templates) != 1 {
				t.Fatalf("got %v and error %v, want one template", found.Templates, err)
			}
			if len(found.Flaws) != len(tc.want) {
				t.Fatalf("%s: got %v, want %q", tc.reason, found.Flaws, tc.want)
			}
			for i, f := range found.Flaws {
				if got := fmt.Sprintf("%d %s: %s", f.Line, f.Rule, f.Message); !strings.HasPrefix(got, tc.want[i]) {
					t.Errorf("%s: got %q, want %q", tc.reason, got, tc.want[i])
				}
				if (f.Fix == "") != (f.Rule == "invalid") {
					t.Errorf("%s: got the fix %q", f.Rule, f.Fix)
				}
				tried[f.Rule] = true
			}
		})
	}
	for _, r := range lint.Rules() {
		if !tried[r.ID] {
			t.Errorf("no case shows the rule %s", r.ID)
		}
	}
}

// tried are the rules that have been seen to find something.
var tried = map[string]bool{}

// interpreted is Rego that our compiler leaves to OPA's interpreter.
const interpreted = `package a
p[x].a := 1 if { some x in ["u", "v"] }
p[x].b := n if { some x in ["u"]; n := p.v.a }
violation contains {"msg": sprintf("%v", [p.u])}`

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestLibrary: the policies that come with Fusegate are as they should be.
func TestLibrary(t *testing.T) {
	found, err := lint.Run(t.Context(), []string{"../../templates"}, nil)
	if err != nil || len(found.Templates) < 33 {
		t.Errorf("got %d templates and error %v", len(found.Templates), err)
	}
	for _, f := range found.Flaws {
		t.Errorf("%s:%d: %s: %s", f.File, f.Line, f.Rule, f.Message)
	}
}

// TestUnread: what cannot be read is an error, and the rest is looked at.
func TestUnread(t *testing.T) {
	folder := t.TempDir()
	write(t, filepath.Join(folder, "a.yaml"), "kind: ConstraintTemplate\na: b: c\n")
	write(t, filepath.Join(folder, "template.yaml"), v0(sound))
	found, err := lint.Run(t.Context(), []string{folder}, nil)
	if err == nil || !strings.Contains(err.Error(), "a.yaml:2") || len(found.Templates) != 1 || len(found.Flaws) != 1 {
		t.Errorf("got %v and error %v, want a.yaml:2 and one finding in one template", found, err)
	}
	if len(found.Problems) != 1 || found.Problems[0].Line != 2 {
		t.Errorf("got problems %v, want the one at line 2", found.Problems)
	}
	if _, err := lint.Run(t.Context(), []string{filepath.Join(folder, "absent")}, nil); err == nil {
		t.Error("a folder that is not there: got no error")
	}
}

package suite_test

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/suite"
)

const (
	template = `apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: seen}
spec:
  crd: {spec: {names: {kind: Seen}, validation: {openAPIV3Schema: {type: object, properties: {n: {type: integer}}}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package seen
      violation[{"msg": "seen"}] { true }
`
	constraint = `apiVersion: constraints.gatekeeper.sh/v1beta1
kind: Seen
metadata: {name: seen}
`
	pod = `apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
`
	head   = "apiVersion: test.gatekeeper.sh/v1alpha1\nkind: Suite\n"
	oneOf  = head + "tests:\n- name: t\n  template: template.yaml\n  constraint: constraint.yaml\n  cases:\n"
	aCase  = "  - name: c\n    object: pod.yaml\n    assertions: [{violations: yes}]\n"
	review = "apiVersion: admission.k8s.io/v1\nkind: AdmissionReview\n"
)

// TestBroken: whatever is wrong with the files is said, with file and line, and
// is never taken for a failure or a pass.
func TestBroken(t *testing.T) {
	cases := map[string]struct {
		reason string
		files  map[string]string
		// want is part of what is said.
		want string
	}{
		"NoTemplate":         {"a test without a template", map[string]string{"suite.yaml": head + "tests:\n- name: t\n  constraint: constraint.yaml\n"}, "suite.yaml:4: template is missing"},
		"NoConstraint":       {"a test without a constraint", map[string]string{"suite.yaml": head + "tests:\n- name: t\n  template: template.yaml\n"}, "suite.yaml:4: constraint is missing"},
		"EmptyConstraint":    {"an empty path", map[string]string{"suite.yaml": head + "tests:\n- name: t\n  template: template.yaml\n  constraint: \"\"\n"}, "suite.yaml:6: constraint is missing"},
		"TemplateAbsent":     {"the file is not there", map[string]string{"suite.yaml": head + "tests:\n- template: absent.yaml\n  constraint: constraint.yaml\n"}, "suite.yaml:4: template: absent.yaml: open: file does not exist"},
		"ConstraintAbsent":   {"the file is not there", map[string]string{"suite.yaml": head + "tests:\n- template: template.yaml\n  constraint: absent.yaml\n"}, "suite.yaml:5: constraint: absent.yaml: open: file does not exist"},
		"TemplateIsNone":     {"the file holds something else", map[string]string{"template.yaml": "# Not one.\n" + pod}, "template.yaml:2: Pod/web is not a ConstraintTemplate"},
		"ConstraintIsNone":   {"the file holds something else", map[string]string{"constraint.yaml": pod}, "constraint.yaml:1: Pod/web is not a constraint"},
		"ConstraintOfOthers": {"the constraint is of another template", map[string]string{"constraint.yaml": strings.Replace(constraint, "Seen", "Other", 1)}, "constraint.yaml:1: Other/seen is no constraint of the template in template.yaml"},
		"TemplateVersion":    {"there is no such version", map[string]string{"template.yaml": strings.Replace(template, "/v1", "/v9", 1)}, "template.yaml:1: ConstraintTemplate \"seen\": apiVersion templates.gatekeeper.sh/v9 is not supported"},
		"Rego":               {"a line of Rego in a block", map[string]string{"template.yaml": strings.Replace(template, "{ true }", "{ gonne }", 1)}, "template.yaml:10: rego_unsafe_var_error"},
		"RegoQuoted":         {"Rego on one line", map[string]string{"template.yaml": before(template, "|") + "\"package a violation[x] { y }\"\n"}, "template.yaml:8: rego_"},
		"Library":            {"a line in the second library", map[string]string{"template.yaml": template + "    libs:\n    - |\n      package lib.a\n      a = 1\n    - |\n      package lib.b\n\n      b = gonne\n"}, "template.yaml:18: rego_unsafe_var_error"},
		"CodeOfAnEngine":     {"Rego in the field code", map[string]string{"template.yaml": before(template, "    rego") + "    code:\n    - engine: Rego\n      source:\n        rego: |\n          package a\n          violation[{\"msg\": x}] { true }\n"}, "template.yaml:13: rego_unsafe_var_error"},
		"CELOnly":            {"no engine of ours", map[string]string{"template.yaml": before(template, "    rego") + "    code:\n    - engine: K8sNativeValidation\n      source: {validations: [{expression: \"true\"}]}\n"}, "template.yaml:1: ConstraintTemplate \"seen\" has no code for an engine that Fusegate has"},
		"Parameters":         {"a parameter of another type", map[string]string{"constraint.yaml": constraint + "spec: {parameters: {n: many}}\n"}, "constraint.yaml:1: constraint Seen/seen: "},
		"TemplateYAML":       {"what is no YAML", map[string]string{"template.yaml": "# One.\n---\na: b\nc: d: e\n"}, "template.yaml:4: mapping values are not allowed"},
		"KeyTwice":           {"a key that is there twice", map[string]string{"pod.yaml": pod + "kind: Pod\n", "suite.yaml": oneOf + aCase}, "pod.yaml:4: key \"kind\" already set in map"},
		"NoObject":           {"a case without object", map[string]string{"suite.yaml": oneOf + "  - name: c\n    assertions: [{}]\n"}, "suite.yaml:8: object is missing"},
		"NoAssertions":       {"a case that asserts nothing", map[string]string{"suite.yaml": oneOf + "  - name: c\n    object: pod.yaml\n"}, "suite.yaml:8: assertions is missing or empty"},
		"ObjectAbsent":       {"the file is not there", map[string]string{"suite.yaml": oneOf + "  - object: absent.yaml\n    assertions: [{}]\n"}, "suite.yaml:8: absent.yaml: open: file does not exist"},
		"ObjectEmpty":        {"a file of comments", map[string]string{"pod.yaml": "# Nothing.\n---\n", "suite.yaml": oneOf + aCase}, "pod.yaml: there is no object in it"},
		"SeveralObjects":     {"a case is about one object", map[string]string{"pod.yaml": pod + "---\n" + pod, "suite.yaml": oneOf + aCase}, "pod.yaml:5: there are 2 objects in it, and a case judges one: give each a file and a case (suite.yaml:9)"},
		"NotAnObject":        {"a list is no object", map[string]string{"pod.yaml": "- a\n", "suite.yaml": oneOf + aCase}, "pod.yaml:1: not an object"},
		"NoKind":             {"an object without kind", map[string]string{"pod.yaml": "apiVersion: v1\nmetadata: {}\n", "suite.yaml": oneOf + aCase}, "pod.yaml:1: apiVersion or kind is missing"},
		"InventoryAbsent":    {"the file is not there", map[string]string{"suite.yaml": oneOf + aCase + "    inventory: [absent.yaml]\n"}, "suite.yaml:8: absent.yaml: open: file does not exist"},
		"InventoryBroken":    {"one of its objects is none", map[string]string{"inventory.yaml": pod + "---\na: b\n", "suite.yaml": oneOf + aCase + "    inventory: [inventory.yaml]\n"}, "inventory.yaml:4: apiVersion or kind is missing"},
		"NoRequest":          {"an AdmissionReview without request", map[string]string{"pod.yaml": review, "suite.yaml": oneOf + aCase}, "pod.yaml:1: the AdmissionReview has no request"},
		"UnknownField":       {"a field that requests do not have", map[string]string{"pod.yaml": review + "request: {objekt: {}, object: {kind: Pod}}\n", "suite.yaml": oneOf + aCase}, "unknown field \"request.objekt\""},
		"NothingToReview":    {"a request without objects", map[string]string{"pod.yaml": review + "request: {operation: CREATE}\n", "suite.yaml": oneOf + aCase}, "pod.yaml:1: request.object and request.oldObject are both missing"},
		"DeleteOfNothing":    {"a DELETE without oldObject", map[string]string{"pod.yaml": review + "request: {operation: DELETE, object: {kind: Pod}}\n", "suite.yaml": oneOf + aCase}, "pod.yaml:1: request.oldObject is missing"},
		"ObjectWithoutKind":  {"a request about who knows what", map[string]string{"pod.yaml": review + "request: {object: {metadata: {name: a}}}\n", "suite.yaml": oneOf + aCase}, "pod.yaml:1: request.object.kind is missing"},
		"Violations":         {"a word that is none", map[string]string{"suite.yaml": oneOf + "  - object: pod.yaml\n    assertions: [{violations: many}]\n"}, "suite.yaml:9: tests[0].cases[0].assertions[0].violations: got \"many\": want yes, no, or a number"},
		"NegativeViolations": {"a negative number", map[string]string{"suite.yaml": oneOf + "  - object: pod.yaml\n    assertions:\n    - message: a\n      violations: -1\n"}, "suite.yaml:11: tests[0].cases[0].assertions[0].violations: got \"-1\""},
		"Message":            {"no regular expression", map[string]string{"suite.yaml": oneOf + "  - object: pod.yaml\n    assertions: [{message: \"(\"}]\n"}, "suite.yaml:9: tests[0].cases[0].assertions[0].message: error parsing regexp"},
		"TestsAreNoList":     {"a field of another type", map[string]string{"suite.yaml": head + "tests: {}\n"}, "suite.yaml:3: tests: want a list, got fields"},
		"NameIsNoText":       {"a field of another type", map[string]string{"suite.yaml": head + "tests:\n- name: [a]\n"}, "suite.yaml:4: tests[0].name: want text, got a list"},
		"SkipIsNoTruth":      {"a field of another type", map[string]string{"suite.yaml": head + "skip: perhaps\n"}, "suite.yaml:3: skip: want true or false, got \"perhaps\""},
		"SuiteKeyTwice":      {"a key that is there twice", map[string]string{"suite.yaml": oneOf + aCase + "    name: d\n"}, "suite.yaml:11: tests[0].cases[0].name is there twice"},
		"SuiteYAML":          {"what is no YAML", map[string]string{"suite.yaml": head + "tests: [\n"}, "suite.yaml:3: "},
		"InvalidTemplate":    {"a test of an invalid constraint needs a valid template", map[string]string{"template.yaml": strings.Replace(template, "{ true }", "{ gonne }", 1), "suite.yaml": before(oneOf, "  cases") + "  invalid: true\n"}, "template.yaml:10: rego_unsafe_var_error"},
		"InvalidAbsent":      {"what is not there is not invalid", map[string]string{"suite.yaml": head + "tests:\n- template: template.yaml\n  constraint: absent.yaml\n  invalid: true\n"}, "suite.yaml:5: constraint: absent.yaml"},
		"InvalidOfOthers":    {"a constraint of another template is not invalid", map[string]string{"constraint.yaml": strings.Replace(constraint, "Seen", "Other", 1), "suite.yaml": before(oneOf, "  cases") + "  invalid: true\n"}, "constraint.yaml:1: Other/seen is no constraint of"},
		"Expansion":          {"the file holds something else", map[string]string{"suite.yaml": oneOf + aCase + "  expansion: pod.yaml\n"}, "pod.yaml:1: Pod/web is not an ExpansionTemplate"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			files := fstest.MapFS{}
			all := map[string]string{"template.yaml": template, "constraint.yaml": constraint, "pod.yaml": pod, "suite.yaml": oneOf + aCase}
			maps.Copy(all, tc.files)
			for name, text := range all {
				files[name] = &fstest.MapFile{Data: []byte(text)}
			}
			said, outcome := verify(t, files, ".")
			if outcome != output.Broken || !strings.Contains(said, tc.want) {
				t.Errorf("%s: got outcome %v and\n%s\nwant outcome %v and %q", tc.reason, outcome, said, output.Broken, tc.want)
			}
		})
	}
}

// before is what stands before a part of the text.
func before(text, part string) string {
	out, _, _ := strings.Cut(text, part)
	return out
}

// verify is what is said of a target and what it comes to.
func verify(t *testing.T, files fstest.MapFS, target string) (string, output.Outcome) {
	t.Helper()
	suites, err := suite.Find(files, target)
	if err != nil {
		return err.Error(), output.Broken
	}
	var out bytes.Buffer
	p := &output.Printer{Out: &out}
	worst := output.Passed
	r := suite.Runner{Files: files}
	if err := r.Run(t.Context(), suites, func(s *output.Suite) {
		worst = max(worst, s.Outcome())
		if err := p.Suite(s); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	return out.String(), worst
}

// TestFind: which files count.
func TestFind(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	files := fstest.MapFS{
		"a/suite.yaml":      file(head),
		"a/pod.yaml":        file(pod),
		"a/chart.yaml":      file("{{ not YAML }}"),
		"a/b/other.yml":     file(head),
		"a/b/README.md":     file(head),
		"a/testdata/s.yaml": file("# Two suites.\n" + head + "---\n" + head),
		"empty/pod.yaml":    file(pod),
		"broken/s.yaml":     file(head + "tests: {}\n"),
		"broken/t.yaml":     file(head),
	}
	cases := map[string]struct {
		reason, target string
		want           []string
		err            string
	}{
		"Folder":       {reason: "its own files only", target: "a", want: []string{"a/suite.yaml"}},
		"Recursive":    {reason: "every folder below it", target: "a/...", want: []string{"a/b/other.yml", "a/suite.yaml", "a/testdata/s.yaml", "a/testdata/s.yaml"}},
		"File":         {reason: "the file that is named", target: "a/b/other.yml", want: []string{"a/b/other.yml"}},
		"NoSuite":      {reason: "a file that holds none", target: "a/pod.yaml", err: "a/pod.yaml: no Suite"},
		"NoneInFolder": {reason: "a run of nothing must not look clean", target: "empty", err: "empty: no Suite"},
		"Extension":    {reason: "a file of another kind", target: "a/b/README.md", err: "ends in .yaml or .yml"},
		"Absent":       {reason: "nothing there", target: "nowhere/...", err: "nowhere/..."},
		"FileBelow":    {reason: "nothing is below a file", target: "a/pod.yaml/...", err: "not a folder"},
		"OneBroken":    {reason: "the others are there all the same", target: "broken", want: []string{"broken/t.yaml"}, err: "broken/s.yaml:3"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			suites, err := suite.Find(files, tc.target)
			var got []string
			for _, s := range suites {
				got = append(got, s.Path)
			}
			if strings.Join(got, " ") != strings.Join(tc.want, " ") {
				t.Errorf("%s: got %q, want %q", tc.reason, got, tc.want)
			}
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: got error %v, want %q", tc.reason, err, tc.err)
			}
		})
	}
	if _, err := suite.Find(files, "empty"); !errors.Is(err, suite.ErrNoSuite) {
		t.Errorf("got %v, want ErrNoSuite", err)
	}
}

// TestWarnings: what has no effect is said.
func TestWarnings(t *testing.T) {
	files := fstest.MapFS{"suite.yaml": {Data: []byte(oneOf + aCase + "    expect: none\n  invalid: true\n")}}
	suites, err := suite.Find(files, "suite.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(suites[0].Warnings, "\n")
	for _, want := range []string{
		"suite.yaml:11: tests[0].cases[0].expect is no field of a Suite: ignored",
		"suite.yaml:4: tests[0] has cases and invalid: true: the cases are not run",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
}

// FuzzFind: no file makes it panic, or find a suite that it cannot run.
func FuzzFind(f *testing.F) {
	f.Add(oneOf + aCase)
	f.Add(head + "tests: [{cases: [null, *a]}]\n---\n" + head)
	f.Add("---\n--- a\n" + head + "tests: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		files := fstest.MapFS{"suite.yaml": {Data: []byte(text)}}
		suites, _ := suite.Find(files, "suite.yaml")
		r := suite.Runner{Files: files}
		if err := r.Run(t.Context(), suites, func(*output.Suite) {}); err != nil {
			t.Error(err)
		}
	})
}

package app

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestPolicyCommands checks what the commands for authors of policies end with,
// and that what is wrong with a call or a file is not taken for a failure.
func TestPolicyCommands(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, stderr, code := fusegate(t, "", "template", "new", "RequiredOwner", "-d", "policy"); code != 0 {
		t.Fatalf("template new: got %d\n%s", code, stderr)
	}
	edit := func(from, to, part, instead string) {
		t.Helper()
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(strings.Replace(string(text), part, instead, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, folder := range []string{"failing", "broken"} {
		if err := os.CopyFS(folder, os.DirFS("policy")); err != nil {
			t.Fatal(err)
		}
	}
	edit("failing/suite.yaml", "failing/suite.yaml", "violations: no", "violations: yes")
	edit("broken/template.yaml", "broken/template.yaml", "if {", "if ((")
	edit("policy/template.yaml", "untested.yaml", "", "")
	bench := []string{"bench", "policy", "--duration", "1ms"}
	if _, stderr, code := fusegate(t, "", append(bench, "--save", "saved.json")...); code != 0 {
		t.Fatalf("bench --save: got %d\n%s", code, stderr)
	}
	edit("saved.json", "faster.json", `"allocsPerReview": `, `"allocsPerReview": 1, "was": `)
	cases := map[string]struct {
		reason         string
		args           []string
		code           int
		stdout, stderr string
	}{
		"Pass":          {"all is as the suite says", []string{"verify", "policy"}, 0, "PASS\n", ""},
		"Verbose":       {"and what passed is named", []string{"verify", "policy/...", "-v"}, 0, "    --- PASS: owner//the label is missing (", ""},
		"Run":           {"as go test has it", []string{"verify", "failing", "-run", "//missing"}, 0, "ok  \tfailing/suite.yaml", ""},
		"RunEquals":     {"in one word, too", []string{"verify", "failing", "-run=//there"}, 1, "FAIL\n", ""},
		"Fail":          {"a failure is 1", []string{"verify", "failing/suite.yaml"}, 1, "failing/suite.yaml:13: assertions[0]: got 0 violations, want at least 1", ""},
		"Broken":        {"what cannot be run is 2", []string{"verify", "broken"}, 2, "broken/template.yaml:32: rego_parse_error", ""},
		"Both":          {"and is not mixed with failures", []string{"verify", "failing", "broken"}, 2, "FAIL\tfailing/suite.yaml", ""},
		"Nowhere":       {"nothing there", []string{"verify", "nowhere"}, 2, "FAIL\n", "nowhere: "},
		"NoSuite":       {"no suite there", []string{"verify", "policy/samples"}, 2, "FAIL\n", "no Suite of test.gatekeeper.sh"},
		"BadRun":        {"no regular expression", []string{"verify", "policy", "--run", "("}, 2, "", "--run"},
		"BadOutput":     {"no such format", []string{"verify", "policy", "-o", "xml"}, 2, "", `"xml"`},
		"BadFlag":       {"no such flag", []string{"verify", "--nonsense"}, 2, "", "unknown flag"},
		"JUnit":         {"for continuous integration", []string{"verify", "failing", "-o", "junit"}, 1, `<testsuites tests="2" failures="1" errors="0" skipped="0"`, ""},
		"JSON":          {"for programs", []string{"verify", "broken", "-o", "json"}, 2, `"outcome": "error"`, ""},
		"LintClean":     {"nothing found", []string{"template", "lint", "policy"}, 0, "0 findings in 1 template\n", ""},
		"LintFound":     {"findings are 1", []string{"template", "lint", "untested.yaml", "-o", "github"}, 1, "::warning file=untested.yaml,line=1,title=no-tests::", ""},
		"LintInvalid":   {"so is what does not compile", []string{"template", "lint", "broken", "-o", "github"}, 1, "::error file=broken/template.yaml,line=32,title=invalid::rego_parse_error", ""},
		"LintNothing":   {"no template is 2", []string{"template", "lint", "policy/samples"}, 2, "0 findings in 0 templates", "no ConstraintTemplate in policy/samples"},
		"NewAgain":      {"nothing is written over", []string{"template", "new", "RequiredOwner", "-d", "policy"}, 2, "", "is there already"},
		"NewNameless":   {"a kind has to be named", []string{"template", "new"}, 2, "", "name the kind"},
		"Bench":         {"all figures", bench, 0, "RequiredOwner   1", ""},
		"BenchSame":     {"as good as before", append(slices.Clone(bench), "--compare", "saved.json", "--threshold", "100000"), 0, "allocs", ""},
		"BenchWorse":    {"a regression is 1", append(slices.Clone(bench), "--compare", "faster.json", "--threshold", "1000"), 1, "regressed", ""},
		"BenchNothing":  {"nothing to measure", []string{"bench"}, 2, "", "nothing to read"},
		"BenchBroken":   {"what does not compile costs nothing", []string{"bench", "broken"}, 2, "", "broken/template.yaml:32"},
		"BenchCompared": {"no results to compare with", append(slices.Clone(bench), "--compare", "untested.yaml"), 2, "", "reading untested.yaml"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := fusegate(t, "", tc.args...)
			if code != tc.code || !strings.Contains(stdout, tc.stdout) || !strings.Contains(stderr, tc.stderr) {
				t.Errorf("%s: got %d, want %d, %q and %q\n%s\n%s", tc.reason, code, tc.code, tc.stdout, tc.stderr, stdout, stderr)
			}
		})
	}
	if left, err := filepath.Glob("policy/*/*"); err != nil || len(left) != 3 {
		t.Errorf("the policy's files changed: %q", left)
	}
}

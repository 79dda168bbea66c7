package suite_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/suite"
)

var update = flag.Bool("update", false, "write the golden files")

// run runs all suites of a target on disk and writes them in a format.
func run(t *testing.T, target, format string, r suite.Runner) (string, []*output.Suite) {
	t.Helper()
	suites, err := suite.Find(suite.Disk{}, target)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	var results []*output.Suite
	w := output.NewSuiteWriter(&out, output.Format(format), true, "v1.2.3")
	worst := output.Passed
	err = r.Run(t.Context(), suites, func(s *output.Suite) {
		results, worst = append(results, s), max(worst, s.Outcome())
		if err := w.Suite(s); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.End(worst, nil); err != nil {
		t.Fatal(err)
	}
	return out.String(), results
}

// minCases is how many cases are to pass at least.
const minCases = 100

// TestPass runs the suites that show what templates and constraints mean.
func TestPass(t *testing.T) {
	out, results := run(t, "testdata/pass/...", "text", suite.Runner{})
	passed := 0
	for _, s := range results {
		if s.Outcome() != output.Passed {
			t.Errorf("%s: got outcome %v, want it to pass", s.Path, s.Outcome())
		}
		for _, test := range s.Tests {
			for _, c := range test.Cases {
				if !c.Skipped {
					passed++
				}
			}
		}
	}
	if t.Failed() {
		t.Log(out)
	}
	if passed < minCases {
		t.Errorf("%d cases passed, want at least %d", passed, minCases)
	}
	t.Logf("%d cases passed", passed)
}

var durations = regexp.MustCompile(`\d+\.\d+(s|")|"seconds": [0-9.e-]+`)

// TestFail compares what is written of cases that fail, each kind of assertion
// among them, with the golden files.
func TestFail(t *testing.T) {
	for _, format := range []string{"text", "json", "junit"} {
		t.Run(format, func(t *testing.T) {
			got, results := run(t, "testdata/fail", format, suite.Runner{})
			if o := results[0].Outcome(); o != output.Failed {
				t.Errorf("got outcome %v, want %v", o, output.Failed)
			}
			got = durations.ReplaceAllStringFunc(got, func(d string) string {
				if strings.HasPrefix(d, `"seconds"`) {
					return `"seconds": 0`
				}
				return "0.00" + d[len(d)-1:]
			})
			golden(t, filepath.Join("testdata", "fail."+format), got)
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got), run with -update if that is what it should be:\n%s", file, diff)
	}
}

// TestFormats reads JUnit and JSON back, as a CI system does.
func TestFormats(t *testing.T) {
	type counts struct{ Tests, Failures, Errors, Skipped int }
	want := counts{Tests: 18, Failures: 15, Errors: 0, Skipped: 2}
	text, _ := run(t, "testdata/fail", "junit", suite.Runner{})
	var junit struct {
		XMLName  xml.Name `xml:"testsuites"`
		Tests    int      `xml:"tests,attr"`
		Failures int      `xml:"failures,attr"`
		Errors   int      `xml:"errors,attr"`
		Skipped  int      `xml:"skipped,attr"`
	}
	if err := xml.Unmarshal([]byte(text), &junit); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, counts{junit.Tests, junit.Failures, junit.Errors, junit.Skipped}); diff != "" {
		t.Errorf("JUnit (-want +got):\n%s", diff)
	}
	text, _ = run(t, "testdata/fail", "json", suite.Runner{})
	var doc struct {
		Outcome string
		Suites  []struct {
			Tests []struct {
				Outcome string
				Cases   []struct{ Outcome string }
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	got := counts{}
	for _, test := range doc.Suites[0].Tests {
		all := []string{test.Outcome}
		if len(test.Cases) > 0 {
			all = nil
		}
		for _, c := range test.Cases {
			all = append(all, c.Outcome)
		}
		for _, o := range all {
			got.Tests++
			got.Failures += map[string]int{"fail": 1}[o]
			got.Errors += map[string]int{"error": 1}[o]
			got.Skipped += map[string]int{"skip": 1}[o]
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || doc.Outcome != "fail" {
		t.Errorf("JSON: outcome %q (-want +got):\n%s", doc.Outcome, diff)
	}
}

// TestFilter selects by name as gator verify does.
func TestFilter(t *testing.T) {
	all := map[string][]string{"labels": {"none", "all"}, "no-labels": {"none"}, "tags": {"labelled", "all"}}
	cases := map[string]struct {
		reason, expression string
		want               []string
		err                string
	}{
		"Empty":       {reason: "nothing is left out", expression: "", want: []string{"labels/all", "labels/none", "no-labels/none", "tags/all", "tags/labelled"}},
		"Either":      {reason: "a test's name selects all its cases, a case's itself", expression: "label", want: []string{"labels/all", "labels/none", "no-labels/none", "tags/labelled"}},
		"Both":        {reason: "both have to match", expression: "label//all", want: []string{"labels/all"}},
		"Whole":       {reason: "expressions may be anchored", expression: "^labels$//", want: []string{"labels/all", "labels/none"}},
		"Cases":       {reason: "any test", expression: "//^all$", want: []string{"labels/all", "tags/all"}},
		"Nothing":     {reason: "nothing has this name", expression: "absent"},
		"ThreeParts":  {reason: "there are two levels", expression: "a//b//c", err: `at most one "//"`},
		"NoTests":     {reason: "the tests' expression is none", expression: "(//b", err: "tests' expression"},
		"NoCases":     {reason: "the cases' expression is none", expression: "a//(", err: "cases' expression"},
		"NoneOfBoth":  {reason: "the only expression is none", expression: "(", err: "missing closing )"},
		"SingleSlash": {reason: "a single slash is part of the name", expression: "labels/none"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			f, err := suite.NewFilter(tc.expression)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("%s: got error %v, want one with %q", tc.reason, err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, selected(f, all)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func selected(f *suite.Filter, all map[string][]string) []string {
	var out []string
	for test, cases := range all {
		t := &suite.Test{Name: test}
		for _, c := range cases {
			t.Cases = append(t.Cases, suite.Case{Name: c})
		}
		for i := range t.Cases {
			if f.Test(t) && f.Case(t, &t.Cases[i]) {
				out = append(out, test+"/"+t.Cases[i].Name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// TestRunFiltered: what is not selected is reported as skipped.
func TestRunFiltered(t *testing.T) {
	f, err := suite.NewFilter("pods//passes")
	if err != nil {
		t.Fatal(err)
	}
	out, results := run(t, "testdata/fail", "text", suite.Runner{Filter: f, Parallel: 1})
	if results[0].Outcome() != output.Passed {
		t.Errorf("the case that passes was selected, and did not:\n%s", out)
	}
	for _, line := range []string{"    --- PASS: pods//passes", "    --- SKIP: pods//yes, but none", "--- SKIP: numbers"} {
		if !strings.Contains(out, "\n"+line) {
			t.Errorf("no line begins with %q:\n%s", line, out)
		}
	}
}

// TestInterrupted: an ended context ends the run.
func TestInterrupted(t *testing.T) {
	suites, err := suite.Find(suite.Disk{}, "testdata/pass/...")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := suite.Runner{}
	if err := r.Run(ctx, suites, func(*output.Suite) {}); err == nil {
		t.Error("got no error, want that of the context")
	}
}

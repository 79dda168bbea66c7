package output_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/policy"
)

var update = flag.Bool("update", false, "write the golden files")

func constraint(kind, name string, a policy.Action, scoped ...policy.Action) policy.Constraint {
	return policy.Constraint{Group: "constraints.gatekeeper.sh", Version: "v1beta1", Kind: kind, Name: name, Action: a, ScopedActions: scoped}
}

func violation(group, version, kind, namespace, name, message string) v1alpha1.Violation {
	return v1alpha1.Violation{Group: group, Version: version, Kind: kind, Namespace: namespace, Name: name, Message: message, EnforcementAction: "deny"}
}

func audit() output.Audit {
	return output.Audit{
		Version: "v1.2.3",
		Constraints: []output.AuditedConstraint{
			{
				Constraint: constraint("RequiredLabels", "owner", policy.Deny), Total: 3, Exempt: 2, Complete: true, Accepted: true, Reason: v1alpha1.ReasonAudited,
				Violations: []v1alpha1.Violation{
					violation("", "v1", "Pod", "team", "web", nasty), violation("apps", "v1", "Deployment", "team", "web", "missing label owner"),
				},
				ExemptViolations: []v1alpha1.Violation{violation("", "v1", "Pod", "kube-system", "dns", "missing label owner")},
			},
			{
				Constraint: constraint("Replicas", "few", policy.Scoped, policy.Deny, policy.Warn), Total: 1, Reason: v1alpha1.ReasonGap, Message: "ConfigMap may not be listed",
				Violations: []v1alpha1.Violation{violation("", "v1", "Namespace", "", "team", "too many")},
			},
			{Constraint: constraint("Requester", "eve", policy.Warn), Reason: v1alpha1.ReasonNotAuditable, Message: "reads userInfo", Accepted: true},
			{Constraint: constraint("Clean", "all", policy.DryRun), Complete: true, Accepted: true, Reason: v1alpha1.ReasonAudited},
		},
		Problems: []output.Problem{{File: "x.yaml", Line: 3, Err: errors.New("reading YAML: broken")}},
		Report: v1alpha1.AuditReportStatus{
			Conditions: []metav1.Condition{{Type: v1alpha1.ConditionComplete, Status: "False", Reason: v1alpha1.ReasonGap}},
			Kinds: []v1alpha1.AuditedKind{
				{Kind: "Pod", Objects: 12, Violations: map[string]int64{"deny": 3}, ExemptViolations: 2}, {Group: "apps", Kind: "Deployment", Objects: 1},
			},
			Gaps: []v1alpha1.AuditGap{
				{Kind: "ConfigMap", Reason: "NotListed", Message: "forbidden"},
				{Group: "apps", Kind: "Deployment", Namespace: "team", Name: "x", Constraint: "Replicas/few", Reason: "Fault", Message: "it failed"},
			},
			NotAuditable: []v1alpha1.NotAuditable{{Constraint: "Requester/eve", Reads: []string{"userInfo", "operation"}}},
		},
	}
}

func lint() output.Lint {
	template := output.Object{APIVersion: "templates.gatekeeper.sh/v1", Kind: "ConstraintTemplate", Name: "a", File: "a,b.yaml", Line: 1}
	clean := template
	clean.Name, clean.File = "clean", "clean.yaml"
	return output.Lint{
		Version: "v1.2.3", Templates: []output.Object{template, clean},
		Flaws: []output.Flaw{
			{Rule: "invalid", Severity: output.Error, Template: "a", File: "a,b.yaml", Line: 3, Message: "100% wrong", About: "The cluster would refuse it."},
			{Rule: "no-tests", Severity: output.Warning, Template: "a", File: "a,b.yaml", Message: "no suite", Fix: "write one", About: "No suite tests it."},
		},
	}
}

func verification() output.Verification {
	failed := output.Problem{File: "suite.yaml", Line: 5, Err: output.Mismatched(errors.New("assertions[0]: got 0 violations"))}
	return output.Verification{
		Version: "v1.2.3", Outcome: output.Broken, Verbose: true,
		Suites: []*output.Suite{
			{Name: "pods", Path: "suite.yaml", Elapsed: 2 * time.Second, Tests: []output.Test{
				{Name: "labels", Line: 2, Elapsed: time.Second, Cases: []output.Case{
					{Name: "there", Line: 3}, {Name: "absent", Line: 4, Err: errors.Join(failed, failed), Elapsed: time.Second}, {Name: "left out", Line: 6, Skipped: true},
				}},
				{Name: "broken", Line: 7, Err: output.Problem{File: "template.yaml", Line: 9, Err: errors.New("rego_parse_error")}},
			}},
			{Name: "later", Path: "later.yaml", Skipped: true},
		},
		Problems: output.Problems(errors.Join(output.Problem{File: "nowhere", Err: errors.New("not there")}, errors.New("no place"))),
	}
}

// results are one of each kind of Result, with what each can hold.
func results() map[string]output.Result {
	return map[string]output.Result{"audit": audit(), "lint": lint(), "verify": verification(), "test": report()}
}

// TestGolden compares what is written of each kind of Result with the golden
// files.
func TestGolden(t *testing.T) {
	for name, r := range results() {
		for _, f := range slices.Concat(output.Formats(), output.SuiteFormats()[:1]) {
			t.Run(name+"/"+string(f), func(t *testing.T) {
				golden(t, filepath.Join("testdata", name+"."+string(f)), write(t, r, f, output.Style{}))
			})
		}
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
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

// TestEncodings reads back what is for programs: JSON and YAML say the same, and
// SARIF is as its schema has it and says whether the run was complete.
func TestEncodings(t *testing.T) {
	for name, r := range results() {
		t.Run(name, func(t *testing.T) {
			var fromJSON, fromYAML map[string]any
			if err := json.Unmarshal([]byte(write(t, r, output.JSON, output.Style{})), &fromJSON); err != nil {
				t.Fatal(err)
			}
			if err := yaml.Unmarshal([]byte(write(t, r, output.YAML, output.Style{})), &fromYAML); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(fromJSON, fromYAML); diff != "" {
				t.Errorf("(-json +yaml)\n%s", diff)
			}
			report, err := sarif.FromString(write(t, r, output.SARIF, output.Style{}))
			if err != nil {
				t.Fatal(err)
			}
			if err := report.Validate(); err != nil {
				t.Errorf("SARIF: %v", err)
			}
			if got, want := *report.Runs[0].Invocations[0].ExecutionSuccessful, name == "lint"; got != want {
				t.Errorf("SARIF: got success %v, want %v", got, want)
			}
		})
	}
}

// TestEveryAction: every action that a constraint may ask for has a level of its
// own, and one that is unknown is of the worst.
func TestEveryAction(t *testing.T) {
	levels := map[string]policy.Action{}
	for _, a := range policy.Actions() {
		line := write(t, output.Report{Findings: []output.Finding{{Action: a}}}, output.GitHub, output.Style{})
		level, _, _ := strings.Cut(line, " ")
		if other, taken := levels[level]; taken {
			t.Errorf("%s is shown as %s is: %s", a, other, level)
		}
		levels[level] = a
	}
	line := write(t, output.Report{Findings: []output.Finding{{Action: "unheard-of"}}}, output.GitHub, output.Style{})
	if !strings.HasPrefix(line, "::error ") {
		t.Errorf("an action that nobody knows: got %q, want an error", line)
	}
}

// piece is a writer that knows the most that it was given at once.
type piece struct{ most, all int }

func (p *piece) Write(text []byte) (int, error) {
	p.most, p.all = max(p.most, len(text)), p.all+len(text)
	return len(text), nil
}

// TestLarge: a result that is large is never written in one piece, which would
// have to be held beside it.
func TestLarge(t *testing.T) {
	const n, atMost = 2000, 64 << 10
	many, checked := output.Report{}, output.Audit{Complete: true}
	c := output.AuditedConstraint{Constraint: constraint("RequiredLabels", "owner", policy.Deny), Complete: true, Accepted: true, Total: n}
	for range n {
		o := output.Object{APIVersion: "v1", Kind: "Pod", Namespace: "team", Name: "web", File: "a.yaml", Line: len(many.Objects) + 1}
		many.Objects = append(many.Objects, o)
		many.Findings = append(many.Findings,
			output.Finding{Object: o, Constraint: owner, Action: policy.Deny, Message: strings.Repeat("x", 100)},
			output.Finding{Object: o, Constraint: owner, Action: policy.Deny, Message: "failed", Fault: true})
		c.Violations = append(c.Violations, violation("", "v1", "Pod", "team", "web", strings.Repeat("x", 100)))
	}
	checked.Constraints = []output.AuditedConstraint{c}
	for name, r := range map[string]output.Result{"test": many, "audit": checked} {
		for _, f := range output.Formats() {
			if name == "audit" && f == output.JUnit {
				continue // one case, which a file is read for as a whole
			}
			p := &piece{}
			if err := output.Write(p, r, f, output.Style{}); err != nil {
				t.Fatal(err)
			}
			if p.most > atMost || p.all < 100*n {
				t.Errorf("%s as %s: got %d bytes, %d of them at once, want at most %d at once", name, f, p.all, p.most, atMost)
			}
		}
	}
}

// TestWriteFails: that something could not be written is said, in every format.
func TestWriteFails(t *testing.T) {
	for name, r := range results() {
		for _, f := range output.Formats() {
			if err := output.Write(broken{}, r, f, output.Style{}); !errors.Is(err, errBroken) {
				t.Errorf("%s as %s: got error %v, want %v", name, f, err, errBroken)
			}
		}
	}
	if err := output.Write(&bytes.Buffer{}, report(), "xml", output.Style{}); err == nil {
		t.Error("a format that there is not: got no error")
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

package output_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/joshdk/go-junit"
	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/printable"
)

var (
	pod = output.Object{APIVersion: "v1", Kind: "Pod", Namespace: "team", Name: "web", File: "deploy/a b,c.yaml", Line: 7}
	ns  = output.Object{APIVersion: "v1", Kind: "Namespace", Name: "team", File: "/srv/ns.yaml", Line: 1}
	gen = output.Object{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "team", Name: "made"}

	owner = output.Constraint{Kind: "RequiredLabels", Name: "owner"}
)

const nasty = "100% wrong:\n  a,b <script>&\x1b[31m \u202e ::error::"

func report() output.Report {
	return output.Report{
		Version: "v1.2.3", Objects: []output.Object{ns, pod, gen}, Constraints: 3,
		Findings: []output.Finding{
			{Object: pod, Constraint: owner, Action: policy.Deny, Message: nasty, Details: map[string]any{"missing": []any{"owner"}}},
			{Object: pod, Constraint: output.Constraint{Kind: "Replicas", Name: "few"}, Action: policy.Warn, Message: "too many"},
			{Object: gen, Constraint: owner, Action: policy.Deny, Message: "Input: it failed", Fault: true},
			{Object: gen, Constraint: output.Constraint{Kind: "Replicas", Name: "trial"}, Action: policy.DryRun, Message: "many"},
		},
		Problems: []output.Problem{{File: "x.yaml", Line: 3, Err: errors.New("reading YAML: broken")}, {Err: errors.New("no place")}},
	}
}

func write(t *testing.T, r output.Result, f output.Format, s output.Style) string {
	t.Helper()
	var b bytes.Buffer
	if err := output.Write(&b, r, f, s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func length[T any](s iter.Seq[T]) int { return len(slices.Collect(s)) }

func TestTable(t *testing.T) {
	cases := map[string]struct {
		reason string
		format output.Format
		style  output.Style
		want   string
	}{
		"Table": {
			reason: "A line each, in which nothing of an object can talk to the terminal.",
			format: output.Table,
			want: "ACTION   CONSTRAINT             OBJECT                 AT                    MESSAGE\n" +
				"deny     RequiredLabels/owner   Pod team/web           deploy/a b,c.yaml:7   100% wrong: / a,b <script>&\\u001b[31m \\u202e ::error::\n" +
				"warn     Replicas/few           Pod team/web           deploy/a b,c.yaml:7   too many\n" +
				"fault    RequiredLabels/owner   Deployment team/made                         Input: it failed\n" +
				"dryrun   Replicas/trial         Deployment team/made                         many\n" +
				"3 violations in 3 objects judged by 3 constraints (1 deny, 1 warn, 1 dryrun); 1 verdict could not be had; incomplete: 2 problems\n",
		},
		"Color": {
			reason: "Colours take no room.",
			format: output.Table, style: output.Style{Color: true},
			want: "\x1b[31mdeny\x1b[0m     RequiredLabels/owner",
		},
		"Wide": {
			reason: "With versions and details.",
			format: output.Wide,
			want:   "deny     RequiredLabels/owner   v1           Pod team/web           deploy/a b,c.yaml:7   {\"missing\":[\"owner\"]}   100% wrong:",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := write(t, report(), c.format, c.style)
			if c.style.Color || c.format == output.Wide {
				if !strings.Contains(got, c.want) {
					t.Errorf("%s: got\n%s\nwant in it %q", c.reason, got, c.want)
				}
				return
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s\n(-want +got)\n%s", c.reason, diff)
			}
		})
	}
}

// TestEncoded checks that JSON and YAML say the same, and all of it.
func TestEncoded(t *testing.T) {
	for name, r := range map[string]output.Report{"Full": report(), "Empty": {}} {
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
			for list, want := range map[string]int{"violations": length(r.Violations()), "faults": length(r.Faults()), "problems": len(r.Problems)} {
				if got, ok := fromJSON[list].([]any); !ok || len(got) != want {
					t.Errorf("%s: got %v, want %d", list, fromJSON[list], want)
				}
			}
			if name == "Full" && fromJSON["violations"].([]any)[0].(map[string]any)["message"] != nasty {
				t.Errorf("the message has changed: %v", fromJSON["violations"])
			}
		})
	}
}

// TestSARIF validates against the schema, and looks for the places.
func TestSARIF(t *testing.T) {
	text := write(t, report(), output.SARIF, output.Style{})
	got, err := sarif.FromString(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Validate(); err != nil {
		t.Fatal(err)
	}
	if empty := write(t, output.Report{}, output.SARIF, output.Style{}); strings.Contains(empty, `"results": null`) {
		t.Error("no results must be an empty list: null means that nothing was looked for")
	}
	var lines []string
	for _, r := range got.Runs[0].Results {
		line := *r.RuleID + " " + r.Level
		for _, l := range r.Locations {
			line += " " + *l.LogicalLocations[0].FullyQualifiedName
			if p := l.PhysicalLocation; p != nil {
				line += " " + *p.ArtifactLocation.URI + " " + string(rune('0'+*p.Region.StartLine))
			}
		}
		lines = append(lines, line)
	}
	want := []string{
		"RequiredLabels/owner error v1 Pod team/web deploy/a%20b,c.yaml 7",
		"Replicas/few warning v1 Pod team/web deploy/a%20b,c.yaml 7",
		"Replicas/trial note apps/v1 Deployment team/made",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	invocation := got.Runs[0].Invocations[0]
	if *invocation.ExecutionSuccessful || len(invocation.ToolExecutionNotifications) != 3 {
		t.Errorf("got %d notifications and success %v, want 3 and no success", len(invocation.ToolExecutionNotifications), *invocation.ExecutionSuccessful)
	}
	if *got.Runs[0].Results[0].Message.Text != "Pod team/web: "+nasty {
		t.Errorf("the message has changed: %q", *got.Runs[0].Results[0].Message.Text)
	}
}

// TestJUnit reads the output with somebody else's parser.
func TestJUnit(t *testing.T) {
	suites, err := junit.Ingest([]byte(write(t, report(), output.JUnit, output.Style{})))
	if err != nil {
		t.Fatal(err)
	}
	if len(suites) != 1 {
		t.Fatalf("got %d suites, want 1", len(suites))
	}
	var lines []string
	for _, c := range suites[0].Tests {
		line := c.Classname + " | " + c.Name + " | " + string(c.Status)
		if c.Error != nil {
			line += " | " + c.Message
		}
		lines = append(lines, line)
	}
	want := []string{
		"/srv/ns.yaml | Namespace team | passed",
		"deploy/a b,c.yaml | Pod team/web | failed | [RequiredLabels/owner] 100% wrong:\n  a,b <script>&\uFFFD[31m \\u202e ::error::",
		"apps/v1 | Deployment team/made | error | [RequiredLabels/owner] Input: it failed",
		"problems | x.yaml:3 | error | reading YAML: broken",
		"problems | fusegate | error | no place",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if totals := suites[0].Totals; totals.Tests != 5 || totals.Failed != 1 || totals.Error != 3 || totals.Passed != 1 {
		t.Errorf("got totals %+v", totals)
	}
	if out := suites[0].Tests[1].SystemOut; out != "warn: [Replicas/few] too many" {
		t.Errorf("system-out: got %q", out)
	}
}

// workflowCommand is the shape of a command, as the runner takes it apart
// (actions/runner, src/Runner.Common/ActionCommand.cs).
var workflowCommand = regexp.MustCompile(`^::(\w+) ([^:]*)::(.*)$`)

func TestGitHub(t *testing.T) {
	unescape := strings.NewReplacer("%0D", "\r", "%0A", "\n", "%3A", ":", "%2C", ",", "%25", "%")
	var got []string
	r := report()
	r.Problems = append(r.Problems, output.Problem{File: "c:x.yaml", Err: errors.New("a drive")})
	for line := range strings.Lines(write(t, r, output.GitHub, output.Style{})) {
		m := workflowCommand.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			t.Fatalf("%q is no workflow command", line)
		}
		text := m[1]
		for property := range strings.SplitSeq(m[2], ",") {
			text += " | " + unescape.Replace(property)
		}
		got = append(got, text+" | "+unescape.Replace(m[3]))
	}
	want := []string{
		"error | file=deploy/a b,c.yaml | line=7 | title=RequiredLabels/owner | Pod team/web: " + printable.Text(nasty),
		"warning | file=deploy/a b,c.yaml | line=7 | title=Replicas/few | Pod team/web: too many",
		"error | title=RequiredLabels/owner | Deployment team/made could not be judged: Input: it failed",
		"notice | title=Replicas/trial | Deployment team/made: many",
		"error | file=x.yaml | line=3 | title=fusegate | reading YAML: broken",
		"error | title=fusegate | no place",
		"error | file=c:x.yaml | title=fusegate | a drive",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestVerdict(t *testing.T) {
	fault := output.Finding{Action: policy.Deny, Fault: true}
	cases := map[string]struct {
		reason           string
		report           output.Report
		denied, complete bool
	}{
		"Clean":   {"Nothing was found.", output.Report{}, false, true},
		"Warned":  {"A warning denies nothing.", output.Report{Findings: []output.Finding{{Action: policy.Warn}}}, false, true},
		"Denied":  {"A denial does.", output.Report{Findings: []output.Finding{{Action: policy.Warn}, {Action: policy.Deny}}}, true, true},
		"Fault":   {"A verdict that is missing is neither clean nor a denial.", output.Report{Findings: []output.Finding{fault}}, false, false},
		"Problem": {"What could not be read might have been worse.", output.Report{Problems: []output.Problem{{}}}, false, false},
	}
	for name, c := range cases {
		if c.report.Denied() != c.denied || c.report.Complete() != c.complete {
			t.Errorf("%s: %s got denied %v, complete %v", name, c.reason, c.report.Denied(), c.report.Complete())
		}
	}
	if only := report().DenyOnly(); len(only.Findings) != 2 || len(report().Findings) != 4 {
		t.Errorf("deny only: got %v", only.Findings)
	}
}

func TestParseFormat(t *testing.T) {
	if f, err := output.ParseFormat("", output.Formats()); f != output.Table || err != nil {
		t.Errorf("the default: got %q, %v", f, err)
	}
	if _, err := output.ParseFormat("xml", []output.Format{output.Table, output.JSON}); err == nil || !strings.Contains(err.Error(), "use one of table, json") {
		t.Errorf("got %v, want the formats named", err)
	}
}

package trial_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/manifest"
	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/trial"
)

// template is a ConstraintTemplate with the given body of its violation rule.
func template(kind, body string) string {
	return fmt.Sprintf(`apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: %s}
spec:
  crd: {spec: {names: {kind: %s}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package t

      violation[{"msg": msg}] {
        %s
      }
`, strings.ToLower(kind), kind, strings.ReplaceAll(body, "\n", "\n        "))
}

func constraint(kind, name, spec string) string {
	return fmt.Sprintf("apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: %s\nmetadata: {name: %s}\nspec: {%s}\n", kind, name, spec)
}

func object(apiVersion, kind, metadata string) string {
	return fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {%s}\n", apiVersion, kind, metadata)
}

// says is a policy that says what it sees of everything.
var says = template("Says", `r := input.review
msg := sprintf("%v %v/%v %v by %v, old %v", [r.kind.kind, object.get(r, "namespace", "-"), object.get(r, "name", "-"), r.operation, object.get(r.userInfo, "username", "nobody"), r.oldObject != null])`)

// transcript is a report, a line each.
func transcript(r output.Report, dir string) []string {
	var out []string
	for _, f := range r.Findings {
		word := string(f.Action)
		if f.Fault {
			word = "fault"
		}
		out = append(out, fmt.Sprintf("%s:%d %s %s: %s", f.Object.File, f.Object.Line, word, f.Constraint, f.Message))
	}
	for _, p := range r.Problems {
		out = append(out, "problem: "+p.Error())
	}
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], dir+"/", "")
	}
	return out
}

func TestRun(t *testing.T) {
	cases := map[string]struct {
		reason    string
		files     map[string]string
		namespace string
		want      []string
		notes     []string
	}{
		"Creation": {
			reason: "An object is judged as if it was about to be created, in the namespace that kubectl would put it into; policies are not judged.",
			files: map[string]string{
				"c.yaml": constraint("Says", "a", ""),
				"o.yaml": object("v1", "Pod", "name: p") + "---\n" + object("v1", "Namespace", "name: ns") + "---\n" + object("v1", "Node", "name: o") + "---\n" + object("apps/v1", "Deployment", "name: d, namespace: x"),
				"t.yaml": says,
			},
			want: []string{
				"o.yaml:1 deny Says/a: Pod default/p CREATE by nobody, old false",
				"o.yaml:5 deny Says/a: Namespace ns/ns CREATE by nobody, old false",
				"o.yaml:9 deny Says/a: Node -/o CREATE by nobody, old false",
				"o.yaml:13 deny Says/a: Deployment x/d CREATE by nobody, old false",
			},
		},
		"Namespace": {
			reason:    "Another namespace may be asked for; of kinds that nobody knows it cannot be said whether they have one.",
			namespace: "mine",
			files: map[string]string{
				"c.yaml": constraint("Says", "a", "match: {namespaces: [mine]}"), "t.yaml": says,
				"o.yaml": object("v1", "Pod", "name: p") + "---\n" + object("example.com/v1", "Known", "name: k") + "---\n" + object("example.com/v1", "Unknown", "name: u"),
				"x.yaml": object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "name: knowns.example.com") + "spec: {group: example.com, scope: Namespaced, names: {kind: Known}}\n",
			},
			want: []string{
				"o.yaml:1 deny Says/a: Pod mine/p CREATE by nobody, old false",
				"o.yaml:5 deny Says/a: Known mine/k CREATE by nobody, old false",
				"o.yaml:9 deny Says/a: Unknown -/u CREATE by nobody, old false",
				"x.yaml:1 deny Says/a: CustomResourceDefinition -/knowns.example.com CREATE by nobody, old false",
			},
		},
		"Requests": {
			reason: "An AdmissionReview is judged as the request in it; the deleted object is the object.",
			files: map[string]string{
				"c.yaml": constraint("Says", "a", `match: {kinds: [{apiGroups: [""], kinds: [Pod]}]}`), "t.yaml": says,
				"r.yaml": "apiVersion: admission.k8s.io/v1\nkind: AdmissionReview\nrequest:\n  uid: x\n  kind: {group: '', version: v1, kind: Pod}\n  name: p\n  namespace: ns\n  operation: DELETE\n  userInfo: {username: eve}\n  oldObject: {apiVersion: v1, kind: Pod, metadata: {name: p, namespace: ns}}\n",
				"s.yaml": "apiVersion: admission.k8s.io/v1\nkind: AdmissionReview\nrequest:\n  operation: DESTROY\n---\napiVersion: admission.k8s.io/v1\nkind: AdmissionReview\n---\napiVersion: admission.k8s.io/v1\nkind: AdmissionReview\nrequest: {operation: CREATE}\n",
			},
			want: []string{
				"r.yaml:1 deny Says/a: Pod ns/p DELETE by eve, old true",
				`problem: s.yaml:1: request.operation: is "DESTROY": use CREATE, UPDATE, DELETE or CONNECT`,
				"problem: s.yaml:6: request: is missing on this AdmissionReview: add it",
				"problem: s.yaml:9: request: has neither object nor oldObject: add the one that the operation has",
			},
		},
		"NamespaceSelector": {
			reason: "Namespaces that are given say which labels they have; one that is not given is not guessed.",
			files: map[string]string{
				"c.yaml": constraint("Says", "a", "match: {namespaceSelector: {matchLabels: {team: x}}}"), "t.yaml": says,
				"n.yaml": object("v1", "Namespace", "name: yes1, labels: {team: x}") + "---\n" + object("v1", "Namespace", "name: no1"),
				"o.yaml": object("v1", "Pod", "name: p, namespace: yes1") + "---\n" + object("v1", "Pod", "name: p, namespace: no1") + "---\n" + object("v1", "Pod", "name: p, namespace: gone"),
			},
			want: []string{
				"n.yaml:1 deny Says/a: Namespace yes1/yes1 CREATE by nobody, old false",
				"o.yaml:1 deny Says/a: Pod yes1/p CREATE by nobody, old false",
				`o.yaml:9 fault Says/a: Match: spec.match.namespaceSelector: namespace "gone" is not known, so its labels cannot be compared`,
			},
		},
		"Inventory": {
			reason: "Policies that look at other objects see all that were given.",
			files: map[string]string{
				"a.yaml": object("v1", "Service", "name: a, namespace: x") + "---\n" + object("v1", "Service", "name: b") + "---\n" + object("v1", "Node", "name: c"),
				"c.yaml": constraint("Counts", "a", `match: {kinds: [{apiGroups: [""], kinds: [Node]}]}`),
				"t.yaml": template("Counts", `names := [n | data.inventory.namespace[n].v1.Service[_]]
msg := sprintf("services in %v, nodes %v", [names, [n | data.inventory.cluster.v1.Node[n]]])`),
			},
			want: []string{`a.yaml:9 deny Counts/a: services in ["default", "x"], nodes ["c"]`},
		},
		"Actions": {
			reason: "The actions are those that the constraint has at this point.",
			files: map[string]string{
				"c.yaml": constraint("Says", "a", "enforcementAction: warn") + "---\n" + constraint("Says", "b", "enforcementAction: dryrun") + "---\n" +
					constraint("Says", "c", "enforcementAction: scoped, scopedEnforcementActions: [{action: deny, enforcementPoints: [{name: gator.gatekeeper.sh}]}, {action: warn, enforcementPoints: [{name: '*'}]}]") + "---\n" +
					constraint("Says", "d", "enforcementAction: scoped, scopedEnforcementActions: [{action: deny, enforcementPoints: [{name: audit.gatekeeper.sh}]}]"),
				"o.yaml": object("v1", "Node", "name: o"), "t.yaml": says,
			},
			want: []string{
				"o.yaml:1 dryrun Says/b: Node -/o CREATE by nobody, old false",
				"o.yaml:1 deny Says/c: Node -/o CREATE by nobody, old false",
				"o.yaml:1 warn Says/a: Node -/o CREATE by nobody, old false",
			},
		},
		"BrokenPolicies": {
			reason: "What is wrong with a policy is told by its place, and the others judge.",
			files: map[string]string{
				"1.yaml": "# a comment\n---\n" + template("Broken", "msg := undefined_function(1)"),
				"2.yaml": constraint("Broken", "a", "") + "---\n" + constraint("Absent", "a", "") + "---\n" + constraint("Says", "a", "") + "---\n" + constraint("Says", "b", "enforcementAction: dney"),
				"3.yaml": says + "---\n" + template("Unused", `msg := "x"`) + "---\n" + template("Says", `msg := "other"`) + "---\n" + constraint("Says", "a", "enforcementAction: warn") + "---\n" + constraint("Says", "a", ""),
				"4.yaml": object("v1", "Node", "name: o") + "---\nx: [\n",
			},
			want: []string{
				"4.yaml:1 deny Says/a: Node -/o CREATE by nobody, old false",
				"problem: 3.yaml:30: ConstraintTemplate says is given twice: it is also, and says something else, at 3.yaml:1; keep one",
				"problem: 3.yaml:44: Says a is given twice: it is also, and says something else, at 2.yaml:11; keep one",
				"problem: 1.yaml:14: ConstraintTemplate broken: rego:4:10: undefined function undefined_function",
				"problem: 2.yaml:6: Absent a: there is no ConstraintTemplate for the kind Absent: add it",
				"problem: 2.yaml:1: Broken a: it is not judged by: its template, at 1.yaml:3, is not valid",
				`problem: 2.yaml:16: Says b: invalid Constraint: spec.enforcementAction: "dney" is not supported: use one of deny, warn, dryrun, scoped`,
				"problem: 4.yaml:5: reading YAML: did not find expected node content",
			},
			notes: []string{
				"3.yaml:16: ConstraintTemplate unused has no constraint, so that it judges nothing",
				"3.yaml:30: ConstraintTemplate says is given twice: it is also at 3.yaml:1",
				"3.yaml:44: Says a is given twice: it is also at 2.yaml:11",
				"3.yaml:49: Says a is given twice: it is also at 2.yaml:11",
			},
		},
		"Nothing": {
			reason: "A run that judged nothing, or by nothing, is no clean one.",
			files:  map[string]string{"a.yaml": says},
			want: []string{
				"problem: no constraint was given, so that there is nothing to judge by: add the files of the ConstraintTemplates and constraints",
				"problem: no object was given besides templates and constraints, so that nothing was judged",
			},
			notes: []string{"a.yaml:1: ConstraintTemplate says has no constraint, so that it judges nothing"},
		},
		"TwoNamespaces": {
			reason: "Which of two namespaces is meant cannot be guessed.",
			files: map[string]string{
				"a.yaml": object("v1", "Namespace", "name: ns, labels: {a: b}") + "---\n" + object("v1", "Namespace", "name: ns"),
				"c.yaml": constraint("Says", "a", "match: {kinds: [{apiGroups: [''], kinds: [Pod]}]}"), "t.yaml": says,
			},
			want:  []string{"problem: a.yaml:5: Namespace ns is given twice: it is also, with other labels, at a.yaml:1; keep one"},
			notes: []string{"a.yaml:5: Namespace ns is given twice: it is also at a.yaml:1"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range c.files {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var notes []string
			note := func(p output.Problem) { notes = append(notes, strings.ReplaceAll(p.Error(), dir+"/", "")) }
			for _, workers := range []int{1, 4} {
				notes = nil
				got, err := run(t, trial.Options{Input: manifest.Options{Paths: []string{dir}, Note: note}, Namespace: c.namespace, Workers: workers})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.want, transcript(got, dir)); diff != "" {
					t.Errorf("%s\n(-want +got)\n%s", c.reason, diff)
				}
				if diff := cmp.Diff(c.notes, notes); diff != "" {
					t.Errorf("notes (-want +got)\n%s", diff)
				}
			}
		})
	}
}

// TestSources reads the same from standard input and from a kustomization.
func TestSources(t *testing.T) {
	text := says + "---\n" + constraint("Says", "a", "") + "---\n" + object("v1", "Pod", "name: p") + "---\n" + object("v1", "Namespace", "name: default")
	dir := t.TempDir()
	for name, content := range map[string]string{"all.yaml": text, "kustomization.yaml": "resources: [all.yaml]\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]bool{
		"deny Says/a: Pod default/p CREATE by nobody, old false":             true,
		"deny Says/a: Namespace default/default CREATE by nobody, old false": true,
	}
	for name, in := range map[string]manifest.Options{
		"File": {Paths: []string{filepath.Join(dir, "all.yaml")}}, "Kustomize": {Kustomize: []string{dir}},
		"Stdin": {Paths: []string{manifest.Stdin}, Stdin: strings.NewReader(text)},
	} {
		r, err := run(t, trial.Options{Input: in})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, line := range transcript(r, dir) {
			_, line, _ = strings.Cut(line, " ")
			got[line] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

// run prepares and judges in one go.
func run(t *testing.T, o trial.Options) (output.Report, error) {
	t.Helper()
	x, err := trial.Prepare(t.Context(), o)
	if err != nil {
		return output.Report{}, err
	}
	return x.Judge(t.Context())
}

// TestParity compares a trial's messages with those of the engine for the same
// request, object by object, by the library.
func TestParity(t *testing.T) {
	const library = "../../templates"
	x, err := trial.Prepare(t.Context(), trial.Options{Input: manifest.Options{Paths: []string{library}}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := x.Judge(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byPlace := map[string][]string{}
	for _, f := range got.Findings {
		at := fmt.Sprintf("%s:%d", f.Object.File, f.Object.Line)
		byPlace[at] = append(byPlace[at], f.Constraint.String()+": "+f.Message)
	}
	compared := 0
	for o, err := range manifest.Read(t.Context(), manifest.Options{Paths: []string{library}}) {
		if err != nil || strings.HasSuffix(o.GroupVersionKind().Group, "gatekeeper.sh") {
			continue
		}
		r, err := x.Review(o.Unstructured)
		if err != nil {
			t.Fatal(err)
		}
		r.Point = policy.PointWebhook
		var want []string
		result := x.Engine().Review(t.Context(), r)
		for _, v := range result.Violations {
			want = append(want, v.Constraint.String()+": "+v.Message)
		}
		for _, f := range result.Faults {
			want = append(want, fmt.Sprintf("%s: %s: %v", f.Constraint, f.Cause, f.Err))
		}
		compared += len(want)
		if r.Operation == policy.Create && cmp.Diff(want, byPlace[o.Place()]) != "" {
			t.Errorf("%s: (-engine +trial)\n%s", o.Place(), cmp.Diff(want, byPlace[o.Place()]))
		}
	}
	if compared < 1000 {
		t.Errorf("only %d messages were compared", compared)
	}
}

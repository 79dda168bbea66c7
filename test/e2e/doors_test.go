package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

const doorsTemplate = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: doors}
spec:
  crd:
    spec:
      names: {kind: Doors}
      validation:
        openAPIV3Schema:
          type: object
          properties:
            label: {type: string}
            most: {type: integer, default: 2}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package doors
      violation[{"msg": msg}] {
        not input.review.object.metadata.labels[input.parameters.label]
        msg := sprintf("%v: no label %q", [input.review.object.metadata.name, input.parameters.label])
      }
      violation[{"msg": msg, "details": {"keys": keys}}] {
        keys := {k | input.review.object.data[k]}
        count(keys) > input.parameters.most
        msg := sprintf("%d keys %v of %v at most", [count(keys), keys, input.parameters.most])
      }
      violation[{"msg": msg}] {
        value := input.review.object.data.odd
        msg := sprintf("odd: %v %v %v", [value, {"a": [1, 1000000, 2.5]}, input.review.kind])
      }
`

const doorsConstraints = `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: Doors
metadata: {name: doors}
spec:
  match: {kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [doors]}
  parameters: {label: owner}
`

// doorsObjects are bodies of ConfigMaps by name.
var doorsObjects = map[string]string{
	"clean":   "metadata: {name: clean, namespace: doors, labels: {owner: a}}",
	"bare":    "metadata: {name: bare, namespace: doors}",
	"several": "metadata: {name: several, namespace: doors}\ndata: {c: c, a: a, b: b}",
	"odd":     "metadata: {name: odd, namespace: doors, labels: {owner: a}}\ndata: {odd: \"\\u00fc \\\"quoted\\\" {brace} 100% [x]\"}",
	"all":     "metadata: {name: all, namespace: doors, labels: {other: a}}\ndata: {odd: x, a: a, b: b, c: \"1000000\"}",
	"outside": "metadata: {name: outside, namespace: default}",
}

// TestDoors puts the same objects before the same policy through every door,
// and wants the same messages of all.
func TestDoors(t *testing.T) {
	c := start(t)
	c.CreateNamespaces(t, "doors")
	c.Apply(t, doorsTemplate)
	c.AwaitTemplate(t, "doors")
	c.Apply(t, doorsConstraints)
	e := doorsEngine(t)
	dir := t.TempDir()
	place(t, dir, "template.yaml", doorsTemplate)
	place(t, dir, "constraint.yaml", doorsConstraints)
	c.AwaitCreate(t, doorsObject("bare"), fusegate.Denied+`[doors] bare: no label "owner"`)
	for _, name := range slices.Sorted(maps.Keys(doorsObjects)) {
		t.Run(name, func(t *testing.T) {
			object := doorsObject(name)
			want := policy.Decide(e.Review(t.Context(), doorsReview(t, object)))
			answer := ""
			if !want.Allowed {
				answer = fusegate.Denied + want.Message
			}
			if got := c.DryCreate(t, object); got != answer {
				t.Errorf("the webhook: got %q, want %q", got, answer)
			}
			lines := slices.DeleteFunc(strings.Split(want.Message, "\n"), func(l string) bool { return l == "" })
			if got := testedMessages(t, dir, object); !slices.Equal(got, lines) {
				t.Errorf("fusegate test: got %q, want %q", got, lines)
			}
			verifyMessages(t, dir, object, lines)
		})
	}
	c.Delete(t, "constrainttemplate/doors")
}

func doorsObject(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\n" + doorsObjects[name] + "\n"
}

func doorsEngine(t *testing.T) *engine.Engine {
	t.Helper()
	e, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := engine.ParseTemplate(decoded(t, doorsTemplate))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.AddTemplate(t.Context(), parsed); err != nil {
		t.Fatal(err)
	}
	if err := e.AddConstraint(t.Context(), decoded(t, doorsConstraints)); err != nil {
		t.Fatal(err)
	}
	return e
}

func decoded(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal(raw, &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

func doorsReview(t *testing.T, object string) *policy.Review {
	t.Helper()
	u := decoded(t, object)
	return &policy.Review{
		Kind: u.GroupVersionKind(), Name: u.GetName(), Namespace: u.GetNamespace(), Object: u.Object,
		Operation: policy.Create, Source: policy.SourceOriginal, Point: policy.PointWebhook,
	}
}

func place(t *testing.T, dir, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// testedMessages are the lines that fusegate test would deny an object with.
func testedMessages(t *testing.T, dir, object string) []string {
	t.Helper()
	stdout, stderr, _ := fusegate.Run(t, object, "test", filepath.Join(dir, "template.yaml"), filepath.Join(dir, "constraint.yaml"), "-", "-o", "json")
	var doc struct {
		Violations []struct {
			Constraint struct{ Name string }
			Message    string
		}
	}
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil {
		t.Fatalf("%v\n%s\n%s", err, stdout, stderr)
	}
	var out []string
	for _, v := range doc.Violations {
		out = append(out, "["+v.Constraint.Name+"] "+v.Message)
	}
	return out
}

// verifyMessages has fusegate verify find these messages, each once and to the
// letter, and no others.
func verifyMessages(t *testing.T, dir, object string, lines []string) {
	t.Helper()
	assertions := fmt.Sprintf("[{violations: %d}", len(lines))
	for _, l := range lines {
		whole, err := json.Marshal("^" + regexp.QuoteMeta(strings.TrimPrefix(l, "[doors] ")) + "$")
		if err != nil {
			t.Fatal(err)
		}
		assertions += fmt.Sprintf(", {violations: 1, message: %s}", whole)
	}
	place(t, dir, "object.yaml", object)
	place(t, dir, "suite.yaml", `apiVersion: test.gatekeeper.sh/v1alpha1
kind: Suite
tests:
- name: doors
  template: template.yaml
  constraint: constraint.yaml
  cases: [{name: object, object: object.yaml, assertions: `+assertions+"]}]\n")
	if stdout, stderr, code := fusegate.Run(t, "", "verify", filepath.Join(dir, "suite.yaml")); code != 0 {
		t.Errorf("fusegate verify: got %d\n%s\n%s", code, stdout, stderr)
	}
}

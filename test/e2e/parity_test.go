package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/test/env/fusegate"
)

// parityTemplate says what it sees of numbers, texts and types.
const parityTemplate = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: parityseen}
spec:
  crd: {spec: {names: {kind: ParitySeen}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package seen
      violation[{"msg": msg}] {
        o := input.review.object
        value := o.spec.ports[i].port
        msg := sprintf("%v %v/%v by %v: ports[%d] is %v of %v, twice %v", [input.review.operation, input.review.namespace, o.metadata.name, input.review.kind.kind, i, value, type_name(value), value * 2])
      }
      violation[{"msg": "two\nlines"}] { input.review.object.metadata.annotations.lines }
`

const parityConstraint = `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: ParitySeen
metadata: {name: seen}
spec: {match: {kinds: [{apiGroups: [''], kinds: [Service]}], namespaces: [parity]}}
`

// TestParity has the API server deny objects and wants the messages that
// fusegate test has for the same files.
func TestParity(t *testing.T) {
	c := start(t)
	policies := fusegate.LabelTemplate("ParityLabels", "missing") + "---" + parityTemplate
	constraints := fusegate.Constraint("ParityLabels", "owner", "deny", "owner", `{namespaces: [parity], kinds: [{apiGroups: [""], kinds: [ConfigMap, Service]}]}`) + "---" +
		fusegate.Constraint("ParityLabels", "team", "warn", "team", `{namespaceSelector: {matchLabels: {parity: gold}}}`) + "---" + parityConstraint
	namespace := "apiVersion: v1\nkind: Namespace\nmetadata: {name: parity, labels: {parity: gold}}\n"
	c.CreateAll(t, namespace)
	c.Apply(t, policies)
	for _, name := range []string{"paritylabels", "parityseen"} {
		c.AwaitTemplate(t, name)
	}
	c.Apply(t, constraints)
	for _, name := range []string{"paritylabels/owner", "paritylabels/team", "parityseen/seen"} {
		c.AwaitCondition(t, name, "True", "")
	}
	defer c.DeleteObjects(t, fusegate.Documents(t, policies)...)
	file := filepath.Join(t.TempDir(), "policies.yaml")
	if err := os.WriteFile(file, []byte(policies+"---"+constraints+"---\n"+namespace), 0o600); err != nil {
		t.Fatal(err)
	}

	for name, object := range map[string]string{
		"Bare":    fusegate.ConfigMap("parity", "bare"),
		"Clean":   fusegate.ConfigMap("parity", "clean", "owner: a", "team: b"),
		"Warned":  fusegate.ConfigMap("parity", "warned", "owner: a"),
		"Other":   fusegate.ConfigMap("default", "other"),
		"Ports":   fusegate.Object("v1", "Service", "parity", "ports", "spec: {ports: [{name: a, port: 80}, {name: b, port: 65535}]}"),
		"Message": "apiVersion: v1\nkind: Service\nmetadata: {name: lines, namespace: parity, labels: {owner: a}, annotations: {lines: 'yes'}}\nspec: {ports: [{port: 80}]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			answer := c.DryCreate(t, object)
			var want []string
			for line := range strings.Lines(strings.ReplaceAll(strings.TrimPrefix(answer, fusegate.Denied), fusegate.Denied, "")) {
				want = append(want, strings.TrimSpace(line))
			}
			stdout, stderr, _ := fusegate.Run(t, object, "test", file, "-", "-o", "json")
			if got := parityLines(t, stdout); cmp.Diff(want, got) != "" {
				t.Errorf("(-denied +tested)\n%s%s", cmp.Diff(want, got), stderr)
			}
		})
	}
}

// parityLines are the findings as kubectl would show them, the namespace that
// was given along aside: warnings, then denials.
func parityLines(t *testing.T, report string) []string {
	t.Helper()
	var d struct {
		Violations []struct {
			Object, Constraint struct{ Kind, Name string }
			Action, Message    string
		}
	}
	if err := json.Unmarshal([]byte(report), &d); err != nil {
		t.Fatal(err)
	}
	var warnings, denials []string
	for _, v := range d.Violations {
		line := "[" + v.Constraint.Name + "] " + v.Message
		switch {
		case v.Object.Kind == "Namespace":
		case v.Action == "warn":
			warnings = append(warnings, "Warning: "+line)
		default:
			denials = append(denials, strings.Split(line, "\n")...)
		}
	}
	return slices.Concat(warnings, denials)
}

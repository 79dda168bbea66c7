package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// offlinePolicies deny, and warn of, ConfigMaps without some labels.
const offlinePolicies = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: offlinelabels}
spec:
  crd: {spec: {names: {kind: OfflineLabels}, validation: {openAPIV3Schema: {type: object, properties: {label: {type: string}}}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package labels
      violation[{"msg": msg}] {
        not input.review.object.metadata.labels[input.parameters.label]
        msg := sprintf("missing label %v", [input.parameters.label])
      }
---
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: OfflineLabels
metadata: {name: owner}
spec: {enforcementAction: deny, parameters: {label: owner}}
---
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: OfflineLabels
metadata: {name: team}
spec: {enforcementAction: warn, parameters: {label: team}}
`

// configMap is one with labels, as YAML.
func configMap(labels string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: x, labels: {" + labels + "}}\n"
}

// TestOfflineExitCodes checks that violations and what could not be run are
// never mixed.
func TestOfflineExitCodes(t *testing.T) {
	policies := filepath.Join(t.TempDir(), "policies.yaml")
	if err := os.WriteFile(policies, []byte(offlinePolicies), 0o600); err != nil {
		t.Fatal(err)
	}
	bare, owned, all := configMap(""), configMap("owner: a"), configMap("owner: a, team: b")
	cases := map[string]struct {
		reason, stdin string
		args          []string
		code          int
		stdout        string
		stderr        string
	}{
		"Clean":     {"nothing found", all, []string{"-f", policies, "-f", "-"}, 0, "0 violations in 1 object judged by 2 constraints\n", ""},
		"Warned":    {"a warning is shown and fails nothing", owned, []string{policies, "-"}, 0, "missing label team", ""},
		"DenyOnly":  {"and may be left out", owned, []string{policies, "-", "--deny-only"}, 0, "0 violations", ""},
		"Denied":    {"a denial is 1", bare, []string{policies, "-"}, 1, "missing label owner", ""},
		"Broken":    {"what cannot be read is 2, whatever else was found", bare + "---\nx: [\n", []string{policies, "-"}, 2, "missing label owner", "stdin:5: reading YAML"},
		"Missing":   {"a file that is not there is 2", bare, []string{policies, "-", "gone.yaml"}, 2, "missing label owner", "gone.yaml: no such file or directory"},
		"Nothing":   {"nothing to judge is 2", "# nothing\n", []string{policies, "-"}, 2, "", "stdin: holds no Kubernetes object"},
		"BadFlag":   {"a wrong call is 2", "", []string{"--nonsense"}, 2, "", "unknown flag: --nonsense"},
		"BadFormat": {"and so is a wrong format", "", []string{policies, "-o", "xml"}, 2, "", `--output: "xml" is no format`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := fusegate(t, c.stdin, append([]string{"test"}, c.args...)...)
			if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) || strings.Contains(stdout, "\x1b") {
				t.Errorf("%s: got %d, want %d\n%s\n%s", c.reason, code, c.code, stdout, stderr)
			}
		})
	}
}

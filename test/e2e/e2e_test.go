package app

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/test/controlplane"
)

// labelTemplate is a template whose constraints want the label named by a
// parameter; word is part of what it says.
func labelTemplate(kind, word string) string {
	return fmt.Sprintf(`
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: %s}
spec:
  crd:
    spec:
      names: {kind: %s}
      validation:
        openAPIV3Schema:
          type: object
          properties: {label: {type: string}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package labels
      violation[{"msg": msg}] {
        not input.review.object.metadata.labels[input.parameters.label]
        msg := sprintf("%s label %%v", [input.parameters.label])
      }
`, strings.ToLower(kind), kind, word)
}

func constraint(kind, name, action, label, match string) string {
	return fmt.Sprintf(`
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: %s
metadata: {name: %s}
spec:
  enforcementAction: %s
  match: %s
  parameters: {label: %s}
`, kind, name, action, match, label)
}

func configMap(namespace, name string, labels ...string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: %s, labels: {%s}}\n",
		name, namespace, strings.Join(labels, ", "))
}

const denied = `Error from server (Forbidden): error when creating "STDIN": admission webhook "validation.fusegate.dev" denied the request: `

// awaitTemplate returns once constraints of a template can be created.
func (c *testCluster) awaitTemplate(t *testing.T, name string) {
	t.Helper()
	c.must(t, "", "wait", "--for=condition=Ready", "constrainttemplate/"+name, "--timeout="+patience.String())
}

func TestLifecycle(t *testing.T) {
	c := start(t)
	c.must(t, "", "create", "namespace", "life")
	const match = `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [life]}`
	c.must(t, labelTemplate("LifeLabels", "missing"), "apply", "-f", "-")
	c.awaitTemplate(t, "lifelabels")
	for name, action := range map[string]string{"owner": "deny", "area": "deny", "team": "warn", "color": "dryrun"} {
		c.must(t, constraint("LifeLabels", "must-have-"+name, action, name, match), "apply", "-f", "-")
	}

	t.Run("exact texts", func(t *testing.T) {
		c.awaitCreate(t, configMap("life", "bare"), "Warning: [must-have-team] missing label team\n"+
			denied+"[must-have-area] missing label area\n[must-have-owner] missing label owner")
		c.awaitCreate(t, configMap("life", "some", "owner: a", "area: b"), "Warning: [must-have-team] missing label team")
		c.awaitCreate(t, configMap("life", "all", "owner: a", "area: b", "team: c"), "")
		c.awaitCreate(t, configMap("default", "elsewhere"), "")
	})
	t.Run("changed template", func(t *testing.T) {
		c.must(t, labelTemplate("LifeLabels", "lacking"), "apply", "-f", "-")
		c.awaitCreate(t, configMap("life", "bare", "area: b", "team: c"), denied+"[must-have-owner] lacking label owner")
	})
	t.Run("update and delete", func(t *testing.T) {
		c.must(t, configMap("life", "kept", "owner: a", "area: b", "team: c"), "create", "-f", "-")
		_, stderr, ok := c.kubectl(t, controlplane.Admin, "", "label", "-n", "life", "configmap", "kept", "owner-")
		if ok || !strings.Contains(stderr, "[must-have-owner] lacking label owner") {
			t.Errorf("taking the label away: got %q, want a denial", stderr)
		}
		c.must(t, "", "delete", "-n", "life", "configmap", "kept")
	})
	t.Run("restart", func(t *testing.T) {
		if err := c.manager.end(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if got := c.dryCreate(t, configMap("life", "bare", "area: b", "team: c")); got != "" {
			t.Errorf("with the manager dead: got %q, want the object admitted", got)
		}
		c.manager = c.run(t, "reborn", c.port)
		c.manager.awaitReady(t)
		// Ready means ingested: no waiting here.
		want := denied + "[must-have-owner] lacking label owner"
		if got := c.dryCreate(t, configMap("life", "bare", "area: b", "team: c")); got != want {
			t.Errorf("when the manager is ready again: got %q, want %q", got, want)
		}
	})
	t.Run("deleted template", func(t *testing.T) {
		c.must(t, "", "delete", "constrainttemplate", "lifelabels")
		await(t, "the CRD to go", func() error {
			if _, stderr, _ := c.kubectl(t, controlplane.Admin, "", "get", "crd", "lifelabels.constraints.gatekeeper.sh"); !strings.Contains(stderr, "NotFound") {
				return fmt.Errorf("got %q", stderr)
			}
			return nil
		})
		c.awaitCreate(t, configMap("life", "bare"), "")
		c.must(t, configMap("life", "bare"), "create", "-f", "-")
	})
}

func TestValidation(t *testing.T) {
	c := start(t)
	c.must(t, labelTemplate("CheckLabels", "missing"), "apply", "-f", "-")
	c.awaitTemplate(t, "checklabels")
	for name, tc := range map[string]struct{ reason, object, want string }{
		"rego": {
			reason: "a template that does not compile is refused with the line",
			object: strings.Replace(labelTemplate("BadRego", "missing"), "input.parameters.label]", "input.parameters.label", 1),
			want:   "rego:4:3: rego_parse_error",
		},
		"kind": {
			reason: "a template's name is its kind in lower case",
			object: strings.Replace(labelTemplate("BadName", "missing"), "name: badname", "name: other", 1),
			want:   "lowercase",
		},
		"action": {
			reason: "an action that nothing acts on is refused",
			object: constraint("CheckLabels", "bad", "dney", "x", "{}"),
			want:   `spec.enforcementAction: "dney" is not supported: use one of deny, warn, dryrun, scoped`,
		},
		"name": {
			reason: "names are as long as a label's value at most",
			object: constraint("CheckLabels", strings.Repeat("n", 64), "deny", "x", "{}"),
			want:   "63",
		},
	} {
		t.Run(name, func(t *testing.T) {
			await(t, "a refusal: "+tc.reason, func() error {
				got := c.dryCreate(t, tc.object)
				if !strings.Contains(got, tc.want) {
					return fmt.Errorf("got %q, want it to contain %q", got, tc.want)
				}
				return nil
			})
		})
	}
}

// TestBrokenTemplate applies what the webhook would have refused while it is
// away.
func TestBrokenTemplate(t *testing.T) {
	c := start(t)
	if err := c.manager.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(labelTemplate("Broken", "missing"), "not input", "not inputt", 1)
	c.must(t, broken, "apply", "-f", "-")
	c.manager = c.run(t, "mender", c.port)
	c.manager.awaitReady(t) // a recorded error must not keep it from being ready
	await(t, "the error in status", func() error {
		status := c.status(t, "constrainttemplate/broken")
		for _, e := range status.ByPod {
			if e.ID != "mender" {
				continue
			}
			want := []podError{{Code: "rego_unsafe_var_error", Message: "var inputt is unsafe", Location: "rego:3:3"}}
			if diff := cmp.Diff(want, e.Errors); diff != "" {
				return fmt.Errorf("errors (-want +got):\n%s", diff)
			}
			return status.condition("Ready", "False", "CompileError")
		}
		return fmt.Errorf("no entry in %+v", status)
	})
	c.must(t, strings.Replace(broken, "inputt", "input", 1), "apply", "-f", "-")
	c.awaitTemplate(t, "broken")
	c.must(t, "", "delete", "constrainttemplate", "broken")
}

// TestFaults breaks a policy by the object that it judges.
func TestFaults(t *testing.T) {
	c := start(t)
	c.must(t, "", "create", "namespace", "faulty")
	template := strings.Replace(labelTemplate("Fragile", "missing"), "      violation[", `      x = 1 { input.review.object.data.a }
      x = 2 { input.review.object.data.b }
      violation[{"msg": "x"}] { x == 3 }
      violation[`, 1)
	c.must(t, template, "apply", "-f", "-")
	c.awaitTemplate(t, "fragile")
	const match = "{kinds: [{apiGroups: [\"\"], kinds: [ConfigMap]}], namespaces: [faulty]}"
	c.must(t, constraint("Fragile", "fragile", "deny", "owner", match), "apply", "-f", "-")
	c.must(t, constraint("Fragile", "lenient", "deny", "area", match)+"\n", "apply", "-f", "-")
	c.must(t, "", "annotate", "fragile", "lenient", "fusegate.dev/on-fault=allow")
	broken := configMap("faulty", "bare", "owner: a") + "data: {a: xyzzy, b: xyzzy}\n"
	await(t, "the object that breaks the policy to be denied", func() error {
		got := c.dryCreate(t, broken)
		if !strings.Contains(got, "[fragile] the policy failed on this object: ") || !strings.Contains(got, "Warning: [lenient] not judged, the policy failed on this object: ") {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
	await(t, "the fault in the constraint's status", func() error {
		text := c.must(t, "", "get", "fragile", "fragile", "-o", "jsonpath={.status.byPod[*].faults}")
		for _, want := range []string{`"cause":"Input"`, `"kind":"ConfigMap"`, `"namespace":"faulty"`, `"name":"bare"`, `"user":"admin"`, "eval_conflict_error"} {
			if !strings.Contains(text, want) {
				return fmt.Errorf("got %q, want %s", text, want)
			}
		}
		if strings.Contains(text, "xyzzy") {
			t.Errorf("the status quotes the object: %s", text)
		}
		return nil
	})
	c.must(t, "", "delete", "constrainttemplate", "fragile")
}

// objectStatus is the part of a template's or constraint's status that
// Fusegate promises.
type objectStatus struct {
	Created bool `json:"created"`
	ByPod   []struct {
		ID                 string     `json:"id"`
		ObservedGeneration int64      `json:"observedGeneration"`
		Enforced           bool       `json:"enforced"`
		Errors             []podError `json:"errors"`
	} `json:"byPod"`
	Conditions []struct {
		Type, Status, Reason, Message string
	} `json:"conditions"`
}

type podError struct{ Code, Message, Location string }

func (s objectStatus) condition(kind, status, reason string) error {
	for _, c := range s.Conditions {
		if c.Type == kind && c.Status == status && c.Reason == reason {
			return nil
		}
	}
	return fmt.Errorf("conditions %+v: want %s=%s because of %s", s.Conditions, kind, status, reason)
}

func (s objectStatus) pods() []string {
	var out []string
	for _, e := range s.ByPod {
		out = append(out, e.ID)
	}
	slices.Sort(out)
	return out
}

func (c *testCluster) status(t *testing.T, object string) objectStatus {
	t.Helper()
	stdout, stderr, ok := c.kubectl(t, controlplane.Admin, "", "get", object, "-o", "json")
	if !ok {
		t.Logf("reading %s: %s", object, stderr)
		return objectStatus{}
	}
	var doc struct {
		Status objectStatus `json:"status"`
	}
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Status
}

func TestTwoManagers(t *testing.T) {
	c := start(t)
	first := c.manager.name
	c.must(t, labelTemplate("PairLabels", "missing"), "apply", "-f", "-")
	c.awaitTemplate(t, "pairlabels")
	c.must(t, constraint("PairLabels", "pair", "deny", "pair", `{namespaces: [nowhere]}`), "apply", "-f", "-")
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	second := c.run(t, "second", port)
	second.awaitReady(t)

	objects := []string{"constrainttemplate/pairlabels", "pairlabels/pair"}
	entries := func(want ...string) {
		t.Helper()
		slices.Sort(want)
		for _, object := range objects {
			await(t, fmt.Sprintf("the entries of %s", object), func() error {
				status := c.status(t, object)
				if diff := cmp.Diff(want, status.pods()); diff != "" {
					return fmt.Errorf("pods (-want +got):\n%s", diff)
				}
				for _, e := range status.ByPod {
					if len(e.Errors) > 0 || e.Enforced != (object == "pairlabels/pair") {
						return fmt.Errorf("entry %+v", e)
					}
				}
				return nil
			})
		}
	}
	entries(first, "second")

	// The first is the leader; its successor has to clear up after it.
	if err := c.manager.end(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	entries("second")

	c.manager = c.run(t, "third", c.port)
	c.manager.awaitReady(t)
	entries("second", "third")
	if err := second.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	entries("third")
	c.must(t, "", "delete", "constrainttemplate", "pairlabels")
}

package e2e_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// TestLifecycle takes a policy through its life by kubectl.
func TestLifecycle(t *testing.T) {
	c := start(t)
	c.Must(t, "", "create", "namespace", "life")
	const match = `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [life]}`
	c.Must(t, fusegate.LabelTemplate("LifeLabels", "missing"), "apply", "-f", "-")
	c.AwaitTemplate(t, "lifelabels")
	for name, action := range map[string]string{"owner": "deny", "area": "deny", "team": "warn", "color": "dryrun"} {
		c.Must(t, fusegate.Constraint("LifeLabels", "must-have-"+name, action, name, match), "apply", "-f", "-")
	}

	t.Run("exact texts", func(t *testing.T) {
		c.AwaitCreate(t, fusegate.ConfigMap("life", "bare"), "Warning: [must-have-team] missing label team\n"+
			fusegate.Denied+"[must-have-area] missing label area\n[must-have-owner] missing label owner")
		c.AwaitCreate(t, fusegate.ConfigMap("life", "some", "owner: a", "area: b"), "Warning: [must-have-team] missing label team")
		c.AwaitCreate(t, fusegate.ConfigMap("life", "all", "owner: a", "area: b", "team: c"), "")
		c.AwaitCreate(t, fusegate.ConfigMap("default", "elsewhere"), "")
	})
	t.Run("changed template", func(t *testing.T) {
		c.Must(t, fusegate.LabelTemplate("LifeLabels", "lacking"), "apply", "-f", "-")
		c.AwaitCreate(t, fusegate.ConfigMap("life", "bare", "area: b", "team: c"), fusegate.Denied+"[must-have-owner] lacking label owner")
	})
	t.Run("update and delete", func(t *testing.T) {
		c.Must(t, fusegate.ConfigMap("life", "kept", "owner: a", "area: b", "team: c"), "create", "-f", "-")
		_, stderr, ok := c.Kubectl(t, controlplane.Admin, "", "label", "-n", "life", "configmap", "kept", "owner-")
		if ok || !strings.Contains(stderr, "[must-have-owner] lacking label owner") {
			t.Errorf("taking the label away: got %q, want a denial", stderr)
		}
		c.Must(t, "", "delete", "-n", "life", "configmap", "kept")
	})
	t.Run("restart", func(t *testing.T) {
		if err := c.Manager.End(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if got := c.DryCreate(t, fusegate.ConfigMap("life", "bare", "area: b", "team: c")); got != "" {
			t.Errorf("with the manager dead: got %q, want the object admitted", got)
		}
		c.Manager = c.Run(t, "reborn", c.Port)
		c.Manager.AwaitReady(t)
		// Ready means ingested: no waiting here.
		want := fusegate.Denied + "[must-have-owner] lacking label owner"
		if got := c.DryCreate(t, fusegate.ConfigMap("life", "bare", "area: b", "team: c")); got != want {
			t.Errorf("when the manager is ready again: got %q, want %q", got, want)
		}
	})
	t.Run("deleted template", func(t *testing.T) {
		c.Must(t, "", "delete", "constrainttemplate", "lifelabels")
		env.Await(t, "the CRD to go", func() error {
			crd := env.Object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "lifelabels.constraints.gatekeeper.sh")
			if err := c.Client(t).Get(t.Context(), client.ObjectKeyFromObject(crd), crd); !apierrors.IsNotFound(err) {
				return fmt.Errorf("got %q", fmt.Sprint(err))
			}
			return nil
		})
		c.AwaitCreate(t, fusegate.ConfigMap("life", "bare"), "")
		c.Must(t, fusegate.ConfigMap("life", "bare"), "create", "-f", "-")
	})
}

func TestValidation(t *testing.T) {
	c := start(t)
	c.Apply(t, fusegate.LabelTemplate("CheckLabels", "missing"))
	c.AwaitTemplate(t, "checklabels")
	for name, tc := range map[string]struct{ reason, object, want string }{
		"rego": {
			reason: "a template that does not compile is refused with the line",
			object: strings.Replace(fusegate.LabelTemplate("BadRego", "missing"), "input.parameters.label]", "input.parameters.label", 1),
			want:   "rego:4:3: rego_parse_error",
		},
		"kind": {
			reason: "a template's name is its kind in lower case",
			object: strings.Replace(fusegate.LabelTemplate("BadName", "missing"), "name: badname", "name: other", 1),
			want:   "lowercase",
		},
		"action": {
			reason: "an action that nothing acts on is refused",
			object: fusegate.Constraint("CheckLabels", "bad", "dney", "x", "{}"),
			want:   `spec.enforcementAction: "dney" is not supported: use one of deny, warn, dryrun, scoped`,
		},
		"name": {
			reason: "names are as long as a label's value at most",
			object: fusegate.Constraint("CheckLabels", strings.Repeat("n", 64), "deny", "x", "{}"),
			want:   "63",
		},
	} {
		t.Run(name, func(t *testing.T) {
			env.Await(t, "a refusal: "+tc.reason, func() error {
				got := c.DryCreate(t, tc.object)
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
	if err := c.Manager.End(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(fusegate.LabelTemplate("Broken", "missing"), "not input", "not inputt", 1)
	c.Apply(t, broken)
	c.Manager = c.Run(t, "mender", c.Port)
	c.Manager.AwaitReady(t) // a recorded error must not keep it from being ready
	c.Await(t, "constrainttemplate/broken", "the error in status", func(u *unstructured.Unstructured) error {
		status := fusegate.StatusOf(t, u)
		for _, e := range status.ByPod {
			if e.ID != "mender" {
				continue
			}
			want := []fusegate.PodError{{Code: "rego_unsafe_var_error", Message: "var inputt is unsafe", Location: "rego:3:3"}}
			if diff := cmp.Diff(want, e.Errors); diff != "" {
				return fmt.Errorf("errors (-want +got):\n%s", diff)
			}
			return status.Condition("Ready", "False", "CompileError")
		}
		return fmt.Errorf("no entry in %+v", status)
	})
	c.Apply(t, strings.Replace(broken, "inputt", "input", 1))
	c.AwaitTemplate(t, "broken")
	c.Delete(t, "constrainttemplate/broken")
}

// TestFaults breaks a policy by the object that it judges.
func TestFaults(t *testing.T) {
	c := start(t)
	c.CreateNamespaces(t, "faulty")
	template := strings.Replace(fusegate.LabelTemplate("Fragile", "missing"), "      violation[", `      x = 1 { input.review.object.data.a }
      x = 2 { input.review.object.data.b }
      violation[{"msg": "x"}] { x == 3 }
      violation[`, 1)
	c.Apply(t, template)
	c.AwaitTemplate(t, "fragile")
	const match = "{kinds: [{apiGroups: [\"\"], kinds: [ConfigMap]}], namespaces: [faulty]}"
	c.Apply(t, fusegate.Constraint("Fragile", "fragile", "deny", "owner", match))
	c.Apply(t, strings.Replace(fusegate.Constraint("Fragile", "lenient", "deny", "area", match), "name: lenient", "name: lenient, annotations: {fusegate.dev/on-fault: allow}", 1))
	broken := fusegate.ConfigMap("faulty", "bare", "owner: a") + "data: {a: xyzzy, b: xyzzy}\n"
	env.Await(t, "the object that breaks the policy to be denied", func() error {
		got := c.DryCreate(t, broken)
		if !strings.Contains(got, "[fragile] the policy failed on this object: ") || !strings.Contains(got, "Warning: [lenient] not judged, the policy failed on this object: ") {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
	c.Await(t, "fragile/fragile", "the fault in the constraint's status", func(u *unstructured.Unstructured) error {
		entries, _, _ := unstructured.NestedSlice(u.Object, "status", "byPod")
		data, err := json.Marshal(entries)
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		for _, want := range []string{`"cause":"Input"`, `"operation":"CREATE"`, "eval_conflict_error"} {
			if !strings.Contains(text, want) {
				return fmt.Errorf("got %q, want %s", text, want)
			}
		}
		for _, kept := range []string{"xyzzy", "faulty", `"bare"`, "admin"} {
			if strings.Contains(text, kept) {
				t.Errorf("the status says %s, which anybody could forge: %s", kept, text)
			}
		}
		return nil
	})
	c.Manager.AwaitLog(t, "constraint not judged", `"resource_namespace": "faulty"`, `"resource_name": "bare"`, `"request_username": "admin"`)
	c.Delete(t, "constrainttemplate/fragile")
}

func TestTwoManagers(t *testing.T) {
	c := start(t)
	first := c.Manager.Name
	c.Apply(t, fusegate.LabelTemplate("PairLabels", "missing"))
	c.AwaitTemplate(t, "pairlabels")
	c.Apply(t, fusegate.Constraint("PairLabels", "pair", "deny", "pair", `{namespaces: [nowhere]}`))
	port := env.FreePort(t)
	second := c.Run(t, "second", port)
	second.AwaitReady(t)

	objects := []string{"constrainttemplate/pairlabels", "pairlabels/pair"}
	entries := func(want ...string) {
		t.Helper()
		slices.Sort(want)
		for _, object := range objects {
			c.Await(t, object, fmt.Sprintf("the entries of %s", object), func(u *unstructured.Unstructured) error {
				status := fusegate.StatusOf(t, u)
				if diff := cmp.Diff(want, status.Pods()); diff != "" {
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
	if err := c.Manager.End(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	entries("second")

	c.Manager = c.Run(t, "third", c.Port)
	c.Manager.AwaitReady(t)
	entries("second", "third")
	if err := second.End(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	entries("third")
	c.Delete(t, "constrainttemplate/pairlabels")
}

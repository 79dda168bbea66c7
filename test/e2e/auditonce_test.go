package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

const referentialTemplate = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata:
  name: onceunique
  annotations:
    metadata.gatekeeper.sh/requires-sync-data: '"[[{"groups": [""], "versions": ["v1"], "kinds": ["Service"]}]]"'
spec:
  crd: {spec: {names: {kind: OnceUnique}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package unique
      violation[{"msg": msg}] {
        o := input.review.object
        other := data.inventory.namespace[ns]["v1"].Service[name]
        [ns, name] != [o.metadata.namespace, o.metadata.name]
        other.spec.externalName == o.spec.externalName
        msg := sprintf("the same as %v/%v", [ns, name])
      }
`

const requesterTemplate = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: oncerequester}
spec:
  crd: {spec: {names: {kind: OnceRequester}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package requester
      violation[{"msg": "eve"}] { input.review.userInfo.username == "eve" }
`

func onceServices(kind, name string) string {
	return fmt.Sprintf("\napiVersion: constraints.gatekeeper.sh/v1beta1\nkind: %s\nmetadata: {name: %s}\nspec: {match: {kinds: [{apiGroups: [''], kinds: [Service]}], namespaces: [once-*]}}\n", kind, name)
}

// auditOnce runs the audit of policies that are not applied, as admin or with
// other flags, and returns it in lines.
func (c *testCluster) auditOnce(t *testing.T, policies string, args ...string) (lines []string, stderr string, code int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policies.yaml")
	if err := os.WriteFile(file, []byte(policies), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"audit", "--kubeconfig", c.CP.Kubeconfig(controlplane.Admin), "-o", "json", "-f", file}, args...)
	stdout, stderr, code := fusegate.Run(t, "", args...)
	type violation struct{ Kind, Namespace, Name, Message string }
	var d struct {
		Constraints []struct{ Violations, ExemptViolations []violation }
		Report      struct {
			Gaps         []struct{ Kind, Reason string }
			NotAuditable []struct{ Constraint string }
		}
	}
	if err := json.Unmarshal([]byte(stdout), &d); err != nil {
		return nil, stderr, code
	}
	for _, o := range d.Constraints {
		for _, v := range o.Violations {
			lines = append(lines, v.Kind+" "+v.Namespace+"/"+v.Name+": "+v.Message)
		}
		for _, v := range o.ExemptViolations {
			lines = append(lines, "exempt "+v.Kind+" "+v.Namespace+"/"+v.Name+": "+v.Message)
		}
	}
	for _, g := range d.Report.Gaps {
		lines = append(lines, "gap "+g.Kind+" "+g.Reason)
	}
	for _, n := range d.Report.NotAuditable {
		lines = append(lines, "not auditable "+n.Constraint)
	}
	slices.Sort(lines)
	return lines, stderr, code
}

// TestAuditOnce audits from outside, by policies that are not applied.
func TestAuditOnce(t *testing.T) {
	c := start(t)
	for _, ns := range []string{"once-a", "once-b"} {
		c.CreateNamespaces(t, ns)
		c.CreateAll(t, "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: "+ns+"}\nspec: {type: ExternalName, externalName: example.com}\n")
	}
	c.CreateAll(t, fusegate.ConfigMap("once-a", "bare")+"---\n"+fusegate.ConfigMap("once-a", "owned", "owner: x")+"---\n"+fusegate.ConfigMap("kube-public", "once", "once: yy"))
	defer c.DeleteObjects(t, env.Object("v1", "ConfigMap", "kube-public", "once")) // others count what is there
	c.CreateAll(t, "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: once}\nrules:\n- apiGroups: ['']\n  resources: [namespaces, services]\n  verbs: [list, watch]\n")
	c.CreateAll(t, fusegate.Object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "", "once",
		"roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: once}\nsubjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: once}]"))

	labels := fusegate.LabelTemplate("OnceLabels", "missing")
	maps := fusegate.Constraint("OnceLabels", "owner", "deny", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [once-*], name: bare}`)
	exempt := fusegate.Constraint("OnceLabels", "exempt", "deny", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], labelSelector: {matchLabels: {once: yy}}}`)
	unique := referentialTemplate + "---" + onceServices("OnceUnique", "hosts")
	requester := requesterTemplate + "---" + onceServices("OnceRequester", "eve")
	same := []string{"Service once-a/s: the same as once-b/s", "Service once-b/s: the same as once-a/s"}

	cases := map[string]struct {
		reason, policies string
		args             []string
		want             []string
		code             int
		stderr           string
	}{
		"Violated":   {"what exists is judged", labels + "---" + maps, nil, []string{"ConfigMap once-a/bare: missing label owner"}, 1, ""},
		"Clean":      {"exempt objects are listed, and fail nothing", labels + "---" + exempt, nil, []string{"exempt ConfigMap kube-public/once: missing label owner"}, 0, ""},
		"Inventory":  {"policies see what they look at", unique, nil, same, 1, ""},
		"Gap":        {"a kind that may not be listed is a gap, whatever else was found", labels + "---" + maps + "---" + unique, []string{"--as", "once"}, append(slices.Clone(same), "gap ConfigMap NotListed"), 2, ""},
		"NotAudited": {"a policy that asks who wrote it cannot be audited", requester, nil, []string{"not auditable OnceRequester/eve"}, 2, ""},
		"Accepted":   {"unless that is known", requester, []string{"--accept-not-auditable"}, []string{"not auditable OnceRequester/eve"}, 0, ""},
		"NoTemplate": {"a constraint without a template cannot be judged by", maps, nil, nil, 2, "policies.yaml:2: OnceLabels owner: there is no ConstraintTemplate"},
		"NoRights":   {"who may not even list namespaces learns nothing", labels + "---" + maps, []string{"--as", "nobody"}, nil, 2, "forbidden"},
		"NoCluster":  {"no cluster is no clean one", labels + "---" + maps, []string{"--server", "https://127.0.0.1:1"}, nil, 2, "127.0.0.1:1"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, stderr, code := c.auditOnce(t, tc.policies, tc.args...)
			if diff := cmp.Diff(tc.want, got); diff != "" || code != tc.code || !strings.Contains(stderr, tc.stderr) {
				t.Errorf("%s: exit code %d, want %d (-want +got):\n%s%s", tc.reason, code, tc.code, diff, stderr)
			}
		})
	}

	t.Run("Applied", func(t *testing.T) {
		c.Apply(t, labels)
		c.AwaitTemplate(t, "oncelabels")
		c.Apply(t, maps)
		stdout, stderr, _ := fusegate.Run(t, "", "audit", "--kubeconfig", c.CP.Kubeconfig(controlplane.Admin))
		if !strings.Contains(stdout, "ConfigMap once-a/bare") || !strings.Contains(stdout, "OnceLabels/owner") {
			t.Errorf("what is applied is not judged by:\n%s\n%s", stdout, stderr)
		}
		for _, format := range []string{"junit", "sarif", "github"} {
			stdout, stderr, code := fusegate.Run(t, "", "audit", "--kubeconfig", c.CP.Kubeconfig(controlplane.Admin), "--constraint", "OnceLabels/owner", "-o", format)
			if code != 1 || !strings.Contains(stdout, "OnceLabels/owner") || !strings.Contains(stdout, "missing label owner") {
				t.Errorf("as %s: exit code %d, want 1 and the violation:\n%s\n%s", format, code, stdout, stderr)
			}
		}
		c.Delete(t, "constrainttemplate/oncelabels")
	})
}

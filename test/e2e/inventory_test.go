package e2e_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

func ingress(namespace, name, host string) string {
	return fmt.Sprintf(`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: %s, namespace: %s}
spec: {rules: [{host: %s}]}
`, name, namespace, host)
}

// awaitFound waits until audit has found just these violations.
func (c *testCluster) awaitFound(t *testing.T, constraint string, want ...string) {
	t.Helper()
	env.Await(t, "the audit of "+constraint, func() error {
		got := c.auditStatus(t, constraint)
		if diff := cmp.Diff(want, got.Violations); diff != "" || int(got.Total) != len(want) {
			return fmt.Errorf("got a total of %d, (-want +got):\n%s", got.Total, diff)
		}
		return nil
	})
}

// TestReferential takes a policy that compares objects of different namespaces
// through admission and audit.
func TestReferential(t *testing.T) {
	c := start(t)
	c.Must(t, "", "create", "namespace", "ref-a")
	c.Must(t, "", "create", "namespace", "ref-b")
	text, err := os.ReadFile("../../templates/uniqueingresshost/template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c.Must(t, string(text), "apply", "-f", "-")
	t.Cleanup(func() {
		_, _, _ = c.CP.Kubectl(context.WithoutCancel(t.Context()), controlplane.Admin, "", "delete", "constrainttemplate", "uniqueingresshost", "--wait=false")
	})
	c.AwaitTemplate(t, "uniqueingresshost")
	c.Must(t, ingress("ref-a", "one", "a.example.com"), "create", "-f", "-")
	c.Must(t, ingress("ref-b", "two", "a.example.com"), "create", "-f", "-")
	c.Must(t, `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: UniqueIngressHost
metadata: {name: unique}
spec: {match: {kinds: [{apiGroups: [networking.k8s.io], kinds: [Ingress]}], namespaces: ["ref-*"]}}
`, "apply", "-f", "-")
	const claimed = `host "a.example.com", path / is already claimed by Ingress `
	c.AwaitCreate(t, ingress("ref-b", "three", "a.example.com"),
		strings.TrimSpace(fusegate.Denied+"[unique] "+claimed+"ref-a/one\n[unique] "+claimed+"ref-b/two"))
	c.Must(t, "", "wait", "--for=condition=Enforced", "uniqueingresshost/unique", "--timeout=60s")
	c.awaitFound(t, "uniqueingresshost/unique",
		"Ingress ref-a/one: "+claimed+"ref-b/two (deny)", "Ingress ref-b/two: "+claimed+"ref-a/one (deny)")
	if got := c.Must(t, "", "get", "constrainttemplate", "uniqueingresshost", "-o", "jsonpath={.status.byPod[*].inventory.complete}"); got != "true" {
		t.Errorf("the template says that its data is complete: %q, want true", got)
	}
	c.Must(t, "", "delete", "-n", "ref-a", "ingress", "one")
	c.awaitFound(t, "uniqueingresshost/unique")
	if got := c.DryCreate(t, ingress("ref-b", "three", "b.example.com")); got != "" {
		t.Errorf("another host: got %q, want it created", got)
	}
}

// counting is a template that denies ConfigMaps as long as there is an object of
// a kind that it needs.
func counting(name, group, kind string) string {
	return fmt.Sprintf(`
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata:
  name: %[1]s
  annotations:
    metadata.gatekeeper.sh/requires-sync-data: '"[[{"groups": ["%[2]s"], "versions": ["v1"], "kinds": ["%[3]s"]}]]"'
spec:
  crd: {spec: {names: {kind: %[1]s}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package counting
      violation[{"msg": "there is one"}] { data.inventory.cluster[_].%[3]s[_] }
      violation[{"msg": "there is one"}] { data.inventory.namespace[_][_].%[3]s[_] }
`, name, group, kind)
}

// referential takes policies that read objects through what a cluster lets
// Fusegate's accounts read: Kubernetes' own kinds, Secrets by no means, and
// custom kinds once a role says so.
func (c *testCluster) referential(t *testing.T) {
	t.Helper()
	for name, kind := range map[string][2]string{"needservices": {"", "Service"}, "needsecrets": {"", "Secret"}, "needgadgets": {"test.fusegate.dev", "Gadget"}} {
		c.Must(t, counting(name, kind[0], kind[1]), "apply", "-f", "-")
		c.AwaitTemplate(t, name)
		c.Must(t, fmt.Sprintf("{apiVersion: constraints.gatekeeper.sh/v1beta1, kind: %[1]s, metadata: {name: %[1]s}, spec: {match: {kinds: [{apiGroups: [''], kinds: [ConfigMap]}], namespaces: [ref-*]}}}", name), "apply", "-f", "-")
	}
	c.Must(t, "", "create", "namespace", "ref-x")
	c.awaitRoots(t, "ref-x")
	c.AwaitCondition(t, "needservices/needservices", "True", "CanaryAnswered")
	if got := c.AwaitCondition(t, "needsecrets/needsecrets", "False", "InventoryIncomplete"); !strings.Contains(got, "inventorySecrets") {
		t.Errorf("the constraint on Secrets says %q, want the setting", got)
	}
	if got := c.AwaitCondition(t, "needgadgets/needgadgets", "False", "InventoryIncomplete"); !strings.Contains(got, "does not serve") {
		t.Errorf("the constraint on Gadgets says %q, want that there are none", got)
	}
	c.awaitAudit(t, "needgadgets/needgadgets", auditStatus{Total: -1, Audited: "False InventoryIncomplete"})
	c.awaitFound(t, "needservices/needservices", "ConfigMap ref-x/kube-root-ca.crt: there is one (deny)")
	if got := c.DryCreate(t, fusegate.ConfigMap("ref-x", "one")); !strings.Contains(got, "Warning: [needgadgets] not judged, the policy is not enforced: ") ||
		!strings.HasSuffix(got, "[needservices] there is one") {
		t.Errorf("got %q, want a warning of one policy and the denial of another", got)
	}
	c.Must(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: gadgets, labels: {fusegate.dev/aggregate-to-inventory: "true"}}
rules: [{apiGroups: [test.fusegate.dev], resources: [gadgets], verbs: [get, list, watch]}]
`, "apply", "-f", "-")
	env.Await(t, "the role to be put together", func() error {
		if got := c.Must(t, "", "get", "clusterrole", "fusegate-inventory", "-o", "jsonpath={.rules[*].resources}"); !strings.Contains(got, "gadgets") {
			return fmt.Errorf("got %s", got)
		}
		return nil
	})
	c.Must(t, `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.test.fusegate.dev}
spec:
  group: test.fusegate.dev
  scope: Cluster
  names: {kind: Gadget, plural: gadgets}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
`, "apply", "-f", "-")
	c.AwaitCondition(t, "needgadgets/needgadgets", "True", "CanaryAnswered")
	c.awaitAudit(t, "needgadgets/needgadgets", auditStatus{Audited: auditKnown})
	env.Await(t, "a Gadget", func() error {
		if _, stderr, ok := c.Kubectl(t, controlplane.Admin, `{apiVersion: test.fusegate.dev/v1, kind: Gadget, metadata: {name: g}}`, "apply", "-f", "-"); !ok {
			return fmt.Errorf("got %s", stderr)
		}
		return nil
	})
	c.awaitFound(t, "needgadgets/needgadgets", "ConfigMap ref-x/kube-root-ca.crt: there is one (deny)")
	for _, name := range []string{"needservices", "needsecrets", "needgadgets"} {
		c.Must(t, "", "delete", "constrainttemplate", name)
	}
}

package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

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
	c.Await(t, constraint, "the audit of "+constraint, func(u *unstructured.Unstructured) error {
		got := auditStatusOf(u)
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
	c.CreateNamespaces(t, "ref-a")
	c.CreateNamespaces(t, "ref-b")
	text, err := os.ReadFile("../../templates/uniqueingresshost/template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c.Apply(t, string(text))
	c.DropTemplates(t, "uniqueingresshost")
	c.AwaitTemplate(t, "uniqueingresshost")
	c.CreateAll(t, ingress("ref-a", "one", "a.example.com"))
	c.CreateAll(t, ingress("ref-b", "two", "a.example.com"))
	c.Apply(t, `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: UniqueIngressHost
metadata: {name: unique}
spec: {match: {kinds: [{apiGroups: [networking.k8s.io], kinds: [Ingress]}], namespaces: ["ref-*"]}}
`)
	const claimed = `host "a.example.com", path / is already claimed by Ingress `
	c.AwaitCreate(t, ingress("ref-b", "three", "a.example.com"),
		strings.TrimSpace(fusegate.Denied+"[unique] "+claimed+"ref-a/one\n[unique] "+claimed+"ref-b/two"))
	c.AwaitCondition(t, "uniqueingresshost/unique", "True", "")
	c.awaitFound(t, "uniqueingresshost/unique",
		"Ingress ref-a/one: "+claimed+"ref-b/two (deny)", "Ingress ref-b/two: "+claimed+"ref-a/one (deny)")
	entries, _, _ := unstructured.NestedSlice(c.Get(t, "constrainttemplate/uniqueingresshost").Object, "status", "byPod")
	if len(entries) != 1 {
		t.Fatalf("the template has entries of %d processes, want one", len(entries))
	}
	if complete, _, _ := unstructured.NestedBool(entries[0].(map[string]any), "inventory", "complete"); !complete {
		t.Errorf("the template does not say that its data is complete: %v", entries[0])
	}
	c.DeleteObjects(t, env.Parse(t, ingress("ref-a", "one", "a.example.com")))
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
		c.Apply(t, counting(name, kind[0], kind[1]))
		c.AwaitTemplate(t, name)
		c.Apply(t, fmt.Sprintf("{apiVersion: constraints.gatekeeper.sh/v1beta1, kind: %[1]s, metadata: {name: %[1]s}, spec: {match: {kinds: [{apiGroups: [''], kinds: [ConfigMap]}], namespaces: [ref-*]}}}", name))
	}
	c.CreateNamespaces(t, "ref-x")
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
	c.Apply(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: gadgets, labels: {fusegate.dev/aggregate-to-inventory: "true"}}
rules: [{apiGroups: [test.fusegate.dev], resources: [gadgets], verbs: [get, list, watch]}]
`)
	env.AwaitObject(t, c.Client(t), env.Object("rbac.authorization.k8s.io/v1", "ClusterRole", "", "fusegate-inventory"), "the role to be put together", func(u *unstructured.Unstructured) error {
		if got := fmt.Sprint(u.Object["rules"]); !strings.Contains(got, "gadgets") {
			return fmt.Errorf("got %s", got)
		}
		return nil
	})
	c.Apply(t, `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.test.fusegate.dev}
spec:
  group: test.fusegate.dev
  scope: Cluster
  names: {kind: Gadget, plural: gadgets}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
`)
	c.AwaitCondition(t, "needgadgets/needgadgets", "True", "CanaryAnswered")
	c.awaitAudit(t, "needgadgets/needgadgets", auditStatus{Audited: auditKnown})
	c.Apply(t, `{apiVersion: test.fusegate.dev/v1, kind: Gadget, metadata: {name: g}}`)
	c.awaitFound(t, "needgadgets/needgadgets", "ConfigMap ref-x/kube-root-ca.crt: there is one (deny)")
	c.Delete(t, "constrainttemplate/needservices", "constrainttemplate/needsecrets", "constrainttemplate/needgadgets")
}

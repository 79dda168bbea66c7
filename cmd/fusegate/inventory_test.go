package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/controlplane"
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
	await(t, "the audit of "+constraint, func() error {
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
	c.must(t, "", "create", "namespace", "ref-a")
	c.must(t, "", "create", "namespace", "ref-b")
	text, err := os.ReadFile("../../templates/uniqueingresshost/template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c.must(t, string(text), "apply", "-f", "-")
	t.Cleanup(func() {
		_, _, _ = c.cp.Kubectl(context.WithoutCancel(t.Context()), controlplane.Admin, "", "delete", "constrainttemplate", "uniqueingresshost", "--wait=false")
	})
	c.awaitTemplate(t, "uniqueingresshost")
	c.must(t, ingress("ref-a", "one", "a.example.com"), "create", "-f", "-")
	c.must(t, ingress("ref-b", "two", "a.example.com"), "create", "-f", "-")
	c.must(t, `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: UniqueIngressHost
metadata: {name: unique}
spec: {match: {kinds: [{apiGroups: [networking.k8s.io], kinds: [Ingress]}], namespaces: ["ref-*"]}}
`, "apply", "-f", "-")
	const claimed = `host "a.example.com", path / is already claimed by Ingress `
	c.awaitCreate(t, ingress("ref-b", "three", "a.example.com"),
		strings.TrimSpace(denied+"[unique] "+claimed+"ref-a/one\n[unique] "+claimed+"ref-b/two"))
	c.must(t, "", "wait", "--for=condition=Enforced", "uniqueingresshost/unique", "--timeout=60s")
	c.awaitFound(t, "uniqueingresshost/unique",
		"Ingress ref-a/one: "+claimed+"ref-b/two (deny)", "Ingress ref-b/two: "+claimed+"ref-a/one (deny)")
	if got := c.must(t, "", "get", "constrainttemplate", "uniqueingresshost", "-o", "jsonpath={.status.byPod[*].inventory.complete}"); got != "true" {
		t.Errorf("the template says that its data is complete: %q, want true", got)
	}
	c.must(t, "", "delete", "-n", "ref-a", "ingress", "one")
	c.awaitFound(t, "uniqueingresshost/unique")
	if got := c.dryCreate(t, ingress("ref-b", "three", "b.example.com")); got != "" {
		t.Errorf("another host: got %q, want it created", got)
	}
}

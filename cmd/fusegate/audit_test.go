package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// within is how soon a change must show in the status of constraints.
const within = 5 * time.Second

// auditStatus is the status of a constraint as audit writes it.
type auditStatus struct {
	Total      int64
	Violations []string
	Exempt     int64
	Listed     []string
	Audited    string
}

func (c *testCluster) auditStatus(t *testing.T, constraint string) auditStatus {
	t.Helper()
	u := unstructured.Unstructured{}
	if err := u.UnmarshalJSON([]byte(c.must(t, "", "get", constraint, "-o", "json"))); err != nil {
		t.Fatal(err)
	}
	out := auditStatus{Total: -1}
	if n, found, _ := unstructured.NestedInt64(u.Object, "status", "totalViolations"); found {
		out.Total = n
	}
	list := func(path ...string) (lines []string) {
		items, _, _ := unstructured.NestedSlice(u.Object, path...)
		for _, item := range items {
			v, _ := item.(map[string]any)
			lines = append(lines, fmt.Sprintf("%v %v/%v: %v (%v)", v["kind"], v["namespace"], v["name"], v["message"], v["enforcementAction"]))
		}
		return lines
	}
	out.Violations = list("status", "violations")
	out.Exempt, _, _ = unstructured.NestedInt64(u.Object, "status", "exemptViolations", "total")
	out.Listed = list("status", "exemptViolations", "list")
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, item := range conditions {
		if m, _ := item.(map[string]any); m["type"] == "Audited" {
			out.Audited = fmt.Sprintf("%v %v", m["status"], m["reason"])
		}
	}
	return out
}

func (c *testCluster) awaitAudit(t *testing.T, constraint string, want auditStatus) {
	t.Helper()
	await(t, "the audit of "+constraint, func() error {
		if diff := cmp.Diff(want, c.auditStatus(t, constraint)); diff != "" {
			return fmt.Errorf("(-want +got):\n%s", diff)
		}
		return nil
	})
}

// TestAudit follows a constraint's status through the life of objects and
// constraints.
func TestAudit(t *testing.T) {
	c := start(t)
	for _, ns := range []string{"audited", "audited-too"} {
		c.must(t, "", "create", "namespace", ns)
	}
	c.must(t, configMap("audited", "bare"), "create", "-f", "-")
	c.must(t, configMap("audited", "owned", "owner: me"), "create", "-f", "-")
	c.must(t, configMap("kube-system", "audited-exempt", "audit: me"), "create", "-f", "-")
	c.must(t, labelTemplate("AuditLabels", "missing"), "apply", "-f", "-")
	c.awaitTemplate(t, "auditlabels")
	match := `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [audited, kube-system], excludedNamespaces: ["kube-node*"], name: "*e*"}`
	_ = match
	one := func(action, label, match string) string {
		return constraint("AuditLabels", "owners", action, label, match)
	}
	kinds := `kinds: [{apiGroups: [""], kinds: [ConfigMap]}]`
	c.must(t, one("dryrun", "owner", "{"+kinds+", namespaces: [audited, audited-too]}"), "apply", "-f", "-")
	line := func(ns, name, label, action string) string {
		return fmt.Sprintf("ConfigMap %s/%s: missing label %s (%s)", ns, name, label, action)
	}
	// The API servers put kube-root-ca.crt into each namespace.
	roots := func(label, action string) []string {
		return []string{line("audited", "kube-root-ca.crt", label, action), line("audited-too", "kube-root-ca.crt", label, action)}
	}
	const known = "True Complete"
	t.Run("what exists", func(t *testing.T) {
		r := roots("owner", "dryrun")
		c.awaitAudit(t, "auditlabels/owners", auditStatus{Total: 3, Audited: known, Violations: []string{line("audited", "bare", "owner", "dryrun"), r[0], r[1]}})
	})
}

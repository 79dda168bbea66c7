package e2e_test

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

const keptMatch = `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [audit-kept], name: "k-*"}`

// keptStatus is the status of the constraint "kept" with these ConfigMaps.
func keptStatus(audited string, names ...string) auditStatus {
	out := auditStatus{Total: int64(len(names)), Audited: audited}
	for _, name := range names {
		out.Violations = append(out.Violations, fmt.Sprintf("ConfigMap audit-kept/%s: missing label owner (dryrun)", name))
	}
	return out
}

// awaitReport waits until the report is Complete, or has just these gaps.
func (c *testCluster) awaitReport(t *testing.T, what string, gaps ...string) {
	t.Helper()
	c.Await(t, "ar/cluster", what, func(u *unstructured.Unstructured) error {
		list, _, _ := unstructured.NestedSlice(u.Object, "status", "gaps")
		var got []string
		for _, item := range list {
			g, _ := item.(map[string]any)
			got = append(got, fmt.Sprintf("%v %v", g["constraint"], g["reason"]))
		}
		incomplete := fusegate.StatusOf(t, u).Condition("Complete", "True", "")
		if strings.Join(got, ", ") != strings.Join(gaps, ", ") || (incomplete == nil) != (len(gaps) == 0) {
			return fmt.Errorf("gaps %q, %w", got, cmp.Or(incomplete, errors.New("Complete")))
		}
		return nil
	})
}

// TestAuditKept: what was found by a constraint that is not in force any more is
// kept, also by another leader, and never taken to be all there is. A status that
// cannot be written keeps nothing else from being told.
func TestAuditKept(t *testing.T) {
	c := start(t)
	c.CreateNamespaces(t, "audit-kept")
	c.CreateAll(t, fusegate.ConfigMap("audit-kept", "k-1"))
	c.Apply(t, fusegate.LabelTemplate("AuditKept", "missing"))
	c.AwaitTemplate(t, "auditkept")
	c.DropTemplates(t, "auditkept")
	apply := func(name, action string) {
		t.Helper()
		c.Apply(t, fusegate.Constraint("AuditKept", name, action, "owner", keptMatch))
	}
	apply("kept", "dryrun")
	c.awaitAudit(t, "auditkept/kept", keptStatus(auditKnown, "k-1"))
	leader := c.Split(t)("kept-leader")
	if err := c.Manager.End(syscall.SIGKILL); err != nil { // which would refuse what follows
		t.Fatal(err)
	}
	c.awaitReport(t, "a report without gaps")

	apply("new", "bogus")
	const absent = "False NotInForce"
	c.awaitAudit(t, "auditkept/new", auditStatus{Total: -1, Audited: absent})
	c.awaitReport(t, "a gap", "AuditKept/new NotInForce")
	apply("kept", "bogus")
	c.awaitAudit(t, "auditkept/kept", keptStatus(absent, "k-1"))
	c.CreateAll(t, fusegate.ConfigMap("audit-kept", "k-2"))
	c.awaitAudit(t, "auditkept/kept", keptStatus(absent, "k-1", "k-2"))
	apply("kept", "dryrun")
	c.Delete(t, "auditkept/new")
	c.awaitAudit(t, "auditkept/kept", keptStatus(auditKnown, "k-1", "k-2"))
	c.awaitReport(t, "no gap")

	t.Run("a status that cannot be written", func(t *testing.T) { c.unwritten(t, apply) })
	c.Apply(t, fusegate.LabelTemplate("AuditKept", `bad"`))
	c.awaitAudit(t, "auditkept/kept", keptStatus(absent, "k-1", "k-2"))
	if err := leader.End(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.Manager = c.Run(t, "kept-together", c.Port)
	c.Manager.AwaitReady(t)
	c.Await(t, "auditkept/kept", "another leader to say why", func(u *unstructured.Unstructured) error {
		if text := fmt.Sprint(u.Object["status"]); !strings.Contains(text, "judged by as it is: not enforced: ConstraintTemplate") {
			return fmt.Errorf("got %s", text)
		}
		return nil
	})
	c.awaitAudit(t, "auditkept/kept", keptStatus(absent, "k-1", "k-2"))
	c.awaitReport(t, "another leader's gap", "AuditKept/kept NotInForce")
	c.AwaitCondition(t, "auditkept/kept", "False", "Rejected")
	c.Apply(t, fusegate.LabelTemplate("AuditKept", "missing"))
	c.awaitAudit(t, "auditkept/kept", keptStatus(auditKnown, "k-1", "k-2"))
	c.awaitReport(t, "nothing amiss")
}

// unwritten has the API server refuse the status of one constraint.
func (c *testCluster) unwritten(t *testing.T, apply func(name, action string)) {
	const policy = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: audit-kept}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [constraints.gatekeeper.sh], apiVersions: ["*"], operations: [UPDATE], resources: [auditkept/status]}]
  validations: [{expression: object.metadata.name != "a-stuck"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: audit-kept}
spec: {policyName: audit-kept, validationActions: [Deny]}
`
	c.Apply(t, policy)
	apply("a-stuck", "dryrun")
	env.Await(t, "the status to be refused", func() error {
		err := c.Patch(t, controlplane.Admin, "/apis/constraints.gatekeeper.sh/v1beta1/auditkept/a-stuck/status?dryRun=All", `{"status":{"probe":"x"}}`)
		if err == nil || !strings.Contains(err.Error(), "audit-kept") {
			return fmt.Errorf("got %q", fmt.Sprint(err))
		}
		return nil
	})
	c.CreateAll(t, fusegate.ConfigMap("audit-kept", "k-3"))
	c.awaitAudit(t, "auditkept/kept", keptStatus(auditKnown, "k-1", "k-2", "k-3"))
	c.awaitReport(t, "a gap for what cannot be written", "AuditKept/a-stuck NotWritten")
	c.DeleteObjects(t, fusegate.Documents(t, policy)...)
	c.awaitAudit(t, "auditkept/a-stuck", keptStatus(auditKnown, "k-1", "k-2", "k-3"))
	c.Delete(t, "auditkept/a-stuck")
	c.DeleteObjects(t, env.Object("v1", "ConfigMap", "audit-kept", "k-3"))
	c.awaitAudit(t, "auditkept/kept", keptStatus(auditKnown, "k-1", "k-2"))
	c.awaitReport(t, "no gap any more")
}

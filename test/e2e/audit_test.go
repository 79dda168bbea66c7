package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// within is how soon a change must show in the status of constraints.
const within = 5 * time.Second

const auditKnown = "True Complete"

// auditStatus is the status of a constraint as audit writes it.
type auditStatus struct {
	Total      int64
	Violations []string
	Exempt     int64
	Listed     []string
	Audited    string
}

// awaitReportIs waits until a condition of the report is true.
func (c *testCluster) awaitReportIs(t *testing.T, condition string) {
	t.Helper()
	c.Await(t, "ar/cluster", "the report to be "+condition, func(u *unstructured.Unstructured) error {
		return fusegate.StatusOf(t, u).Condition(condition, "True", "")
	})
}

// auditStatusOf reads the status of a constraint.
func auditStatusOf(u *unstructured.Unstructured) auditStatus {
	out := auditStatus{Total: -1, Violations: auditLines(u, "status", "violations"), Listed: auditLines(u, "status", "exemptViolations", "list")}
	if n, found, _ := unstructured.NestedInt64(u.Object, "status", "totalViolations"); found {
		out.Total = n
	}
	out.Exempt, _, _ = unstructured.NestedInt64(u.Object, "status", "exemptViolations", "total")
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, item := range conditions {
		if m, _ := item.(map[string]any); m["type"] == "Audited" {
			out.Audited = fmt.Sprintf("%v %v", m["status"], m["reason"])
		}
	}
	return out
}

func auditLines(u *unstructured.Unstructured, path ...string) (lines []string) {
	items, _, _ := unstructured.NestedSlice(u.Object, path...)
	for _, item := range items {
		v, _ := item.(map[string]any)
		lines = append(lines, fmt.Sprintf("%v %v/%v: %v (%v)", v["kind"], v["namespace"], v["name"], v["message"], v["enforcementAction"]))
	}
	return lines
}

func (c *testCluster) awaitAudit(t *testing.T, constraint string, want auditStatus) {
	t.Helper()
	c.Await(t, constraint, "the audit of "+constraint, func(u *unstructured.Unstructured) error {
		if diff := cmp.Diff(want, auditStatusOf(u)); diff != "" {
			return fmt.Errorf("(-want +got):\n%s", diff)
		}
		return nil
	})
}

// TestAudit follows the status of constraints through the life of objects, of
// constraints and of Fusegate itself.
func TestAudit(t *testing.T) {
	c := start(t)
	c.CreateNamespaces(t, "audited")
	c.CreateAll(t, fusegate.ConfigMap("audited", "bare"))
	c.CreateAll(t, fusegate.ConfigMap("audited", "owned", "owner: me"))
	c.Apply(t, fusegate.LabelTemplate("AuditLabels", "missing"))
	c.AwaitTemplate(t, "auditlabels")
	c.DropTemplates(t, "auditlabels")
	const match = `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], labelSelector: {matchExpressions: [{key: kind, operator: DoesNotExist}]}, name: "*e*", namespaces: [audited, kube-public]}`
	// The controller manager puts kube-root-ca.crt into every namespace.
	c.awaitRoots(t, "audited", "kube-public")
	apply := func(action, label string) {
		c.Apply(t, fusegate.Constraint("AuditLabels", "owners", action, label, match))
	}
	line := func(name, label, action string) string {
		return fmt.Sprintf("ConfigMap audited/%s: missing label %s (%s)", name, label, action)
	}
	expect := func(label, action string, names ...string) {
		t.Helper()
		want := auditStatus{Total: int64(len(names)), Audited: auditKnown, Exempt: 1,
			Listed: []string{fmt.Sprintf("ConfigMap kube-public/kube-root-ca.crt: missing label %s (%s)", label, action)}}
		for _, name := range names {
			want.Violations = append(want.Violations, line(name, label, action))
		}
		c.awaitAudit(t, "auditlabels/owners", want)
	}
	label := func(name, labels string) {
		t.Helper()
		if err := c.Patch(t, controlplane.Admin, "/api/v1/namespaces/audited/configmaps/"+name, `{"metadata": {"labels": `+labels+`}}`); err != nil {
			t.Fatal(err)
		}
	}
	label("kube-root-ca.crt", `{"owner": "x", "area": "x"}`)

	apply("dryrun", "owner")
	expect("owner", "dryrun", "bare")
	apply("deny", "area")
	expect("area", "deny", "bare", "owned")
	label("owned", `{"area": "a"}`)
	expect("area", "deny", "bare")
	c.DeleteObjects(t, env.Object("v1", "ConfigMap", "audited", "bare"))
	expect("area", "deny")

	t.Run("over half of a budget", c.costly)
	t.Run("written while the webhook is away", func(t *testing.T) { c.whileAway(t, expect) })
	t.Run("the leader dies in the middle of a pass", c.takeover)
	t.Run("events", func(t *testing.T) {
		env.Await(t, "an Event about violations", func() error {
			var events eventsv1.EventList
			if err := c.Client(t).List(t.Context(), &events); err != nil {
				return err
			}
			for _, e := range events.Items {
				if e.Reason == "Violated" && e.Regarding.Kind == "AuditLabels" && e.Regarding.Name == "owners" {
					return nil
				}
			}
			return fmt.Errorf("there is none among %d", len(events.Items))
		})
	})
	t.Run("the report", func(t *testing.T) {
		c.awaitReportIs(t, "Complete")
		c.awaitReportIs(t, "Current")
		uid, _, _ := unstructured.NestedString(c.Get(t, "ar/cluster").Object, "status", "clusterUID")
		var ns corev1.Namespace
		if err := c.Client(t).Get(t.Context(), client.ObjectKey{Name: "kube-system"}, &ns); err != nil || uid != string(ns.UID) {
			t.Errorf("got cluster UID %q, want %q, %v", uid, ns.UID, err)
		}
	})
}

// costly follows an object on which a policy uses over half of its budget.
func (c *testCluster) costly(t *testing.T) {
	c.Apply(t, `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: auditcosts}
spec:
  crd: {spec: {names: {kind: AuditCosts}, validation: {openAPIV3Schema: {type: object, properties: {label: {type: integer}}}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package costs
      violation[{"msg": "never"}] { count(numbers.range(1, input.parameters.label)) == 7 } # a million is what is granted
`)
	c.AwaitTemplate(t, "auditcosts")
	c.DropTemplates(t, "auditcosts")
	expect := func(what string, want any) {
		t.Helper()
		c.Await(t, "auditcosts/costs", what, func(u *unstructured.Unstructured) error {
			got, _, _ := unstructured.NestedFieldNoCopy(u.Object, "status", "costlyObjects")
			if diff := cmp.Diff(want, got); diff != "" || auditStatusOf(u).Audited != auditKnown {
				return fmt.Errorf("%s (-want +got):\n%s", auditStatusOf(u).Audited, diff)
			}
			return nil
		})
	}
	costs := func(percent int64) any {
		return map[string]any{"total": int64(1), "list": []any{
			map[string]any{"group": "", "version": "v1", "kind": "ConfigMap", "namespace": "audited", "name": "owned", "percent": percent},
		}}
	}
	apply := func(elements string) {
		c.Apply(t, fusegate.Constraint("AuditCosts", "costs", "dryrun", elements, `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [audited], name: owned}`))
	}
	apply("800000")
	expect("what it costs", costs(77))
	apply("600000")
	expect("what it costs as it has become", costs(58))
	apply("400000")
	expect("that it does not any more", nil)
}

func (c *testCluster) awaitRoots(t *testing.T, namespaces ...string) {
	t.Helper()
	for _, ns := range namespaces {
		env.AwaitObject(t, c.Client(t), env.Object("v1", "ConfigMap", ns, "kube-root-ca.crt"), "kube-root-ca.crt in "+ns,
			func(*unstructured.Unstructured) error { return nil })
	}
}

// whileAway writes what the webhook would have denied while it does not
// answer, and has the leader die after that.
func (c *testCluster) whileAway(t *testing.T, expect func(string, string, ...string)) {
	lead := c.Split(t)
	leader := lead("leader")
	c.AwaitCondition(t, "auditlabels/owners", "True", "")
	if got := c.DryCreate(t, fusegate.ConfigMap("audited", "let-in-free")); !strings.Contains(got, "missing label area") {
		t.Fatalf("with the webhook there: got %q, want a denial", got)
	}
	if err := c.Manager.End(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.CreateAll(t, fusegate.ConfigMap("audited", "let-in-free"))
	began := time.Now()
	expect("area", "deny", "let-in-free")
	if took := time.Since(began); took > within {
		t.Errorf("it was found after %v, want %v", took, within)
	}

	before := c.Get(t, "auditlabels/owners")
	if err := leader.End(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	leader = lead("next-leader")
	c.CreateAll(t, fusegate.ConfigMap("audited", "other-free", "kind: other"))
	c.CreateAll(t, fusegate.ConfigMap("audited", "more-free"))
	c.Await(t, "auditlabels/owners", "the new leader", func(u *unstructured.Unstructured) error {
		now := auditStatusOf(u)
		if now.Total < 1 || int(now.Total) != len(now.Violations) {
			t.Fatalf("with a new leader: got %+v in between", now)
		}
		if now.Total != 2 {
			return fmt.Errorf("got %+v", now)
		}
		return nil
	})
	expect("area", "deny", "let-in-free", "more-free")
	if got, want := auditTimes(c.Get(t, "auditlabels/owners")), auditTimes(before); got < want {
		t.Errorf("the time of the audit went from %s back to %s", want, got)
	}
	if err := leader.End(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	c.Manager = c.Run(t, "together", c.Port)
	c.Manager.AwaitReady(t)
}

func auditTimes(u *unstructured.Unstructured) string {
	out, _, _ := unstructured.NestedString(u.Object, "status", "auditTimestamp")
	return out
}

// takeover has one of two leaders killed while it reads everything, and objects
// come and go while there is none.
func (c *testCluster) takeover(t *testing.T) {
	const many, lost, added = 200, 10, 5
	cl := c.Client(t)
	c.CreateNamespaces(t, "audit-many")
	c.awaitRoots(t, "audit-many")
	object := func(i int) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "audit-many", Name: fmt.Sprintf("m-%03d", i)}}
	}
	for i := range many {
		if err := cl.Create(t.Context(), object(i)); err != nil {
			t.Fatal(err)
		}
	}
	c.Apply(t, fusegate.Constraint("AuditLabels", "many", "dryrun", "area",
		`{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [audit-many], name: "m-*"}`))
	lead := c.Split(t)
	leader := lead("first-of-two", "--audit-resync", "1s")
	awaitTotal := func(want int64) {
		t.Helper()
		c.Await(t, "auditlabels/many", fmt.Sprintf("a total of %d", want), func(u *unstructured.Unstructured) error {
			if got := auditStatusOf(u); got.Total != want || got.Audited != auditKnown {
				return fmt.Errorf("got %d (%s)", got.Total, got.Audited)
			}
			return nil
		})
	}
	awaitTotal(many)
	second := lead("second-of-two")
	totals := watchTotals(t, cl, "AuditLabels", "many")
	reviewed := leader.Counter(t, "fusegate_audit_objects_reviewed_total")
	env.Await(t, "a pass to begin", func() error {
		if now := leader.Counter(t, "fusegate_audit_objects_reviewed_total"); now == reviewed {
			return fmt.Errorf("%v reviews as before", now)
		}
		return nil
	})
	if err := leader.End(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for i := range lost {
		if err := cl.Delete(t.Context(), object(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range added {
		if err := cl.Create(t.Context(), object(many+i)); err != nil {
			t.Fatal(err)
		}
	}
	awaitTotal(many - lost + added)
	if seen := totals(); len(seen) == 0 || slices.Min(seen) < many-lost {
		t.Errorf("the totals in between were %v, want none below %d", seen, many-lost)
	}
	if err := second.End(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := c.Manager.End(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	c.Manager = c.Run(t, "together-again", c.Port)
	c.Manager.AwaitReady(t)
}

// watchTotals follows the total of a constraint; what it returns ends that and
// gives all that were seen, -1 for a status without one.
func watchTotals(t *testing.T, cl client.WithWatch, kind, name string) func() []int64 {
	t.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion(engine.ConstraintGroup + "/v1beta1")
	list.SetKind(kind + "List")
	w, err := cl.Watch(t.Context(), list, client.MatchingFields{"metadata.name": name})
	if err != nil {
		t.Fatal(err)
	}
	var totals []int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range w.ResultChan() {
			u, ok := e.Object.(*unstructured.Unstructured)
			if !ok {
				continue
			}
			n, found, _ := unstructured.NestedInt64(u.Object, "status", "totalViolations")
			if !found {
				n = -1
			}
			totals = append(totals, n)
		}
	}()
	return func() []int64 { w.Stop(); <-done; return totals }
}

package audit_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/audit"
)

const inTest = `namespaces: ["audit-*"]`

// TestLife follows what is found through the life of objects, namespaces and
// constraints.
func TestLife(t *testing.T) {
	w := newWorld(t, audit.Options{})
	w.namespace("audit-a")
	w.namespace("audit-b", "team: x")
	w.object("ConfigMap", "audit-a", "one")
	w.object("ConfigMap", "audit-b", "two", "owner: me")
	w.object("Secret", "audit-b", "three")
	w.template("Wants", "lacks")

	w.constraint("Wants", "owners", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], `+inTest+`}`)
	w.await("what exists", map[string][]string{"owners": {"ConfigMap audit-a/one lacks owner"}})
	w.object("ConfigMap", "audit-a", "zero")
	w.await("a new object", map[string][]string{"owners": {"ConfigMap audit-a/one lacks owner", "ConfigMap audit-a/zero lacks owner"}})
	w.object("ConfigMap", "audit-a", "one", "owner: me")
	w.await("a fixed object", map[string][]string{"owners": {"ConfigMap audit-a/zero lacks owner"}})
	w.object("ConfigMap", "audit-a", "one")
	w.remove(configMaps, "audit-a", "zero")
	w.await("a deleted object", map[string][]string{"owners": {"ConfigMap audit-a/one lacks owner"}})

	before := w.wire.listed("/configmaps")
	w.constraint("Wants", "teams", "team", `{kinds: [{apiGroups: [""], kinds: [Secret]}], namespaceSelector: {matchLabels: {team: x}}}`)
	w.await("another constraint", map[string][]string{"owners": {"ConfigMap audit-a/one lacks owner"}, "teams": {"Secret audit-b/three lacks team"}})
	if after := w.wire.listed("/configmaps"); after != before {
		t.Errorf("a constraint on Secrets had ConfigMaps listed %d times", after-before)
	}
	w.namespace("audit-b", "team: z")
	w.await("a changed label of a namespace", map[string][]string{"owners": {"ConfigMap audit-a/one lacks owner"}, "teams": {}})
	w.namespace("audit-b", "team: x")
	w.constraint("Wants", "owners", "area", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], `+inTest+`}`)
	both := []string{"ConfigMap audit-a/one lacks area", "ConfigMap audit-b/two lacks area"}
	w.await("a changed constraint", map[string][]string{"owners": both, "teams": {"Secret audit-b/three lacks team"}})
	w.template("Wants", "needs")
	w.await("a changed template", map[string][]string{
		"owners": {"ConfigMap audit-a/one needs area", "ConfigMap audit-b/two needs area"}, "teams": {"Secret audit-b/three needs team"},
	})
	w.removeConstraint("Wants", "teams")
	w.object("ConfigMap", "audit-a", "one", "broken: me")
	w.await("a fault", map[string][]string{"owners": {"ConfigMap audit-b/two needs area", "Faults"}})
	w.remove(configMaps, "audit-a", "one")
	w.await("no fault", map[string][]string{"owners": {"ConfigMap audit-b/two needs area"}})
	w.constraint("Wants", "owners", "area", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [kube-system, audit-b]}`)
	w.object("ConfigMap", "kube-system", "four")
	w.await("an exempt namespace", map[string][]string{"owners": exemptToo(w, "ConfigMap audit-b/two needs area", "needs area")})
	w.remove(configMaps, "kube-system", "four")
	w.remove(configMaps, "audit-b", "two")
	w.remove(secrets, "audit-b", "three")
}

// exemptToo adds the ConfigMaps that are in kube-system.
func exemptToo(w *world, line, message string) []string {
	w.t.Helper()
	out := []string{line}
	for _, name := range w.names(configMaps, "kube-system") {
		out = append(out, fmt.Sprintf("exempt ConfigMap kube-system/%s %s", name, message))
	}
	return out
}

func TestLimit(t *testing.T) {
	w := newWorld(t, audit.Options{Limit: 2})
	w.namespace("audit-limit")
	w.template("Wants", "lacks")
	w.constraint("Wants", "owners", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [audit-limit]}`)
	for _, name := range []string{"d", "a", "c", "b"} {
		w.object("ConfigMap", "audit-limit", name)
	}
	w.await("the lowest", map[string][]string{"owners": {"ConfigMap audit-limit/a lacks owner", "ConfigMap audit-limit/b lacks owner", "of 4 and 0"}})
	w.remove(configMaps, "audit-limit", "a")
	w.await("the next", map[string][]string{"owners": {"ConfigMap audit-limit/b lacks owner", "ConfigMap audit-limit/c lacks owner", "of 3 and 0"}})
	for _, name := range []string{"b", "c", "d"} {
		w.remove(configMaps, "audit-limit", name)
	}
}

// TestLosses takes from the auditor what it relies on, while objects change.
func TestLosses(t *testing.T) {
	w := newWorld(t, audit.Options{CheckRights: 200 * time.Millisecond})
	w.namespace("audit-loss")
	w.template("Wants", "lacks")
	w.object("ConfigMap", "audit-loss", "kept")
	w.object("ConfigMap", "audit-loss", "goes")
	w.object("Secret", "audit-loss", "kept")
	match := func(kind string) string {
		return `{kinds: [{apiGroups: [""], kinds: [` + kind + `]}], namespaces: [audit-loss]}`
	}
	w.constraint("Wants", "maps", "owner", match("ConfigMap"))
	w.constraint("Wants", "secrets", "owner", match("Secret"))
	secret := []string{"Secret audit-loss/kept lacks owner"}
	w.await("the beginning", map[string][]string{
		"maps": {"ConfigMap audit-loss/goes lacks owner", "ConfigMap audit-loss/kept lacks owner"}, "secrets": secret,
	})
	w.sink.forgetLeast()

	lists := w.wire.listed("/configmaps")
	w.wire.cut("/configmaps", false)
	w.object("ConfigMap", "audit-loss", "new")
	w.remove(configMaps, "audit-loss", "goes")
	w.await("a dropped watch", map[string][]string{
		"maps": {"ConfigMap audit-loss/kept lacks owner", "ConfigMap audit-loss/new lacks owner"}, "secrets": secret,
	})
	if n := w.wire.listed("/configmaps") - lists; n > 0 {
		t.Errorf("a watch that can be resumed had %d lists made", n)
	}

	w.wire.cut("/configmaps", true)
	w.object("ConfigMap", "audit-loss", "newer")
	w.remove(configMaps, "audit-loss", "new")
	compact(t)
	w.wire.cut("/configmaps", false)
	w.await("compaction", map[string][]string{
		"maps": {"ConfigMap audit-loss/kept lacks owner", "ConfigMap audit-loss/newer lacks owner"}, "secrets": secret,
	})
	if w.wire.listed("/configmaps") == lists {
		t.Error("nothing was listed again after compaction: it was no 410")
	}

	w.loseRight(secret)
	for name, n := range w.sink.least {
		if n < 1 {
			t.Errorf("%s was at %d in between", name, n)
		}
	}
	w.remove(configMaps, "audit-loss", "kept")
	w.remove(configMaps, "audit-loss", "newer")
	w.remove(secrets, "audit-loss", "kept")
}

// loseRight takes the right to read Secrets away for a while.
func (w *world) loseRight(secret []string) {
	w.t.Helper()
	w.grant("configmaps")
	w.await("a revoked right", map[string][]string{
		"maps": {"ConfigMap audit-loss/kept lacks owner", "ConfigMap audit-loss/newer lacks owner"}, "secrets": append(slices.Clone(secret), "Gap"),
	})
	if r := w.auditor.Report(); len(r.Gaps) != 1 || r.Gaps[0].Kind != "Secret" || r.Conditions[0].Status != "False" || r.Conditions[1].Status != "False" {
		w.t.Errorf("got report %+v, want a gap for Secrets, and neither Complete nor Current", r)
	}
	w.grant("*")
	w.await("the right again", map[string][]string{
		"maps": {"ConfigMap audit-loss/kept lacks owner", "ConfigMap audit-loss/newer lacks owner"}, "secrets": secret,
	})
	await(w.t, "a clean report", func() error {
		if r := w.auditor.Report(); len(r.Gaps) > 0 || r.Conditions[0].Status != "True" || r.Conditions[1].Status != "True" {
			return fmt.Errorf("got %+v", r)
		}
		return nil
	})
}

// TestResync reads everything anew all the time, which must change nothing.
func TestResync(t *testing.T) {
	metrics := prometheus.NewRegistry()
	w := newWorld(t, audit.Options{Resync: 100 * time.Millisecond, Metrics: metrics})
	w.namespace("audit-resync")
	w.template("Wants", "lacks")
	w.constraint("Wants", "owners", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [audit-resync]}`)
	var want []string
	for i := range 50 {
		name := fmt.Sprintf("o%02d", i)
		w.object("ConfigMap", "audit-resync", name)
		if i%2 == 0 {
			w.remove(configMaps, "audit-resync", name)
			continue
		}
		if len(want) < audit.DefaultLimit {
			want = append(want, fmt.Sprintf("ConfigMap audit-resync/%s lacks owner", name))
		}
	}
	w.await("what is left", map[string][]string{"owners": append(want, "of 25 and 0")})
	reads := func(n int) {
		lists := w.wire.listed("/configmaps")
		await(t, "more reads", func() error {
			if got := w.wire.listed("/configmaps") - lists; got < n {
				return fmt.Errorf("got %d", got)
			}
			return nil
		})
	}
	reads(2) // what was on its way has arrived
	before := drift(t, metrics)
	reads(3)
	w.await("the same", map[string][]string{"owners": append(want, "of 25 and 0")})
	if after := drift(t, metrics); after != before {
		t.Errorf("drift grew from %v to %v while nothing changed", before, after)
	}
	for i := 1; i < 50; i += 2 {
		w.remove(configMaps, "audit-resync", fmt.Sprintf("o%02d", i))
	}
}

// TestPages has everything read in pages of the size that is asked for.
func TestPages(t *testing.T) {
	w := newWorld(t, audit.Options{PageSize: 12})
	w.namespace("audit-pages")
	w.template("Wants", "lacks")
	const n = 120
	for i := range n {
		w.object("ConfigMap", "audit-pages", fmt.Sprintf("o%03d", i), fmt.Sprintf("number: %q", strconv.Itoa(i)))
	}
	w.constraint("Wants", "owners", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [audit-pages]}`)
	await(t, "all of them", func() error {
		if total := w.sink.total("owners"); total != n {
			return fmt.Errorf("got %d", total)
		}
		return nil
	})
	if lists := w.wire.listed("/configmaps"); lists < n/12 {
		t.Errorf("%d objects came in %d pages", n, lists)
	}
	for i := range n {
		w.remove(configMaps, "audit-pages", fmt.Sprintf("o%03d", i))
	}
}

func drift(t *testing.T, from prometheus.Gatherer) (total float64) {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "fusegate_audit_drift_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			total += m.GetCounter().GetValue()
		}
	}
	return total
}

// TestExtent tells what cannot be audited, and how much of it.
func TestExtent(t *testing.T) {
	w := newWorld(t, audit.Options{})
	w.namespace("audit-extent")
	w.object("ConfigMap", "audit-extent", "one")
	cases := map[string]struct {
		reason     string
		operations string
		lines      []string
		extent     string
	}{
		"Always":  {reason: "a template without operations is for all", operations: "[]", lines: []string{"ConfigMap audit-extent/one lacks owner"}},
		"Written": {reason: "what is written is there", operations: "[CREATE, UPDATE]", lines: []string{"ConfigMap audit-extent/one lacks owner"}},
		"Partly":  {reason: "deletion leaves nothing", operations: "[CREATE, DELETE]", lines: []string{"ConfigMap audit-extent/one lacks owner"}, extent: "Part [DELETE]"},
		"Gone":    {reason: "nothing is left to look at", operations: "[DELETE, CONNECT]", lines: []string{"ConfigMap audit-extent/one lacks owner", "NotAuditable"}, extent: "Full [DELETE CONNECT]"},
	}
	want := map[string][]string{}
	for kind, tc := range cases {
		w.templateFor(kind, "lacks", tc.operations)
		w.constraint(kind, strings.ToLower(kind), "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [audit-extent], name: one}`)
		want[strings.ToLower(kind)] = tc.lines
	}
	w.await("all of them", want)
	got := map[string]string{}
	for _, n := range w.auditor.Report().NotAuditable {
		got[n.Constraint] = fmt.Sprint(n.Extent, " ", n.Operations)
	}
	for kind, tc := range cases {
		if extent := got[kind+"/"+strings.ToLower(kind)]; extent != tc.extent {
			t.Errorf("%s: got %q, want %q: %s", kind, extent, tc.extent, tc.reason)
		}
	}
	w.remove(configMaps, "audit-extent", "one")
}

// TestStale has a policy judged by data that is not followed any more: the
// result stays, and neither it nor the report looks as if it were of now.
func TestStale(t *testing.T) {
	w := newWorld(t, audit.Options{})
	w.namespace("audit-stale")
	w.object("ConfigMap", "audit-stale", "one")
	w.parsed(`
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: twice}
spec:
  crd: {spec: {names: {kind: Twice}, validation: {openAPIV3Schema: {type: object, properties: {label: {type: string}}}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package twice
      violation[{"msg": "alone"}] { not data.inventory.cluster.v1.Node[input.review.object.metadata.name] }
`)
	w.template("Wants", "lacks")
	const match = `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [audit-stale], name: one}`
	w.constraint("Twice", "twice", "none", match)
	w.constraint("Wants", "owners", "owner", match)
	twice, owners := []string{"ConfigMap audit-stale/one alone"}, []string{"ConfigMap audit-stale/one lacks owner"}
	w.await("the beginning", map[string][]string{"twice": twice, "owners": owners})
	clean := func() error {
		if r := w.auditor.Report(); len(r.Gaps) > 0 || r.Conditions[0].Status != "True" || r.Conditions[1].Status != "True" {
			return fmt.Errorf("got %+v", r)
		}
		return nil
	}
	await(t, "a clean report", clean)
	lists := w.wire.listed("/configmaps")
	need := w.engine.InventoryNeeds()[0]
	const why = "Node of v1 is as of yesterday"
	if !w.engine.SetInventoryStale(need, why) || w.engine.SetInventoryStale(need, why) {
		t.Error("a change and none are not told apart")
	}
	w.await("stale data", map[string][]string{"twice": append(slices.Clone(twice), v1alpha1.ReasonInventoryStale), "owners": owners})
	r := w.auditor.Report()
	want := []v1alpha1.AuditGap{{Constraint: "Twice/twice", Reason: v1alpha1.ReasonInventoryStale, Message: why}}
	if diff := cmp.Diff(want, r.Gaps); diff != "" || r.Conditions[0].Status != "False" || r.Conditions[1].Reason != v1alpha1.ReasonInventoryStale {
		t.Errorf("got %+v, want a gap, and neither Complete nor Current (-want +got):\n%s", r, diff)
	}
	w.engine.SetInventoryStale(need, "")
	w.await("data that is followed again", map[string][]string{"twice": twice, "owners": owners})
	await(t, "a clean report again", clean)
	if got := w.wire.listed("/configmaps") - lists; got > 0 {
		t.Errorf("ConfigMaps were listed %d times", got)
	}
	w.remove(configMaps, "audit-stale", "one")
}

// TestOnlyTheNew has what exists judged by a new constraint, and not again by
// those that are there.
func TestOnlyTheNew(t *testing.T) {
	w := newWorld(t, audit.Options{})
	w.namespace("audit-new")
	w.template("Wants", "lacks")
	w.object("ConfigMap", "audit-new", "one")
	match := `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [audit-new], name: one}`
	w.constraint("Wants", "first", "owner", match)
	w.await("the first", map[string][]string{"first": {"ConfigMap audit-new/one lacks owner"}})
	lists, watches := w.wire.listed("/configmaps"), w.wire.watched("/configmaps")
	w.judged.Store(0)
	w.constraint("Wants", "second", "team", match)
	w.await("the second", map[string][]string{"first": {"ConfigMap audit-new/one lacks owner"}, "second": {"ConfigMap audit-new/one lacks team"}})
	if got := w.wire.listed("/configmaps") - lists; got != 1 {
		t.Errorf("ConfigMaps were listed %d times for a new constraint, want once", got)
	}
	if got := w.wire.watched("/configmaps") - watches; got != 0 {
		t.Errorf("the watch was made anew %d times for a new constraint", got)
	}
	if n := w.judged.Load(); n != 0 {
		t.Errorf("%d objects were judged by all constraints for a new one", n)
	}
	w.object("ConfigMap", "audit-new", "one", "team: x")
	w.await("a change", map[string][]string{"first": {"ConfigMap audit-new/one lacks owner"}, "second": {}})
	w.remove(configMaps, "audit-new", "one")
}

// TestGeneration tells another generation of a constraint that asks the same, and
// reads nothing for it.
func TestGeneration(t *testing.T) {
	w := newWorld(t, audit.Options{})
	w.namespace("audit-generation")
	w.template("Wants", "lacks")
	w.object("ConfigMap", "audit-generation", "one")
	c := parse(t, `{apiVersion: constraints.gatekeeper.sh/v1beta1, kind: Wants, metadata: {name: owners}, spec: {match: {kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [audit-generation], name: one}, parameters: {label: owner}}}`)
	add := func(generation int64) {
		t.Helper()
		c.SetGeneration(generation)
		if err := w.engine.AddConstraint(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		await(t, fmt.Sprintf("generation %d", generation), func() error {
			w.sink.mu.Lock()
			defer w.sink.mu.Unlock()
			if len(w.sink.outcomes) != 1 || w.sink.outcomes[0].Generation != generation || w.sink.outcomes[0].Total != 1 {
				return fmt.Errorf("got %+v", w.sink.outcomes)
			}
			return nil
		})
	}
	add(1)
	lists := w.wire.listed("/configmaps")
	add(2)
	if n := w.wire.listed("/configmaps") - lists; n > 0 {
		t.Errorf("another generation had %d lists made", n)
	}
	w.remove(configMaps, "audit-generation", "one")
}

// TestCostly follows which objects cost a policy over half of its budget through
// the life of objects and constraints.
func TestCostly(t *testing.T) {
	w := newWorld(t, audit.Options{})
	w.namespace("audit-cost")
	w.parsed(`
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: costs}
spec:
  crd: {spec: {names: {kind: Costs}, validation: {openAPIV3Schema: {type: object, properties: {label: {type: integer}}}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package costs
      violation[{"msg": "never"}] {
        n := input.parameters.label * to_number(input.review.object.metadata.labels.cost)
        count(numbers.range(1, n)) == 7 # a million is what is granted
      }
`)
	match := `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [audit-cost, kube-system]}`
	expect := func(what, constraint string, total int64, message string, want ...string) {
		t.Helper()
		await(t, what, func() error {
			got, costly, said := w.sink.costly(constraint)
			if diff := cmp.Diff(want, got); diff != "" || costly != total || !strings.Contains(said, message) {
				return fmt.Errorf("got %d and %q, want %d and %q (-want +got):\n%s", costly, said, total, message, diff)
			}
			return nil
		})
	}
	for name, percent := range map[string]string{"a": "60", "b": "61", "c": "62", "d": "63", "e": "64", "f": "65", "low": "40"} {
		w.object("ConfigMap", "audit-cost", name, `cost: "`+percent+`"`)
	}
	w.object("ConfigMap", "kube-system", "costly", `cost: "90"`)
	w.constraint("Costs", "one", "10480", match) // of one percent each
	worst := []string{"f 65", "e 64", "d 63", "c 62", "b 61"}
	expect("what exists", "one", 6, "over half of its budget on 6 of them", worst...)
	w.constraint("Costs", "other", "20000", match)
	expect("a policy that takes more", "other", 7, "the policy failed on 7 objects", "f 124", "e 123", "d 121", "c 119", "b 117")
	w.removeConstraint("Costs", "other")
	w.remove(configMaps, "audit-cost", "f")
	w.object("ConfigMap", "audit-cost", "e", `cost: "30"`)
	expect("one that is gone, and one that has changed", "one", 4, "on 4 of them", "d 63", "c 62", "b 61", "a 60")
	w.stop()
	w.grant("secrets")
	w.start(audit.Options{})
	expect("another process that may not read them", "one", 4, "lower bounds", "d 63", "c 62", "b 61", "a 60")
	w.grant("*")
	w.constraint("Costs", "one", "8500", match)
	expect("a constraint that takes less", "one", 2, "on 2 of them", "d 52", "c 51")
	w.constraint("Costs", "one", "1", match)
	expect("and less", "one", 0, "every object that it matches is reviewed")
	for _, name := range []string{"a", "b", "c", "d", "e", "low"} {
		w.remove(configMaps, "audit-cost", name)
	}
	w.remove(configMaps, "kube-system", "costly")
}

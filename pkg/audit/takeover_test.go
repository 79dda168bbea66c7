package audit_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"

	"github.com/fusegate/fusegate/pkg/audit"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/test/controlplane"
)

// takeover ends one auditor and has another begin where it was.
func (w *world) takeover(o audit.Options) {
	w.t.Helper()
	w.stop()
	w.start(o)
}

// notBelow checks that no total was lower in between, nor that of a report.
func (w *world) notBelow(constraint string, least, fewest int64) {
	w.t.Helper()
	_, total := w.sink.reported()
	w.sink.mu.Lock()
	defer w.sink.mu.Unlock()
	if n := w.sink.least[constraint]; n < least {
		w.t.Errorf("%s was at %d in between, want %d at least", constraint, n, least)
	}
	if total < fewest {
		w.t.Errorf("a report had a total of %d, want %d at least", total, fewest)
	}
}

// TestTakeoverUnread has another take over who may not read a kind that the one
// before has read.
func TestTakeoverUnread(t *testing.T) {
	w := newWorld(t, audit.Options{Limit: 3})
	w.namespace("audit-take")
	w.template("Wants", "lacks")
	w.object("ConfigMap", "audit-take", "map")
	for i := range 4 {
		w.object("Secret", "audit-take", fmt.Sprintf("secret-%d", i))
	}
	w.constraint("Wants", "both", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap, Secret]}], namespaces: [audit-take], name: "*-*"}`)
	w.object("ConfigMap", "audit-take", "map-0")
	lines := func(maps int, end ...string) map[string][]string {
		var out []string
		for i := range maps {
			out = append(out, fmt.Sprintf("ConfigMap audit-take/map-%d lacks owner", i))
		}
		for i := range 3 - maps {
			out = append(out, fmt.Sprintf("Secret audit-take/secret-%d lacks owner", i))
		}
		return map[string][]string{"both": append(out, end...)}
	}
	w.await("what exists", lines(1, "of 5 and 0"))

	w.grant("configmaps")
	w.takeover(audit.Options{Limit: 3})
	w.await("a kind that may not be read any more", lines(1, "of 5 and 0", "Gap"))
	w.object("ConfigMap", "audit-take", "map-1")
	w.await("a new violation beside it", lines(2, "of 6 and 0", "Gap"))
	w.grant("secrets")
	w.takeover(audit.Options{Limit: 3})
	w.await("the other kind", lines(2, "of 6 and 0", "Gap"))
	if r, _ := w.sink.reported(); r.LastFullPass != nil {
		t.Errorf("the last full pass was at %v, want none while a kind has not been read", r.LastFullPass)
	}
	if read := w.sink.outcomes[0].Read; !read.IsZero() {
		t.Errorf("all was read at %v, want never", read)
	}
	w.grant("*")
	w.await("the right again", lines(2, "of 6 and 0"))
	w.notBelow("both", 6, 6)
	for _, name := range []string{"map", "map-0", "map-1"} {
		w.remove(configMaps, "audit-take", name)
	}
	for i := range 4 {
		w.remove(secrets, "audit-take", fmt.Sprintf("secret-%d", i))
	}
}

const needy = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata:
  name: needy
  annotations:
    metadata.gatekeeper.sh/requires-sync-data: |
      [[{"groups": [""], "versions": ["v1"], "kinds": ["Namespace"]}]]
spec:
  crd: {spec: {names: {kind: Needy}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package needy
      violation[{"msg": "alone"}] { not data.inventory.cluster.v1.Namespace.company }
`

// TestTakeoverWithheld has another take over while the data of a policy is not
// there, and has the data come when the kind may not be read.
func TestTakeoverWithheld(t *testing.T) {
	w := newWorld(t, audit.Options{})
	w.engine.AwaitInventory()
	w.namespace("audit-needy")
	w.object("ConfigMap", "audit-needy", "one")
	template, err := engine.ParseTemplate(parse(t, needy))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.engine.AddTemplate(t.Context(), template); err != nil {
		t.Fatal(err)
	}
	c := parse(t, `{apiVersion: constraints.gatekeeper.sh/v1beta1, kind: Needy, metadata: {name: needy}, spec: {match: {kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [audit-needy], name: one}}}`)
	if err := w.engine.AddConstraint(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	data := func(why error) {
		t.Helper()
		if !w.engine.SetInventory(w.engine.InventoryNeeds()[0], why) {
			t.Fatal("nothing has changed")
		}
	}
	const alone = "ConfigMap audit-needy/one alone"
	data(nil)
	w.await("the data", map[string][]string{"needy": {alone}})
	data(errors.New("no data"))
	w.await("no data", map[string][]string{"needy": {alone, "InventoryIncomplete"}})
	w.takeover(audit.Options{})
	w.await("no data for another", map[string][]string{"needy": {alone, "InventoryIncomplete"}})
	await(t, "the report of it", func() error {
		if r, _ := w.sink.reported(); r.TotalViolations != 1 || r.Conditions[0].Status != metav1.ConditionFalse {
			return fmt.Errorf("got %+v", r)
		}
		return nil
	})
	w.grant("secrets")
	w.takeover(audit.Options{})
	w.await("no right either", map[string][]string{"needy": {alone, "InventoryIncomplete"}})
	data(nil)
	w.await("data, but no right", map[string][]string{"needy": {alone, "Gap"}})
	w.grant("*")
	w.await("all of it", map[string][]string{"needy": {alone}})
	w.notBelow("needy", 1, 1)
	w.remove(configMaps, "audit-needy", "one")
}

// blank is a discovery that fails as long as it is told to.
type blank struct {
	discovery.ServerResourcesInterface
	fails atomic.Bool
	asked atomic.Int64
}

func (b *blank) ServerPreferredResources() ([]*metav1.APIResourceList, error) {
	b.asked.Add(1)
	if b.fails.Load() {
		return nil, errors.New("nothing is known")
	}
	return b.ServerResourcesInterface.ServerPreferredResources()
}

// TestTakeoverBlank has another take over that cannot find out what is served.
func TestTakeoverBlank(t *testing.T) {
	w := newWorld(t, audit.Options{})
	w.namespace("audit-blank")
	w.template("Wants", "lacks")
	w.object("ConfigMap", "audit-blank", "one")
	w.constraint("Wants", "owners", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [audit-blank], name: one}`)
	want := map[string][]string{"owners": {"ConfigMap audit-blank/one lacks owner"}}
	w.await("what exists", want)
	d, err := discovery.NewDiscoveryClientForConfig(shared.Get(t).Config(controlplane.Admin))
	if err != nil {
		t.Fatal(err)
	}
	b := &blank{ServerResourcesInterface: d}
	b.fails.Store(true)
	w.takeover(audit.Options{Discovery: b})
	await(t, "it to ask twice", func() error {
		if n := b.asked.Load(); n < 2 {
			return fmt.Errorf("it asked %d times", n)
		}
		return nil
	})
	if lines := w.sink.lines(); len(lines) > 0 {
		t.Errorf("it told %v when it knew nothing", lines)
	}
	b.fails.Store(false)
	w.await("the end of it", want)
	w.notBelow("owners", 1, 1)
	w.remove(configMaps, "audit-blank", "one")
}

// TestUnwritten has the outcome of one constraint refused: that is said, and
// keeps nothing else from being told.
func TestUnwritten(t *testing.T) {
	w := newWorld(t, audit.Options{})
	w.sink.refuse("first", errors.New("too large"))
	w.namespace("audit-unwritten")
	w.template("Wants", "lacks")
	w.object("ConfigMap", "audit-unwritten", "one")
	match := `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [audit-unwritten], name: one}`
	w.constraint("Wants", "first", "owner", match)
	w.constraint("Wants", "second", "owner", match)
	gaps := func(what string, want ...string) {
		t.Helper()
		await(t, what, func() error {
			var got []string
			r, _ := w.sink.reported()
			for _, g := range r.Gaps {
				got = append(got, g.Constraint+" "+g.Reason+": "+g.Message)
			}
			if r.TotalViolations != 2 || !slices.Equal(got, want) || (r.Conditions[0].Status == metav1.ConditionTrue) != (len(want) == 0) {
				return fmt.Errorf("got %+v", r)
			}
			return nil
		})
	}
	gaps("the report")
	gaps("the gap", "Wants/first NotWritten: too large")
	w.sink.refuse("first", nil)
	gaps("it to be written")
	w.remove(configMaps, "audit-unwritten", "one")
}

// TestNotInForce keeps what was found by constraints that are not in force any
// more, and says that nothing is known of those that never were.
func TestNotInForce(t *testing.T) {
	var gone atomic.Pointer[[]audit.NotInForce]
	gone.Store(&[]audit.NotInForce{})
	o := audit.Options{NotInForce: func() []audit.NotInForce { return *gone.Load() }}
	w := newWorld(t, o)
	w.namespace("audit-absent")
	w.template("Wants", "lacks")
	w.object("ConfigMap", "audit-absent", "one")
	match := `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [audit-absent], name: "o*"}`
	w.constraint("Wants", "kept", "owner", match)
	one := "ConfigMap audit-absent/one lacks owner"
	w.await("what exists", map[string][]string{"kept": {one}})

	gone.Store(&[]audit.NotInForce{
		{Kind: "Wants", Name: "kept", Generation: 2, Why: "it has errors"}, {Kind: "Wants", Name: "new", UID: "u", Generation: 1, Why: "it has errors, too"},
	})
	w.await("a version before in force", map[string][]string{"kept": {one, "NotInForce"}, "new": {"NotInForce"}})
	w.object("ConfigMap", "audit-absent", "other")
	other := "ConfigMap audit-absent/other lacks owner"
	w.await("what that finds", map[string][]string{"kept": {one, other, "NotInForce"}, "new": {"NotInForce"}})
	w.removeConstraint("Wants", "kept")
	w.await("none in force", map[string][]string{"kept": {one, other, "NotInForce"}, "new": {"NotInForce"}})
	w.takeover(o)
	w.await("none in force for another", map[string][]string{"kept": {one, other, "NotInForce"}, "new": {"NotInForce"}})
	for _, x := range w.sink.outcomes {
		if want := x.Constraint.Name == "new"; x.Uncounted != want {
			t.Errorf("%s: uncounted is %v, want %v", x.Constraint.Name, x.Uncounted, want)
		}
	}
	r, fewest := w.sink.reported()
	if len(r.Gaps) != 2 || r.Gaps[0].Reason != "NotInForce" || r.Conditions[0].Status != metav1.ConditionFalse || r.Constraints != 2 || fewest != 2 {
		t.Errorf("got report %+v with a total of %d at least, want two gaps, not Complete, and 2", r, fewest)
	}
	gone.Store(&[]audit.NotInForce{})
	w.constraint("Wants", "kept", "owner", match)
	w.await("all in force", map[string][]string{"kept": {one, other}})
	w.remove(configMaps, "audit-absent", "one")
	w.remove(configMaps, "audit-absent", "other")
}

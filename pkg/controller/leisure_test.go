package controller

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/status"
)

// busy is a Leisure whose next turn is in an hour.
func busy() *Leisure {
	l := NewLeisure(alone)
	l.limiter = rate.NewLimiter(rate.Every(time.Hour), 1)
	l.turn()
	return l
}

// turn takes one, and tells when it is.
func (l *Leisure) turn() time.Duration {
	var due time.Time
	return l.left(&due)
}

// alone is a machine on which nobody else is in need.
func alone() bool { return false }

func TestLeisure(t *testing.T) {
	l := NewLeisure(alone)
	for n := range leisureBurst {
		if d := l.turn(); d > 0 {
			t.Errorf("turn %d is in %v, want at once", n, d)
		}
	}
	first, second := l.turn(), l.turn()
	if first <= 0 || second <= first || second > 2*time.Second/leisureRate {
		t.Errorf("turns after the burst are in %v and %v", first, second)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.wait(ctx); err == nil {
		t.Error("wait returned no error although the context had ended")
	}
	l = nil
	if d, err := l.turn(), l.wait(t.Context()); d != 0 || err != nil {
		t.Errorf("without a Leisure: %v, %v", d, err)
	}
}

// TestLeisureCrowded gives next to no turns while others want the processors, but
// not for ever.
func TestLeisureCrowded(t *testing.T) {
	crowded, now := true, time.Unix(1e9, 0)
	l := NewLeisure(func() bool { return crowded })
	l.now = func() time.Time { return now }
	for n := range heldBurst {
		if d := l.turn(); d > 0 {
			t.Errorf("turn %d is in %v, want at once", n, d)
		}
	}
	var due time.Time
	if d := l.left(&due); d != heldAgain || !due.IsZero() {
		t.Errorf("left are %v until %v, want %v and no turn", d, due, heldAgain)
	}
	now = now.Add(heldAgain)
	if d := l.turn(); d > 0 {
		t.Errorf("after %v the next turn is in %v, want at once", heldAgain, d)
	}
	crowded = false
	if d := l.left(&due); d > 0 || due.IsZero() {
		t.Errorf("left are %v until %v though nobody wants the processors", d, due)
	}
	crowded = true
	if d := l.left(&due); d > 0 {
		t.Errorf("a turn that was given is put off by %v", d)
	}
	if d := l.turn(); d != heldAgain {
		t.Errorf("left are %v, want %v", d, heldAgain)
	}
	now = now.Add(heldMost)
	for range leisureBurst {
		l.turn()
	}
	if d := l.turn(); d <= 0 || d > time.Second {
		t.Errorf("after %v the turn after the burst is in %v", heldMost, d)
	}
}

// TestPutOff asks for how long the report of a pod named "self" waits.
func TestPutOff(t *testing.T) {
	w, err := status.NewWriter(nil, "self", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		reason  string
		entries []any
		edit    func(r *report)
		unknown bool // the census has not listed Leases
		later   bool
	}{
		"Said":       {reason: "a living pod says the same", entries: []any{entryOf("alive", 2)}, later: true},
		"SaidTwice":  {reason: "what a dead one says beside it does not matter", entries: []any{entryOf("dead", 1), entryOf("alive", 2)}, later: true},
		"Nobody":     {reason: "nobody else knows it"},
		"Dead":       {reason: "who said so is dead", entries: []any{entryOf("dead", 2)}},
		"Older":      {reason: "it was another version", entries: []any{entryOf("alive", 1)}},
		"Otherwise":  {reason: "the other one rejected it", entries: []any{entryOf("alive", 2, map[string]any{"message": "bad"})}},
		"Own":        {reason: "there is an entry that may be wrong", entries: []any{entryOf("alive", 2), entryOf("self", 2)}},
		"Error":      {reason: "it tells of an error", entries: []any{entryOf("alive", 2)}, edit: func(r *report) { r.errs = []status.Error{{}} }},
		"Interprets": {reason: "it tells of the interpreter", entries: []any{entryOf("alive", 2)}, edit: func(r *report) { r.interpreted = "x" }},
		"Inventory":  {reason: "it tells of data", entries: []any{entryOf("alive", 2)}, edit: func(r *report) { r.inventory = &status.Inventory{} }},
		"Faults":     {reason: "it tells of faults", entries: []any{entryOf("alive", 2)}, edit: func(r *report) { r.faults.Count = 1 }},
		"Template":   {reason: "the template was ready, and stays so", edit: func(r *report) { r.object = templateBeside("alive", "True") }, later: true},
		"NotReady":   {reason: "the template is not ready before all have reported", edit: func(r *report) { r.object = templateBeside("alive", "False") }},
		"Unknown":    {reason: "it is not known who is alive", entries: []any{entryOf("alive", 2)}, unknown: true},
	} {
		t.Run(name, func(t *testing.T) {
			census := newCensus(time.Now)
			census.synced = func() bool { return !tc.unknown }
			census.saw(leaseAt("alive", 1))
			census.saw(leaseAt("self", 1))
			r := newReports(w, logr.Discard())
			r.census, r.leisure = census, busy()
			u := constraint("Kind", "one", "1")
			u.SetUID("u")
			u.SetGeneration(2)
			u.Object["status"] = map[string]any{"byPod": tc.entries}
			what := report{object: u, enforced: true}
			if tc.edit != nil {
				tc.edit(&what)
			}
			k := key{"Kind", "one"}
			first := r.putOff(k, what)
			if later := first > time.Minute; later != tc.later || !later && first != 0 {
				t.Fatalf("put off for %v, want later: %t: %s", first, tc.later, tc.reason)
			}
			if again := r.putOff(k, what); again > first {
				t.Errorf("asked again it is put off for %v, longer than %v", again, first)
			}
			r.done(k, what)
			if len(r.due) > 0 {
				t.Errorf("after it was written it is still due: %v", r.due)
			}
		})
	}
}

// templateBeside is a template of which a pod has reported.
func templateBeside(pod, ready string) *unstructured.Unstructured {
	u := template("Beside", "word", "string")
	u.SetUID("u")
	u.SetGeneration(2)
	u.Object["status"] = map[string]any{
		"byPod":      []any{map[string]any{"id": pod, "templateUID": "u", "observedGeneration": int64(2)}},
		"conditions": []any{map[string]any{"type": v1alpha1.ConditionReady, "status": ready, "observedGeneration": int64(2)}},
	}
	return u
}

// TestPutOffIsWritten has a process start beside another one, with statuses that
// nobody waits for: all are written in the end, and its stand-in's word counts
// until then.
func TestPutOffIsWritten(t *testing.T) {
	_, c := admin(t)
	const n = leisureBurst + 5
	leader := run(t, "leisure-leader", processOptions{})
	removeTemplate(t, c, "LeisureKind")
	apply(t, c, template("LeisureKind", "word", "string"))
	for i := range n {
		apply(t, c, constraint("LeisureKind", fmt.Sprintf("c%d", i), "1"))
	}
	for i := range n {
		awaitEntry(t, c, key{"LeisureKind", fmt.Sprintf("c%d", i)}, leader.pod, "")
	}
	census := NewCensus()
	late := run(t, "leisure-late", processOptions{follower: true, spread: census, leisure: NewLeisure(alone)})
	late.awaitReady(t)
	for i := range n {
		awaitEntry(t, c, key{"LeisureKind", fmt.Sprintf("c%d", i)}, late.pod, "")
	}
	await(t, "nothing to be kept", func() error {
		r := late.ingest.reports
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.latest)+len(r.due) > 0 {
			return fmt.Errorf("%d reports, %d due", len(r.latest), len(r.due))
		}
		return nil
	})
}

// TestPutOffUntilAlone ends the process whose word stood in for that of one that
// has put its own off.
func TestPutOffUntilAlone(t *testing.T) {
	_, c := admin(t)
	leader := run(t, "alone-leader", processOptions{})
	removeTemplate(t, c, "AloneKind")
	apply(t, c, template("AloneKind", "word", "string"))
	apply(t, c, constraint("AloneKind", "one", "1"))
	one := key{"AloneKind", "one"}
	awaitEntry(t, c, one, leader.pod, "")
	late := run(t, "alone-late", processOptions{follower: true, spread: NewCensus(), leisure: busy()})
	late.awaitReady(t)
	await(t, "its report to be put off", func() error {
		r := late.ingest.reports
		r.mu.Lock()
		defer r.mu.Unlock()
		if _, off := r.due[one]; !off {
			return fmt.Errorf("due are %v", r.due)
		}
		return nil
	})
	if _, written := entryErrors(t, c, one, late.pod); written {
		t.Error("its report was written all the same")
	}
	leader.stop()
	awaitEntry(t, c, one, late.pod, "")
}

// TestReadyBesideStarter has a process start that has not written what it makes
// of a template: one that was ready stays so, a new one is not.
func TestReadyBesideStarter(t *testing.T) {
	_, c := admin(t)
	run(t, "beside-leader", processOptions{})
	removeTemplate(t, c, "BesideOld")
	removeTemplate(t, c, "BesideNew")
	apply(t, c, template("BesideOld", "word", "string"))
	awaitCondition(t, c, "besideold", v1alpha1.ReasonCompiled, "every pod")
	before := trueBefore(get(t, c, key{name: "besideold"}), v1alpha1.ConditionReady)

	never := make(chan struct{})
	run(t, "beside-late", processOptions{follower: true, wrap: func(c client.Client) client.Client { return hanging{c, never} }}).awaitReady(t)
	apply(t, c, template("BesideNew", "word", "string"))
	// The publisher has learnt of the process, and looked at the old one again.
	awaitCondition(t, c, "besidenew", v1alpha1.ReasonWaitingForPods, "beside-late")
	after := trueBefore(get(t, c, key{name: "besideold"}), v1alpha1.ConditionReady)
	if after == nil || !after.LastTransitionTime.Equal(&before.LastTransitionTime) {
		t.Errorf("the template that was ready is %v, was %v", after, before)
	}
}

// TestCanWait asks of which templates the publisher makes sure later.
func TestCanWait(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		edit   func(u *unstructured.Unstructured, crd *apiextensionsv1.CustomResourceDefinition, e *edition)
		want   bool
	}{
		"InOrder": {"another process has found it in order", nil, true},
		"Checked": {"this one has looked at it already", func(_ *unstructured.Unstructured, _ *apiextensionsv1.CustomResourceDefinition, e *edition) {
			e.checked = true
		}, false},
		"Due": {"it has waited", func(_ *unstructured.Unstructured, _ *apiextensionsv1.CustomResourceDefinition, e *edition) {
			e.due = time.Now().Add(-time.Second)
		}, false},
		"Changed": {"nobody has looked at this version", func(u *unstructured.Unstructured, _ *apiextensionsv1.CustomResourceDefinition, _ *edition) {
			u.SetGeneration(3)
		}, false},
		"Disowned": {"the CRD has no owner", func(_ *unstructured.Unstructured, crd *apiextensionsv1.CustomResourceDefinition, _ *edition) {
			crd.OwnerReferences = nil
		}, false},
		"NotServed": {"the CRD is not established", func(_ *unstructured.Unstructured, crd *apiextensionsv1.CustomResourceDefinition, _ *edition) {
			crd.Status.Conditions = nil
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			u := template("Waits", "word", "string")
			u.SetUID("u")
			u.SetGeneration(2)
			u.Object["status"] = map[string]any{"conditions": []any{
				map[string]any{"type": v1alpha1.ConditionReady, "status": "True", "reason": v1alpha1.ReasonCompiled, "observedGeneration": int64(2)},
			}}
			crd := bareCRD(u.GetName(), "Waits")
			crd.OwnerReferences = []metav1.OwnerReference{{Kind: "ConstraintTemplate", Name: u.GetName(), UID: "u", Controller: ptr.To(true)}}
			crd.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue}}
			e := &edition{}
			if tc.edit != nil {
				tc.edit(u, crd, e)
			}
			p := NewPublisher(nil, nil, busy(), logr.Discard())
			if got := p.canWait(u, crd, e); got != tc.want {
				t.Errorf("can wait: %t, want %t: %s", got, tc.want, tc.reason)
			}
		})
	}
}

// TestTakesOverLater has a publisher start when all is in order: it makes sure
// of the CRD all the same, which somebody has changed meanwhile.
func TestTakesOverLater(t *testing.T) {
	_, c := admin(t)
	first := run(t, "takeover-first", processOptions{})
	removeTemplate(t, c, "TakeoverKind")
	u := template("TakeoverKind", "word", "string")
	u.SetLabels(map[string]string{"team": "a"})
	apply(t, c, u)
	awaitCondition(t, c, "takeoverkind", v1alpha1.ReasonCompiled, "every pod")
	beside := run(t, "takeover-beside", processOptions{follower: true})
	awaitEntry(t, c, key{name: "takeoverkind"}, beside.pod, "")
	first.stop()

	patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"team":"b"}}}`))
	crd := definition(t, c, "takeoverkind")
	if err := c.Patch(t.Context(), crd, patch); err != nil {
		t.Fatal(err)
	}
	leisure := NewLeisure(alone)
	for range leisureBurst + leisureRate {
		leisure.turn() // the next one is in a second
	}
	run(t, "takeover-second", processOptions{leisure: leisure})
	await(t, "the CRD as its template has it", func() error {
		if team := definition(t, c, "takeoverkind").Labels["team"]; team != "a" {
			return fmt.Errorf("label team is %q", team)
		}
		return nil
	})
	if !apimeta.IsStatusConditionTrue(status.Conditions(get(t, c, key{name: "takeoverkind"})), v1alpha1.ConditionReady) {
		t.Errorf("the template is not ready: %v", status.Conditions(get(t, c, key{name: "takeoverkind"})))
	}
}

// TestAdmitOnce asks which constraints are given to the engine, by ones that it
// would refuse.
func TestAdmitOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		edit   func(i *Ingest, u *unstructured.Unstructured)
		asked  bool
	}{
		"Status":     {"only its status has changed", func(*Ingest, *unstructured.Unstructured) {}, false},
		"Generation": {"its spec has changed", func(_ *Ingest, u *unstructured.Unstructured) { u.SetGeneration(2) }, true},
		"UID":        {"it is another object", func(_ *Ingest, u *unstructured.Unstructured) { u.SetUID("2") }, true},
		"OnFault": {"an annotation counts", func(_ *Ingest, u *unstructured.Unstructured) {
			u.SetAnnotations(map[string]string{engine.AnnotationOnFault: "allow"})
		}, true},
		"Template": {"its template has changed", func(i *Ingest, _ *unstructured.Unstructured) { i.ingested["once"] = version{generation: 7} }, true},
		"Forgotten": {"the engine has it no longer", func(i *Ingest, _ *unstructured.Unstructured) {
			delete(i.inForce, key{"Once", "one"})
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := engine.New()
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := engine.ParseTemplate(template("Once", "word", "string"))
			if err != nil {
				t.Fatal(err)
			}
			if err := e.AddTemplate(t.Context(), parsed); err != nil {
				t.Fatal(err)
			}
			i := NewIngest(e, nil, nil, NewReadiness(), logr.Discard())
			u, k := constraint("Once", "one", "1"), key{"Once", "one"}
			u.SetUID("1")
			u.SetGeneration(1)
			if errs := i.admit(t.Context(), k, u); len(errs) > 0 {
				t.Fatal(errs)
			}
			if err := unstructured.SetNestedField(u.Object, "nonsense", "spec", "enforcementAction"); err != nil {
				t.Fatal(err)
			}
			tc.edit(i, u)
			if asked := len(i.admit(t.Context(), k, u)) > 0; asked != tc.asked {
				t.Errorf("the engine was asked: %t, want %t: %s", asked, tc.asked, tc.reason)
			}
		})
	}
}

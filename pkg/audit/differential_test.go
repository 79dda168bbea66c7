package audit_test

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/audit"
	"github.com/fusegate/fusegate/pkg/policy"
)

var (
	seeds = flag.Int("seeds", 3, "how many random histories TestDifferential goes through")
	steps = flag.Int("steps", 200, "how long each of them is")
)

// TestDifferential compares, after a random history of objects, labels of
// namespaces, constraints, templates, dropped watches and forgotten versions,
// what was followed with what a list of everything gives, and with what an
// auditor finds that starts then.
func TestDifferential(t *testing.T) {
	w := newWorld(t, audit.Options{Limit: audit.MaxLimit})
	for seed := range *seeds {
		h := &history{world: w, rand: rand.New(rand.NewPCG(uint64(seed), 1)), constraints: map[string]string{}}
		h.template("Wants", "lacks")
		for range *steps {
			h.step()
		}
		w.wire.cut("none", false)
		want := h.audit()
		w.await(fmt.Sprintf("seed %d: what was followed to be what a list gives", seed), want)
		followed := w.run
		w.start(audit.Options{Limit: audit.MaxLimit})
		w.await(fmt.Sprintf("seed %d: a fresh audit", seed), want)
		w.stop()
		w.run = followed
		if got := w.sink.lines(); !gocmp.Equal(want, got) {
			t.Errorf("seed %d: (-want +got):\n%s", seed, gocmp.Diff(want, got))
		}
		t.Logf("seed %d: %d constraints, %d lines", seed, len(want), count(want))
		h.clean()
	}
}

func count(lines map[string][]string) int {
	n := 0
	for _, l := range lines {
		n += len(l)
	}
	return n
}

// history is a random one, and what there is after it.
type history struct {
	*world
	rand        *rand.Rand
	constraints map[string]string // by name: its kind
	held        int               // steps until watches are possible again
}

func (h *history) step() {
	if h.held--; h.held == 0 {
		h.wire.cut("none", false)
	}
	switch n := h.rand.IntN(100); {
	case n < 50:
		h.write()
	case n < 63:
		h.delete()
	case n < 74:
		h.namespace(h.place(), h.labels()...)
	case n < 85:
		h.change()
	case n < 90:
		h.drop()
	case n < 92:
		h.template("Wants", h.pick("lacks", "needs", "misses"))
	case n < 96:
		h.wire.cut(h.pick("/configmaps", "/secrets", "/namespaces"), false)
	case n < 98:
		h.wire.cut(h.pick("/configmaps", "/secrets", "/namespaces"), true)
		h.held = 5 + h.rand.IntN(10)
	default:
		compact(h.t)
	}
	if h.rand.IntN(20) == 0 {
		// Let it get abreast, or else only the end is ever seen.
		h.rounds(h.rand.IntN(7))
	}
}

// rounds returns when results have been handed over so many times more.
func (h *history) rounds(n int) {
	h.t.Helper()
	from := h.sink.times()
	await(h.t, "results to be handed over", func() error {
		if got := h.sink.times() - from; got < n {
			return fmt.Errorf("%d times of %d", got, n)
		}
		return nil
	})
}

func (h *history) pick(of ...string) string { return of[h.rand.IntN(len(of))] }

func (h *history) place() string {
	return h.pick("diff-a", "diff-b", "diff-c", "diff-d", "kube-public")
}

func (h *history) name() string { return fmt.Sprintf("o%d", h.rand.IntN(15)) }

func (h *history) labels() []string {
	var out []string
	for _, key := range []string{"owner", "team", "area"} {
		if h.rand.IntN(2) == 0 {
			out = append(out, key+": "+h.pick("p", "q"))
		}
	}
	if h.rand.IntN(20) == 0 {
		out = append(out, "broken: p")
	}
	return out
}

func (h *history) write() {
	place := h.place()
	if _, err := h.admin.Resource(namespaces).Get(h.t.Context(), place, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		h.namespace(place, h.labels()...)
	}
	h.object(h.pick("ConfigMap", "Secret"), place, h.name(), h.labels()...)
}

func (h *history) delete() {
	gvr := configMaps
	if h.rand.IntN(2) == 0 {
		gvr = secrets
	}
	err := h.admin.Resource(gvr).Namespace(h.place()).Delete(h.t.Context(), h.name(), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		h.t.Fatal(err)
	}
}

// change adds a constraint, or replaces it by one that matches otherwise.
func (h *history) change() {
	name := h.pick("k", "l", "m", "o")
	match := `kinds: [{apiGroups: [""], kinds: [` + h.pick("ConfigMap", "Secret", "Namespace", "ConfigMap, Secret", "Widget") + `]}]`
	match += h.pick("", "", `, namespaces: ["diff-*", "kube-public"]`, `, excludedNamespaces: [diff-a]`, `, scope: Namespaced`)
	match += h.pick("", "", "", `, namespaceSelector: {matchLabels: {team: p}}`, `, namespaceSelector: {matchExpressions: [{key: team, operator: DoesNotExist}]}`)
	match += h.pick("", "", "", `, labelSelector: {matchLabels: {area: q}}`)
	h.constraint("Wants", name, h.pick("owner", "team", "area"), "{"+match+"}")
	h.constraints[name] = "Wants"
}

func (h *history) drop() {
	name := h.pick("k", "l", "m", "o")
	h.removeConstraint("Wants", name)
	delete(h.constraints, name)
}

// clean leaves nothing for the next history but namespaces.
func (h *history) clean() {
	for name := range h.constraints {
		h.removeConstraint("Wants", name)
	}
}

// audit is the plainest audit there is: it lists everything and reviews it.
func (h *history) audit() map[string][]string {
	type found struct{ key, line string }
	all := map[string][]found{}
	faulty := map[string]bool{}
	for name := range h.constraints {
		all[name] = nil
	}
	places := map[string]map[string]any{}
	for _, u := range h.list(namespaces) {
		u.SetManagedFields(nil)
		places[u.GetName()] = u.Object
	}
	for _, gvr := range []schema.GroupVersionResource{configMaps, secrets, namespaces} {
		for _, u := range h.list(gvr) {
			r := &policy.Review{
				Kind: u.GroupVersionKind(), Name: u.GetName(), Namespace: u.GetNamespace(), Object: u.Object, Point: policy.PointAudit,
				NamespaceObject: policy.Namespace{Known: places[u.GetNamespace()] != nil, Object: places[u.GetNamespace()]},
			}
			result := h.engine.Review(h.t.Context(), r)
			exempt, home := "", cmp.Or(u.GetNamespace(), u.GetName())
			if slices.Contains([]string{"kube-system", "kube-public", "kube-node-lease"}, home) {
				exempt = "exempt "
			}
			for _, v := range result.Violations {
				key := fmt.Sprintf("%s/%s/%s/%s/%s", exempt, u.GetKind(), u.GetNamespace(), u.GetName(), v.Message)
				line := fmt.Sprintf("%s%s %s/%s %s", exempt, u.GetKind(), u.GetNamespace(), u.GetName(), v.Message)
				all[v.Constraint.Name] = append(all[v.Constraint.Name], found{key, line})
			}
			for _, f := range result.Faults {
				faulty[f.Constraint.Name] = true
			}
		}
	}
	out := map[string][]string{}
	for name, list := range all {
		slices.SortFunc(list, func(a, b found) int { return cmp.Compare(a.key, b.key) })
		out[name] = []string{}
		for _, f := range list {
			out[name] = append(out[name], f.line)
		}
		if faulty[name] {
			out[name] = append(out[name], "Faults")
		}
	}
	return out
}

func (h *history) list(gvr schema.GroupVersionResource) []unstructured.Unstructured {
	h.t.Helper()
	list, err := h.admin.Resource(gvr).List(h.t.Context(), metav1.ListOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return list.Items
}

package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/status"
	"github.com/fusegate/fusegate/pkg/timing"
)

// clock is set by hand.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

// namespace is one for the Leases of a test.
func namespace(t *testing.T, c client.Client, name string) string {
	t.Helper()
	u := parse("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + name + "}")
	if err := c.Create(t.Context(), u); client.IgnoreAlreadyExists(err) != nil {
		t.Fatal(err)
	}
	return name
}

// leaseAt is the Lease of a pod that was renewed at a time of the pod's clock.
func leaseAt(pod string, renewed int64) *coordinationv1.Lease {
	l := NewPresence(nil, "", pod, logr.Discard()).lease()
	at := metav1.NewMicroTime(time.Unix(renewed, 0))
	l.Spec.HolderIdentity, l.Spec.RenewTime = &pod, &at
	return l
}

func TestCensus(t *testing.T) {
	at := &clock{time.Unix(1e9, 0)} // far from the Leases' own time
	census := newCensus(at.now)
	news := 0
	census.tell(func() { news++ })
	check := func(step, want string) {
		t.Helper()
		alive, next, _ := census.alive()
		absent := census.absent(map[string]bool{"pod": true, "other": true})
		left := time.Duration(0)
		if !next.IsZero() {
			left = next.Sub(at.at)
		}
		if got := fmt.Sprintf("alive %d for %v dead %d absent %q news %d", len(alive), left, len(census.dead()), absent, news); got != want {
			t.Errorf("%s: got %s, want %s", step, got, want)
		}
	}
	check("without Leases", `alive 0 for 0s dead 0 absent [] news 0`)
	census.saw(leaseAt("pod", 1))
	check("the pod has shown itself", `alive 1 for 20s dead 0 absent [] news 1`)
	at.at = at.at.Add(timing.Production().PresenceRenew)
	census.saw(leaseAt("pod", 6))
	check("it renews its Lease", `alive 1 for 20s dead 0 absent [] news 1`)
	at.at = at.at.Add(timing.Production().PresenceRenew)
	census.saw(leaseAt("pod", 6))
	check("its Lease is seen again", `alive 1 for 15s dead 0 absent [] news 1`)
	at.at = at.at.Add(timing.Production().PresenceTimeout - timing.Production().PresenceRenew)
	check("just in time", `alive 1 for 0s dead 0 absent ["other"] news 1`)
	at.at = at.at.Add(time.Second)
	check("its Lease has run out", `alive 0 for 0s dead 1 absent ["other"] news 1`)
	census.saw(leaseAt("pod", 32))
	check("it has come back", `alive 1 for 20s dead 0 absent ["other"] news 2`)
	census.lost(leaseAt("pod", 32))
	check("it took its leave", `alive 0 for 0s dead 0 absent ["other"] news 3`)
	at.at = at.at.Add(timing.Production().PresenceTimeout + time.Second)
	absent := census.absent(map[string]bool{"pod": true})
	if diff := cmp.Diff([]string{"pod"}, absent); diff != "" {
		t.Errorf("long after (-want +got):\n%s", diff)
	}
}

// TestPresence starts, lives and takes its leave.
func TestPresence(t *testing.T) {
	_, c := admin(t)
	ns := namespace(t, c, "presence")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	p := NewPresence(c, ns, "pod", logr.Discard())
	p.Timings = soon
	go func() { ended <- p.Start(ctx) }()
	lease := &coordinationv1.Lease{}
	at := client.ObjectKeyFromObject(p.lease())
	await(t, "the Lease", func() error { return c.Get(t.Context(), at, lease) })

	// Who takes the label away must not make it look dead.
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":null}}`))
	if err := c.Patch(t.Context(), lease, patch); err != nil {
		t.Fatal(err)
	}
	await(t, "the label", func() error {
		if err := c.Get(t.Context(), at, lease); err != nil {
			return err
		}
		if lease.Labels[v1alpha1.LabelPresence] != "true" {
			return fmt.Errorf("labels %v", lease.Labels)
		}
		return nil
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := c.Get(t.Context(), at, lease); !apierrors.IsNotFound(err) {
		t.Errorf("after its end: %v, want the Lease gone", err)
	}
}

// listings counts the lists that are asked for.
type listings struct {
	client.Reader
	n int
}

func (l *listings) List(ctx context.Context, list client.ObjectList, o ...client.ListOption) error {
	l.n++
	return l.Reader.List(ctx, list, o...)
}

// TestJanitor has five kinds of entries: of a pod that lives, of one whose
// Lease has run out, of one that never had any, of one whose Lease comes late,
// and one of Gatekeeper's.
func TestJanitor(t *testing.T) {
	_, c := admin(t)
	leader := run(t, "janitor-leader", processOptions{})
	removeTemplate(t, c, "JanitorKind")
	apply(t, c, template("JanitorKind", "word", "string"))
	for _, name := range []string{"sound", "unfit"} {
		apply(t, c, constraint("JanitorKind", name, "1"))
	}
	objects := []key{{name: "janitorkind"}, {"JanitorKind", "sound"}, {"JanitorKind", "unfit"}}
	for _, k := range objects {
		awaitEntry(t, c, k, "janitor-leader", "")
		foreignEntry(t, c, k)
		for _, pod := range []string{"alive", "dead", "absent", "late"} {
			w, err := status.NewWriter(c, pod, nil)
			if err != nil {
				t.Fatal(err)
			}
			if k.kind == "" {
				err = w.Template(t.Context(), get(t, c, k), nil, nil, "")
			} else {
				err = w.Constraint(t.Context(), get(t, c, k), true, nil, status.Faults{})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	// From here on nothing can be applied to the constraints.
	apply(t, c, template("JanitorKind", "word", "integer"))
	awaitEntry(t, c, objects[2], "janitor-leader", "stays in force")
	leader.stop()

	ns := namespace(t, c, "janitor")
	at := &clock{time.Unix(1e9, 0)}
	reader := &listings{Reader: c}
	j := NewJanitor(c, reader, ns, newCensus(at.now), logr.Discard())
	round := func(pods ...string) {
		t.Helper()
		for _, pod := range pods {
			p := NewPresence(c, ns, pod, logr.Discard())
			if err := p.renew(t.Context()); err != nil {
				t.Fatal(err)
			}
			lease := &coordinationv1.Lease{}
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(p.lease()), lease); err != nil {
				t.Fatal(err)
			}
			if pod != "late" {
				j.census.saw(lease)
			}
		}
		if err := j.round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	check := func(step string, want ...string) {
		t.Helper()
		for _, k := range objects {
			got := slices.Sorted(maps.Keys(status.Entries(get(t, c, k))))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: entries of %s (-want +got):\n%s", step, k, diff)
			}
		}
	}
	round("alive", "dead", "janitor-leader")
	at.at = at.at.Add(timing.Production().PresenceTimeout)
	round("alive", "janitor-leader")
	check("in time", "absent", "alive", "dead", "gatekeeper-audit-0", "janitor-leader", "late")
	if reader.n > 0 {
		t.Errorf("%d lists were asked for though nobody is gone", reader.n)
	}
	at.at = at.at.Add(time.Second)
	round("alive", "late") // whose Lease the cache does not show yet
	check("after the time", "alive", "gatekeeper-audit-0", "janitor-leader", "late")
	var leases coordinationv1.LeaseList
	if err := c.List(t.Context(), &leases, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	if got := len(leases.Items); got != 3 {
		t.Errorf("%d Leases, want those of the living", got)
	}
	asked := reader.n
	round("alive")
	if reader.n != asked {
		t.Errorf("%d lists were asked for after everything was removed", reader.n-asked)
	}
	if !j.swept["gatekeeper-audit-0"] || len(j.swept) != 1 {
		t.Errorf("looks again for all but %v, want Gatekeeper's pod alone", j.swept)
	}
}

// foreignEntry writes an entry as Gatekeeper does: by an update.
func foreignEntry(t *testing.T, c client.Client, k key) {
	t.Helper()
	await(t, "the update", func() error {
		u := get(t, c, k)
		list := u.Object["status"].(map[string]any)["byPod"].([]any)
		u.Object["status"].(map[string]any)["byPod"] = append(list, map[string]any{"id": "gatekeeper-audit-0", "observedGeneration": int64(1)})
		return c.Status().Update(t.Context(), u, client.FieldOwner("gatekeeper"))
	})
}

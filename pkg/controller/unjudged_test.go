package controller

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/gap"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/timing"
)

// findsOnce is a Reviewer that finds one violation, by two of its rules, in everything.
type findsOnce struct{ seen chan *policy.Review }

func (f findsOnce) Review(_ context.Context, r *policy.Review) policy.Result {
	select {
	case f.seen <- r:
	default:
	}
	v := policy.Violation{Constraint: policy.Constraint{Kind: "Labels", Name: "owner"}}
	return policy.Result{Violations: []policy.Violation{v, v}}
}

type anyNamespace struct{}

func (anyNamespace) Namespace(_ context.Context, name string) policy.Namespace {
	return policy.Namespace{Known: true, Object: map[string]any{"metadata": map[string]any{"name": name}}}
}

// TestUnjudged: of what webhooks claim, the objects that are there with that UID are
// judged and listed until they are gone, and nothing else is.
func TestUnjudged(t *testing.T) {
	_, c := admin(t)
	const place = "unjudged"
	namespace(t, c, place)
	created := func(name string) *unstructured.Unstructured {
		u := parse("{apiVersion: v1, kind: ConfigMap, metadata: {name: " + name + ", namespace: " + place + "}}")
		if err := c.Create(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		return u
	}
	passed := created("passed")
	created("other")
	recorder := &gap.Recorder{}
	claim := func(kind, name string) gap.Passed {
		return gap.Passed{Version: "v1", Kind: kind, Namespace: place, Name: name, UID: passed.GetUID(), At: time.Now().Unix()}
	}
	recorder.Record("a", claim("ConfigMap", "passed"))
	forged := []gap.Passed{claim("ConfigMap", "other"), claim("ConfigMap", "not-there"), claim("Nothing", "x"), claim("ConfigMap", "")}
	for i := range forged {
		forged[i].UID += "-forged"
		recorder.Record("forger", forged[i])
	}
	presence := NewPresence(c, place, "webhook-1", logr.Discard())
	presence.Says = recorder.Annotations
	if err := presence.renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	reviewer := findsOnce{make(chan *policy.Review, 1)}
	timings := timing.Timings{PresenceRenew: 50 * time.Millisecond}
	u := NewUnjudged(UnjudgedOptions{Cached: c, Live: c, Namespace: place, Reviewer: reviewer, Namespaces: anyNamespace{}, Timings: timings, Log: logr.Discard()})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- u.Start(ctx) }()
	await(t, "what passed to be listed", func() error {
		if len(u.List()) == 0 {
			return errors.New("nothing is")
		}
		return nil
	})
	got := u.List()
	got[0].Time = metav1.Time{}
	want := []v1alpha1.UnjudgedObject{{
		Version: "v1", Kind: "ConfigMap", Namespace: place, Name: "passed", UID: string(passed.GetUID()), Violates: []string{"Labels/owner"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what is listed (-want +got):\n%s", diff)
	}
	if r := <-reviewer.seen; r.Point != policy.PointAudit || r.Name != "passed" || !r.NamespaceObject.Known {
		t.Errorf("it was judged as %+v", r)
	}
	if err := c.Delete(t.Context(), passed); err != nil {
		t.Fatal(err)
	}
	await(t, "what is gone to be taken off", func() error {
		if n := len(u.List()); n > 0 {
			return fmt.Errorf("%d are listed", n)
		}
		return nil
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestUnjudgedMakesRoom: what breaks no policy does not push what does off the list.
func TestUnjudgedMakesRoom(t *testing.T) {
	u := NewUnjudged(UnjudgedOptions{})
	for i := range maxUnjudged + 10 {
		x := v1alpha1.UnjudgedObject{UID: fmt.Sprint(i), Time: metav1.NewTime(time.Unix(int64(i), 0))}
		if i == 0 {
			x.Violates = []string{"Labels/owner"}
		}
		u.note(gap.Passed{UID: types.UID(x.UID)}, &x)
	}
	got := u.List()
	if n := len(got); n != maxUnjudged || got[n-1].UID != "0" || got[n-2].UID != "11" {
		t.Errorf("%d are listed, and last %v and %v", n, got[n-2], got[n-1])
	}
}

// TestUnjudgedBehindStrangers: claims of kinds that are not served do not keep others
// from being looked at.
func TestUnjudgedBehindStrangers(t *testing.T) {
	_, c := admin(t)
	const place = "unjudged-strangers"
	namespace(t, c, place)
	recorder := &gap.Recorder{}
	u := NewUnjudged(UnjudgedOptions{Cached: c, Live: c, Namespace: place, Reviewer: findsOnce{}, Namespaces: anyNamespace{}, Log: logr.Discard()})
	presence := NewPresence(c, place, "webhook-1", logr.Discard())
	presence.Says = recorder.Annotations
	for _, name := range []string{"first", "second"} {
		object := parse("{apiVersion: v1, kind: ConfigMap, metadata: {name: " + name + ", namespace: " + place + "}}")
		if err := c.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
		recorder.Record("a", gap.Passed{Version: "v1", Kind: "ConfigMap", Namespace: place, Name: name, UID: object.GetUID(), At: time.Now().Unix()})
		if err := presence.renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := u.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range 2 * strangersPerRound {
			recorder.Record("forger", gap.Passed{Group: fmt.Sprintf("g%d.example.com", i), Version: "v1", Kind: "Nothing", Name: "x", UID: types.UID(fmt.Sprint("forged-", i)), At: time.Now().Unix()})
		}
	}
	if got := u.List(); len(got) != 2 {
		t.Errorf("listed %v, want both", got)
	}
}

package controller

import (
	"fmt"
	"testing"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/status"
)

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

// TestCheckOfReady asks which templates are compiled for being published, by one
// that does not compile.
func TestCheckOfReady(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		status string
		of     int64
		want   bool
	}{
		"Ready":    {"all processes have compiled it", "True", 2, false},
		"NotReady": {"one of them could not", "False", 2, true},
		"Changed":  {"it was another version that they compiled", "True", 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := engine.New()
			if err != nil {
				t.Fatal(err)
			}
			u := template("Broken", "word", "string")
			u.SetName("another") // than its kind
			u.SetGeneration(2)
			u.Object["status"] = map[string]any{"conditions": []any{
				map[string]any{"type": v1alpha1.ConditionReady, "status": tc.status, "reason": "x", "observedGeneration": tc.of},
			}}
			first := &edition{}
			for range 2 {
				if compiled := first.check(t.Context(), e, u) != nil; compiled != tc.want {
					t.Errorf("compiled: %t, want %t: %s", compiled, tc.want, tc.reason)
				}
			}
		})
	}
}

// TestTakesOver has a publisher start when all is in order: it makes sure of the
// CRD all the same, which somebody has changed meanwhile.
func TestTakesOver(t *testing.T) {
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
	run(t, "takeover-second", processOptions{})
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

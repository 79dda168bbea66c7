package install_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/install"
)

// restricted is ownConfig with sources.
func restricted(t *testing.T, sources ...string) config.Config {
	c := ownConfig(t)
	c.WebhookSources = sources
	return c
}

// deployments are those of a plan, by name.
func deployments(t *testing.T, plan install.Plan) map[string]appsv1.Deployment {
	t.Helper()
	out := map[string]appsv1.Deployment{}
	for _, u := range plan.Objects {
		if u.GetKind() != "Deployment" {
			continue
		}
		d := appsv1.Deployment{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &d); err != nil {
			t.Fatal(err)
		}
		out[d.Name] = d
	}
	return out
}

// TestNetworkPolicy checks the policy against the pods that it is for: a port or a
// label that changes in a manifest must change here, too.
func TestNetworkPolicy(t *testing.T) {
	if got := render(t, ownConfig(t)).NetworkPolicy; got != nil {
		t.Errorf("without sources: got %v, want none", got)
	}
	plan := render(t, restricted(t, "192.0.2.0/28", "2001:db8::/64"))
	policy := networkingv1.NetworkPolicy{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(plan.NetworkPolicy.Object, &policy, true); err != nil {
		t.Fatal(err)
	}
	pods := deployments(t, plan)
	for name, want := range map[string]bool{"fusegate-webhook": true, "fusegate-controller": false} {
		if got := selects(t, &policy.Spec.PodSelector, pods[name]); got != want {
			t.Errorf("it selects the pods of %s: %t, want %t", name, got, want)
		}
	}
	if !slices.Equal(policy.Spec.PolicyTypes, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}) {
		t.Errorf("got types %v: what the pods connect to is not its business", policy.Spec.PolicyTypes)
	}
	limited, open, cidrs := []int32{}, []int32{}, []string{}
	for _, rule := range policy.Spec.Ingress {
		to := &open
		if len(rule.From) > 0 {
			to = &limited
		}
		for _, p := range rule.Ports {
			*to = append(*to, p.Port.IntVal)
		}
		for _, from := range rule.From {
			if from.IPBlock != nil {
				cidrs = append(cidrs, from.IPBlock.CIDR)
			} else if from.NamespaceSelector != nil || !selects(t, from.PodSelector, pods["fusegate-controller"]) {
				t.Errorf("got peer %v, want the controller, which arms only what answers it", from)
			}
		}
	}
	wantLimited, wantOpen := []int32{}, []int32{}
	for _, p := range pods["fusegate-webhook"].Spec.Template.Spec.Containers[0].Ports {
		if p.Name == "https" {
			wantLimited = append(wantLimited, p.ContainerPort)
			continue
		}
		wantOpen = append(wantOpen, p.ContainerPort)
	}
	if diff := cmp.Diff([]any{wantLimited, wantOpen, []string{"192.0.2.0/28", "2001:db8::/64"}}, []any{limited, open, cidrs}); diff != "" {
		t.Errorf("ports for sources, ports for all, sources (-pods +policy):\n%s", diff)
	}
}

func selects(t *testing.T, s *metav1.LabelSelector, d appsv1.Deployment) bool {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return selector.Matches(labels.Set(d.Spec.Template.Labels))
}

func networkPolicy(t *testing.T) *unstructured.Unstructured {
	u := named("networking.k8s.io/v1", "NetworkPolicy", install.NetworkPolicyName)
	u.SetNamespace(ownConfig(t).Namespace)
	return u
}

// TestRestrict goes through what becomes of the NetworkPolicy on a real API server,
// where the test says whether API servers are answered. That a webhook which stops
// has it taken back is tested with the whole command.
func TestRestrict(t *testing.T) {
	c := fresh(t)
	first, second := restricted(t, "192.0.2.0/28"), restricted(t, "198.51.100.0/24")
	step := func(cfg config.Config, o install.ApplyOptions) (actions []install.Action) {
		t.Helper()
		changes, err := render(t, cfg).Apply(t.Context(), c, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range changes {
			if change.Object.Kind == "NetworkPolicy" {
				actions = append(actions, change.Action)
			}
		}
		return actions
	}
	want := func(reason string, got []install.Action, live bool, want ...install.Action) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: actions (-want +got):\n%s", reason, diff)
		}
		if got := exists(t, c, networkPolicy(t)); got != live {
			t.Errorf("%s: it is there: %t, want %t", reason, got, live)
		}
	}
	restrict := func(cfg config.Config, answered func(context.Context) error) ([]install.Action, error) {
		t.Helper()
		var actions []install.Action
		changes, err := render(t, cfg).Restrict(t.Context(), c, install.RestrictOptions{Answered: answered, Timeout: time.Second, Watch: time.Second})
		for _, change := range changes {
			actions = append(actions, change.Action)
		}
		return actions, err
	}
	always := func(context.Context) error { return nil }
	broken := errors.New("the webhook does not answer API server a")
	never := func(context.Context) error { return broken }
	withoutIt := func(context.Context) error { // answered as long as it is not there
		if exists(t, c, networkPolicy(t)) {
			return broken
		}
		return nil
	}
	fails := func(reason string, err error, text string) {
		t.Helper()
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), "webhookSources must hold") {
			t.Errorf("%s: got error %v, want one with %q and what to do", reason, err, text)
		}
	}

	want("Apply leaves it to Restrict", step(first, install.ApplyOptions{}), false)
	want("a dry run says what Restrict would do", step(first, install.ApplyOptions{DryRun: true}), false, install.Created)
	got, err := restrict(first, never)
	fails("no API server is answered before", err, "without it")
	want("then it is not applied", got, false)
	got, err = restrict(first, withoutIt)
	fails("it shuts an API server out", err, "it was taken back: with it, the webhook does not answer API server a")
	want("then it is taken back", got, false, install.Created, install.Deleted)
	blips := 0
	got, err = restrict(first, func(context.Context) error {
		if blips++; blips == 2 {
			return broken
		}
		return nil
	})
	if err != nil {
		t.Errorf("one lost packet is no outage, got error %v", err)
	}
	want("it stays", got, true, install.Created)
	if got, err = restrict(first, always); err != nil {
		t.Error(err)
	}
	want("a second run asks again", got, true, install.Unchanged)
	want("the same stays while the rest is applied", step(first, install.ApplyOptions{}), true)
	want("another would be a change", step(second, install.ApplyOptions{DryRun: true}), true, install.Configured)
	want("another is out of the way first", step(second, install.ApplyOptions{}), false, install.Deleted)
	if _, err = restrict(second, always); err != nil {
		t.Error(err)
	}
	got, err = restrict(second, never)
	fails("API servers have moved", err, "without it")
	want("one of an earlier run does not stay either", got, false, install.Deleted)
	if _, err = restrict(second, always); err != nil {
		t.Error(err)
	}
	want("emptied, in a dry run", step(ownConfig(t), install.ApplyOptions{DryRun: true}), true, install.Deleted)
	want("emptied", step(ownConfig(t), install.ApplyOptions{}), false, install.Deleted)
	foreignStays(t, c, first)
}

// foreignStays checks that a NetworkPolicy of that name, but of somebody else's, is
// neither taken over nor removed.
func foreignStays(t *testing.T, c client.Client, cfg config.Config) {
	t.Helper()
	foreign := networkPolicy(t)
	foreign.Object["spec"] = map[string]any{"podSelector": map[string]any{}, "policyTypes": []any{"Ingress"}, "ingress": []any{map[string]any{}}}
	serverSide(t, c, "somebody", foreign)
	conflict := &install.ConflictError{}
	if _, err := render(t, cfg).Restrict(t.Context(), c, install.RestrictOptions{Answered: func(context.Context) error { return nil }}); !errors.As(err, &conflict) {
		t.Errorf("got error %v, want a conflict", err)
	}
	for _, cfg := range []config.Config{cfg, ownConfig(t)} {
		if _, err := render(t, cfg).Apply(t.Context(), c, install.ApplyOptions{}); err != nil {
			t.Error(err)
		}
	}
	if !exists(t, c, networkPolicy(t)) {
		t.Error("somebody else's was removed")
	}
}

// TestRestrictInterrupted ends the run while it watches: what is not proven does not
// stay.
func TestRestrictInterrupted(t *testing.T) {
	c := fresh(t)
	plan := render(t, restricted(t, "192.0.2.0/28"))
	if _, err := plan.Apply(t.Context(), c, install.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := plan.Restrict(ctx, c, install.RestrictOptions{Answered: func(context.Context) error {
		if exists(t, c, networkPolicy(t)) {
			cancel()
		}
		return nil
	}})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "interrupted") || exists(t, c, networkPolicy(t)) {
		t.Errorf("got error %v, want it interrupted and the NetworkPolicy gone", err)
	}
	// It is removed with the rest.
	if _, err := plan.Restrict(t.Context(), c, install.RestrictOptions{Answered: func(context.Context) error { return nil }, Watch: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	changes, err := install.Remove(t.Context(), c, ownConfig(t), install.RemoveOptions{})
	if err != nil || len(changes) < 2 || changes[0].Object.Kind != "ValidatingWebhookConfiguration" || changes[1].Object.Kind != "NetworkPolicy" || changes[1].Action != install.Deleted {
		t.Errorf("got changes %v (%v), want the webhook configuration removed first, then the NetworkPolicy", changes, err)
	}
}

package install_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

// TestWaitNamesWhatIsMissing checks the words at the deadline. That a wait ends
// well is tested with the whole command, which has a backend.
func TestWaitNamesWhatIsMissing(t *testing.T) {
	c := fresh(t)
	apply(t, c, install.ApplyOptions{})
	for name, replicas := range map[string]int32{"fusegate-webhook": 3, "fusegate-controller": 2} {
		d := &appsv1.Deployment{}
		await(t.Context(), t, "the pods", func(ctx context.Context) (bool, error) {
			err := c.Get(ctx, client.ObjectKey{Namespace: ownConfig(t).Namespace, Name: name}, d)
			return d.Status.UpdatedReplicas == replicas, err
		})
	}
	var progress []string
	err := render(t, ownConfig(t)).Wait(t.Context(), c, install.WaitOptions{
		Timeout: time.Second, Progress: func(line string) { progress = append(progress, line) },
	})
	if err == nil {
		t.Fatal("got no error, though nothing runs here")
	}
	ns := ownConfig(t).Namespace
	for _, want := range []string{
		"waiting for 1s was not enough",
		"Deployment " + ns + "/fusegate-webhook: 0 of 3 pods available",
		"Deployment " + ns + "/fusegate-controller: 0 of 2 pods available",
		"ValidatingWebhookConfiguration fusegate: entry validation.fusegate.dev has no rules yet, entry policies.fusegate.dev has no rules yet, entry probe.fusegate.dev has no rules yet; the controller arms it",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got error %q, want one with %q", err, want)
		}
	}
	if len(progress) != 3 {
		t.Errorf("got progress %q, want a line for each thing once", progress)
	}

	outside := render(t, config.Config{Namespace: ns, WebhookURL: "https://127.0.0.1:1", CABundle: fixedCA(t)})
	err = outside.Wait(t.Context(), c, install.WaitOptions{Timeout: time.Second})
	if want := "webhook at https://127.0.0.1:1/v1/admit: "; err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "Deployment") {
		t.Errorf("got error %v, want one with %q and no Deployment", err, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := outside.Wait(ctx, c, install.WaitOptions{}); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("got error %v, want that it was interrupted", err)
	}
}

// TestWaitRollout goes through a roll-out as the controller manager reports it,
// on a control plane where none runs.
func TestWaitRollout(t *testing.T) {
	cp := env.Start(t, controlplane.Options{})
	c := as(t, cp.Config(controlplane.Admin))
	cfg := ownConfig(t)
	cfg.ControllerReplicas = 1
	plan := render(t, cfg)
	if _, err := plan.Apply(t.Context(), c, install.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	report := func(name string, s appsv1.DeploymentStatus) {
		t.Helper()
		d := &appsv1.Deployment{}
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: cfg.Namespace, Name: name}, d); err != nil {
			t.Fatal(err)
		}
		d.Status = s
		if err := c.Status().Update(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	report("fusegate-controller", appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1})
	failed := []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: "True", Message: "exceeded quota"}}
	for name, tc := range map[string]struct {
		reason, want string // "" if the Deployment is not what is missing
		status       appsv1.DeploymentStatus
	}{
		"Unseen":    {"the status is that of an earlier generation", "what was applied has not been looked at yet", appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, ReadyReplicas: 3, AvailableReplicas: 3}},
		"Creating":  {"pods of the old template do not count", "1 of 3 pods created", appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 4, UpdatedReplicas: 1, ReadyReplicas: 3, AvailableReplicas: 3}},
		"Starting":  {"the pods must be available", "2 of 3 pods available", appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 3, UpdatedReplicas: 3, ReadyReplicas: 2, AvailableReplicas: 2}},
		"Leftovers": {"the old ones still answer", "1 old pods are still there", appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 4, UpdatedReplicas: 3, ReadyReplicas: 4, AvailableReplicas: 4}},
		"Refused":   {"why pods are not created is said", "0 of 3 pods created (exceeded quota)", appsv1.DeploymentStatus{ObservedGeneration: 1, Conditions: failed}},
		"Done":      {"only the arming is left", "", appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 3, UpdatedReplicas: 3, ReadyReplicas: 3, AvailableReplicas: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			report("fusegate-webhook", tc.status)
			err := cmpMissing(lookOnce(t, c, plan, 3), tc.want)
			if err != nil {
				t.Errorf("%s: %v", tc.reason, err)
			}
		})
	}
}

// TestWaitForTheRevision checks that rules which were made for another
// perimeter are not taken for those of the plan.
func TestWaitForTheRevision(t *testing.T) {
	c := fresh(t)
	apply(t, c, install.ApplyOptions{})
	canaries := []any{map[string]any{"operations": []any{"CREATE"}, "apiGroups": []any{"fusegate.dev"}, "apiVersions": []any{"*"}, "resources": []any{"canaries"}}}
	stale := exempt.RevisionCondition("0123456789abcdef")
	arming := webhookConfiguration()
	arming.Object["webhooks"] = []any{
		map[string]any{"name": string(exempt.PolicyEntry), "rules": canaries, "matchConditions": []any{map[string]any{"name": stale.Name, "expression": stale.Expression}}},
		map[string]any{"name": string(exempt.EngineEntry), "rules": canaries},
		map[string]any{"name": string(exempt.ProbeEntry), "rules": canaries},
	}
	serverSide(t, c, "fusegate-arm", arming)
	err := lookOnce(t, c, render(t, ownConfig(t)), 3)
	if want := "ValidatingWebhookConfiguration fusegate: the rules are those of an earlier configuration"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v, want one with %q", err, want)
	}
}

// lookOnce waits for a plan until it was said of all the things that there are to
// wait for how they are.
func lookOnce(t *testing.T, c client.Client, plan install.Plan, things int) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return plan.Wait(ctx, c, install.WaitOptions{Progress: func(string) {
		if things--; things == 0 {
			cancel()
		}
	}})
}

// cmpMissing compares an error of Wait with what is to be missing of the
// webhook's Deployment.
func cmpMissing(err error, want string) error {
	switch {
	case err == nil || !strings.Contains(err.Error(), "has no rules yet"):
		return errors.Join(errors.New("want the arming missing"), err)
	case strings.Contains(err.Error(), "fusegate-controller"):
		return errors.Join(errors.New("want the controller not missing"), err)
	case want == "" && strings.Contains(err.Error(), "Deployment"), !strings.Contains(err.Error(), "/fusegate-webhook: "+want) && want != "":
		return errors.Join(errors.New("want "+want), err)
	}
	return nil
}

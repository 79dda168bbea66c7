package install_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/install"
)

func definition(name string) *unstructured.Unstructured {
	return named("apiextensions.k8s.io/v1", "CustomResourceDefinition", name+".openreports.io")
}

// TestDefinitions installs the kinds of reports beside those of somebody else,
// and the rights to write them.
func TestDefinitions(t *testing.T) {
	c := fresh(t)
	t.Cleanup(func() {
		for _, name := range []string{"reports", "clusterreports"} {
			if err := c.Delete(context.Background(), definition(name)); client.IgnoreNotFound(err) != nil {
				t.Errorf("cleaning up: %v", err)
			}
		}
	})
	cfg := ownConfig(t)
	cfg.Reports = []string{"openreports"}
	plan := render(t, cfg)
	theirs := plan.Definitions[0].DeepCopy()
	theirs.SetLabels(map[string]string{"app.kubernetes.io/part-of": "other"})
	if err := unstructured.SetNestedStringSlice(theirs.Object, []string{"theirs"}, "spec", "names", "shortNames"); err != nil {
		t.Fatal(err)
	}
	serverSide(t, c, "helm", theirs)
	version := func(name string) string {
		u := definition(name)
		if !exists(t, c, u) {
			t.Fatalf("%s is gone", name)
		}
		// The API server itself writes the status.
		return fmt.Sprint(u.GetUID(), u.GetGeneration(), u.GetLabels(), u.Object["spec"])
	}
	await := func(what string, want ...string) {
		t.Helper()
		changes, err := plan.Apply(t.Context(), c, install.ApplyOptions{Force: true, TakeOverCRDs: true})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		var got []string
		for _, change := range changes {
			if strings.HasSuffix(change.Object.Name, ".openreports.io") {
				got = append(got, fmt.Sprintf("%s %s", change.Object.Name, change.Action))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	await("one of them is there", "reports.openreports.io kept", "clusterreports.openreports.io created")
	before := version("reports")
	await("again", "reports.openreports.io kept", "clusterreports.openreports.io unchanged")

	ours := definition("clusterreports")
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"names":{"shortNames":["theirstoo"]}}}`))
	if err := c.Patch(t.Context(), ours, patch, client.FieldOwner("argocd")); err != nil {
		t.Fatal(err)
	}
	taken := version("clusterreports")
	await("somebody has changed it since", "reports.openreports.io kept", "clusterreports.openreports.io kept")
	if got := version("reports"); got != before {
		t.Error("what somebody else installed was written")
	}
	if got := version("clusterreports"); got != taken {
		t.Error("what somebody else has changed was written")
	}

	t.Run("rights", func(t *testing.T) {
		if got, want := reportRights(t, c), "[openreports.io] [reports clusterreports] [get list create patch delete]"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		apply(t, c, install.ApplyOptions{})
		if got := reportRights(t, c); got != "" {
			t.Errorf("without reports: got %q", got)
		}
	})
	awaitStorage(t.Context(), t, c)
	if _, err := install.Remove(t.Context(), c, cfg, install.RemoveOptions{Policies: true}); err != nil {
		t.Fatal(err)
	}
	if got := version("clusterreports"); got != taken {
		t.Error("the removal changed it")
	}
}

// reportRights are those of the controller on reports.
func reportRights(t *testing.T, c client.Client) string {
	t.Helper()
	u := named("rbac.authorization.k8s.io/v1", "ClusterRole", "fusegate-controller")
	if !exists(t, c, u) {
		t.Fatal("the role is gone")
	}
	rules, _, _ := unstructured.NestedSlice(u.Object, "rules")
	var out []string
	for _, item := range rules {
		if r, _ := item.(map[string]any); strings.Contains(fmt.Sprint(r["apiGroups"]), "reports") {
			out = append(out, fmt.Sprintf("%v %v %v", r["apiGroups"], r["resources"], r["verbs"]))
		}
	}
	return strings.Join(out, "\n")
}

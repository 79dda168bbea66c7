package install_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// TestDryRuns asks on the shared cluster what would be done and changes
// nothing there.
func TestDryRuns(t *testing.T) {
	c := start(t)
	admin := []string{"--kubeconfig", c.CP.Kubeconfig(controlplane.Admin), "--dry-run"}
	asInstalled := c.Outside("--dry-run")
	uninstall := append([]string{"uninstall"}, admin...)

	t.Run("install", func(t *testing.T) {
		changes := changesOf(t, append(asInstalled, "-o", "json")...)
		for _, change := range changes {
			if change.Action != install.Unchanged {
				t.Errorf("%s %s: got %s, want it unchanged, as it is installed", change.Kind, change.Name, change.Action)
			}
		}
		want := change{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingWebhookConfiguration", Name: "fusegate", Action: install.Unchanged}
		if diff := cmp.Diff(want, changes[len(changes)-1]); diff != "" {
			t.Errorf("last change (-want +got):\n%s", diff)
		}
	})
	t.Run("uninstall", func(t *testing.T) {
		changes := changesOf(t, append(uninstall, "-o", "json")...)
		want := change{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingWebhookConfiguration", Name: "fusegate", Action: install.Deleted}
		if diff := cmp.Diff(want, changes[0]); diff != "" {
			t.Errorf("first change (-want +got):\n%s", diff)
		}
	})
	for name, tc := range map[string]struct {
		reason string
		args   []string
		want   []string
	}{
		"install in words": {
			reason: "a line per object, and that nothing was changed", args: asInstalled,
			want: []string{"ValidatingWebhookConfiguration fusegate unchanged\n", "\nThis was a dry run: nothing was changed.\n"},
		},
		"uninstall in words": {
			reason: "templates are kept, and nothing was removed", args: uninstall,
			want: []string{"CustomResourceDefinition constrainttemplates.templates.gatekeeper.sh kept\n", "\nThis was a dry run: nothing was removed.\n"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := fusegate.Run(t, "", tc.args...)
			if code != 0 {
				t.Fatal(stderr)
			}
			for _, want := range tc.want {
				if !strings.Contains(stdout, want) {
					t.Errorf("%s: got %q, want %q in it", tc.reason, stdout, want)
				}
			}
		})
	}
}

// TestKustomize has a real kubectl build the base, and a real API server
// accept every object of it.
func TestKustomize(t *testing.T) {
	t.Parallel()
	c := &testCluster{fusegate.On(t, env.Start(t, controlplane.Options{}))}
	c.Must(t, "", "create", "namespace", exempt.DefaultNamespace) // a dry run makes none to put the others in
	out := c.Must(t, "", "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-k", filepath.Join("..", "..", "manifests", "base"))
	plan, err := install.Render(config.Config{Image: image})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out, "serverside-applied"); got != len(plan.Objects) {
		t.Errorf("got %d objects applied, want %d:\n%s", got, len(plan.Objects), out)
	}
}

package install_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// dryRuns asks what would be done where c.Outside is installed, and changes nothing
// there.
func (c *testCluster) dryRuns(t *testing.T) {
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

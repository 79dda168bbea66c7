package install_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

const gatekeeper = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: configs.config.gatekeeper.sh}
spec:
  group: config.gatekeeper.sh
  scope: Namespaced
  names: {kind: Config, listKind: ConfigList, plural: configs, singular: config}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema:
      openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
---
apiVersion: v1
kind: Namespace
metadata: {name: gatekeeper-system}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: gatekeeper-audit, namespace: gatekeeper-system}
spec:
  replicas: 0
  selector: {matchLabels: {app: x}}
  template: {metadata: {labels: {app: x}}, spec: {containers: [{name: x, image: x}]}}
---
apiVersion: v1
kind: Namespace
metadata: {name: calico-system}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: calico-node, namespace: calico-system}
spec:
  selector: {matchLabels: {app: x}}
  template: {metadata: {labels: {app: x}}, spec: {hostNetwork: true, containers: [{name: x, image: x}]}}
`

const gatekeeperConfig = `
apiVersion: config.gatekeeper.sh/v1alpha1
kind: Config
metadata: {name: config, namespace: gatekeeper-system}
spec: {match: [{processes: ["*"], excludedNamespaces: [kube-system, "infra-*"]}]}
`

// change is what install says that it does to an object.
type change struct {
	APIVersion, Kind, Namespace, Name string
	Action                            install.Action
	Fields                            []install.FieldChange
}

// changesOf runs a command and parses the JSON that it prints.
func changesOf(t *testing.T, args ...string) []change {
	t.Helper()
	stdout, stderr, code := fusegate.Run(t, "", args...)
	if code != 0 {
		t.Fatal(stderr)
	}
	var out []change
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&out); err != nil || len(out) == 0 || d.More() {
		t.Fatalf("got %v and %d changes, want a JSON list and nothing else: %s", err, len(out), stdout)
	}
	return out
}

// TestInstallBesideGatekeeper goes the way of who moves from Gatekeeper: it is
// refused while Gatekeeper is there, and told of what to take along.
func TestInstallBesideGatekeeper(t *testing.T) {
	t.Parallel()
	c := bare(t)
	c.apply(t, gatekeeper)
	env.Await(t, "Configs to be served", func() error { return c.tryApply(t, "test", gatekeeperConfig) })
	admin := []string{"--kubeconfig", c.CP.Kubeconfig(controlplane.Admin)}
	with := func(args ...string) []string { return append(args, admin...) }

	_, stderr, code := fusegate.Run(t, "", with("install")...)
	if code != 2 || !strings.Contains(stderr, "Error: Gatekeeper is in this cluster (Deployment gatekeeper-system/gatekeeper-audit): two engines would") {
		t.Fatalf("beside Gatekeeper: got exit code %d and %q, want it refused", code, stderr)
	}
	if left := fmt.Sprint(c.named(t, []schema.GroupVersionKind{namespaces})); strings.Contains(left, "fusegate") {
		t.Errorf("a refused installation left something behind: %s", left)
	}
	if err := c.Client(t).Delete(t.Context(), env.Object("apps/v1", "Deployment", "gatekeeper-system", "gatekeeper-audit")); err != nil {
		t.Fatal(err)
	}

	stdout, stderr, code := fusegate.Run(t, "", with("install")...)
	for _, want := range []string{
		"Note: Config gatekeeper-system/config excludes namespaces that this installation does not: infra-*; --import-gatekeeper-config adds them",
		"Note: these namespaces look like part of the cluster, and policies apply in them:\n  calico-system (DaemonSet calico-node: the host's network on every node)\n" +
			"To leave them alone, set in the configuration file:\n  exempt:\n    namespaces: [calico-system]\n",
	} {
		if code != 0 || !strings.Contains(stderr, want) {
			t.Errorf("got exit code %d and %q, want %q", code, stderr, want)
		}
	}
	if !strings.HasPrefix(stdout, "Namespace fusegate-system created\n") || !strings.Contains(stdout, "\nValidatingWebhookConfiguration fusegate created\n\nInstalled.") || strings.Contains(stdout, "Note") {
		t.Errorf("got %q, want the changes, the webhook configuration last, and no notes", stdout)
	}

	stdout, stderr, code = fusegate.Run(t, "", with("install", "--dry-run", "--import-gatekeeper-config")...)
	if want := "      +   - infra-*\n"; code != 0 || !strings.Contains(stdout, want) || !strings.Contains(stderr, "added to exempt.namespaces what Config gatekeeper-system/config excludes: infra-*") {
		t.Errorf("dry run of the import: got exit code %d, %q and %q, want %q in it", code, stdout, stderr, want)
	}
	fusegate.Run(t, "", with("install", "--import-gatekeeper-config")...)
	if config := c.settings(t); !strings.Contains(config, "- infra-*") {
		t.Errorf("the import is not stored: %s", config)
	}
	unchanged(t, with("install", "--import-gatekeeper-config")...)
	if _, stderr, code = fusegate.Run(t, "", with("install", "--dry-run")...); code != 0 || !strings.Contains(stderr, `Note: exempt until now, and no longer: namespaces "infra-*".`) {
		t.Errorf("without the import: got exit code %d and %q, want it said what is taken back", code, stderr)
	}
	c.dryRunAsJSON(t, with)

	c.apply(t, strings.Replace(gatekeeperConfig, "infra-*", "*infra*", 1))
	if _, stderr, code = fusegate.Run(t, "", with("install", "--import-gatekeeper-config")...); code != 2 || !strings.Contains(stderr, `excludes "*infra*"`) {
		t.Errorf("what cannot be imported: got exit code %d and %q, want it refused by name", code, stderr)
	}
}

func (c *testCluster) dryRunAsJSON(t *testing.T, with func(...string) []string) {
	t.Helper()
	out, err := fusegate.Command(with("install", "--dry-run", "--import-gatekeeper-config", "--timeout-seconds=1", "-o", "json")...).Output()
	var changes []change
	if err != nil || json.Unmarshal(out, &changes) != nil {
		t.Fatalf("got %v and %s, want JSON", err, out)
	}
	last := changes[len(changes)-1]
	want := []install.FieldChange{
		{Field: "webhooks[policies.fusegate.dev].timeoutSeconds", Old: 3.0, New: 1.0},
		{Field: "webhooks[probe.fusegate.dev].timeoutSeconds", Old: 3.0, New: 1.0},
		{Field: "webhooks[validation.fusegate.dev].timeoutSeconds", Old: 3.0, New: 1.0},
	}
	if diff := cmp.Diff(want, last.Fields); diff != "" || last.Action != install.Configured {
		t.Errorf("%s %s %s (-want +got):\n%s", last.Kind, last.Name, last.Action, diff)
	}
}

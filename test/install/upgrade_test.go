package install_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// oldRules are what the controller of that version had armed its two entries
// with for a constraint on ConfigMaps.
const oldRules = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: fusegate}
webhooks:
- name: validation.fusegate.dev
  rules: [{operations: [CREATE, UPDATE], apiGroups: [""], apiVersions: ["*"], resources: [configmaps], scope: "*"}]
- name: policies.fusegate.dev
  rules:
  - {operations: [CREATE, UPDATE], apiGroups: [constraints.gatekeeper.sh], apiVersions: ["*"], resources: ["*"], scope: "*"}
  - {operations: [CREATE, UPDATE], apiGroups: [templates.gatekeeper.sh], apiVersions: ["*"], resources: [constrainttemplates], scope: "*"}
`

// old returns the manifests of the earlier version, with this cluster's
// webhook: all but the webhook configuration, and that one.
func (c *testCluster) old(t *testing.T) (rest, webhook string) {
	t.Helper()
	ca := base64.StdEncoding.EncodeToString([]byte(env.Read(t, c.Dir, "tls.crt")))
	text := strings.NewReplacer("CABUNDLE", ca, "WEBHOOKURL", fmt.Sprintf("https://127.0.0.1:%d/v1/admit", c.Port)).
		Replace(env.Read(t, "testdata", "upgrade-url.yaml"))
	at := strings.LastIndex(text, "---\n")
	if !strings.Contains(text[at:], "kind: ValidatingWebhookConfiguration") {
		t.Fatal("the webhook configuration is not the last of the old manifests")
	}
	return text[:at], text[at:]
}

// TestUpgrade brings a cluster of an earlier version up to date, and wants its
// policy enforced at every moment: with the manifests first, as install does
// it, and with the new controller first, as it comes where pods roll out before
// the webhook configuration is applied.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	c := bare(t)
	rest, webhook := c.old(t)
	c.applyAs(t, install.FieldManager, rest)
	controller := c.Begin(t, "controller", c.Port)
	c.apply(t, fusegate.LabelTemplate("OldLabels", "missing"))
	env.Await(t, "the kind of the constraint", func() error {
		return c.tryApply(t, "test", fusegate.Constraint("OldLabels", "owner", "deny", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}]}`))
	})
	if err := controller.End(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	c.Role(t, "webhook")
	for _, first := range []string{"manifests", "controller"} {
		t.Run(first+" first", func(t *testing.T) {
			c.applyAs(t, install.FieldManager, rest+webhook)
			c.applyAs(t, "fusegate-arm", oldRules)
			c.AwaitCreate(t, fusegate.ConfigMap("default", "bare"), fusegate.Denied+"[owner] missing label owner")
			probe := c.Probe(t)
			if first == "manifests" {
				c.upgrade(t)
			}
			controller := c.Begin(t, "controller", c.Port)
			if first == "controller" {
				env.Await(t, "the new controller to look at the old configuration", func() error {
					if got := len(c.rules(t)); got != 3 {
						return fmt.Errorf("%d entries", got)
					}
					return nil
				})
				c.upgrade(t)
			}
			if out, err := fusegate.Command(c.Outside("--wait", "--timeout", env.Patience.String())...).CombinedOutput(); err != nil {
				t.Errorf("waiting for the upgrade: %v: %s\n%s", err, out, controller.Log)
			}
			c.AwaitCondition(t, "oldlabels/owner", "True", "CanaryAnswered")
			unchanged(t, c.Outside()...)
			probe()
			if err := controller.End(os.Interrupt); err != nil {
				t.Error(err)
			}
			if err := c.Client(t).Delete(t.Context(), env.Object("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "", install.ConfigurationName)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// kustomize has a real kubectl build the base, and a real API server without Fusegate
// accept every object of it.
func (c *testCluster) kustomize(t *testing.T) {
	c.apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: "+fusegate.Namespace+"}}") // a dry run makes none to put the others in
	out := c.Must(t, "", "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-k", filepath.Join("..", "..", "manifests", "base"))
	plan, err := install.Render(config.Config{Image: image})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out, "serverside-applied"); got != len(plan.Objects) {
		t.Errorf("got %d objects applied, want %d:\n%s", got, len(plan.Objects), out)
	}
}

// inNamespace and inCluster are the kinds of which an installation may have had some.
var (
	inNamespace = []schema.GroupVersionKind{
		{Group: "apps", Version: "v1", Kind: "Deployment"}, {Version: "v1", Kind: "Service"}, {Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"},
		{Version: "v1", Kind: "Secret"}, {Version: "v1", Kind: "ConfigMap"}, {Version: "v1", Kind: "ServiceAccount"}, {Version: "v1", Kind: "ResourceQuota"},
		{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "Role"}, {Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "RoleBinding"},
	}
	inCluster = []schema.GroupVersionKind{
		definitions, namespaces,
		{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"}, {Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRoleBinding"},
		{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingWebhookConfiguration"},
	}
)

// TestUpgradeInCluster converges over the earlier version's manifests for a
// cluster, and leaves nothing of theirs that this version does not have.
func TestUpgradeInCluster(t *testing.T) {
	t.Parallel()
	c := bare(t)
	t.Run("kustomize", c.kustomize)
	c.applyAs(t, install.FieldManager, env.Read(t, "testdata", "upgrade-cluster.yaml"))
	c.apply(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: "+install.ConfigMapName+", namespace: "+fusegate.Namespace+", labels: {team: policy}}}") // somebody's own stays
	admin := []string{"install", "--kubeconfig", c.CP.Kubeconfig(controlplane.Admin)}
	changed := map[install.Action]int{}
	for _, change := range changesOf(t, append(admin, "-o", "json")...) {
		changed[change.Action]++
	}
	if changed[install.Created] == 0 || changed[install.Configured] == 0 {
		t.Errorf("got changes %v, want what is new created and others configured", changed)
	}
	unchanged(t, admin...)
	ours := client.MatchingLabels{"app.kubernetes.io/part-of": "fusegate"}
	left := append(c.named(t, inNamespace, ours, client.InNamespace(fusegate.Namespace)), c.named(t, inCluster, ours)...)
	plan, err := install.Render(config.Config{Image: image})
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != len(plan.Objects) {
		t.Errorf("got %d objects, want the %d of this version: %v", len(left), len(plan.Objects), left)
	}
}

// upgrade installs this version over what is there.
func (c *testCluster) upgrade(t *testing.T) {
	t.Helper()
	if out, err := fusegate.Command(c.Outside()...).CombinedOutput(); err != nil {
		t.Errorf("upgrading: %v: %s", err, out)
	}
}

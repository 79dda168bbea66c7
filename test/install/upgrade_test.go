package install_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"

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

// applyAs applies objects as a field manager, as an earlier version did.
func (c *testCluster) applyAs(t *testing.T, manager, objects string) {
	t.Helper()
	c.Must(t, objects, "apply", "--server-side", "--force-conflicts", "--field-manager="+manager, "-f", "-")
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
	c.Must(t, fusegate.LabelTemplate("OldLabels", "missing"), "apply", "-f", "-")
	env.Await(t, "the kind of the constraint", func() error {
		if _, stderr, ok := c.Kubectl(t, controlplane.Admin, "", "get", "oldlabels"); !ok {
			return fmt.Errorf("%s", stderr)
		}
		return nil
	})
	c.Must(t, fusegate.Constraint("OldLabels", "owner", "deny", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}]}`), "apply", "-f", "-")
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
			c.Must(t, "", "delete", "validatingwebhookconfiguration", install.ConfigurationName)
		})
	}
}

// TestUpgradeInCluster converges over the earlier version's manifests for a
// cluster, and leaves nothing of theirs that this version does not have.
func TestUpgradeInCluster(t *testing.T) {
	t.Parallel()
	c := bare(t)
	c.applyAs(t, install.FieldManager, env.Read(t, "testdata", "upgrade-cluster.yaml"))
	c.Must(t, "", "label", "configmap", "-n", "fusegate-system", install.ConfigMapName, "team=policy") // somebody's own stays
	admin := []string{"install", "--kubeconfig", c.CP.Kubeconfig(controlplane.Admin)}
	changed := map[install.Action]int{}
	for _, change := range changesOf(t, append(admin, "-o", "json")...) {
		changed[change.Action]++
	}
	if changed[install.Created] == 0 || changed[install.Configured] == 0 {
		t.Errorf("got changes %v, want what is new created and others configured", changed)
	}
	unchanged(t, admin...)
	left := strings.Fields(c.Must(t, "", "get", "deployment,service,pdb,secret,configmap,serviceaccount,role,rolebinding,resourcequota", "-n", "fusegate-system",
		"-l", "app.kubernetes.io/part-of=fusegate", "-o", "name"))
	left = append(left, strings.Fields(c.Must(t, "", "get", "crd,namespace,clusterrole,clusterrolebinding,validatingwebhookconfiguration",
		"-l", "app.kubernetes.io/part-of=fusegate", "-o", "name"))...)
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

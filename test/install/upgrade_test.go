package app

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/test/controlplane"
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
	ca := base64.StdEncoding.EncodeToString([]byte(read(t, c.dir, "tls.crt")))
	text := strings.NewReplacer("CABUNDLE", ca, "WEBHOOKURL", fmt.Sprintf("https://127.0.0.1:%d/v1/admit", c.port)).
		Replace(read(t, "testdata", "upgrade-url.yaml"))
	at := strings.LastIndex(text, "---\n")
	if !strings.Contains(text[at:], "kind: ValidatingWebhookConfiguration") {
		t.Fatal("the webhook configuration is not the last of the old manifests")
	}
	return text[:at], text[at:]
}

// applyAs applies objects as a field manager, as an earlier version did.
func (c *testCluster) applyAs(t *testing.T, manager, objects string) {
	t.Helper()
	c.must(t, objects, "apply", "--server-side", "--force-conflicts", "--field-manager="+manager, "-f", "-")
}

// TestUpgrade brings a cluster of an earlier version up to date, and wants its
// policy enforced at every moment: with the manifests first, as install does
// it, and with the new controller first, as it comes where pods roll out before
// the webhook configuration is applied.
func TestUpgrade(t *testing.T) {
	t.Setenv("FUSEGATE_CONFIG", "")
	c := bare(t)
	rest, webhook := c.old(t)
	c.applyAs(t, install.FieldManager, rest)
	controller := c.begin(t, config.RoleController, c.port)
	c.must(t, labelTemplate("OldLabels", "missing"), "apply", "-f", "-")
	await(t, "the kind of the constraint", func() error {
		if _, stderr, ok := c.kubectl(t, controlplane.Admin, "", "get", "oldlabels"); !ok {
			return fmt.Errorf("%s", stderr)
		}
		return nil
	})
	c.must(t, constraint("OldLabels", "owner", "deny", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}]}`), "apply", "-f", "-")
	if err := controller.end(endings()[0]); err != nil {
		t.Fatal(err)
	}
	c.role(t, config.RoleWebhook)
	for _, first := range []string{"manifests", "controller"} {
		t.Run(first+" first", func(t *testing.T) {
			c.applyAs(t, install.FieldManager, rest+webhook)
			c.applyAs(t, "fusegate-arm", oldRules)
			c.awaitCreate(t, configMap("default", "bare"), denied+"[owner] missing label owner")
			probe := c.probe(t)
			if first == "manifests" {
				c.upgrade(t)
			}
			controller := c.begin(t, config.RoleController, c.port)
			if first == "controller" {
				await(t, "the new controller to look at the old configuration", func() error {
					if got := len(c.rules(t)); got != 3 {
						return fmt.Errorf("%d entries", got)
					}
					return nil
				})
				c.upgrade(t)
			}
			if out, err := command(c.outside("--wait", "--timeout", patience.String())...).CombinedOutput(); err != nil {
				t.Errorf("waiting for the upgrade: %v: %s\n%s", err, out, controller.log)
			}
			c.awaitCondition(t, "oldlabels/owner", "True", "CanaryAnswered")
			unchanged(t, c.outside()...)
			probe()
			if err := controller.end(endings()[0]); err != nil {
				t.Error(err)
			}
			c.must(t, "", "delete", "validatingwebhookconfiguration", install.ConfigurationName)
		})
	}
}

// TestUpgradeInCluster converges over the earlier version's manifests for a
// cluster, and leaves nothing of theirs that this version does not have.
func TestUpgradeInCluster(t *testing.T) {
	t.Setenv("FUSEGATE_CONFIG", "")
	c := bare(t)
	c.applyAs(t, install.FieldManager, read(t, "testdata", "upgrade-cluster.yaml"))
	c.must(t, "", "label", "configmap", "-n", "fusegate-system", install.ConfigMapName, "team=policy") // somebody's own stays
	admin := []string{"install", "--kubeconfig", c.cp.Kubeconfig(controlplane.Admin)}
	changed := map[install.Action]int{}
	for _, change := range changesOf(t, append(admin, "-o", "json")...) {
		changed[change.Action]++
	}
	if changed[install.Created] == 0 || changed[install.Configured] == 0 {
		t.Errorf("got changes %v, want what is new created and others configured", changed)
	}
	unchanged(t, admin...)
	left := strings.Fields(c.must(t, "", "get", "deployment,service,pdb,secret,configmap,serviceaccount,role,rolebinding,resourcequota", "-n", "fusegate-system",
		"-l", "app.kubernetes.io/part-of=fusegate", "-o", "name"))
	left = append(left, strings.Fields(c.must(t, "", "get", "crd,namespace,clusterrole,clusterrolebinding,validatingwebhookconfiguration",
		"-l", "app.kubernetes.io/part-of=fusegate", "-o", "name"))...)
	plan, err := install.Render(install.Config{Image: image()})
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
	if out, err := command(c.outside()...).CombinedOutput(); err != nil {
		t.Errorf("upgrading: %v: %s", err, out)
	}
}

// probe writes an object that violates the policy every 50 ms, until the
// function that it returns is called, which fails the test if one was let
// through.
func (c *testCluster) probe(t *testing.T) (stop func()) {
	t.Helper()
	client, err := kubernetes.NewForConfig(c.cp.Config(controlplane.Admin))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	deniedOnes, admitted, failed := 0, 0, []error(nil)
	done.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "violating-"}}
			_, err := client.CoreV1().ConfigMaps("default").Create(context.WithoutCancel(ctx), cm, metav1.CreateOptions{})
			switch {
			case err == nil:
				admitted++
			case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "[owner] missing label owner"):
				deniedOnes++
			default:
				failed = append(failed, err)
			}
		}
	})
	return func() {
		cancel()
		done.Wait()
		t.Logf("%d violating writes denied, %d let through, %d failed otherwise", deniedOnes, admitted, len(failed))
		if admitted > 0 || len(failed) > 0 || deniedOnes == 0 {
			t.Errorf("%d violating writes were let through and %d denied; others: %v", admitted, deniedOnes, failed)
		}
	}
}

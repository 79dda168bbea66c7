package e2e_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// noticed is how long it may take until a constraint says that it is not
// enforced any more.
const noticed = 10 * time.Second

// two starts a second API server, and Fusegate as two processes that know both.
func two(t *testing.T) (c *testCluster, servers []client.Client) {
	t.Helper()
	c = start(t)
	if err := c.CP.StartAPIServer(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := c.Manager.End(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.Manager = nil
	var urls []string
	for i := range 2 {
		cfg := c.CP.ConfigOf(i, controlplane.Admin)
		urls = append(urls, cfg.Host)
		cl, err := client.New(cfg, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, cl)
	}
	kubeconfig := c.CP.Kubeconfig(controlplane.Admin)
	leader := fusegate.Serve(t, "leader", "--roles=controller", "--kubeconfig", kubeconfig, "--api-servers", strings.Join(urls, ","))
	c.Manager = fusegate.Serve(t, "webhook", "--roles=webhook", "--kubeconfig", kubeconfig,
		"--listen", fmt.Sprintf("127.0.0.1:%d", c.Port), "--cert-dir", c.Dir)
	c.Manager.AwaitReady(t)
	leader.AwaitReady(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the leader:\n%s", leader.Log)
		}
		for _, m := range []*fusegate.Manager{leader, c.Manager} {
			if err := m.End(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}
		c.Manager = nil
	})
	return c, servers
}

// TestEnforced checks that the condition means what it says: from the moment it
// is True, the next request is judged, whichever API server gets it; and
// whatever keeps requests from being judged shows in it.
func TestEnforced(t *testing.T) {
	c, servers := two(t)
	c.CreateNamespaces(t, "enforced")
	c.Apply(t, fusegate.LabelTemplate("EnforcedLabels", "missing"))
	c.AwaitTemplate(t, "enforcedlabels")
	c.DropTemplates(t, "enforcedlabels")
	match := func(group, kind, more string) string {
		return fmt.Sprintf(`{kinds: [{apiGroups: [%q], kinds: [%s]}]%s}`, group, kind, more)
	}
	t.Run("the next request on either API server", func(t *testing.T) {
		for i, object := range []string{
			"{apiVersion: networking.k8s.io/v1, kind: Ingress, spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}}",
			"{apiVersion: v1, kind: Secret}", "{apiVersion: v1, kind: ServiceAccount}",
			"{apiVersion: policy/v1, kind: PodDisruptionBudget, spec: {minAvailable: 1}}",
			"{apiVersion: v1, kind: Service, spec: {ports: [{port: 80}]}}",
		} {
			u := parsed(t, object)
			u.SetNamespace("enforced")
			u.SetName("bare")
			name := fmt.Sprintf("next-%d", i)
			c.Apply(t, fusegate.Constraint("EnforcedLabels", name, "deny", "owner", match(u.GroupVersionKind().Group, u.GetKind(), ", namespaces: [enforced]")))
			c.AwaitCondition(t, "enforcedlabels/"+name, "True", "")
			for n, s := range servers {
				err := s.Create(t.Context(), u.DeepCopy(), client.DryRunAll)
				if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "["+name+"]") {
					t.Errorf("%s on API server %d: got %v, want it denied", u.GetKind(), n, err)
				}
			}
		}
	})
	t.Run("only what is needed", func(t *testing.T) {
		before := c.Manager.Reviews(t)
		c.DryCreate(t, fusegate.Object("v1", "Pod", "enforced", "p", fusegate.Pause))
		if after := c.Manager.Reviews(t); after != before {
			t.Errorf("a Pod made %d webhook calls, want none: no constraint matches it", after-before)
		}
		c.DryCreate(t, fusegate.Object("v1", "Secret", "enforced", "s", ""))
		if after := c.Manager.Reviews(t); after != before+1 {
			t.Errorf("a Secret made %d webhook calls, want one", after-before)
		}
	})
	t.Run("why not", func(t *testing.T) {
		for name, tc := range map[string]struct{ action, match, reason, part, warning string }{
			"lease":    {"deny", match("coordination.k8s.io", "Lease", ""), "NotInterceptable", "Lease.coordination.k8s.io", "is not enforced on Lease.coordination.k8s.io"},
			"inside":   {"deny", match("", "Secret", ", namespaces: [kube-system]"), "Exempt", "kube-system", "kube-system, are outside policy"},
			"unserved": {"deny", match("example.com", "Widget", ""), "NotServed", "Widget.example.com", ""},
			"dry":      {"dryrun", match("", "Secret", ""), "NotEnforcing", "audit", ""},
		} {
			warnings, err := c.Create(t, controlplane.Admin, env.Parse(t, fusegate.Constraint("EnforcedLabels", name, tc.action, "owner", tc.match)))
			if warned := len(warnings) > 0; err != nil || warned != (tc.warning != "") || !strings.Contains(fmt.Sprint(warnings), tc.warning) {
				t.Errorf("%s: got %q, %v, want a warning with %q", name, warnings, err, tc.warning)
			}
			if got := c.AwaitCondition(t, "enforcedlabels/"+name, "False", tc.reason); !strings.Contains(got, tc.part) {
				t.Errorf("%s: got message %q, want one with %q", name, got, tc.part)
			}
		}
	})
	t.Run("what others do", c.foreignNarrowing)
	t.Run("the webhook stops", func(t *testing.T) {
		if err := c.Manager.Cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		message := c.AwaitCondition(t, "enforcedlabels/next-1", "False", "CanaryAdmitted")
		// Two canaries in a row each wait for the webhook's timeout of 3 s.
		if took := time.Since(started); took > noticed+5*time.Second || !strings.Contains(message, "did not answer") {
			t.Errorf("after %v: %s", took, message)
		}
		if err := c.Manager.Cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		c.AwaitCondition(t, "enforcedlabels/next-1", "True", "CanaryAnswered")
	})
}

// foreignNarrowing has somebody add what keeps requests from the webhook, and
// take it away.
func (c *testCluster) foreignNarrowing(t *testing.T) {
	meddle := func(fields string) {
		t.Helper()
		entry := env.Parse(t, "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: fusegate}\n"+fields)
		if err := c.Client(t).Apply(t.Context(), client.ApplyConfigurationFromUnstructured(entry), client.FieldOwner("meddler")); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct{ fields, reason, part string }{
		"a condition": {`webhooks: [{name: validation.fusegate.dev, matchConditions: [{name: x, expression: "false"}]}]`, "NarrowedBy", `by "meddler"`},
		"a selector":  {`webhooks: [{name: validation.fusegate.dev, objectSelector: {matchLabels: {judge: me}}}]`, "NarrowedBy", `by "meddler"`},
		"the fuse":    {`webhooks: [{name: validation.fusegate.dev, matchConditions: [{name: fuse-open, expression: "false"}]}]`, "FuseOpen", "fuse"},
	} {
		started := time.Now()
		meddle(tc.fields)
		message := c.AwaitCondition(t, "enforcedlabels/next-1", "False", tc.reason)
		if took := time.Since(started); took > noticed {
			t.Errorf("%s: noticed at %v after %v, want %v", name, time.Now().UTC(), took, noticed)
		}
		if !strings.Contains(message, tc.part) {
			t.Errorf("%s: got message %q, want one with %q", name, message, tc.part)
		}
		meddle("")
		c.AwaitCondition(t, "enforcedlabels/next-1", "True", "CanaryAnswered")
	}
}

func parsed(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

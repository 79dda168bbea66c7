package perimeter_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

func replicaSet(name string) string {
	return fusegate.Object("apps/v1", "ReplicaSet", "tenant-a", name, `spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    `+fusegate.Pause)
}

// TestDenyEverything arms the webhook for every kind and operation with a
// constraint that denies all, and shows that the control plane does not notice.
func TestDenyEverything(t *testing.T) {
	c := start(t)
	c.Must(t, "", "create", "namespace", "tenant-a")
	c.Must(t, "", "create", "rolebinding", "tenant", "--clusterrole=edit", "--user="+controlplane.Tenant, "-n", "tenant-a")
	c.Must(t, fusegate.Object("v1", "Pod", "kube-system", "unbound", fusegate.Pause), "create", "-f", "-")
	c.Must(t, fusegate.DenyAll, "apply", "-f", "-")
	c.AwaitTemplate(t, "denyall")
	c.Must(t, fusegate.DenyEverything, "apply", "-f", "-")
	t.Cleanup(func() {
		_, _, _ = c.CP.Kubectl(t.Context(), controlplane.Admin, "", "delete", "constrainttemplate", "denyall", "--ignore-not-found")
	})
	tenantMap := fusegate.Object("v1", "ConfigMap", "tenant-a", "mine", "")
	c.AwaitCreate(t, tenantMap, fusegate.Denied+"[everything] no CREATE of ConfigMap")
	if rules := c.Must(t, "", "get", "validatingwebhookconfiguration", "fusegate", "-o", "jsonpath={.webhooks[*].rules[*].resources[*]}"); !strings.Contains(rules, "*") || strings.Contains(rules, "*/*") {
		t.Fatalf("the rules intercept %q, want every kind", rules)
	}

	t.Run("a tenant is denied", func(t *testing.T) {
		before := c.Manager.Reviews(t)
		_, stderr, ok := c.Kubectl(t, controlplane.Tenant, tenantMap, "create", "-f", "-")
		if want := fusegate.Denied + "[everything] no CREATE of ConfigMap"; ok || !strings.HasSuffix(strings.TrimSpace(stderr), want) {
			t.Errorf("got %q, want %q", stderr, want)
		}
		if after := c.Manager.Reviews(t); after == before {
			t.Error("the backend did not count the request: it counts nothing")
		}
	})
	t.Run("the control plane is not seen", c.controlPlaneUnseen)
	t.Run("the API server restarts", func(t *testing.T) {
		before := c.Manager.Reviews(t)
		if err := c.CP.RestartAPIServer(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		if after := c.Manager.Reviews(t); after != before {
			t.Errorf("%d requests of its start reached the backend", after-before)
		}
	})
	t.Run("a controller's Pod is denied", c.podDenied)
	t.Run("its own constraint can go", func(t *testing.T) {
		before := c.Manager.Reviews(t)
		c.Must(t, "", "delete", "denyall", "everything")
		if after := c.Manager.Reviews(t); after != before {
			t.Errorf("%d requests reached the backend, want the deletion not to be judged", after-before)
		}
		c.AwaitCreate(t, tenantMap, "")
	})
}

// controlPlaneUnseen makes the requests that a control plane lives by, and
// wants each to succeed without the backend having seen anything.
func (c *testCluster) controlPlaneUnseen(t *testing.T) {
	binding := `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"unbound"},"target":{"apiVersion":"v1","kind":"Node","name":"node-1"}}`
	node := fusegate.Object("v1", "Node", "", "node-1", "")
	lease := func(namespace, name string) string {
		return fusegate.Object("coordination.k8s.io/v1", "Lease", namespace, name, "spec: {holderIdentity: x}")
	}
	const raw = "/api/v1/namespaces/kube-system/pods/unbound/binding"
	for _, r := range []struct {
		name, user, stdin string
		args              []string
	}{
		{"the API server's ClusterRole", fusegate.APIServer, fusegate.Object("rbac.authorization.k8s.io/v1", "ClusterRole", "", "of-apiserver", "rules: []"), []string{"create", "-f", "-"}},
		{"the API server's ConfigMap", fusegate.APIServer, fusegate.Object("v1", "ConfigMap", "kube-system", "of-apiserver", ""), []string{"create", "-f", "-"}},
		{"the API server's ConfigMap in a tenant's namespace", fusegate.APIServer, fusegate.Object("v1", "ConfigMap", "tenant-a", "of-apiserver", ""), []string{"create", "-f", "-"}},
		{"the API server's Namespace", fusegate.APIServer, fusegate.Object("v1", "Namespace", "", "tenant-b", ""), []string{"create", "-f", "-"}},
		{"the API server's PriorityClass", fusegate.APIServer, fusegate.Object("scheduling.k8s.io/v1", "PriorityClass", "", "of-apiserver", "value: 1"), []string{"create", "-f", "-"}},
		{"a node registering", controlplane.Node, node, []string{"create", "-f", "-"}},
		{"a node's label", controlplane.Node, "", []string{"label", "node", "node-1", "kubernetes.io/arch=amd64"}},
		{"a node's heartbeat", controlplane.Node, lease("kube-node-lease", "node-1"), []string{"create", "-f", "-"}},
		{"an admin's change of a Node", controlplane.Admin, "", []string{"taint", "node", "node-1", "x=y:NoSchedule"}},
		{"the scheduler's Lease", controlplane.Scheduler, lease("kube-system", "kube-scheduler"), []string{"create", "-f", "-"}},
		{"the scheduler's binding", controlplane.Scheduler, binding, []string{"create", "--raw", raw, "-f", "-"}},
		{"the controller manager's Lease", controlplane.ControllerManager, lease("kube-system", "kube-controller-manager"), []string{"create", "-f", "-"}},
		{"a Lease in kube-system", controlplane.Admin, lease("kube-system", "some-leader"), []string{"create", "-f", "-"}},
		{"a Lease anywhere", controlplane.Admin, lease("tenant-a", "some-leader"), []string{"create", "-f", "-"}},
		{"a ConfigMap in kube-system", controlplane.Admin, fusegate.Object("v1", "ConfigMap", "kube-system", "of-admin", ""), []string{"create", "-f", "-"}},
		{"a deletion in kube-system", controlplane.Admin, "", []string{"delete", "configmap", "-n", "kube-system", "of-admin"}},
		{"a DaemonSet's Pod in kube-system", controlplane.Admin, fusegate.Object("v1", "Pod", "kube-system", "cni", fusegate.Pause), []string{"create", "-f", "-"}},
		{"an access review", controlplane.Admin, "", []string{"auth", "can-i", "get", "pods"}},
		{"a token", controlplane.Admin, "", []string{"create", "token", "default", "-n", "tenant-a"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			before := c.Manager.Reviews(t)
			if _, stderr, ok := c.Kubectl(t, r.user, r.stdin, r.args...); !ok {
				t.Errorf("refused: %s", stderr)
			}
			if after := c.Manager.Reviews(t); after != before {
				t.Errorf("%d requests reached the backend", after-before)
			}
		})
	}
	t.Run("a node's status", func(t *testing.T) {
		before := c.Manager.Reviews(t)
		if err := c.Patch(t, controlplane.Node, "/api/v1/nodes/node-1/status", `{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`); err != nil {
			t.Errorf("refused: %v", err)
		}
		if after := c.Manager.Reviews(t); after != before {
			t.Errorf("%d requests reached the backend", after-before)
		}
	})
	t.Run("the controller manager's work", func(t *testing.T) {
		before := c.Manager.Reviews(t)
		env.Await(t, "what the controller manager puts into a new namespace", func() error {
			for _, object := range []string{"serviceaccount/default", "configmap/kube-root-ca.crt"} {
				if _, stderr, ok := c.Kubectl(t, controlplane.Admin, "", "get", "-n", "tenant-b", object); !ok {
					return fmt.Errorf("%s", stderr)
				}
			}
			return nil
		})
		if after := c.Manager.Reviews(t); after != before {
			t.Errorf("%d requests reached the backend", after-before)
		}
	})
}

// podDenied has the real ReplicaSet controller create a Pod on a tenant's
// behalf. The ReplicaSet itself is written by a user who is not judged.
func (c *testCluster) podDenied(t *testing.T) {
	if _, stderr, ok := c.Kubectl(t, fusegate.APIServer, replicaSet("web"), "create", "-f", "-"); !ok {
		t.Fatal(stderr)
	}
	env.Await(t, "the ReplicaSet to be told that its Pod is denied", func() error {
		got := c.Must(t, "", "get", "replicaset", "-n", "tenant-a", "web", "-o", "jsonpath={.status.conditions[?(@.type=='ReplicaFailure')].message}")
		if want := `admission webhook "validation.fusegate.dev" denied the request: [everything] no CREATE of Pod`; !strings.Contains(got, want) {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
	if _, stderr, ok := c.Kubectl(t, fusegate.APIServer, "", "delete", "replicaset", "-n", "tenant-a", "web", "--wait"); !ok {
		t.Fatal(stderr)
	}
}

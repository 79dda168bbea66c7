package app

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fusegate/fusegate/test/controlplane"
)

// denyAll denies every request of every operation on every kind.
const denyAll = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: denyall}
spec:
  crd: {spec: {names: {kind: DenyAll}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    operations: ["*"]
    rego: |
      package denyall
      violation[{"msg": msg}] {
        msg := sprintf("no %v of %v", [input.review.operation, input.review.kind.kind])
      }
`

const denyEverything = `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: DenyAll
metadata: {name: everything}
`

func object(apiVersion, kind, namespace, name, rest string) string {
	meta := "name: " + name
	if namespace != "" {
		meta += ", namespace: " + namespace
	}
	return fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {%s}\n%s\n", apiVersion, kind, meta, rest)
}

const pause = "spec: {containers: [{name: c, image: registry.example.com/pause}]}"

func replicaSet(name string) string {
	return object("apps/v1", "ReplicaSet", "tenant-a", name, `spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    `+pause)
}

// TestDenyEverything arms the webhook for every kind and operation with a
// constraint that denies all, and shows that the control plane does not notice.
func TestDenyEverything(t *testing.T) {
	c := start(t)
	c.must(t, "", "create", "namespace", "tenant-a")
	c.must(t, "", "create", "rolebinding", "tenant", "--clusterrole=edit", "--user="+controlplane.Tenant, "-n", "tenant-a")
	c.must(t, object("v1", "Pod", "kube-system", "unbound", pause), "create", "-f", "-")
	c.must(t, denyAll, "apply", "-f", "-")
	c.awaitTemplate(t, "denyall")
	c.must(t, denyEverything, "apply", "-f", "-")
	t.Cleanup(func() {
		_, _, _ = c.cp.Kubectl(t.Context(), controlplane.Admin, "", "delete", "constrainttemplate", "denyall", "--ignore-not-found")
	})
	tenantMap := object("v1", "ConfigMap", "tenant-a", "mine", "")
	c.awaitCreate(t, tenantMap, denied+"[everything] no CREATE of ConfigMap")
	if rules := c.must(t, "", "get", "validatingwebhookconfiguration", "fusegate", "-o", "jsonpath={.webhooks[*].rules[*].resources[*]}"); !strings.Contains(rules, "*") || strings.Contains(rules, "*/*") {
		t.Fatalf("the rules intercept %q, want every kind", rules)
	}

	t.Run("a tenant is denied", func(t *testing.T) {
		before := c.manager.reviews(t)
		_, stderr, ok := c.kubectl(t, controlplane.Tenant, tenantMap, "create", "-f", "-")
		if want := denied + "[everything] no CREATE of ConfigMap"; ok || strings.TrimSpace(stderr) != want {
			t.Errorf("got %q, want %q", stderr, want)
		}
		if after := c.manager.reviews(t); after == before {
			t.Error("the backend did not count the request: it counts nothing")
		}
	})
	t.Run("the control plane is not seen", c.controlPlaneUnseen)
	t.Run("the API server restarts", func(t *testing.T) {
		before := c.manager.reviews(t)
		if err := c.cp.RestartAPIServer(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		if after := c.manager.reviews(t); after != before {
			t.Errorf("%d requests of its start reached the backend", after-before)
		}
	})
	t.Run("a controller's Pod is denied", c.podDenied)
	t.Run("its own constraint can go", func(t *testing.T) {
		before := c.manager.reviews(t)
		c.must(t, "", "delete", "denyall", "everything")
		if after := c.manager.reviews(t); after != before {
			t.Errorf("%d requests reached the backend, want the deletion not to be judged", after-before)
		}
		c.awaitCreate(t, tenantMap, "")
	})
}

// controlPlaneUnseen makes the requests that a control plane lives by, and
// wants each to succeed without the backend having seen anything.
func (c *testCluster) controlPlaneUnseen(t *testing.T) {
	binding := `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"unbound"},"target":{"apiVersion":"v1","kind":"Node","name":"node-1"}}`
	node := object("v1", "Node", "", "node-1", "")
	lease := func(namespace, name string) string {
		return object("coordination.k8s.io/v1", "Lease", namespace, name, "spec: {holderIdentity: x}")
	}
	const raw = "/api/v1/namespaces/kube-system/pods/unbound/binding"
	for _, r := range []struct {
		name, user, stdin string
		args              []string
	}{
		{"the API server's ClusterRole", apiServer, object("rbac.authorization.k8s.io/v1", "ClusterRole", "", "of-apiserver", "rules: []"), []string{"create", "-f", "-"}},
		{"the API server's ConfigMap", apiServer, object("v1", "ConfigMap", "kube-system", "of-apiserver", ""), []string{"create", "-f", "-"}},
		{"the API server's ConfigMap in a tenant's namespace", apiServer, object("v1", "ConfigMap", "tenant-a", "of-apiserver", ""), []string{"create", "-f", "-"}},
		{"the API server's Namespace", apiServer, object("v1", "Namespace", "", "tenant-b", ""), []string{"create", "-f", "-"}},
		{"the API server's PriorityClass", apiServer, object("scheduling.k8s.io/v1", "PriorityClass", "", "of-apiserver", "value: 1"), []string{"create", "-f", "-"}},
		{"a node registering", controlplane.Node, node, []string{"create", "-f", "-"}},
		{"a node's label", controlplane.Node, "", []string{"label", "node", "node-1", "kubernetes.io/arch=amd64"}},
		{"a node's heartbeat", controlplane.Node, lease("kube-node-lease", "node-1"), []string{"create", "-f", "-"}},
		{"an admin's change of a Node", controlplane.Admin, "", []string{"taint", "node", "node-1", "x=y:NoSchedule"}},
		{"the scheduler's Lease", controlplane.Scheduler, lease("kube-system", "kube-scheduler"), []string{"create", "-f", "-"}},
		{"the scheduler's binding", controlplane.Scheduler, binding, []string{"create", "--raw", raw, "-f", "-"}},
		{"the controller manager's Lease", controlplane.ControllerManager, lease("kube-system", "kube-controller-manager"), []string{"create", "-f", "-"}},
		{"a Lease in kube-system", controlplane.Admin, lease("kube-system", "some-leader"), []string{"create", "-f", "-"}},
		{"a Lease anywhere", controlplane.Admin, lease("tenant-a", "some-leader"), []string{"create", "-f", "-"}},
		{"a ConfigMap in kube-system", controlplane.Admin, object("v1", "ConfigMap", "kube-system", "of-admin", ""), []string{"create", "-f", "-"}},
		{"a deletion in kube-system", controlplane.Admin, "", []string{"delete", "configmap", "-n", "kube-system", "of-admin"}},
		{"a DaemonSet's Pod in kube-system", controlplane.Admin, object("v1", "Pod", "kube-system", "cni", pause), []string{"create", "-f", "-"}},
		{"an access review", controlplane.Admin, "", []string{"auth", "can-i", "get", "pods"}},
		{"a token", controlplane.Admin, "", []string{"create", "token", "default", "-n", "tenant-a"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			before := c.manager.reviews(t)
			if _, stderr, ok := c.kubectl(t, r.user, r.stdin, r.args...); !ok {
				t.Errorf("refused: %s", stderr)
			}
			if after := c.manager.reviews(t); after != before {
				t.Errorf("%d requests reached the backend", after-before)
			}
		})
	}
	t.Run("a node's status", func(t *testing.T) {
		before := c.manager.reviews(t)
		if err := c.patch(t, controlplane.Node, "/api/v1/nodes/node-1/status", `{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`); err != nil {
			t.Errorf("refused: %v", err)
		}
		if after := c.manager.reviews(t); after != before {
			t.Errorf("%d requests reached the backend", after-before)
		}
	})
	t.Run("the controller manager's work", func(t *testing.T) {
		before := c.manager.reviews(t)
		await(t, "what the controller manager puts into a new namespace", func() error {
			for _, object := range []string{"serviceaccount/default", "configmap/kube-root-ca.crt"} {
				if _, stderr, ok := c.kubectl(t, controlplane.Admin, "", "get", "-n", "tenant-b", object); !ok {
					return fmt.Errorf("%s", stderr)
				}
			}
			return nil
		})
		if after := c.manager.reviews(t); after != before {
			t.Errorf("%d requests reached the backend", after-before)
		}
	})
}

// podDenied has the real ReplicaSet controller create a Pod on a tenant's
// behalf. The ReplicaSet itself is written by a user who is not judged.
func (c *testCluster) podDenied(t *testing.T) {
	if _, stderr, ok := c.kubectl(t, apiServer, replicaSet("web"), "create", "-f", "-"); !ok {
		t.Fatal(stderr)
	}
	await(t, "the ReplicaSet to be told that its Pod is denied", func() error {
		got := c.must(t, "", "get", "replicaset", "-n", "tenant-a", "web", "-o", "jsonpath={.status.conditions[?(@.type=='ReplicaFailure')].message}")
		if want := `admission webhook "validation.fusegate.dev" denied the request: [everything] no CREATE of Pod`; !strings.Contains(got, want) {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
	if _, stderr, ok := c.kubectl(t, apiServer, "", "delete", "replicaset", "-n", "tenant-a", "web", "--wait"); !ok {
		t.Fatal(stderr)
	}
}

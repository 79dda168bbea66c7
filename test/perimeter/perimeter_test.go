package perimeter_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

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
	t.Parallel()
	c := start(t)
	c.CreateNamespaces(t, "tenant-a")
	c.CreateAll(t, binding("RoleBinding", "tenant-a", "tenant", "edit", controlplane.Tenant))
	c.CreateAll(t, fusegate.Object("v1", "Pod", "kube-system", "unbound", fusegate.Pause))
	c.Apply(t, fusegate.DenyAll)
	c.AwaitTemplate(t, "denyall")
	c.Apply(t, fusegate.DenyEverything)
	c.DropTemplates(t, "denyall")
	tenantMap := fusegate.Object("v1", "ConfigMap", "tenant-a", "mine", "")
	c.AwaitCreate(t, tenantMap, fusegate.Denied+"[everything] no CREATE of ConfigMap")
	if rules := c.Must(t, "", "get", "validatingwebhookconfiguration", "fusegate", "-o", "jsonpath={.webhooks[*].rules[*].resources[*]}"); !strings.Contains(rules, "*") || strings.Contains(rules, "*/*") {
		t.Fatalf("the rules intercept %q, want every kind", rules)
	}

	t.Run("a tenant is denied", func(t *testing.T) {
		before := c.Manager.Reviews(t)
		want := fusegate.Denied + "[everything] no CREATE of ConfigMap"
		if got := fusegate.Answer(c.Create(t, controlplane.Tenant, env.Parse(t, tenantMap))); got != want {
			t.Errorf("got %q, want %q", got, want)
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
		c.Delete(t, "denyall/everything")
		if after := c.Manager.Reviews(t); after != before {
			t.Errorf("%d requests reached the backend, want the deletion not to be judged", after-before)
		}
		c.AwaitCreate(t, tenantMap, "")
	})
}

// controlPlaneUnseen makes the requests that a control plane lives by, and
// wants each to succeed without the backend having seen anything.
func (c *testCluster) controlPlaneUnseen(t *testing.T) {
	type request = func(context.Context, client.Client) error
	create := func(text string) request {
		return func(ctx context.Context, cl client.Client) error { return cl.Create(ctx, env.Parse(t, text)) }
	}
	patch := func(of *unstructured.Unstructured, body string) request {
		return func(ctx context.Context, cl client.Client) error {
			return cl.Patch(ctx, of, client.RawPatch(types.MergePatchType, []byte(body)))
		}
	}
	createIn := func(of *unstructured.Unstructured, subresource, text string) request {
		return func(ctx context.Context, cl client.Client) error {
			return cl.SubResource(subresource).Create(ctx, of, env.Parse(t, text))
		}
	}
	const binding = `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"unbound"},"target":{"apiVersion":"v1","kind":"Node","name":"node-1"}}`
	node, ofAdmin := env.Object("v1", "Node", "", "node-1"), fusegate.Object("v1", "ConfigMap", "kube-system", "of-admin", "")
	lease := func(namespace, name string) string {
		return fusegate.Object("coordination.k8s.io/v1", "Lease", namespace, name, "spec: {holderIdentity: x}")
	}
	for _, r := range []struct {
		name, user string
		request    request
	}{
		{"the API server's ClusterRole", fusegate.APIServer, create(fusegate.Object("rbac.authorization.k8s.io/v1", "ClusterRole", "", "of-apiserver", "rules: []"))},
		{"the API server's ConfigMap", fusegate.APIServer, create(fusegate.Object("v1", "ConfigMap", "kube-system", "of-apiserver", ""))},
		{"the API server's ConfigMap in a tenant's namespace", fusegate.APIServer, create(fusegate.Object("v1", "ConfigMap", "tenant-a", "of-apiserver", ""))},
		{"the API server's Namespace", fusegate.APIServer, create(fusegate.Object("v1", "Namespace", "", "tenant-b", ""))},
		{"the API server's PriorityClass", fusegate.APIServer, create(fusegate.Object("scheduling.k8s.io/v1", "PriorityClass", "", "of-apiserver", "value: 1"))},
		{"a node registering", controlplane.Node, create(fusegate.Object("v1", "Node", "", "node-1", ""))},
		{"a node's label", controlplane.Node, patch(node, `{"metadata":{"labels":{"kubernetes.io/arch":"amd64"}}}`)},
		{"a node's heartbeat", controlplane.Node, create(lease("kube-node-lease", "node-1"))},
		{"an admin's change of a Node", controlplane.Admin, patch(node, `{"spec":{"taints":[{"key":"x","value":"y","effect":"NoSchedule"}]}}`)},
		{"the scheduler's Lease", controlplane.Scheduler, create(lease("kube-system", "kube-scheduler"))},
		{"the scheduler's binding", controlplane.Scheduler, createIn(env.Object("v1", "Pod", "kube-system", "unbound"), "binding", binding)},
		{"the controller manager's Lease", controlplane.ControllerManager, create(lease("kube-system", "kube-controller-manager"))},
		{"a Lease in kube-system", controlplane.Admin, create(lease("kube-system", "some-leader"))},
		{"a Lease anywhere", controlplane.Admin, create(lease("tenant-a", "some-leader"))},
		{"a ConfigMap in kube-system", controlplane.Admin, create(ofAdmin)},
		{"a deletion in kube-system", controlplane.Admin, func(ctx context.Context, cl client.Client) error { return cl.Delete(ctx, env.Parse(t, ofAdmin)) }},
		{"a DaemonSet's Pod in kube-system", controlplane.Admin, create(fusegate.Object("v1", "Pod", "kube-system", "cni", fusegate.Pause))},
		{"an access review", controlplane.Admin, create("{apiVersion: authorization.k8s.io/v1, kind: SelfSubjectAccessReview, spec: {resourceAttributes: {verb: get, resource: pods}}}")},
		{"a token", controlplane.Admin, createIn(env.Object("v1", "ServiceAccount", "tenant-a", "default"), "token", "{apiVersion: authentication.k8s.io/v1, kind: TokenRequest, spec: {}}")},
	} {
		t.Run(r.name, func(t *testing.T) {
			before := c.Manager.Reviews(t)
			if _, err := c.Ask(t, r.user, r.request); err != nil {
				t.Errorf("refused: %v", err)
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
		for _, object := range []*unstructured.Unstructured{
			env.Object("v1", "ServiceAccount", "tenant-b", "default"), env.Object("v1", "ConfigMap", "tenant-b", "kube-root-ca.crt"),
		} {
			env.AwaitObject(t, c.Client(t), object, "what the controller manager puts into a new namespace", func(*unstructured.Unstructured) error { return nil })
		}
		if after := c.Manager.Reviews(t); after != before {
			t.Errorf("%d requests reached the backend", after-before)
		}
	})
}

// podDenied has the real ReplicaSet controller create a Pod on a tenant's
// behalf. The ReplicaSet itself is written by a user who is not judged.
func (c *testCluster) podDenied(t *testing.T) {
	set := env.Parse(t, replicaSet("web"))
	if _, err := c.Create(t, fusegate.APIServer, set.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	env.AwaitObject(t, c.Client(t), set, "the ReplicaSet to be told that its Pod is denied", func(u *unstructured.Unstructured) error {
		status := fusegate.StatusOf(t, u)
		for _, condition := range status.Conditions {
			if condition.Type == "ReplicaFailure" && strings.Contains(condition.Message, fusegate.Denied+"[everything] no CREATE of Pod") {
				return nil
			}
		}
		return fmt.Errorf("conditions %+v", status.Conditions)
	})
	// As soon as it is to go, its controller creates no Pods.
	_, err := c.Ask(t, fusegate.APIServer, func(ctx context.Context, cl client.Client) error {
		return cl.Delete(ctx, set, client.PropagationPolicy(metav1.DeletePropagationForeground))
	})
	if err != nil {
		t.Fatal(err)
	}
	env.Await(t, "the ReplicaSet to be gone", func() error {
		err := c.Client(t).Get(t.Context(), client.ObjectKeyFromObject(set), set.DeepCopy())
		if err == nil {
			return errors.New("it is there")
		}
		return client.IgnoreNotFound(err)
	})
}

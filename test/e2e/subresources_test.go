package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// keepTemplate wants a label to stay on whatever it matches.
const subresourceMatch = `{kinds: [{apiGroups: [""], kinds: [Pod, Namespace]}, {apiGroups: [networking.k8s.io], kinds: [Ingress]}], namespaces: [sub-*]}`

// TestMetadataThroughSubresources: labels and annotations cannot be changed past a
// policy by a status, by finalize or by a Binding, and whoever writes only a status
// is not asked.
func TestMetadataThroughSubresources(t *testing.T) {
	c := start(t)
	c.Must(t, fusegate.LabelTemplate("SubLabels", "missing"), "apply", "-f", "-")
	c.AwaitTemplate(t, "sublabels")
	t.Cleanup(func() {
		_, _, _ = c.CP.Kubectl(context.WithoutCancel(t.Context()), controlplane.Admin, "", "delete", "constrainttemplate", "sublabels", "--wait=false")
	})
	c.Must(t, `{apiVersion: v1, kind: Namespace, metadata: {name: sub-team, labels: {owner: a}}}`, "create", "-f", "-")
	c.Must(t, "", "create", "rolebinding", "tenant", "--clusterrole=cluster-admin", "--user="+controlplane.Tenant, "-n", "sub-team")
	for _, name := range []string{"a", "b"} {
		c.Must(t, fusegate.Object("v1", "Pod", "sub-team", name+", labels: {owner: a}", fusegate.Pause), "create", "-f", "-")
	}
	c.Must(t, fusegate.Object("networking.k8s.io/v1", "Ingress", "sub-team", "web, labels: {owner: a}",
		"spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}"), "create", "-f", "-")
	c.Must(t, fusegate.Constraint("SubLabels", "owner", "deny", "owner", subresourceMatch), "apply", "-f", "-")
	c.Must(t, fusegate.Constraint("SubLabels", "area", "deny", "area", `{kinds: [{apiGroups: [""], kinds: [Pod]}], namespaces: [sub-team], labelSelector: {matchLabels: {bound: "yes"}}}`), "apply", "-f", "-")
	c.AwaitEnforced(t, "sublabels/owner")
	c.AwaitEnforced(t, "sublabels/area")

	const noOwner = `{"metadata":{"labels":{"owner":null}}}`
	const pods, ns = "/api/v1/namespaces/sub-team/pods/", "/api/v1/namespaces/sub-team"
	const ingress = "/apis/networking.k8s.io/v1/namespaces/sub-team/ingresses/web"
	for name, tc := range map[string]struct {
		user, path, body string
		denied           bool
	}{
		"the object itself":             {controlplane.Tenant, ingress, noOwner, true},
		"an Ingress' status":            {controlplane.Tenant, ingress + "/status", noOwner, true},
		"a Pod's status":                {controlplane.Tenant, pods + "a/status", noOwner, true},
		"a Namespace's status":          {controlplane.Admin, ns + "/status", noOwner, true},
		"another label":                 {controlplane.Tenant, ingress + "/status", `{"metadata":{"labels":{"other":"x"}}}`, false},
		"a status alone":                {controlplane.Tenant, pods + "a/status", `{"status":{"message":"x"}}`, false},
		"the status of a Namespace":     {controlplane.Admin, ns + "/status", `{"status":{"phase":"Active"}}`, false},
		"what is the same as it was":    {controlplane.Tenant, pods + "a/status", `{"metadata":{"labels":{"owner":"a"}}}`, false},
		"the system's change of labels": {fusegate.APIServer, pods + "a/status", `{"metadata":{"labels":{"system":"x"}}}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.Patch(t, tc.user, tc.path, tc.body)
			if denied := err != nil && strings.Contains(err.Error(), "[owner] missing label owner"); denied != tc.denied || err != nil && !denied {
				t.Errorf("got %v, want it denied: %t", err, tc.denied)
			}
		})
	}
	t.Run("a status alone is not sent", func(t *testing.T) {
		before := c.Manager.Reviews(t)
		for i := range 5 {
			if err := c.Patch(t, controlplane.Tenant, pods+"a/status", fmt.Sprintf(`{"status":{"message":"%d"}}`, i)); err != nil {
				t.Error(err)
			}
		}
		if after := c.Manager.Reviews(t); after != before {
			t.Errorf("%d requests reached the webhook, want none", after-before)
		}
	})
	t.Run("a Namespace's finalizers", func(t *testing.T) {
		tenant := clientset(t, c, controlplane.Admin)
		live, err := tenant.CoreV1().Namespaces().Get(t.Context(), "sub-team", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		delete(live.Labels, "owner")
		if _, err := tenant.CoreV1().Namespaces().Finalize(t.Context(), live, metav1.UpdateOptions{}); err == nil || !strings.Contains(err.Error(), "[owner] missing label owner") {
			t.Errorf("taking the label away by finalize: got %v, want a denial", err)
		}
	})
	t.Run("a Binding", func(t *testing.T) {
		node := `{"apiVersion":"v1","kind":"Node","name":"nowhere"}`
		binding := func(pod, metadata string) string {
			return fmt.Sprintf(`{"apiVersion":"v1","kind":"Binding","metadata":{"name":%q%s},"target":%s}`, pod, metadata, node)
		}
		post := func(path, body string) error {
			return clientset(t, c, controlplane.Tenant).RESTClient().Post().RequestURI(path).Body([]byte(body)).SetHeader("Content-Type", "application/json").Do(t.Context()).Error()
		}
		const asked = `,"labels":{"bound":"yes"}`
		for path, body := range map[string]string{pods + "b/binding": binding("b", asked), "/api/v1/namespaces/sub-team/bindings": binding("b", asked)} {
			if err := post(path, body); err == nil || !strings.Contains(err.Error(), "[area] missing label area") {
				t.Errorf("%s with a label: got %v, want a denial", path, err)
			}
		}
		if err := post(pods+"nobody/binding", binding("nobody", asked)); !apierrors.IsNotFound(err) {
			t.Errorf("a Pod that is not there: got %v, want that it is not found", err)
		}
		if err := post(pods+"b/binding", binding("b", `,"labels":{"bound":"yes","area":"x"}`)); err != nil {
			t.Errorf("labels that the policy allows: %v", err)
		}
		pod := &corev1.Pod{}
		if err := c.Client(t).Get(t.Context(), client.ObjectKey{Namespace: "sub-team", Name: "b"}, pod); err != nil {
			t.Fatal(err)
		}
		if pod.Labels["area"] != "x" || pod.Labels["owner"] != "a" || pod.Spec.NodeName != "nowhere" {
			t.Errorf("the Pod has the labels %v on node %q, want those of both", pod.Labels, pod.Spec.NodeName)
		}
		before := c.Manager.Reviews(t)
		if err := post(pods+"a/binding", binding("a", "")); err != nil {
			t.Errorf("a bare Binding: %v", err)
		}
		if after := c.Manager.Reviews(t); after != before {
			t.Error("a bare Binding reached the webhook")
		}
	})
}

func clientset(t *testing.T, c *testCluster, user string) *kubernetes.Clientset {
	t.Helper()
	out, err := kubernetes.NewForConfig(c.CP.Config(user))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// replicasTemplate bounds replicas.
const replicasTemplate = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: %[1]s}
spec:
  crd:
    spec:
      names: {kind: %[2]s}
      validation: {openAPIV3Schema: {type: object, properties: {most: {type: integer}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package replicas
      violation[{"msg": msg}] {
        input.review.object.%[3]s > input.parameters.most
        msg := sprintf("%%v %%v has %%d replicas, %%d are allowed", [input.review.object.kind, input.review.object.metadata.labels.owner, input.review.object.%[3]s, input.parameters.most])
      }
`

func replicasConstraint(kind, group, of string) string {
	return fmt.Sprintf(`
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: %s
metadata: {name: most}
spec:
  match: {kinds: [{apiGroups: [%s], kinds: [%s]}], namespaces: [scaled]}
  parameters: {most: 3}
`, kind, group, of)
}

// TestScale: who scales meets the limits of what is scaled, also of custom resources,
// and is not held to what scaling does not change.
func TestScale(t *testing.T) {
	c := start(t)
	c.Must(t, "", "create", "namespace", "scaled")
	c.Must(t, fmt.Sprintf(replicasTemplate, "maxreplicas", "MaxReplicas", "spec.replicas"), "apply", "-f", "-")
	c.Must(t, fmt.Sprintf(replicasTemplate, "maxsize", "MaxSize", "spec.pool.size"), "apply", "-f", "-")
	c.Must(t, fusegate.LabelTemplate("ScaledLabels", "missing"), "apply", "-f", "-")
	for _, name := range []string{"maxreplicas", "maxsize", "scaledlabels"} {
		c.AwaitTemplate(t, name)
		t.Cleanup(func() {
			_, _, _ = c.CP.Kubectl(context.WithoutCancel(t.Context()), controlplane.Admin, "", "delete", "constrainttemplate", name, "--wait=false")
		})
	}
	const pod = `selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: x}]}}`
	const owner = "web, labels: {owner: me}"
	c.Must(t, fusegate.Object("apps/v1", "Deployment", "scaled", owner, "spec: {replicas: 0, "+pod+"}"), "create", "-f", "-")
	c.Must(t, fusegate.Object("apps/v1", "StatefulSet", "scaled", owner, "spec: {serviceName: web, replicas: 0, "+pod+"}"), "create", "-f", "-")
	c.Must(t, fusegate.Object("apps/v1", "ReplicaSet", "scaled", owner, "spec: {replicas: 0, "+pod+"}"), "create", "-f", "-")
	c.Must(t, fusegate.Object("v1", "ReplicationController", "scaled", owner, "spec: {replicas: 0, selector: {a: b}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: x}]}}}"), "create", "-f", "-")
	c.Must(t, `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: pools.scaled.example.com}
spec:
  group: scaled.example.com
  scope: Namespaced
  names: {plural: pools, kind: Pool}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
    subresources: {scale: {specReplicasPath: .spec.pool.size, statusReplicasPath: .status.size}}
`, "create", "-f", "-")
	c.Must(t, "", "wait", "--for=condition=Established", "crd/pools.scaled.example.com", "--timeout="+env.Patience.String())
	env.Await(t, "a Pool", func() error {
		_, stderr, ok := c.Kubectl(t, controlplane.Admin, fusegate.Object("scaled.example.com/v1", "Pool", "scaled", owner, "spec: {pool: {size: 1}}"), "apply", "-f", "-")
		if !ok {
			return fmt.Errorf("%s", stderr)
		}
		return nil
	})
	c.Must(t, replicasConstraint("MaxReplicas", `apps, ""`, "Deployment, StatefulSet, ReplicaSet, ReplicationController"), "apply", "-f", "-")
	c.Must(t, replicasConstraint("MaxSize", "scaled.example.com", "Pool"), "apply", "-f", "-")
	c.Must(t, fusegate.Constraint("ScaledLabels", "area", "deny", "area", `{kinds: [{apiGroups: [apps], kinds: [Deployment]}], namespaces: [scaled]}`), "apply", "-f", "-")
	message := c.AwaitCondition(t, "maxreplicas/most", "True", "CanaryAnswered")
	if !strings.Contains(message, "horizontal-pod-autoscaler") {
		t.Errorf("the condition does not name what is not enforced: %s", message)
	}
	c.AwaitEnforced(t, "maxsize/most")
	c.AwaitEnforced(t, "scaledlabels/area")
	cs := clientset(t, c, controlplane.Admin)
	scale := func(path string, n int) error {
		return cs.RESTClient().Patch(types.MergePatchType).RequestURI(path + "/scale").Body([]byte(fmt.Sprintf(`{"spec":{"replicas":%d}}`, n))).Do(t.Context()).Error()
	}
	for kind, path := range map[string]string{
		"Deployment": "/apis/apps/v1/namespaces/scaled/deployments/web", "StatefulSet": "/apis/apps/v1/namespaces/scaled/statefulsets/web",
		"ReplicaSet": "/apis/apps/v1/namespaces/scaled/replicasets/web", "ReplicationController": "/api/v1/namespaces/scaled/replicationcontrollers/web",
		"Pool": "/apis/scaled.example.com/v1/namespaces/scaled/pools/web",
	} {
		t.Run(kind, func(t *testing.T) {
			want := fmt.Sprintf("[most] %s me has 4 replicas, 3 are allowed", kind)
			if err := scale(path, 4); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("to 4: got %v, want %q", err, want)
			}
			// The Deployment lacks a label, which scaling does not change.
			if err := scale(path, 2); err != nil {
				t.Errorf("to 2: %v", err)
			}
			if err := scale(strings.TrimSuffix(path, "web")+"nobody", 2); !apierrors.IsNotFound(err) {
				t.Errorf("what is not there: got %v, want that it is not found", err)
			}
		})
	}
}

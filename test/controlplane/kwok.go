package controlplane

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Kubelets is the user of kwok, which plays the kubelets of all nodes: in the
// group system:nodes like every kubelet, so that whoever judges requests by
// their user takes it for one. A kubelet has its rights from the node
// authorizer, for its own node only; this one has them from RBAC, for all.
// The admission plugin NodeRestriction, which is off by default, would stop it.
const Kubelets = "system:node:kwok"

// kwokStages is what kwok makes of nodes and pods: ready at once, gone when they
// are deleted, and complete if they are of a Job.
const kwokStages = `apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata:
  name: node-ready
spec:
  resourceRef: {apiGroup: v1, kind: Node}
  selector:
    matchExpressions:
    - {key: '.status.conditions.[] | select(.type == "Ready") | .status', operator: NotIn, values: ["True"]}
  next:
    statusTemplate: |
      conditions:
      - type: Ready
        status: "True"
        reason: KubeletReady
        message: played by kwok
        lastHeartbeatTime: {{ Now | Quote }}
        lastTransitionTime: {{ Now | Quote }}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata:
  name: pod-running
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: .metadata.deletionTimestamp, operator: DoesNotExist}
    - {key: .status.phase, operator: In, values: [Pending]}
  next:
    statusTemplate: |
      phase: Running
      startTime: {{ Now | Quote }}
      conditions:
      {{ range $type := list "Initialized" "Ready" "ContainersReady" }}
      - {type: {{ $type }}, status: "True", lastTransitionTime: {{ Now | Quote }}}
      {{ end }}
      containerStatuses:
      {{ range .spec.containers }}
      - name: {{ .name | Quote }}
        image: {{ .image | Quote }}
        ready: true
        started: true
        state: {running: {startedAt: {{ Now | Quote }}}}
      {{ end }}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata:
  name: pod-complete
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: .metadata.deletionTimestamp, operator: DoesNotExist}
    - {key: .status.phase, operator: In, values: [Running]}
    - {key: '.metadata.ownerReferences.[].kind', operator: In, values: [Job]}
  next:
    statusTemplate: |
      phase: Succeeded
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata:
  name: pod-gone
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: .metadata.deletionTimestamp, operator: Exists}
  next:
    delete: true
`

// kwokRules are what kwok does to nodes, pods, Leases and events.
var kwokRules = []rbacv1.PolicyRule{
	{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{""}, Resources: []string{"nodes"}},
	{Verbs: []string{"get", "list", "watch", "patch", "delete"}, APIGroups: []string{""}, Resources: []string{"pods"}},
	{Verbs: []string{"patch", "update"}, APIGroups: []string{""}, Resources: []string{"nodes/status", "pods/status"}},
	{Verbs: []string{"create", "patch", "update"}, APIGroups: []string{"", "events.k8s.io"}, Resources: []string{"events"}},
	{Verbs: []string{"get", "list", "watch", "create", "update", "patch"}, APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}},
}

// prepareKwok writes its configuration and gives it its rights.
func (c *ControlPlane) prepareKwok(ctx context.Context) error {
	if err := writePrivate(c.kwokFile(), []byte(kwokStages)); err != nil {
		return fmt.Errorf("writing the stages of kwok: %w", err)
	}
	client, err := kubernetes.NewForConfig(c.Config(Admin))
	if err != nil {
		return err
	}
	if _, err := client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: kwokName}, Rules: kwokRules,
	}, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("giving kwok its rights: %w", err)
	}
	if _, err := client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: kwokName},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: kwokName},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: Kubelets}},
	}, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("giving kwok its rights: %w", err)
	}
	return nil
}

func (c *ControlPlane) kwokFile() string { return c.dir.file("kwok.yaml") }

// kwokArgs let it serve nothing; nobody asks a kubelet for logs here. Leases
// last as long as those of kubelets do by default, so that they are renewed
// every ten seconds.
func (c *ControlPlane) kwokArgs() []string {
	return []string{
		"--config=" + c.kwokFile(),
		"--kubeconfig=" + c.Kubeconfig(Kubelets),
		"--manage-all-nodes",
		"--node-lease-duration-seconds=40",
	}
}

// probeKwok succeeds when it may see the nodes. Until there are some, nothing
// tells whether it works.
func (c *ControlPlane) probeKwok(ctx context.Context) error {
	return c.get(ctx, c.url(c.servers()[0])+"/api/v1/nodes", c.identity(Kubelets).token)
}

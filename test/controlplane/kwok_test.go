//go:build unix

package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/test/controlplane"
)

// TestNodes runs pods on nodes that kwok plays, and then restarts what elects
// leaders: both waits are for Leases.
func TestNodes(t *testing.T) {
	t.Parallel()
	c := must[*controlplane.ControlPlane](t)(controlplane.Start(t.Context(), controlplane.Options{
		Dir: t.TempDir(), ControllerManager: true, Scheduler: true, Kwok: true, LeaderElection: true, Log: t.Output(),
	}))
	defer func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	}()
	names := must[[]string](t)(c.AddNodes(t.Context(), 2))
	names = append(names, must[[]string](t)(c.AddNodes(t.Context(), 1))...)
	if diff := cmp.Diff([]string{"kwok-0", "kwok-1", "kwok-2"}, names); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
	admin := clientOf(t, c, 0, controlplane.Admin)
	renewed := awaitRenewal(t, admin, names)
	testPodRuns(t, admin)
	testRestart(t, c)
	renewed()
}

// awaitRenewal notes when the Leases of nodes were renewed last, and returns
// what waits until all of them have been renewed again.
func awaitRenewal(t *testing.T, admin kubernetes.Interface, nodes []string) func() {
	t.Helper()
	last := func(ctx context.Context, node string) (time.Time, error) {
		lease, err := admin.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return time.Time{}, err
		}
		return ptr.Deref(lease.Spec.RenewTime, metav1.MicroTime{}).Time, nil
	}
	before := map[string]time.Time{}
	for _, node := range nodes {
		before[node] = must[time.Time](t)(last(t.Context(), node))
	}
	return func() {
		t.Helper()
		for _, node := range nodes {
			eventually(t, func(ctx context.Context) error {
				now, err := last(ctx, node)
				if err == nil && !now.After(before[node]) {
					err = fmt.Errorf("the Lease of %s is not renewed", node)
				}
				return err
			})
		}
	}
}

// testPodRuns sees a pod of a ReplicaSet scheduled and running, and gone.
func testPodRuns(t *testing.T, admin kubernetes.Interface) {
	t.Helper()
	if _, err := admin.AppsV1().ReplicaSets("default").Create(t.Context(), replicaSet(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := ""
	eventually(t, func(ctx context.Context) error {
		sets, err := admin.AppsV1().ReplicaSets("default").Get(ctx, "web", metav1.GetOptions{})
		if err == nil && sets.Status.ReadyReplicas != 1 {
			err = errors.New("its pod is not ready")
		}
		return err
	})
	pods := must[*corev1.PodList](t)(admin.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"}))
	for _, p := range pods.Items {
		pod = p.Name
		if p.Status.Phase != corev1.PodRunning || p.Spec.NodeName == "" {
			t.Errorf("pod %s is %s on %q, want it running", p.Name, p.Status.Phase, p.Spec.NodeName)
		}
	}
	err := admin.AppsV1().ReplicaSets("default").Delete(t.Context(), "web", metav1.DeleteOptions{
		PropagationPolicy: ptr.To(metav1.DeletePropagationBackground),
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		_, err := admin.CoreV1().Pods("default").Get(ctx, pod, metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("getting the deleted pod: got %w, want NotFound", err)
		}
		return nil
	})
}

// TestNodesWithoutKubelets checks that nodes which would never be ready are
// refused.
func TestNodesWithoutKubelets(t *testing.T) {
	if _, err := (&controlplane.ControlPlane{}).AddNodes(t.Context(), 1); err == nil {
		t.Error("without kwok: no error")
	}
}

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

var errNoKubelets = errors.New("nobody would play the kubelets: set Options.Kwok")

// AddNodes makes nodes with a kubelet each, played by kwok, and returns their
// names: kwok-0, kwok-1 and so on, those of earlier calls included in the count.
// Each offers 32 CPUs, 256 GiB and 110 pods. It returns once all of them are
// ready, their Leases are held and, with a controller manager, pods may be
// scheduled to them. The context is used as in Start.
func (c *ControlPlane) AddNodes(ctx context.Context, n int) ([]string, error) {
	if !c.options.Kwok {
		return nil, errNoKubelets
	}
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	client, err := kubernetes.NewForConfig(c.Config(Admin))
	if err != nil {
		return nil, err
	}
	names := c.nameNodes(n)
	for _, name := range names {
		if _, err := client.CoreV1().Nodes().Create(ctx, newNode(name), metav1.CreateOptions{}); err != nil {
			return nil, fmt.Errorf("making a node: %w", err)
		}
	}
	for _, name := range names {
		if err := c.awaitNode(ctx, client, name); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// nameNodes returns the next names.
func (c *ControlPlane) nameNodes(n int) []string {
	c.mu.Lock()
	defer c.mu.Unlock()

	var names []string
	for range n {
		names = append(names, fmt.Sprintf("%s-%d", kwokName, c.nodes))
		c.nodes++
	}
	return names
}

func newNode(name string) *corev1.Node {
	offer := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("32"),
		corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourcePods:   resource.MustParse("110"),
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
		}},
		Status: corev1.NodeStatus{Capacity: offer, Allocatable: offer},
	}
}

func (c *ControlPlane) awaitNode(ctx context.Context, client kubernetes.Interface, name string) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := c.probeNode(ctx, client, name)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for node %s: %w (%w)", name, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func (c *ControlPlane) probeNode(ctx context.Context, client kubernetes.Interface, name string) error {
	node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if !ready(node) {
		return errors.New("it is not ready")
	}
	if c.options.ControllerManager && len(node.Spec.Taints) > 0 {
		return fmt.Errorf("it is tainted %s", node.Spec.Taints[0].Key)
	}
	_, err = client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, name, metav1.GetOptions{})
	return err
}

func ready(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

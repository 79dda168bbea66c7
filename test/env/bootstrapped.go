package env

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/test/controlplane"
)

// bootstrapped waits until what is written at the first start is there.
func bootstrapped(ctx context.Context, cp *controlplane.ControlPlane, managed bool) error {
	c, err := client.New(cp.Config(controlplane.Admin), client.Options{})
	if err != nil {
		return err
	}
	wanted := map[client.Object]string{
		&rbacv1.ClusterRoleBinding{}:  "system:service-account-issuer-discovery",
		&schedulingv1.PriorityClass{}: "system-node-critical",
		&flowcontrolv1.FlowSchema{}:   "exempt",
		&corev1.Namespace{}:           corev1.NamespaceNodeLease,
	}
	for o, name := range wanted {
		if err := Poll(ctx, func() error { return c.Get(ctx, client.ObjectKey{Name: name}, o) }); err != nil {
			return fmt.Errorf("waiting for %s: %w", name, err)
		}
	}
	if !managed {
		return nil
	}
	return Poll(ctx, func() error {
		var namespaces corev1.NamespaceList
		err := c.List(ctx, &namespaces)
		for _, n := range namespaces.Items {
			err = errors.Join(err,
				c.Get(ctx, client.ObjectKey{Namespace: n.Name, Name: "default"}, &corev1.ServiceAccount{}),
				c.Get(ctx, client.ObjectKey{Namespace: n.Name, Name: "kube-root-ca.crt"}, &corev1.ConfigMap{}))
		}
		return err
	})
}

package install

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
)

// AddOn is a namespace outside the perimeter with workloads that look like part
// of the cluster. While the webhook hangs, creating their pods takes as long
// as its timeout, and a policy can deny them.
type AddOn struct {
	Namespace string
	// Why names each workload and what gives it away, sorted.
	Why []string
}

// AddOns finds them among DaemonSets, Deployments and StatefulSets. It is a
// guess, for people to decide on. Errors are those of Config.Perimeter and of
// listing workloads.
func AddOns(ctx context.Context, c client.Reader, cfg config.Config) ([]AddOn, error) {
	perimeter, err := cfg.Perimeter()
	if err != nil {
		return nil, err
	}
	workloads, err := listWorkloads(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("looking for add-ons: %w", err)
	}
	found := map[string][]string{}
	for _, w := range workloads {
		if signs := w.signs(); len(signs) > 0 && !perimeter.ExemptNamespace(w.namespace) {
			found[w.namespace] = append(found[w.namespace], w.name+": "+strings.Join(signs, ", "))
		}
	}
	var out []AddOn
	for _, namespace := range slices.Sorted(maps.Keys(found)) {
		out = append(out, AddOn{Namespace: namespace, Why: slices.Sorted(slices.Values(found[namespace]))})
	}
	return out, nil
}

// workload is what AddOns looks at.
type workload struct {
	namespace, name string // the name with its kind
	everyNode       bool
	pod             *corev1.PodSpec
}

func listWorkloads(ctx context.Context, c client.Reader) ([]workload, error) {
	daemonSets, deployments, statefulSets := &appsv1.DaemonSetList{}, &appsv1.DeploymentList{}, &appsv1.StatefulSetList{}
	for _, list := range []client.ObjectList{daemonSets, deployments, statefulSets} {
		if err := c.List(ctx, list); err != nil {
			return nil, fmt.Errorf("listing workloads: %w", err)
		}
	}
	var out []workload
	for i := range daemonSets.Items {
		w := &daemonSets.Items[i]
		out = append(out, workload{w.Namespace, "DaemonSet " + w.Name, true, &w.Spec.Template.Spec})
	}
	for i := range deployments.Items {
		w := &deployments.Items[i]
		out = append(out, workload{w.Namespace, "Deployment " + w.Name, false, &w.Spec.Template.Spec})
	}
	for i := range statefulSets.Items {
		w := &statefulSets.Items[i]
		out = append(out, workload{w.Namespace, "StatefulSet " + w.Name, false, &w.Spec.Template.Spec})
	}
	return out, nil
}

// signs are what gives an add-on away. On the network of every node, tolerating
// every taint, and in folders of the kubelet's is what CNI and CSI plugins are.
func (w workload) signs() []string {
	var out []string
	if strings.HasPrefix(w.pod.PriorityClassName, "system-") {
		out = append(out, "priority class "+w.pod.PriorityClassName)
	}
	if !w.everyNode {
		return out
	}
	if w.pod.HostNetwork {
		out = append(out, "the host's network on every node")
	}
	if slices.ContainsFunc(w.pod.Tolerations, toleratesAll) {
		out = append(out, "tolerates every taint")
	}
	if w.mounts("/etc/cni", "/opt/cni") {
		out = append(out, "installs a network plugin (CNI)")
	}
	if w.mounts("/var/lib/kubelet/plugins") {
		out = append(out, "is a storage driver (CSI)")
	}
	return out
}

func toleratesAll(t corev1.Toleration) bool {
	return t.Operator == corev1.TolerationOpExists && t.Key == ""
}

// mounts tells whether the pods mount a folder of the host that starts so.
func (w workload) mounts(prefixes ...string) bool {
	return slices.ContainsFunc(w.pod.Volumes, func(v corev1.Volume) bool {
		return v.HostPath != nil && slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(v.HostPath.Path, p) })
	})
}

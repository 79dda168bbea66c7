package install_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/install"
)

// workload is a Deployment or DaemonSet whose pods have these fields.
func workload(kind, namespace, name, pod string) string {
	return `
apiVersion: apps/v1
kind: ` + kind + `
metadata: {name: ` + name + `, namespace: ` + namespace + `}
spec:
  selector: {matchLabels: {app: x}}
  template:
    metadata: {labels: {app: x}}
    spec: {` + pod + `, containers: [{name: x, image: x}]}
`
}

func TestAddOns(t *testing.T) {
	c := fresh(t)
	for _, ns := range []string{"addon-net", "addon-disk", "addon-critical", "addon-known", "tenant"} {
		create(t, c, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+ns+"}\n")
	}
	for _, object := range []string{
		workload("DaemonSet", "addon-net", "node", `hostNetwork: true, tolerations: [{operator: Exists}], volumes: [{name: a, hostPath: {path: /etc/cni/net.d}}]`),
		workload("DaemonSet", "addon-disk", "csi", `volumes: [{name: a, hostPath: {path: /var/lib/kubelet/plugins_registry}}]`),
		workload("Deployment", "addon-critical", "dns", `priorityClassName: system-cluster-critical`),
		workload("DaemonSet", "addon-known", "node", `hostNetwork: true`),
		workload("DaemonSet", "kube-system", "addon-proxy", `hostNetwork: true`),
		workload("DaemonSet", "tenant", "logs", `tolerations: [{key: a, operator: Exists}]`),
		workload("Deployment", "tenant", "app", `hostNetwork: true, tolerations: [{operator: Exists}]`),
	} {
		create(t, c, object)
	}
	cfg := config.Config{Image: image}
	cfg.Exempt.Namespaces = []string{"addon-known"}
	got, err := install.AddOns(t.Context(), c, cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := []install.AddOn{
		{Namespace: "addon-critical", Why: []string{"Deployment dns: priority class system-cluster-critical"}},
		{Namespace: "addon-disk", Why: []string{"DaemonSet csi: is a storage driver (CSI)"}},
		{Namespace: "addon-net", Why: []string{"DaemonSet node: the host's network on every node, tolerates every taint, installs a network plugin (CNI)"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("add-ons (-want +got):\n%s", diff)
	}
}

package webhook

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/exempt"
)

func TestUnenforceable(t *testing.T) {
	kinds := func(group string, names ...any) map[string]any {
		return map[string]any{"kinds": []any{map[string]any{"apiGroups": []any{group}, "kinds": names}}}
	}
	for name, tc := range map[string]struct {
		match map[string]any
		want  []string // a part of each warning
	}{
		"Everything":    {match: nil},
		"Pods":          {match: kinds("", "Pod", "Service", "Secret", "Namespace")},
		"Lease":         {match: kinds("coordination.k8s.io", "Lease"), want: []string{"Lease.coordination.k8s.io"}},
		"Core":          {match: kinds("", "Node", "Endpoints", "Event", "Binding", "Pod"), want: []string{"Binding, Endpoints, Event, Node:"}},
		"Storage":       {match: kinds("storage.k8s.io", "CSINode", "StorageClass", "VolumeAttachment"), want: []string{"CSINode.storage.k8s.io, VolumeAttachment.storage.k8s.io:"}},
		"Networking":    {match: kinds("networking.k8s.io", "IPAddress", "ServiceCIDR", "Ingress"), want: []string{"IPAddress.networking.k8s.io, ServiceCIDR.networking.k8s.io:"}},
		"Reviews":       {match: kinds("authentication.k8s.io", "TokenReview"), want: []string{"TokenReview"}},
		"AnyGroup":      {match: kinds("*", "Lease")},
		"InsideExactly": {match: map[string]any{"namespaces": []any{"kube-system", "fusegate-system"}}, want: []string{"kube-system, fusegate-system"}},
		"InsidePartly":  {match: map[string]any{"namespaces": []any{"kube-system", "team-a"}}},
		"Glob":          {match: map[string]any{"namespaces": []any{"kube-*"}}},
	} {
		t.Run(name, func(t *testing.T) {
			u := &unstructured.Unstructured{Object: map[string]any{
				"kind": "K8sX", "metadata": map[string]any{"name": "x"}, "spec": map[string]any{"match": tc.match},
			}}
			got := unenforceable(u, exempt.Perimeter{})
			if len(got) != len(tc.want) {
				t.Fatalf("got %q, want %d warnings", got, len(tc.want))
			}
			for i, part := range tc.want {
				if !strings.Contains(got[i], part) || !strings.Contains(got[i], `K8sX "x"`) || !strings.Contains(got[i], "audited") {
					t.Errorf("got %q, want a warning with %q", got[i], part)
				}
			}
		})
	}
}

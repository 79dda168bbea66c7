package intercept_test

import (
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/match"
)

var (
	full    = metav1.Verbs{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
	change  = metav1.Verbs{"get", "patch", "update"}
	read    = metav1.Verbs{"get", "list"}
	post    = metav1.Verbs{"create"}
	stream  = metav1.Verbs{"create", "get"}
	proxied = metav1.Verbs{"create", "delete", "get", "patch", "update"}
)

func entry(name, kind string, verbs metav1.Verbs) metav1.APIResource {
	return metav1.APIResource{Name: name, Kind: kind, Verbs: verbs}
}

func foreign(group, name, kind string, verbs metav1.Verbs) metav1.APIResource {
	r := entry(name, kind, verbs)
	r.Group, r.Version = group, "v1"
	return r
}

// cluster is what a Kubernetes 1.36 API server serves, abridged, with a CRD
// in two versions and an aggregated API whose subresources lack their parent.
func cluster() []*metav1.APIResourceList {
	widgets := []metav1.APIResource{
		entry("widgets", "Widget", full),
		entry("widgets/status", "Widget", change),
		foreign("autoscaling", "widgets/scale", "Scale", change),
	}
	return scoped([]*metav1.APIResourceList{
		{GroupVersion: "v1", APIResources: []metav1.APIResource{
			entry("bindings", "Binding", post),
			entry("componentstatuses", "ComponentStatus", read),
			entry("configmaps", "ConfigMap", full),
			entry("events", "Event", full),
			entry("namespaces", "Namespace", full),
			entry("namespaces/finalize", "Namespace", metav1.Verbs{"update"}),
			entry("namespaces/status", "Namespace", change),
			entry("nodes", "Node", full),
			entry("nodes/proxy", "NodeProxyOptions", proxied),
			entry("nodes/status", "Node", change),
			entry("pods", "Pod", full),
			entry("pods/attach", "PodAttachOptions", stream),
			entry("pods/binding", "Binding", post),
			entry("pods/ephemeralcontainers", "Pod", change),
			foreign("policy", "pods/eviction", "Eviction", post),
			entry("pods/exec", "PodExecOptions", stream),
			entry("pods/log", "Pod", metav1.Verbs{"get"}),
			entry("pods/portforward", "PodPortForwardOptions", stream),
			entry("pods/proxy", "PodProxyOptions", proxied),
			entry("pods/resize", "Pod", change),
			entry("pods/status", "Pod", change),
			entry("replicationcontrollers", "ReplicationController", full),
			foreign("autoscaling", "replicationcontrollers/scale", "Scale", change),
			entry("serviceaccounts", "ServiceAccount", full),
			foreign("authentication.k8s.io", "serviceaccounts/token", "TokenRequest", post),
			entry("services", "Service", full),
			entry("services/proxy", "ServiceProxyOptions", proxied),
			entry("services/status", "Service", change),
		}},
		{GroupVersion: "apps/v1", APIResources: []metav1.APIResource{
			entry("deployments", "Deployment", full),
			foreign("autoscaling", "deployments/scale", "Scale", change),
			entry("deployments/status", "Deployment", change),
			entry("statefulsets", "StatefulSet", full),
			foreign("autoscaling", "statefulsets/scale", "Scale", change),
		}},
		{GroupVersion: "admissionregistration.k8s.io/v1", APIResources: []metav1.APIResource{entry("validatingwebhookconfigurations", "ValidatingWebhookConfiguration", full)}},
		{GroupVersion: "authorization.k8s.io/v1", APIResources: []metav1.APIResource{entry("subjectaccessreviews", "SubjectAccessReview", post)}},
		{GroupVersion: "autoscaling/v1", APIResources: []metav1.APIResource{entry("horizontalpodautoscalers", "HorizontalPodAutoscaler", full)}},
		{GroupVersion: "autoscaling/v2", APIResources: []metav1.APIResource{entry("horizontalpodautoscalers", "HorizontalPodAutoscaler", full)}},
		{GroupVersion: "coordination.k8s.io/v1", APIResources: []metav1.APIResource{entry("leases", "Lease", full)}},
		{GroupVersion: "events.k8s.io/v1", APIResources: []metav1.APIResource{entry("events", "Event", full)}},
		{GroupVersion: "networking.k8s.io/v1", APIResources: []metav1.APIResource{entry("ingresses", "Ingress", full), entry("ingresses/status", "Ingress", change)}},
		{GroupVersion: "policy/v1", APIResources: []metav1.APIResource{entry("poddisruptionbudgets", "PodDisruptionBudget", full)}},
		{GroupVersion: "rbac.authorization.k8s.io/v1", APIResources: []metav1.APIResource{entry("clusterroles", "ClusterRole", full)}},
		{GroupVersion: "example.com/v1", APIResources: widgets},
		{GroupVersion: "example.com/v1beta1", APIResources: widgets},
		{GroupVersion: "subresources.example.com/v1", APIResources: []metav1.APIResource{
			foreign("subresources.example.com", "machines/console", "ConsoleOptions", metav1.Verbs{"get", "update"}),
			entry("machines/exec", "PodExecOptions", post),
		}},
	})
}

// scoped says what is namespaced.
func scoped(lists []*metav1.APIResourceList) []*metav1.APIResourceList {
	clusterScoped := []string{"clusterroles", "componentstatuses", "namespaces", "nodes", "subjectaccessreviews", "validatingwebhookconfigurations"}
	for _, l := range lists {
		for i, r := range l.APIResources {
			parent, _, _ := strings.Cut(r.Name, "/")
			l.APIResources[i].Namespaced = !slices.Contains(clusterScoped, parent)
		}
	}
	return lists
}

func matcher(t testing.TB, text string) *match.Matcher {
	t.Helper()
	var block map[string]any
	if err := yaml.Unmarshal([]byte(text), &block); err != nil {
		t.Fatalf("decoding match block: %v", err)
	}
	m, err := match.Compile(block)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return m
}

package webhook

import (
	"context"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/policy"
)

// ClusterNamespaces finds namespaces in the manager's cache, and reads one live
// when the cache does not have it: it may have been created a moment ago.
type ClusterNamespaces struct {
	cache client.Reader
	live  client.Reader
	log   logr.Logger
}

// NewClusterNamespaces returns a Namespaces over a cache and the API server.
func NewClusterNamespaces(cache, live client.Reader, log logr.Logger) *ClusterNamespaces {
	return &ClusterNamespaces{cache: cache, live: live, log: log}
}

// Namespace implements Namespaces. A namespace that cannot be read is not known.
func (n *ClusterNamespaces) Namespace(ctx context.Context, name string) policy.Namespace {
	ns := &corev1.Namespace{}
	key := client.ObjectKey{Name: name}
	if err := n.cache.Get(ctx, key, ns); err != nil {
		if err := n.live.Get(ctx, key, ns); err != nil {
			n.log.Error(err, "namespace of a reviewed object not found", "namespace", name)
			return policy.Namespace{}
		}
	}
	ns.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(ns)
	if err != nil {
		n.log.Error(err, "converting a namespace", "namespace", name)
		return policy.Namespace{}
	}
	return policy.Namespace{Known: true, Object: object}
}

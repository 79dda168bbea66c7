package audit

import (
	"errors"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"github.com/fusegate/fusegate/apis/v1alpha1"
)

// resource is a kind as the cluster serves it, in its preferred version.
type resource struct {
	gvr        schema.GroupVersionResource
	gvk        schema.GroupVersionKind
	namespaced bool
	// watched is false for kinds that can only be listed.
	watched bool
}

// everyGroup stands for all groups.
const everyGroup = "*"

// virtual kinds exist only in requests: there is nothing of them to list.
func virtual(r metav1.APIResource) bool { return !slices.Contains(r.Verbs, "list") }

// discoverResources lists what is served, once per kind, and by group why it is
// not known what it serves.
func discoverResources(d discovery.ServerResourcesInterface) ([]resource, map[string]error) {
	lists, err := d.ServerPreferredResources()
	failed := map[string]error{}
	if partial := (*discovery.ErrGroupDiscoveryFailed)(nil); errors.As(err, &partial) {
		for gv, err := range partial.Groups {
			failed[gv.Group] = err
		}
	} else if err != nil {
		failed[everyGroup] = err
	}
	var out []resource
	taken := map[schema.GroupKind]bool{}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil || gv.Group == v1alpha1.Group {
			continue // what Fusegate writes itself is outside policy
		}
		for _, r := range list.APIResources {
			gk := schema.GroupKind{Group: gv.Group, Kind: r.Kind}
			if strings.Contains(r.Name, "/") || virtual(r) || taken[gk] {
				continue
			}
			taken[gk] = true
			out = append(out, resource{
				gvr: gv.WithResource(r.Name), gvk: gv.WithKind(r.Kind), namespaced: r.Namespaced,
				watched: slices.Contains(r.Verbs, "watch"),
			})
		}
	}
	return out, failed
}

package intercept

import (
	"cmp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/exempt"
)

// writeVerbs are the verbs that bring a request to admission, CONNECT aside.
var writeVerbs = map[string]operations{
	"create": create, "update": update, "patch": update, "delete": remove, "deletecollection": remove,
}

func offered(verbs []string) operations {
	var out operations
	for _, v := range verbs {
		out |= writeVerbs[v]
	}
	return out
}

// passedOver are the subresources that never reach a policy, whoever writes
// them and whatever a constraint names: the system could not run if they waited
// for one. The perimeter excludes them too; not asking for them in the first
// place holds even where somebody has edited its conditions away. Services'
// status is the exception (reachesPolicies).
var passedOver = []string{"status", "binding", "finalize", "token", "approval", "eviction"}

// connectOptions are the kinds of the core group that a request brings as the
// options of a CONNECT (NewConnectOptions in Kubernetes' pkg/registry/core).
// Discovery does not tell them from objects.
var connectOptions = []string{
	"NodeProxyOptions", "PodAttachOptions", "PodExecOptions",
	"PodPortForwardOptions", "PodProxyOptions", "ServiceProxyOptions",
}

// resource is a resource or subresource that the cluster serves.
type resource struct {
	target
	version string
	// kind is what its requests carry. Its group need not be the target's:
	// apps serves deployments/scale with the kind Scale of autoscaling.
	kind        schema.GroupKind
	kindVersion string
	namespaced  bool
	// offered are the operations that its verbs stand for.
	offered operations
	// takes are the operations for which a request can come.
	takes operations
	// foreign marks a subresource that carries another kind than its parent,
	// and not as options of a CONNECT.
	foreign bool
	// of is the kind of the object that is changed by what carries another: of a
	// Pod by a Binding, and of what is scaled by a Scale. Such requests come with
	// the operation by, and are judged as updates of that object too.
	of schema.GroupKind
	by operations
}

// reach narrows operations to those for which r can be requested.
func (r resource) reach(ops operations) operations { return ops & r.takes }

// newCatalogue lists what discovery found, once for each version.
func newCatalogue(served []*metav1.APIResourceList) []resource {
	var out []resource
	for _, list := range served {
		if list == nil {
			continue
		}
		// A group that cannot be parsed is one that no rule can name.
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue
		}
		parents := map[string]schema.GroupKind{}
		for _, r := range list.APIResources {
			parents[r.Name] = kindOf(r, gv)
		}
		for _, r := range list.APIResources {
			if !nameable(r.Name) {
				continue
			}
			parent, _, sub := strings.Cut(r.Name, "/")
			served := newResource(r, gv, sub && parents[parent] != kindOf(r, gv))
			served.of, served.by = changedBy(served, parents[parent])
			out = append(out, served)
		}
	}
	return out
}

// nameable tells whether a rule can name a resource. An aggregated API server may
// serve anything; a rule that the API server refuses would cost all others.
func nameable(name string) bool {
	return name != "" && !strings.Contains(name, wildcard) && strings.Count(name, "/") <= 1 &&
		!strings.HasPrefix(name, "/") && !strings.HasSuffix(name, "/")
}

func newResource(listed metav1.APIResource, gv schema.GroupVersion, otherKind bool) resource {
	r := resource{
		target: target{gv.Group, listed.Name}, version: gv.Version,
		kind: kindOf(listed, gv), kindVersion: cmp.Or(listed.Version, gv.Version),
		namespaced: listed.Namespaced, offered: offered(listed.Verbs),
	}
	_, subresource, _ := strings.Cut(listed.Name, "/")
	switch {
	case subresource != "" && isConnect(r.kind):
		r.takes = connect
	case r.offered == 0 || !reachesPolicies(gv.Group, listed.Name, subresource):
	case otherKind:
		// An aggregated API's options cannot be recognized as such.
		r.takes, r.foreign = all, true
	case changesMetadata(gv.Group, listed.Name, subresource):
		r.takes = update
	default:
		r.takes = all &^ connect
	}
	return r
}

func reachesPolicies(group, name, subresource string) bool {
	return !slices.Contains(passedOver, subresource) || group == "" && name == "services/status" || changesMetadata(group, name, subresource)
}

func changesMetadata(group, name, subresource string) bool {
	name, _, _ = strings.Cut(name, "/")
	return exempt.MayChangeMetadata(schema.GroupResource{Group: group, Resource: name}, subresource)
}

// changedBy is the kind of the object that requests of r change, if they carry
// another, and the operation with which they come.
func changedBy(r resource, parent schema.GroupKind) (of schema.GroupKind, by operations) {
	switch {
	case exempt.IsBinding(r.gvr().GroupResource(), r.subresource()):
		return schema.GroupKind{Kind: "Pod"}, create
	case r.subresource() == scale && parent.Kind != "" && r.offered&update != 0:
		return parent, update
	}
	return schema.GroupKind{}, 0
}

// scale is the subresource that changes how many replicas there are.
const scale = "scale"

func isConnect(kind schema.GroupKind) bool {
	return kind.Group == "" && slices.Contains(connectOptions, kind.Kind)
}

// kindOf fills in what discovery leaves out of an entry: the list's group.
func kindOf(r metav1.APIResource, gv schema.GroupVersion) schema.GroupKind {
	group := gv.Group
	if r.Group != "" {
		group = r.Group
	}
	return schema.GroupKind{Group: group, Kind: r.Kind}
}

package exempt

import (
	"maps"
	"reflect"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/policy"
)

// Some subresources store the labels, annotations and owner references of what is
// sent to them, so that who may write one can change metadata past every policy: a
// Pod's labels, an Ingress' class, what a namespaceSelector selects. Writes that do
// are judged, unless a system identity makes them; all others, and so nearly all
// there are, never reach a webhook.
//
// The subresources are listed one by one. Those of custom resources are not among
// them: the API server keeps the metadata as it was
// (k8s.io/apiextensions-apiserver pkg/registry/customresource/status_strategy.go).

// statuses are the kinds of Kubernetes, up to 1.37, whose status is a subresource,
// but for those that are critical or never sent to a webhook (Kubernetes
// pkg/registry/*/rest).
var statuses = resources{
	{"", []string{"namespaces", "persistentvolumeclaims", "persistentvolumes", "pods", "replicationcontrollers", "resourcequotas"}},
	{"apiextensions.k8s.io", []string{"customresourcedefinitions"}},
	{"apps", []string{"daemonsets", "deployments", "replicasets", "statefulsets"}},
	{"autoscaling", []string{"horizontalpodautoscalers"}},
	{"batch", []string{"cronjobs", "jobs"}},
	{"internal.apiserver.k8s.io", []string{"storageversions"}},
	{"lifecycle.k8s.io", []string{"evictionrequests", "evictions"}},
	{"networking.k8s.io", []string{"ingresses"}},
	{"policy", []string{"poddisruptionbudgets"}},
	{"resource.k8s.io", []string{"devicetaintrules", "resourceclaims", "resourcepoolstatusrequests"}},
	{"scheduling.k8s.io", []string{"compositepodgroups", "podgroups"}},
	{"storagemigration.k8s.io", []string{"storageversionmigrations"}},
}

// finalizes are the kinds that have a subresource finalize.
var finalizes = resources{{"", []string{"namespaces"}}}

// topologyLabels are those that the API server adds to the Bindings of Pods
// (Kubernetes plugin/pkg/admission/podtopologylabels).
var topologyLabels = []string{"topology.kubernetes.io/region", "topology.kubernetes.io/zone"}

var (
	updates = oneOf{operation, []string{string(policy.Update)}}
	creates = oneOf{operation, []string{string(policy.Create)}}

	statusWrite   = all{oneOf{subResource, []string{"status"}}, statuses.predicate()}
	finalizeWrite = all{oneOf{subResource, []string{"finalize"}}, finalizes.predicate()}
	podBinding    = all{oneOf{group, []string{""}}, oneOf{resource, []string{"pods"}}, oneOf{subResource, []string{"binding"}}}
	oldBinding    = all{oneOf{group, []string{""}}, oneOf{resource, []string{"bindings"}}, not(present{subResource})}

	// changesMetadata holds for writes of a status, or of a Namespace's finalizers,
	// that change metadata besides.
	changesMetadata = all{updates, some{statusWrite, finalizeWrite}, metadataDiffers{}}
	// bindsWithMetadata holds for Bindings that bring their Pod labels, beside those
	// that the API server adds, or annotations.
	bindsWithMetadata = all{podBinding, creates, bringsMetadata{known: topologyLabels}}
	// bindsByOldWay does for those of the resource bindings, to which the API server
	// adds nothing.
	bindsByOldWay = all{oldBinding, creates, bringsMetadata{}}
)

// MayChangeMetadata tells whether metadata can be changed by an update of the
// subresource of a built-in resource which otherwise is never judged.
func MayChangeMetadata(gr schema.GroupResource, subresource string) bool {
	r := &policy.Review{Resource: gr.WithVersion(""), SubResource: subresource}
	return some{statusWrite, finalizeWrite}.holds(r)
}

// IsBinding tells whether the request creates a Binding, which changes the
// metadata of the Pod of its name.
func IsBinding(gr schema.GroupResource, subresource string) bool {
	return gr.Group == "" && (gr.Resource == "pods" && subresource == "binding" || gr.Resource == "bindings" && subresource == "")
}

// judgedMetadata are the fields of metadata that policies go by, with what stands
// for one that is not there.
var judgedMetadata = []struct {
	name, none string
	empty      any
}{
	{"labels", "{}", map[string]any{}},
	{"annotations", "{}", map[string]any{}},
	{"ownerReferences", "[]", []any{}},
}

// metadataDiffers holds when labels, annotations or owner references of the
// object are not those of the old one.
type metadataDiffers struct{}

const bothHaveMetadata = "object != null && oldObject != null && has(object.metadata) && has(oldObject.metadata)"

func (metadataDiffers) cel() (string, precedence) {
	differs := ""
	for i, f := range judgedMetadata {
		if i > 0 {
			differs += " || "
		}
		differs += value("object", f.name, f.none) + " != " + value("oldObject", f.name, f.none)
	}
	return bothHaveMetadata + " && (" + differs + ")", bindsAnd
}

// value is a field of an object's metadata, which may not be there.
func value(of, field, none string) string {
	path := of + ".metadata." + field
	return "(has(" + path + ") ? " + path + " : " + none + ")"
}

func (metadataDiffers) holds(r *policy.Review) bool {
	now, before := metadataOf(r.Object), metadataOf(r.OldObject)
	if now == nil || before == nil {
		return false
	}
	for _, f := range judgedMetadata {
		if !same(now[f.name], before[f.name], f.empty) {
			return true
		}
	}
	return false
}

// same compares two fields; empty stands for one that is not there.
func same(a, b, empty any) bool {
	if a == nil {
		a = empty
	}
	if b == nil {
		b = empty
	}
	return reflect.DeepEqual(a, b)
}

func metadataOf(object map[string]any) map[string]any {
	metadata, _ := object["metadata"].(map[string]any)
	return metadata
}

// bringsMetadata holds when the object has annotations, or labels other than the
// known ones.
type bringsMetadata struct{ known []string }

func (p bringsMetadata) cel() (string, precedence) {
	const labels = "object.metadata.labels"
	// The size comes first: to go through any number of labels could exhaust the
	// cost budget, and the webhook would be skipped.
	others := "size(" + labels + ") > " + strconv.Itoa(len(p.known))
	if len(p.known) > 0 {
		others = "(" + others + " || " + labels + ".exists(l, !(l in " + list(p.known) + ")))"
	}
	return "object != null && has(object.metadata) && (has(object.metadata.annotations) && size(object.metadata.annotations) > 0 || has(" +
		labels + ") && " + others + ")", bindsAnd
}

func (p bringsMetadata) holds(r *policy.Review) bool {
	metadata := metadataOf(r.Object)
	annotations, _ := metadata["annotations"].(map[string]any)
	labels, _ := metadata["labels"].(map[string]any)
	return len(annotations) > 0 || slices.ContainsFunc(slices.Collect(maps.Keys(labels)), func(l string) bool {
		return !slices.Contains(p.known, l)
	})
}

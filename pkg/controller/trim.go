package controller

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/fusegate/fusegate/pkg/engine"
)

// lastApplied is where kubectl keeps a copy of the whole object.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// Trim is a transform of a cache. It takes out of objects what nobody reads: the
// managed fields, and of templates and constraints the copy that kubectl keeps.
func Trim(obj any) (any, error) {
	if u, ok := obj.(*unstructured.Unstructured); ok && ours(u.GroupVersionKind().Group) {
		unstructured.RemoveNestedField(u.Object, "metadata", "annotations", lastApplied)
	}
	return cache.TransformStripManagedFields()(obj)
}

func ours(group string) bool { return group == engine.TemplateGroup || group == engine.ConstraintGroup }

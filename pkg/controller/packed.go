package controller

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// Trim takes out of a template, before it is cached, what nobody reads. With pack
// its spec becomes text, in a fraction of the memory: for processes in which
// nobody but an Ingest reads templates. Other objects stay as they are.
func Trim(obj any, pack bool) error {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok || u.GroupVersionKind() != templateGVK() {
		return nil
	}
	unstructured.RemoveNestedField(u.Object, "metadata", "annotations", lastApplied)
	spec, decoded := u.Object["spec"].(map[string]any)
	if !pack || !decoded {
		return nil
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encoding the spec of ConstraintTemplate %s: %w", u.GetName(), err)
	}
	u.Object["spec"] = string(text)
	return nil
}

// unpack undoes what Trim has packed.
func unpack(template *unstructured.Unstructured) error {
	text, packed := template.Object["spec"].(string)
	if !packed {
		return nil
	}
	spec := map[string]any{}
	if err := utiljson.Unmarshal([]byte(text), &spec); err != nil {
		return fmt.Errorf("decoding the spec of ConstraintTemplate %s: %w", template.GetName(), err)
	}
	template.Object["spec"] = spec
	return nil
}

package engine

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Bounds of a constraint. Each process holds the specs of all constraints, and a
// constraint carries what audit finds in its status, for which etcd must have
// room (1.5 MiB for an object). spec.match has bounds of its own (pkg/match).
const (
	// maxSpec is how large a spec may be, in bytes of JSON.
	maxSpec = 512 << 10
	// maxValues is how many values a spec may hold, at any depth: each takes
	// memory, however short it is written.
	maxValues = 50_000
	// maxDepth is how many lists and objects may lie in each other in a spec.
	maxDepth = 100
	// maxScoped is how many entries spec.scopedEnforcementActions may have, and
	// how many enforcement points each of them.
	maxScoped = 100
)

// checkSize refuses a constraint that is too large to be held by every process.
func checkSize(c *unstructured.Unstructured) error {
	spec, _ := c.Object["spec"].(map[string]any)
	values, depth := 0, 0
	measure(spec, 1, &values, &depth)
	if depth > maxDepth {
		return fmt.Errorf("spec: more than %d lists and objects lie in each other: flatten what it holds", maxDepth)
	}
	if values > maxValues {
		return fmt.Errorf("spec: more than %d values: split the constraint, or have its policy read the list from an object of the cluster (data.inventory)", maxValues)
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	if len(text) > maxSpec {
		return fmt.Errorf("spec: %d bytes of JSON, at most %d are allowed: split the constraint, or have its policy read the list from an object of the cluster (data.inventory)", len(text), maxSpec)
	}
	return checkScoped(spec)
}

// checkScoped bounds the scoped actions, which are gone through on every change.
func checkScoped(spec map[string]any) error {
	entries, _ := spec["scopedEnforcementActions"].([]any)
	if len(entries) > maxScoped {
		return fmt.Errorf("spec.scopedEnforcementActions: %d entries, at most %d are allowed: one for each action is enough", len(entries), maxScoped)
	}
	for i, entry := range entries {
		e, _ := entry.(map[string]any)
		points, _ := e["enforcementPoints"].([]any)
		if len(points) > maxScoped {
			return fmt.Errorf("spec.scopedEnforcementActions[%d].enforcementPoints: %d entries, at most %d are allowed: name each point once", i, len(points), maxScoped)
		}
	}
	return nil
}

// measure counts values and finds the depth, no further than the bounds.
func measure(v any, at int, values, depth *int) {
	*values++
	if *values > maxValues || *depth > maxDepth {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		*depth = max(*depth, at)
		for _, item := range v {
			measure(item, at+1, values, depth)
		}
	case []any:
		*depth = max(*depth, at)
		for _, item := range v {
			measure(item, at+1, values, depth)
		}
	}
}

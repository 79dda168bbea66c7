package policy

import (
	"encoding/json"
	"strconv"
)

// Size is how large an object is, as far as that makes policies slow.
type Size struct {
	// Bytes is its length as JSON without white space and escapes, but for what
	// metadata.managedFields takes, which API servers write.
	Bytes int64
	// Containers are those of its pod, of every kind, in a Pod, a pod template or
	// what holds one.
	Containers int
	// Depth is how deep its values lie in each other, 1 if there is none below.
	Depth int
}

// Measure returns the size of decoded JSON.
func Measure(object map[string]any) Size {
	var m meter
	m.object(object, 1)
	if metadata, ok := object["metadata"].(map[string]any); ok {
		var managed meter
		managed.value(metadata["managedFields"], 1)
		if _, found := metadata["managedFields"]; found {
			m.bytes -= managed.bytes
		}
	}
	return Size{Bytes: m.bytes, Containers: containers(object), Depth: m.depth}
}

type meter struct {
	bytes int64
	depth int
}

func (m *meter) object(o map[string]any, depth int) {
	m.depth = max(m.depth, depth)
	m.bytes += int64(len("{}") + max(len(o)-1, 0)) // commas
	for k, v := range o {
		m.bytes += int64(len(k) + len(`"":`))
		m.value(v, depth+1)
	}
}

// value measures a value that would lie at that depth if it held others.
func (m *meter) value(v any, depth int) {
	switch v := v.(type) {
	case string:
		m.bytes += int64(len(v) + len(`""`))
	case map[string]any:
		m.object(v, depth)
	case []any:
		m.depth = max(m.depth, depth)
		m.bytes += int64(len("[]") + max(len(v)-1, 0))
		for _, e := range v {
			m.value(e, depth+1)
		}
	case int64:
		var digits [24]byte
		m.bytes += int64(len(strconv.AppendInt(digits[:0], v, 10)))
	case float64:
		var digits [32]byte
		m.bytes += int64(len(strconv.AppendFloat(digits[:0], v, 'g', -1, 64)))
	case json.Number:
		m.bytes += int64(len(v))
	default: // true, false and null
		m.bytes += int64(len("true"))
	}
}

// podSpecs are where kinds have the spec of a pod: Pod, PodTemplate, those that
// make pods, and CronJob.
var podSpecs = [][]string{
	{"spec"}, {"template", "spec"}, {"spec", "template", "spec"}, {"spec", "jobTemplate", "spec", "template", "spec"},
}

func containers(object map[string]any) (n int) {
	for _, path := range podSpecs {
		at := object
		for _, key := range path {
			at, _ = at[key].(map[string]any)
		}
		for _, list := range []string{"containers", "initContainers", "ephemeralContainers"} {
			elements, _ := at[list].([]any)
			n += len(elements)
		}
	}
	return n
}

package inventory

import "encoding/json"

const (
	// maxInterned bounds how many texts an interner keeps, and internable how
	// long they may be.
	maxInterned = 20000
	internable  = 64
)

// interner makes equal texts of a kind's objects share their memory: all keys,
// and short values, of which most objects of a kind have the same.
type interner struct{ known map[string]string }

func newInterner() *interner { return &interner{known: map[string]string{}} }

func (n *interner) text(s string) string {
	if len(s) > internable {
		return s
	}
	if same, ok := n.known[s]; ok {
		return same
	}
	if len(n.known) < maxInterned {
		n.known[s] = s
	}
	return s
}

// unique are the fields of metadata that no two objects have in common.
var unique = map[string]bool{"name": true, "uid": true, "resourceVersion": true, "creationTimestamp": true}

// object returns a copy of m that is as small as can be.
func (n *interner) object(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for key, v := range m {
		if text, ok := v.(string); ok && unique[key] {
			out[n.text(key)] = text
			continue
		}
		out[n.text(key)] = n.value(v)
	}
	return out
}

func (n *interner) value(v any) any {
	switch v := v.(type) {
	case string:
		return n.text(v)
	case map[string]any:
		return n.object(v)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = n.value(e)
		}
		return out
	}
	return v
}

// What a value takes in memory beside its text, on machines of 64 bits: an
// interface and a text's header, and what Go's maps take per entry.
const (
	valueBytes = 16
	mapBytes   = 48
	entryBytes = 40
)

// size estimates how many bytes of memory a value takes. Texts that are shared
// count everywhere.
func size(v any) int64 {
	switch v := v.(type) {
	case string:
		return valueBytes + int64(len(v))
	case json.Number:
		return valueBytes + int64(len(v))
	case map[string]any:
		total := int64(valueBytes + mapBytes)
		for key, e := range v {
			total += entryBytes + int64(len(key)) + size(e)
		}
		return total
	case []any:
		total := int64(valueBytes + 24)
		for _, e := range v {
			total += size(e)
		}
		return total
	}
	return valueBytes
}

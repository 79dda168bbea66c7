package inventory

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

// What values take in memory on machines of 64 bits: an interface, a slice's
// header, and a map with its slots, of which there are eight at least.
const (
	valueBytes = 16
	sliceBytes = 24
	mapBytes   = 48
	slotBytes  = 33
	fewSlots   = 8
)

// size estimates how many bytes of memory a value takes. Texts that are shared
// do not count, as far as that can be told.
func (n *interner) size(v any) int64 {
	switch v := v.(type) {
	case string:
		return valueBytes + n.own(v)
	case map[string]any:
		total := int64(valueBytes + mapBytes)
		slots := fewSlots
		for slots*7/8 < len(v) && len(v) > fewSlots {
			slots *= 2
		}
		if len(v) > 0 {
			total += int64(slots) * slotBytes
		}
		for key, e := range v {
			total += n.own(key) + n.size(e) - valueBytes
		}
		return total
	case []any:
		total := int64(valueBytes + sliceBytes)
		for _, e := range v {
			total += n.size(e)
		}
		return total
	}
	return valueBytes
}

// own is what a text takes if its memory is not shared.
func (n *interner) own(s string) int64 {
	if _, shared := n.known[s]; shared {
		return 0
	}
	return int64(len(s)) + valueBytes
}

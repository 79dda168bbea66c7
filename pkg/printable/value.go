package printable

// Value makes every string of a decoded JSON value printable, names of fields
// included, and keeps line breaks and tabs. The value is not modified: what has to
// change is copied, and v itself is returned if nothing has.
func Value(v any) any {
	out, _ := value(v)
	return out
}

// Fields is Value of an object's fields.
func Fields(fields map[string]any) map[string]any {
	out, _ := object(fields)
	return out
}

func value(v any) (out any, changed bool) {
	switch v := v.(type) {
	case string:
		if text := Text(v); text != v {
			return text, true
		}
	case []any:
		if items, changed := list(v); changed {
			return items, true
		}
	case map[string]any:
		if fields, changed := object(v); changed {
			return fields, true
		}
	}
	return v, false
}

func list(items []any) (out []any, changed bool) {
	out = items
	for i, item := range items {
		now, different := value(item)
		if !different {
			continue
		}
		if !changed {
			out, changed = append([]any(nil), items...), true
		}
		out[i] = now
	}
	return out, changed
}

func object(fields map[string]any) (out map[string]any, changed bool) {
	out = fields
	for key, item := range fields {
		name := Text(key)
		now, different := value(item)
		if name == key && !different {
			continue
		}
		if !changed {
			out, changed = make(map[string]any, len(fields)), true
			for k, v := range fields {
				out[k] = v
			}
		}
		delete(out, key)
		out[name] = now
	}
	return out, changed
}

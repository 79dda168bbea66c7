package value

import (
	"encoding/json"
	"fmt"
)

// JSON returns v as decoded JSON that shares nothing with it, as OPA's ast.JSON
// does: numbers are json.Number, sets are arrays in order, and a key that is no
// string is its own JSON.
func JSON(v any) (any, error) {
	switch v := v.(type) {
	case string, bool:
		return v, nil
	case Null:
		return nil, nil
	case *Set:
		return jsonElems(v.Sorted())
	case map[string]any:
		return jsonMap(v)
	}
	if elems, ok := Elems(v); ok {
		return jsonElems(elems)
	}
	if text, ok := NumberText(v); ok {
		return json.Number(text), nil
	}
	return jsonObject(v)
}

func jsonElems(elems []any) (any, error) {
	out := make([]any, len(elems))
	for i, e := range elems {
		var err error
		if out[i], err = JSON(Defined(e)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func jsonMap(m map[string]any) (any, error) {
	out := make(map[string]any, len(m))
	for k, e := range m {
		var err error
		if out[k], err = JSON(Defined(e)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func jsonObject(v any) (any, error) {
	out := map[string]any{}
	for _, k := range Keys(v) {
		name, err := jsonKey(k)
		if err != nil {
			return nil, err
		}
		if out[name], err = JSON(Get(v, k)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func jsonKey(k any) (string, error) {
	if name, ok := k.(string); ok {
		return name, nil
	}
	key, err := JSON(k)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(key)
	if err != nil {
		return "", fmt.Errorf("writing a key: %w", err)
	}
	return string(text), nil
}

package install

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// FieldChange is a field of an object that an apply changes.
type FieldChange struct {
	// Field is its path, such as spec.template.spec.containers[fusegate].image:
	// items of a list are named where they have names.
	Field string `json:"field"`
	// Old and New are its values as JSON has them; nil where there is none.
	Old any `json:"old,omitempty"`
	New any `json:"new,omitempty"`
}

// String is one line, or for text of several lines one for each that differs.
func (f FieldChange) String() string {
	before, isText := f.Old.(string)
	after, isTextToo := f.New.(string)
	switch {
	case f.Old == nil:
		return "+ " + f.Field + ": " + compact(f.New)
	case f.New == nil:
		return "- " + f.Field + ": " + compact(f.Old)
	case isText && isTextToo && strings.Contains(before+after, "\n"):
		return f.Field + ":" + lines(before, after)
	}
	return f.Field + ": " + compact(f.Old) + " -> " + compact(f.New)
}

// lines are those that only one of two texts has.
func lines(before, after string) string {
	b, a := strings.Split(before, "\n"), strings.Split(after, "\n")
	var out strings.Builder
	for _, line := range b {
		if !slices.Contains(a, line) {
			out.WriteString("\n  - " + line)
		}
	}
	for _, line := range a {
		if !slices.Contains(b, line) {
			out.WriteString("\n  + " + line)
		}
	}
	if out.Len() == 0 {
		return " the order of lines"
	}
	return out.String()
}

func compact(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

// fields lists what an apply changes. What a Secret holds is not shown.
func fields(before, after *unstructured.Unstructured) []FieldChange {
	if before == nil {
		return nil
	}
	old, now := content(before), content(after)
	if after.GetKind() == "Secret" {
		hide(old)
		hide(now)
	}
	return compare("", old, now)
}

// hide replaces what a Secret holds by its length.
func hide(secret map[string]any) {
	for _, field := range []string{"data", "stringData"} {
		values, _ := secret[field].(map[string]any)
		for key, v := range values {
			values[key] = fmt.Sprintf("(%d characters, not shown)", len(fmt.Sprint(v)))
		}
	}
}

func compare(path string, old, now any) []FieldChange {
	if equality.Semantic.DeepEqual(old, now) {
		return nil
	}
	if a, b, ok := both[map[string]any](old, now); ok {
		return compareMaps(path, a, b)
	}
	if a, b, ok := both[[]any](old, now); ok {
		if x, y, ok := named(a, b); ok {
			return compareItems(path, x, y)
		}
	}
	return []FieldChange{{Field: path, Old: old, New: now}}
}

func both[T any](a, b any) (x, y T, ok bool) {
	x, okX := a.(T)
	y, okY := b.(T)
	return x, y, okX && okY
}

func compareMaps(path string, old, now map[string]any) []FieldChange {
	var out []FieldChange
	for _, key := range keysOf(old, now) {
		out = append(out, compare(join(path, key), old[key], now[key])...)
	}
	return out
}

func compareItems(path string, old, now map[string]any) []FieldChange {
	var out []FieldChange
	for _, key := range keysOf(old, now) {
		out = append(out, compare(path+"["+key+"]", old[key], now[key])...)
	}
	return out
}

func keysOf(a, b map[string]any) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b)))))
}

// join adds a key to a path, in quotes if it is not a word.
func join(path, key string) string {
	if strings.ContainsAny(key, "./[] ") {
		return path + "[" + strconv.Quote(key) + "]"
	}
	return strings.TrimPrefix(path+"."+key, ".")
}

// named indexes two lists whose items all have names of their own.
func named(a, b []any) (x, y map[string]any, ok bool) {
	x, okX := byName(a)
	y, okY := byName(b)
	return x, y, okX && okY
}

func byName(list []any) (map[string]any, bool) {
	out := map[string]any{}
	for _, item := range list {
		m, _ := item.(map[string]any)
		name, ok := m["name"].(string)
		if _, twice := out[name]; !ok || twice {
			return nil, false
		}
		out[name] = item
	}
	return out, true
}

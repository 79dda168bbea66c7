package value

import (
	"cmp"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Compare orders values as ast.Compare of OPA does. Undefined comes first.
func Compare(a, b any) int {
	if x, ok := a.(string); ok {
		if y, ok := b.(string); ok {
			return strings.Compare(x, y)
		}
	}
	kind, other := KindOf(a), KindOf(b)
	if kind != other {
		return cmp.Compare(kind, other)
	}
	switch kind {
	case KindBool:
		return compareBools(a.(bool), b.(bool))
	case KindNumber:
		return compareNumbers(a, b)
	case KindArray:
		return compareElems(a, b)
	case KindObject:
		return compareObjects(a, b)
	case KindSet:
		return slices.CompareFunc(a.(*Set).Sorted(), b.(*Set).Sorted(), compareInside)
	}
	return 0
}

// compareInside compares elements of collections, whose nil is null.
func compareInside(a, b any) int { return Compare(Defined(a), Defined(b)) }

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func compareNumbers(a, b any) int {
	if x, ok := a.(int64); ok {
		if y, ok := b.(int64); ok {
			return cmp.Compare(x, y)
		}
	}
	x, _ := NumberText(a)
	y, _ := NumberText(b)
	return ast.NumberCompare(x, y)
}

func compareElems(a, b any) int {
	x, _ := Elems(a)
	y, _ := Elems(b)
	return slices.CompareFunc(x, y, compareInside)
}

func compareObjects(a, b any) int {
	x, y := Keys(a), Keys(b)
	for i := range min(len(x), len(y)) {
		if c := Compare(x[i], y[i]); c != 0 {
			return c
		}
		if c := Compare(Get(a, x[i]), Get(b, y[i])); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(x), len(y))
}

// Equal tells whether OPA holds two values to be the same.
func Equal(a, b any) bool {
	switch x := a.(type) {
	case string:
		y, ok := b.(string)
		return ok && x == y
	case bool:
		y, ok := b.(bool)
		return ok && x == y
	case int64:
		if y, ok := b.(int64); ok {
			return x == y
		}
	case map[string]any, *Object, Mapping:
		return equalObjects(a, b)
	case []any, *Array, *Path:
		return equalArrays(a, b)
	case *Set:
		y, ok := b.(*Set)
		return ok && equalSets(x, y)
	}
	return Compare(a, b) == 0
}

func equalArrays(a, b any) bool {
	x, _ := Elems(a)
	y, ok := Elems(b)
	if !ok || len(x) != len(y) {
		return false
	}
	for i := range x {
		if !Equal(Defined(x[i]), Defined(y[i])) {
			return false
		}
	}
	return true
}

func equalObjects(a, b any) bool {
	if x, ok := a.(map[string]any); ok {
		return equalMaps(x, b)
	}
	if x, ok := a.(*Object); ok {
		return x.equal(b)
	}
	if KindOf(b) != KindObject {
		return false
	}
	n, _ := Len(a)
	if m, _ := Len(b); n != m {
		return false
	}
	same := true
	Range(a, func(key, v any) bool {
		other := Get(b, key)
		same = other != nil && Equal(v, other)
		return same
	})
	return same
}

func equalMaps(a map[string]any, b any) bool {
	y, ok := b.(map[string]any)
	if !ok {
		return KindOf(b) == KindObject && equalObjects(b, a)
	}
	if len(a) != len(y) {
		return false
	}
	if reflect.ValueOf(a).Pointer() == reflect.ValueOf(y).Pointer() {
		return true
	}
	for k, v := range a {
		other, found := y[k]
		if !found || !Equal(Defined(v), Defined(other)) {
			return false
		}
	}
	return true
}

func (o *Object) equal(b any) bool {
	if n, _ := Len(b); n != len(o.fields) || KindOf(b) != KindObject {
		return false
	}
	for i := range o.fields {
		other := Get(b, o.fields[i].key)
		if other == nil || !Equal(o.fields[i].value, other) {
			return false
		}
	}
	return true
}

func equalSets(a, b *Set) bool {
	if a.Len() != b.Len() {
		return false
	}
	for _, v := range a.elems {
		if !b.Has(v) {
			return false
		}
	}
	return true
}

// Keys returns the keys of an object in OPA's order. The slice is the caller's
// to read only.
func Keys(v any) []any {
	switch v := v.(type) {
	case *Object:
		return v.Sorted()
	case map[string]any:
		return box(SortedKeys(v))
	case Mapping:
		keys := make([]string, 0, v.Len())
		v.Range(func(k string, _ any) bool { keys = append(keys, k); return true })
		slices.Sort(keys)
		return box(keys)
	}
	return nil
}

// SortedKeys returns the keys of m in order.
func SortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func box(keys []string) []any {
	out := make([]any, len(keys))
	for i, k := range keys {
		out[i] = k
	}
	return out
}

// Range calls f for every entry of an object, in no particular order, until it
// returns false.
func Range(v any, f func(key, v any) bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if !f(k, Defined(e)) {
				return
			}
		}
	case *Object:
		for i := range v.fields {
			if !f(v.fields[i].key, v.fields[i].value) {
				return
			}
		}
	case Mapping:
		v.Range(func(k string, e any) bool { return f(k, Defined(e)) })
	}
}

// isNumber tells whether v is a number.
func isNumber(v any) bool {
	switch v.(type) {
	case int64, float64, ast.Number, json.Number:
		return true
	}
	return false
}

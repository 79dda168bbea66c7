// Package value holds the values that compiled Rego works on: the decoded JSON
// of a request as it is, and small types for what JSON has no word for. It
// compares, hashes and orders them exactly as OPA does its own.
//
// A value is one of: Null, bool, int64, float64, json.Number, ast.Number,
// string, []any, *Array, *Path, map[string]any, *Object, Mapping, *Set. A nil inside
// a collection is null; outside of one it means undefined.
package value

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
)

// Null is JSON's null.
type Null struct{}

// Array is an array that a policy builds. Once it is weighed it must not be
// changed.
type Array struct {
	Elems  []any
	weight int // 0 if it is not known yet
}

// NewArray returns an empty array with room for size elements.
func NewArray(size int) *Array {
	switch {
	case size == 0:
		return &Array{}
	case size <= 2:
		a := &struct {
			Array
			room [2]any
		}{}
		a.Elems = a.room[:0]
		return &a.Array
	case size <= 4:
		a := &struct {
			Array
			room [4]any
		}{}
		a.Elems = a.room[:0]
		return &a.Array
	}
	return &Array{Elems: make([]any, 0, size)}
}

// Mapping is an object with string keys that is no Go map. Implementations are
// immutable.
type Mapping interface {
	// Get returns the value of a key; found tells whether there is one.
	Get(key string) (v any, found bool)
	Len() int
	// Range calls f for every entry, in no particular order, until it returns
	// false.
	Range(f func(key string, v any) bool)
	// Term is the object as OPA's value. It must not be modified.
	Term() *ast.Term
}

// Defined turns the nil of a collection into Null.
func Defined(v any) any {
	if v == nil {
		return Null{}
	}
	return v
}

// Kind is the type of a value, in the order in which OPA sorts types.
type Kind uint8

// The kinds of values. Undefined is that of nil.
const (
	KindUndefined Kind = iota
	KindNull
	KindBool
	KindNumber
	KindString
	KindArray
	KindObject
	KindSet
)

// KindOf returns the kind of v. It panics if v is no value.
func KindOf(v any) Kind {
	switch v.(type) {
	case nil:
		return KindUndefined
	case string:
		return KindString
	case map[string]any, *Object, Mapping:
		return KindObject
	case []any, *Array, *Path:
		return KindArray
	case bool:
		return KindBool
	case int64, float64, ast.Number, json.Number:
		return KindNumber
	case *Set:
		return KindSet
	case Null:
		return KindNull
	}
	panic(fmt.Sprintf("a %T is no value of Rego", v))
}

// Elems returns the elements of an array.
func Elems(v any) ([]any, bool) {
	switch v := v.(type) {
	case []any:
		return v, true
	case *Array:
		return v.Elems, true
	case *Path:
		return v.Elems(), true
	}
	return nil, false
}

// Len returns the number of elements of a collection, false for other values.
func Len(v any) (int, bool) {
	switch v := v.(type) {
	case []any:
		return len(v), true
	case *Array:
		return len(v.Elems), true
	case map[string]any:
		return len(v), true
	case *Object:
		return v.Len(), true
	case *Set:
		return v.Len(), true
	case *Path:
		return v.Len(), true
	case Mapping:
		return v.Len(), true
	}
	return 0, false
}

// ParseNumber is the value of a number's text: int64 where the text is what
// that integer prints as, else the text itself, as OPA keeps it.
func ParseNumber(text string) any {
	if len(text) <= len("-9223372036854775808") {
		if i, err := strconv.ParseInt(text, 10, 64); err == nil && strconv.FormatInt(i, 10) == text {
			return i
		}
	}
	return ast.Number(text)
}

// NumberText returns the text by which OPA knows a number, false if v is none.
func NumberText(v any) (ast.Number, bool) {
	switch v := v.(type) {
	case int64:
		return ast.Number(strconv.FormatInt(v, 10)), true
	case ast.Number:
		return v, true
	case float64:
		return ast.Number(strconv.FormatFloat(v, 'g', -1, 64)), true
	case json.Number:
		return ast.Number(v), true
	}
	return "", false
}

// Index returns the number as an array's index, false if it cannot be one.
func Index(v any) (int, bool) {
	if i, ok := v.(int64); ok {
		return int(i), true
	}
	text, ok := NumberText(v)
	if !ok {
		return 0, false
	}
	i, ok := util.Atoi64(string(text))
	return int(i), ok
}

// Get looks a key up in a collection: the element of an array at an index, the
// value of an object's key, the element of a set itself. It returns nil where
// there is none.
func Get(source, key any) any {
	switch s := source.(type) {
	case map[string]any:
		return getString(s, key)
	case *Object:
		return s.Get(key)
	case []any:
		return getIndex(s, key)
	case *Array:
		return getIndex(s.Elems, key)
	case *Path:
		return getIndex(s.Elems(), key)
	case *Set:
		return s.Get(key)
	case Mapping:
		if k, ok := key.(string); ok {
			if v, found := s.Get(k); found {
				return Defined(v)
			}
		}
	}
	return nil
}

func getString(m map[string]any, key any) any {
	k, ok := key.(string)
	if !ok {
		return nil
	}
	v, found := m[k]
	if found && v == nil {
		return Null{}
	}
	return v
}

func getIndex(elems []any, key any) any {
	i, ok := Index(key)
	if !ok || i < 0 || i >= len(elems) {
		return nil
	}
	return Defined(elems[i])
}

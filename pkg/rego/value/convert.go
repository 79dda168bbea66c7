package value

import (
	"encoding/json"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Term returns v as OPA's value. It panics if v is undefined or no value.
func Term(v any) *ast.Term {
	switch v := v.(type) {
	case string:
		return ast.InternedTerm(v)
	case bool:
		return ast.InternedTerm(v)
	case Null:
		return ast.InternedNullTerm
	case Mapping:
		return v.Term()
	case *Set:
		terms := make([]*ast.Term, len(v.elems))
		for i, e := range v.elems {
			terms[i] = Term(e)
		}
		return ast.NewTerm(ast.NewSet(terms...))
	}
	if elems, ok := Elems(v); ok {
		return arrayTerm(elems)
	}
	if text, ok := NumberText(v); ok {
		return ast.NewTerm(text)
	}
	return objectTerm(v)
}

func arrayTerm(elems []any) *ast.Term {
	terms := make([]*ast.Term, len(elems))
	for i, e := range elems {
		terms[i] = Term(Defined(e))
	}
	return ast.NewTerm(ast.NewArray(terms...))
}

func objectTerm(v any) *ast.Term {
	n, ok := Len(v)
	if !ok {
		panic(fmt.Sprintf("a %T is no value of Rego", v))
	}
	items := make([][2]*ast.Term, 0, n)
	Range(v, func(key, e any) bool {
		items = append(items, [2]*ast.Term{Term(key), Term(e)})
		return true
	})
	return ast.NewTerm(ast.NewObject(items...))
}

// FromAST returns OPA's value as one of this package. It panics on what is no
// value, such as a variable.
func FromAST(v ast.Value) any {
	switch v := v.(type) {
	case ast.String:
		return string(v)
	case ast.Boolean:
		return bool(v)
	case ast.Number:
		return ParseNumber(string(v))
	case ast.Null:
		return Null{}
	case *ast.Array:
		elems := make([]any, 0, v.Len())
		v.Foreach(func(t *ast.Term) { elems = append(elems, FromAST(t.Value)) })
		return &Array{Elems: elems}
	case ast.Set:
		s := &Set{elems: make([]any, 0, v.Len())}
		v.Foreach(func(t *ast.Term) { s.elems = append(s.elems, FromAST(t.Value)) })
		return s
	case ast.Object:
		o := &Object{}
		v.Foreach(func(k, e *ast.Term) {
			o.fields = append(o.fields, field{FromAST(k.Value), FromAST(e.Value)})
		})
		return o
	}
	panic(fmt.Sprintf("a %T is no value of Rego", v))
}

// Copy returns decoded JSON, or what Go programs use in its place, as a value
// that shares nothing that can change with v.
func Copy(v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return Null{}, nil
	case string, bool, int64, float64:
		return v, nil
	case json.Number:
		return ParseNumber(string(v)), nil
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			var err error
			if out[i], err = Copy(e); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			var err error
			if out[k], err = Copy(e); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	converted, err := ast.InterfaceToValue(v)
	if err != nil {
		return nil, err
	}
	decoded, err := ast.JSON(converted)
	if err != nil {
		return nil, err
	}
	return Copy(decoded)
}

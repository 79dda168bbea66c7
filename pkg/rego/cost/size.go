package cost

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

// keptSizes is how many weights are remembered, for a value that holds another
// many times over.
const keptSizes = 100_000

// weight is what value.Weight is of an OPA value.
func (m *Meter) weight(v ast.Value) int {
	switch v := v.(type) {
	case ast.String:
		return value.EntryWeight + len(v)
	case ast.Number:
		return value.NumberWeight(string(v))
	case *ast.Array:
		return m.collection(v, v.Len(), func(add func(*ast.Term)) { v.Foreach(add) })
	case ast.Set:
		return m.collection(v, v.Len(), func(add func(*ast.Term)) { v.Foreach(add) })
	case ast.Object:
		return m.collection(v, v.Len(), func(add func(*ast.Term)) { v.Foreach(func(k, e *ast.Term) { add(k); add(e) }) })
	}
	return value.EntryWeight
}

func (m *Meter) collection(v any, n int, each func(add func(*ast.Term))) int {
	if n == 0 {
		return value.EntryWeight
	}
	if known, ok := m.sizes[v]; ok {
		return known
	}
	sum := value.EntryWeight
	each(func(t *ast.Term) {
		if m.Err == nil { // else it is of no use any more
			sum = min(sum+m.weight(t.Value), value.MaxWeight)
		}
	})
	if m.sizes == nil {
		m.sizes = map[any]int{}
	}
	if len(m.sizes) > keptSizes {
		clear(m.sizes)
	}
	m.Work(8)
	m.sizes[v] = sum
	return sum
}

// depth is how deep collections lie in each other, at most. The value must have
// been found to be no heavier than what is granted.
func depth(v ast.Value) int {
	deepest := 0
	look := func(t *ast.Term) { deepest = max(deepest, depth(t.Value)) }
	switch v := v.(type) {
	case *ast.Array:
		v.Foreach(look)
	case ast.Set:
		v.Foreach(look)
	case ast.Object:
		v.Foreach(func(_, e *ast.Term) { look(e) })
	default:
		return 0
	}
	return deepest + 1
}

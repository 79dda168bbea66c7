package exec

import (
	"fmt"
	"slices"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

// objectGet looks a key up, or a path given as an array.
func objectGet(_ *state, a, b, c any) (any, bool) {
	if value.KindOf(a) != value.KindObject {
		return nil, false
	}
	path, ok := value.Elems(b)
	if !ok {
		if v := value.Get(a, b); v != nil {
			return v, true
		}
		return c, true
	}
	for _, step := range path {
		if a = value.Get(a, value.Defined(step)); a == nil {
			return c, true
		}
	}
	return a, true
}

func objectKeys(s *state, a any) (any, bool) {
	if value.KindOf(a) != value.KindObject {
		return nil, false
	}
	out := &value.Set{}
	value.Range(a, func(k, _ any) bool { out.Add(k); return true })
	return out, s.grow(out.Len()*entrySize) && s.work(out.Len())
}

func arrayConcat(s *state, a, b any) (any, bool) {
	x, ok := value.Elems(a)
	if !ok {
		return nil, false
	}
	y, ok := value.Elems(b)
	if !ok {
		return nil, false
	}
	switch {
	case len(x) == 0:
		return b, true
	case len(y) == 0:
		return a, true
	}
	if !s.grow((len(x) + len(y)) * entrySize) {
		return nil, false
	}
	return &value.Array{Elems: slices.Concat(x, y)}, true
}

func arraySlice(_ *state, a, b, c any) (any, bool) {
	elems, ok := value.Elems(a)
	if !ok {
		return nil, false
	}
	from, ok := b.(int64)
	if !ok {
		return nil, false
	}
	to, ok := c.(int64)
	if !ok {
		return nil, false
	}
	to = min(max(to, 0), int64(len(elems)))
	from = min(max(from, 0), to)
	return &value.Array{Elems: elems[from:to:to]}, true
}

func member(s *state, a, b any) (any, bool) {
	if set, ok := b.(*value.Set); ok {
		return set.Has(a), true
	}
	if elems, ok := value.Elems(b); ok {
		found := slices.ContainsFunc(elems, func(e any) bool { return value.Equal(a, value.Defined(e)) })
		return found, s.work(len(elems))
	}
	found := false
	if value.KindOf(b) == value.KindObject {
		value.Range(b, func(_, v any) bool { found = value.Equal(a, v); return !found })
		n, _ := value.Len(b)
		return found, s.work(n)
	}
	return found, true
}

func memberWithKey(_ *state, key, v, collection any) (any, bool) {
	found := value.Get(collection, key)
	return found != nil && value.Equal(found, v), true
}

func anyTrue(_ *state, a any) (any, bool) {
	if set, ok := a.(*value.Set); ok {
		return set.Has(true), true
	}
	elems, ok := value.Elems(a)
	return slices.Contains(elems, any(true)), ok
}

func allTrue(_ *state, a any) (any, bool) {
	elems, ok := value.Elems(a)
	if set, isSet := a.(*value.Set); isSet {
		elems, ok = set.Elems(), true
	}
	return !slices.ContainsFunc(elems, func(v any) bool { return v != true }), ok
}

func sortElems(s *state, a any) (any, bool) {
	if set, ok := a.(*value.Set); ok {
		return &value.Array{Elems: set.Sorted()}, s.work(set.Len())
	}
	elems, ok := value.Elems(a)
	if !ok || !s.grow(len(elems)*entrySize) || !s.work(len(elems)) {
		return nil, false
	}
	out := make([]any, len(elems))
	for i, e := range elems {
		out[i] = value.Defined(e)
	}
	slices.SortStableFunc(out, value.Compare)
	return &value.Array{Elems: out}, true
}

// numbersRange counts from one integer to another, up or down.
func numbersRange(s *state, a, b any) (any, bool) {
	x, y, ok := ints(a, b)
	if !ok || !small(x) || !small(y) {
		return nil, false
	}
	step, n := int64(1), y-x+1
	if y < x {
		step, n = -1, x-y+1
	}
	if !s.grow(int(n) * entrySize) {
		return nil, false
	}
	elems := make([]any, n)
	for i := range elems {
		elems[i] = x + int64(i)*step
		if !s.step() {
			return nil, false
		}
	}
	return &value.Array{Elems: elems}, true
}

// walkValue is all that lies in a value, each with its path, in OPA's order.
func walkValue(s *state, a any) (any, bool) {
	w := walker{state: s}
	if !w.visit(nil, a, 0) {
		return nil, false
	}
	return &value.Array{Elems: w.found}, true
}

type walker struct {
	*state
	found []any
}

// maxNesting keeps a walk from using up the stack.
const maxNesting = 100_000

func (w *walker) visit(path *value.Path, v any, depth int) bool {
	if !w.step() || !w.grow(3*entrySize) {
		return false
	}
	if depth > maxNesting {
		w.err = fmt.Errorf("%w: the object is nested deeper than %d", ErrLimit, maxNesting)
		return false
	}
	w.found = append(w.found, &value.Array{Elems: []any{path, v}})
	if elems, ok := value.Elems(v); ok {
		for i, e := range elems {
			if !w.visit(path.Append(int64(i)), value.Defined(e), depth+1) {
				return false
			}
		}
		return true
	}
	if set, ok := v.(*value.Set); ok {
		for _, e := range set.Sorted() {
			if !w.visit(path.Append(e), e, depth+1) {
				return false
			}
		}
		return true
	}
	for _, k := range value.Keys(v) {
		if !w.visit(path.Append(k), value.Get(v, k), depth+1) {
			return false
		}
	}
	return true
}

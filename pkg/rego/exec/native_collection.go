package exec

import (
	"slices"

	"github.com/fusegate/fusegate/pkg/rego/cost"
	"github.com/fusegate/fusegate/pkg/rego/value"
)

// objectGet looks a key up, or a path given as an array.
func objectGet(s *state, a, b, c any) (any, bool) {
	if value.KindOf(a) != value.KindObject {
		return nil, false
	}
	path, ok := value.Elems(b)
	if !ok {
		if !s.touch(b) {
			return nil, false
		}
		if v := value.Get(a, b); v != nil {
			return v, true
		}
		return c, true
	}
	for _, step := range path {
		if !s.touch(step) {
			return nil, false
		}
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
	if n, _ := value.Len(a); !s.Work(n) || !s.Grow(n*cost.EntrySize) {
		return nil, false
	}
	out, ok := &value.Set{}, true
	value.Range(a, func(k, _ any) bool {
		if ok = s.touch(k); ok {
			out.Add(k)
		}
		return ok
	})
	return out, ok
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
	if !s.Grow((len(x) + len(y)) * cost.EntrySize) {
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
		if !s.touch(a) {
			return nil, false
		}
		return set.Has(a), true
	}
	if n, _ := value.Len(b); !s.Work(n) || !plain(a) && !s.weigh(b) {
		return nil, false
	}
	if elems, ok := value.Elems(b); ok {
		return slices.ContainsFunc(elems, func(e any) bool { return value.Equal(a, value.Defined(e)) }), true
	}
	found := false
	if value.KindOf(b) == value.KindObject {
		value.Range(b, func(_, v any) bool { found = value.Equal(a, v); return !found })
	}
	return found, true
}

func memberWithKey(s *state, key, v, collection any) (any, bool) {
	if !s.touch(key) {
		return nil, false
	}
	found := value.Get(collection, key)
	if found == nil {
		return false, true
	}
	return s.equals(found, v)
}

func anyTrue(s *state, a any) (any, bool) {
	if set, ok := a.(*value.Set); ok {
		return set.Has(true), true
	}
	elems, ok := value.Elems(a)
	return slices.Contains(elems, any(true)), ok && s.Work(len(elems)>>3)
}

func allTrue(s *state, a any) (any, bool) {
	elems, ok := value.Elems(a)
	if set, isSet := a.(*value.Set); isSet {
		elems, ok = set.Elems(), true
	}
	return !slices.ContainsFunc(elems, func(v any) bool { return v != true }), ok && s.Work(len(elems)>>3)
}

func sortElems(s *state, a any) (any, bool) {
	if set, ok := a.(*value.Set); ok {
		elems, ok := s.sorted(set)
		return &value.Array{Elems: elems}, ok
	}
	elems, ok := value.Elems(a)
	if !ok || !s.Grow(len(elems)*cost.EntrySize) || !s.ordering(elems) {
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
	if !s.Grow(int(n) * cost.EntrySize) {
		return nil, false
	}
	elems := make([]any, n)
	for i := range elems {
		elems[i] = x + int64(i)*step
		if !s.Step() {
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
	if !w.Step() || !w.Grow(3*cost.EntrySize) {
		return false
	}
	if depth > maxNesting {
		return w.Exceed("the object is nested deeper than %d", maxNesting)
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
		elems, ok := w.sorted(set)
		if !ok {
			return false
		}
		for _, e := range elems {
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

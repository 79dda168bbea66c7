package exec

import (
	"math/bits"

	"github.com/fusegate/fusegate/pkg/rego/cost"
	"github.com/fusegate/fusegate/pkg/rego/value"
)

// plainText is the length of text up to which it takes no time of its own to
// look at.
const plainText = 256

// plain tells whether v takes no time to compare or to hash: what is built of
// others may hold one of them many times over, and text and numbers may be long.
func plain(v any) bool {
	switch v := v.(type) {
	case string:
		return len(v) <= plainText
	case nil, bool, int64, float64, value.Null:
		return true
	}
	return false
}

// touch counts the work of hashing v and comparing it with a few others.
func (s *state) touch(v any) bool { return plain(v) || s.weigh(v) }

func (s *state) weigh(v any) bool { return s.Work(1 + value.Weight(v)>>6) }

// read counts the work of going through text.
func (s *state) read(text string) bool { return len(text) <= plainText || s.Work(len(text)>>6) }

// equals compares two values; ok is false when that takes more than is granted.
func (s *state) equals(a, b any) (same, ok bool) {
	if plain(a) && plain(b) {
		return value.Equal(a, b), true
	}
	if !s.unfolded(a) || !s.unfolded(b) {
		return false, false
	}
	if n, ok := value.Len(a); ok {
		if m, ok := value.Len(b); !ok || n != m {
			return false, true
		}
	}
	if !s.beside(a, b) {
		return false, false
	}
	return value.Equal(a, b), true
}

// beside counts the work of comparing two values with each other.
func (s *state) beside(a, b any) bool {
	kind := value.KindOf(a)
	if kind != value.KindOf(b) {
		return true
	}
	switch kind {
	case value.KindString:
		return s.Work(min(len(a.(string)), len(b.(string))) >> 8)
	case value.KindNumber:
		return s.weigh(a) && s.weigh(b)
	}
	if built(b) {
		a = b
	}
	return s.Work(value.Weight(a) >> 7)
}

// built tells whether a policy made v, so that it knows its weight.
func built(v any) bool {
	switch v.(type) {
	case *value.Array, *value.Object, *value.Set:
		return true
	}
	return false
}

// ordering counts the work of putting values in order.
func (s *state) ordering(elems []any) bool {
	w := 0
	for _, e := range elems {
		if !plain(e) {
			w = min(w+value.Weight(e), value.MaxWeight)
		}
	}
	return s.Work((len(elems)>>1 + w>>6) * bits.Len(uint(len(elems))))
}

// sorted are the elements of a set in order.
func (s *state) sorted(set *value.Set) ([]any, bool) {
	if !set.InOrder() && !s.ordering(set.Elems()) {
		return nil, false
	}
	return set.Sorted(), true
}

// entered counts an element that is added to a collection that is searched by it.
func (s *state) entered(v any, n int) bool {
	return (n == 0 || s.touch(v)) && s.Work(bits.Len(uint(n))>>4)
}

// copied counts n elements that are copied.
func (s *state) copied(n int) bool { return s.Work(n>>2) && s.Grow(n*cost.EntrySize) }

// given counts what the evaluation gives, which is compared and written down once
// more by who asked for it.
func (s *state) given(v any) bool {
	w := value.Weight(v)
	return s.Work(1+w>>5) && s.Grow(w)
}

// deepPath is the length up to which a path takes no time and memory of its own.
const deepPath = 64

// unfolded counts the elements of a path that is to be put together: those of a
// deep object take as much as the square of its depth.
func (s *state) unfolded(v any) bool {
	p, ok := v.(*value.Path)
	if !ok || p.Len() <= deepPath || p.Built() {
		return true
	}
	return s.Work(p.Len()>>3) && s.Grow(16*p.Len())
}

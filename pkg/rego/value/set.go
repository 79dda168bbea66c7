package value

import "slices"

// indexed is the size up to which collections are searched element by element.
const indexed = 8

// firstRoom is for how many elements there is room at first.
const firstRoom = 4

// index finds elements by their hash: heads holds the last element with a hash,
// next the one before it, both counted from 1.
type index struct {
	heads map[uint64]int32
	next  []int32
}

func (x *index) add(v any) {
	h := Hash(v)
	x.next = append(x.next, x.heads[h])
	x.heads[h] = int32(len(x.next))
}

// Set is a set that a policy builds. It is for one goroutine until it is
// frozen.
type Set struct {
	elems  []any
	sorted []any
	weight int // 0 if it is not known
	index  index
}

// find returns the position of v, -1 if it is not there.
func (s *Set) find(v any) int {
	if len(s.elems) <= indexed {
		for i, e := range s.elems {
			if Equal(e, v) {
				return i
			}
		}
		return -1
	}
	if s.index.heads == nil {
		s.index.heads = make(map[uint64]int32, 2*len(s.elems))
	}
	for len(s.index.next) < len(s.elems) {
		s.index.add(s.elems[len(s.index.next)])
	}
	for i := s.index.heads[Hash(v)]; i != 0; i = s.index.next[i-1] {
		if Equal(s.elems[i-1], v) {
			return int(i - 1)
		}
	}
	return -1
}

// Add adds v, unless it is there, and tells whether it did.
func (s *Set) Add(v any) bool {
	if s.find(v) >= 0 {
		return false
	}
	if s.elems == nil {
		s.elems = make([]any, 0, firstRoom)
	}
	s.elems, s.sorted, s.weight = append(s.elems, v), nil, 0
	return true
}

// Has tells whether v is an element.
func (s *Set) Has(v any) bool { return s.find(v) >= 0 }

// Get returns the element that equals v, nil if there is none.
func (s *Set) Get(v any) any {
	if i := s.find(v); i >= 0 {
		return s.elems[i]
	}
	return nil
}

// Len returns the number of elements.
func (s *Set) Len() int { return len(s.elems) }

// Elems returns the elements in the order in which they were added, to be read
// only.
func (s *Set) Elems() []any { return s.elems }

// InOrder tells whether Sorted has its result already.
func (s *Set) InOrder() bool { return s.sorted != nil || len(s.elems) <= 1 }

// Sorted returns the elements in OPA's order, to be read only.
func (s *Set) Sorted() []any {
	if len(s.elems) <= 1 {
		return s.elems
	}
	if s.sorted == nil {
		s.sorted = slices.Clone(s.elems)
		slices.SortFunc(s.sorted, Compare)
	}
	return s.sorted
}

// field is a key of an object and its value.
type field struct{ key, value any }

// Object is an object that a policy builds. It is for one goroutine until it is
// frozen.
type Object struct {
	fields []field
	sorted []any
	weight int // 0 if it is not known
	index  index
}

// NewSet returns an empty set with room for what most sets hold.
func NewSet() *Set {
	s := &struct {
		Set
		room [2]any
	}{}
	s.elems = s.room[:0]
	return &s.Set
}

// NewObject returns an empty object with room for size fields.
func NewObject(size int) *Object {
	switch {
	case size == 0:
		return &Object{}
	case size <= 2:
		o := &struct {
			Object
			room [2]field
		}{}
		o.fields = o.room[:0]
		return &o.Object
	case size <= 6:
		o := &struct {
			Object
			room [6]field
		}{}
		o.fields = o.room[:0]
		return &o.Object
	}
	return &Object{fields: make([]field, 0, size)}
}

func (o *Object) find(key any) int {
	if len(o.fields) <= indexed {
		for i := range o.fields {
			if Equal(o.fields[i].key, key) {
				return i
			}
		}
		return -1
	}
	if o.index.heads == nil {
		o.index.heads = make(map[uint64]int32, 2*len(o.fields))
	}
	for len(o.index.next) < len(o.fields) {
		o.index.add(o.fields[len(o.index.next)].key)
	}
	for i := o.index.heads[Hash(key)]; i != 0; i = o.index.next[i-1] {
		if Equal(o.fields[i-1].key, key) {
			return int(i - 1)
		}
	}
	return -1
}

// Get returns the value of a key, nil if there is none.
func (o *Object) Get(key any) any {
	if i := o.find(key); i >= 0 {
		return o.fields[i].value
	}
	return nil
}

// Field returns the value of a key that is text, nil if there is none.
func (o *Object) Field(key string) any {
	if len(o.fields) > indexed {
		return o.Get(key)
	}
	for i := range o.fields {
		if text, ok := o.fields[i].key.(string); ok && text == key {
			return o.fields[i].value
		}
	}
	return nil
}

// Put sets the value of a key.
func (o *Object) Put(key, v any) {
	o.weight = 0
	if i := o.find(key); i >= 0 {
		o.fields[i].value = v
		return
	}
	o.fields, o.sorted = append(o.fields, field{key, v}), nil
}

// Len returns the number of keys.
func (o *Object) Len() int { return len(o.fields) }

// Entry returns the key and value that were added as the i-th.
func (o *Object) Entry(i int) (key, v any) { return o.fields[i].key, o.fields[i].value }

// Sorted returns the keys in OPA's order, to be read only.
func (o *Object) Sorted() []any {
	if o.sorted == nil && len(o.fields) > 0 {
		o.sorted = make([]any, len(o.fields))
		for i := range o.fields {
			o.sorted[i] = o.fields[i].key
		}
		slices.SortFunc(o.sorted, Compare)
	}
	return o.sorted
}

// Freeze prepares a collection, and what it holds, for use by many goroutines.
// It must not be changed from then on.
func Freeze(v any) {
	Weight(v)
	switch v := v.(type) {
	case *Array:
		for _, e := range v.Elems {
			Freeze(e)
		}
	case *Set:
		v.Sorted()
		v.Has(nil)
		for _, e := range v.elems {
			Freeze(e)
		}
	case *Object:
		v.Sorted()
		v.Get(nil)
		for _, f := range v.fields {
			Freeze(f.key)
			Freeze(f.value)
		}
	}
}

package value

import (
	"hash/maphash"
	"math"
	"slices"
	"strconv"
)

// indexed is the size up to which collections are searched element by element.
const indexed = 8

// index finds elements of a slice by their hash: heads holds the last element
// with a hash, next the one before it, both counted from 1.
type index struct {
	heads map[uint64]int32
	next  []int32
}

func (x *index) add(v any) {
	h := Hash(v)
	x.next = append(x.next, x.heads[h])
	x.heads[h] = int32(len(x.next))
}

// find returns the position of v in elems, -1 if it is not there.
func (x *index) find(elems []any, v any) int {
	if len(elems) <= indexed {
		for i, e := range elems {
			if Equal(e, v) {
				return i
			}
		}
		return -1
	}
	if x.heads == nil {
		x.heads = make(map[uint64]int32, 2*len(elems))
	}
	for len(x.next) < len(elems) {
		x.add(elems[len(x.next)])
	}
	for i := x.heads[Hash(v)]; i != 0; i = x.next[i-1] {
		if Equal(elems[i-1], v) {
			return int(i - 1)
		}
	}
	return -1
}

// Set is a set that a policy builds. It is for one goroutine.
type Set struct {
	elems  []any
	sorted []any
	index  index
}

// Add adds v, unless it is there, and tells whether it did.
func (s *Set) Add(v any) bool {
	if s.index.find(s.elems, v) >= 0 {
		return false
	}
	s.elems = append(s.elems, v)
	s.sorted = nil
	return true
}

// Has tells whether v is an element.
func (s *Set) Has(v any) bool { return s.index.find(s.elems, v) >= 0 }

// Get returns the element that equals v, nil if there is none.
func (s *Set) Get(v any) any {
	if i := s.index.find(s.elems, v); i >= 0 {
		return s.elems[i]
	}
	return nil
}

// Len returns the number of elements.
func (s *Set) Len() int { return len(s.elems) }

// Elems returns the elements in the order in which they were added, to be read
// only.
func (s *Set) Elems() []any { return s.elems }

// Sorted returns the elements in OPA's order, to be read only.
func (s *Set) Sorted() []any {
	if s.sorted == nil && len(s.elems) > 0 {
		s.sorted = slices.Clone(s.elems)
		slices.SortFunc(s.sorted, Compare)
	}
	return s.sorted
}

// Object is an object that a policy builds. It is for one goroutine.
type Object struct {
	keys, vals []any
	sorted     []any
	index      index
}

// Get returns the value of a key, nil if there is none.
func (o *Object) Get(key any) any {
	if i := o.index.find(o.keys, key); i >= 0 {
		return o.vals[i]
	}
	return nil
}

// Put sets the value of a key.
func (o *Object) Put(key, v any) {
	if i := o.index.find(o.keys, key); i >= 0 {
		o.vals[i] = v
		return
	}
	o.keys, o.vals, o.sorted = append(o.keys, key), append(o.vals, v), nil
}

// Len returns the number of keys.
func (o *Object) Len() int { return len(o.keys) }

// Entry returns the key and value that were added as the i-th.
func (o *Object) Entry(i int) (key, v any) { return o.keys[i], o.vals[i] }

// Sorted returns the keys in OPA's order, to be read only.
func (o *Object) Sorted() []any {
	if o.sorted == nil && len(o.keys) > 0 {
		o.sorted = slices.Clone(o.keys)
		slices.SortFunc(o.sorted, Compare)
	}
	return o.sorted
}

var seed = maphash.MakeSeed()

// Hash is the same for values that are Equal, within one process.
func Hash(v any) uint64 {
	switch v := v.(type) {
	case string:
		return maphash.String(seed, v)
	case int64:
		return hashFloat(float64(v))
	case bool:
		if v {
			return 2
		}
		return 1
	case *Set:
		var sum uint64
		for _, e := range v.elems {
			sum += mix(Hash(e))
		}
		return mix(sum + 7)
	}
	return hashOther(v)
}

func hashOther(v any) uint64 {
	if elems, ok := Elems(v); ok {
		h := uint64(5)
		for _, e := range elems {
			h = mix(h ^ Hash(Defined(e)))
		}
		return h
	}
	if isNumber(v) {
		text, _ := NumberText(v)
		f, _ := strconv.ParseFloat(string(text), 64) // out of range is Inf, the same for equals
		return hashFloat(f)
	}
	var sum uint64
	Range(v, func(key, e any) bool {
		sum += mix(mix(Hash(key)) ^ Hash(e))
		return true
	})
	return mix(sum + 11)
}

func hashFloat(f float64) uint64 { return mix(math.Float64bits(f + 0)) } // -0 + 0 is 0

// mix spreads the bits of h: the finalizer of MurmurHash3.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

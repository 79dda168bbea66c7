package tree

import (
	"hash/maphash"
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

const (
	// fanBits is how many bits of a hash choose the branch at each level.
	fanBits = 5
	// maxLevel is the level at which a hash is used up: keys that share all of
	// it lie in one list.
	maxLevel = 64 / fanBits
)

var seed = maphash.MakeSeed()

func hash(key string) uint64 { return maphash.String(seed, key) }

// Map is an immutable object with string keys: a hash array mapped trie, of
// which a change copies one path of some 32-way nodes (Bagwell, Ideal Hash
// Trees, 2001). The zero value is empty.
type Map struct {
	root *node
	size int
	term atomic.Pointer[ast.Term]
}

var _ value.Mapping = (*Map)(nil)

// node holds, for every bit that is set, an *entry or another *node. At
// maxLevel it is a list of entries.
type node struct {
	bitmap uint32
	slots  []any
}

// entry is one key and value, shared by all versions of the maps it is in.
type entry struct {
	key   string
	value any
	term  atomic.Pointer[ast.Term]
}

// Get returns the value of key.
func (m *Map) Get(key string) (any, bool) {
	e := m.entry(key)
	if e == nil {
		return nil, false
	}
	return e.value, true
}

func (m *Map) entry(key string) *entry {
	h := hash(key)
	for n, level := m.root, 0; n != nil; level++ {
		if level == maxLevel {
			return n.listed(key)
		}
		i, found := n.position(h, level)
		if !found {
			return nil
		}
		e, ok := n.slots[i].(*entry)
		if !ok {
			n = n.slots[i].(*node)
			continue
		}
		if e.key == key {
			return e
		}
		return nil
	}
	return nil
}

func (n *node) listed(key string) *entry {
	for _, s := range n.slots {
		if e := s.(*entry); e.key == key {
			return e
		}
	}
	return nil
}

// position is where the branch of h lies in the slots of a node at a level.
func (n *node) position(h uint64, level int) (i int, found bool) {
	bit := branch(h, level)
	return bits.OnesCount32(n.bitmap & (bit - 1)), n.bitmap&bit != 0
}

func branch(h uint64, level int) uint32 {
	return 1 << (h >> (level * fanBits) & (1<<fanBits - 1))
}

// Len returns the number of keys.
func (m *Map) Len() int { return m.size }

// Range calls f for every key until it returns false.
func (m *Map) Range(f func(key string, v any) bool) {
	m.root.each(func(e *entry) bool { return f(e.key, e.value) })
}

func (n *node) each(f func(*entry) bool) bool {
	if n == nil {
		return true
	}
	for _, s := range n.slots {
		if inner, ok := s.(*node); ok {
			if !inner.each(f) {
				return false
			}
			continue
		}
		if !f(s.(*entry)) {
			return false
		}
	}
	return true
}

// With returns a map in which key has the value v.
func (m *Map) With(key string, v any) *Map {
	root, added := m.root.with(&entry{key: key, value: v}, hash(key), 0)
	if added {
		return &Map{root: root, size: m.size + 1}
	}
	return &Map{root: root, size: m.size}
}

func (n *node) with(e *entry, h uint64, level int) (*node, bool) {
	if n == nil {
		n = &node{}
	}
	if level == maxLevel {
		return n.withListed(e)
	}
	i, found := n.position(h, level)
	if !found {
		return &node{n.bitmap | branch(h, level), slices.Insert(slices.Clone(n.slots), i, any(e))}, true
	}
	out := &node{n.bitmap, slices.Clone(n.slots)}
	old, ok := n.slots[i].(*entry)
	if ok && old.key == e.key {
		out.slots[i] = e
		return out, false
	}
	below, _ := n.slots[i].(*node)
	if ok {
		below, _ = (*node)(nil).with(old, hash(old.key), level+1)
	}
	below, added := below.with(e, h, level+1)
	out.slots[i] = below
	return out, added
}

func (n *node) withListed(e *entry) (*node, bool) {
	out := &node{slots: slices.DeleteFunc(slices.Clone(n.slots), func(s any) bool { return s.(*entry).key == e.key })}
	added := len(out.slots) == len(n.slots)
	out.slots = append(out.slots, e)
	return out, added
}

// Without returns a map that has no such key, m itself if it has none.
func (m *Map) Without(key string) *Map {
	if m.entry(key) == nil {
		return m
	}
	return &Map{root: m.root.without(key, hash(key), 0), size: m.size - 1}
}

// without returns nil instead of a node without slots.
func (n *node) without(key string, h uint64, level int) *node {
	if level == maxLevel {
		return n.dropped(slices.IndexFunc(n.slots, func(s any) bool { return s.(*entry).key == key }), 0)
	}
	i, _ := n.position(h, level)
	inner, ok := n.slots[i].(*node)
	if !ok {
		return n.dropped(i, branch(h, level))
	}
	below := inner.without(key, h, level+1)
	if below == nil {
		return n.dropped(i, branch(h, level))
	}
	out := &node{n.bitmap, slices.Clone(n.slots)}
	out.slots[i] = below
	return out
}

func (n *node) dropped(i int, bit uint32) *node {
	if len(n.slots) == 1 {
		return nil
	}
	return &node{n.bitmap &^ bit, slices.Delete(slices.Clone(n.slots), i, i+1)}
}

// Term is the map as OPA's value. It is made when it is first asked for, from
// what the entries keep of theirs.
func (m *Map) Term() *ast.Term {
	if t := m.term.Load(); t != nil {
		return t
	}
	items := make([][2]*ast.Term, 0, m.size)
	m.root.each(func(e *entry) bool {
		items = append(items, [2]*ast.Term{ast.StringTerm(e.key), e.asTerm()})
		return true
	})
	t := ast.NewTerm(ast.NewObject(items...))
	m.term.Store(t)
	return t
}

func (e *entry) asTerm() *ast.Term {
	if inner, ok := e.value.(*Map); ok {
		return inner.Term()
	}
	if t := e.term.Load(); t != nil {
		return t
	}
	t := value.Term(value.Defined(e.value))
	e.term.Store(t)
	return t
}

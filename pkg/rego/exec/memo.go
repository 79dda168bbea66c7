package exec

import (
	"encoding/json"
	"reflect"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

const (
	// maxKey is the number of arguments up to which calls are remembered.
	maxKey = 4
	// listed is how many calls of a function are looked through one by one.
	listed = 8
	// keptCalls is up to how many remembered calls room is kept for later.
	keptCalls = 64
)

// memo remembers what rules and functions gave, for one evaluation and one
// state of input and data. Both lists are by the index of the function.
type memo struct {
	rules []any
	// calls are nil for functions that were not called; they are this memo's
	// own, or those that are shared with other evaluations.
	calls []*calls
	own   []calls
	// used are the functions that have something in calls.
	used  []int
	dirty bool
	// shared is nil in memos for another input or data than the review's.
	shared *Shared
}

// calls are the remembered calls of one function. From listed on they are
// indexed.
type calls struct {
	list  []called
	index map[callKey]int
}

// called is a remembered call. It keeps the arguments alive: a key holds their
// addresses only, which must not be given to other values meanwhile.
type called struct {
	key   callKey
	args  [maxKey]any
	value any
}

// none stands in for an undefined value.
type none struct{}

// fit makes room for the functions of a program.
func (m *memo) fit(functions int) *memo {
	if more := functions - len(m.rules); more > 0 {
		m.rules = append(m.rules, make([]any, more)...)
		m.calls = append(m.calls, make([]*calls, more)...)
		m.own = append(m.own, make([]calls, more)...)
	}
	return m
}

// clear forgets everything, and drops what has become large.
func (m *memo) clear() {
	if m.dirty {
		clear(m.rules)
	}
	for _, fn := range m.used {
		if m.calls[fn] == &m.own[fn] {
			m.calls[fn].clear()
		}
		m.calls[fn] = nil
	}
	m.used, m.dirty, m.shared = m.used[:0], false, nil
}

func (c *calls) clear() {
	clear(c.list)
	c.list, c.index = c.list[:0], nil
	if cap(c.list) > keptCalls {
		c.list = nil
	}
}

// of returns the remembered calls of a function.
func (m *memo) of(fn *function) *calls {
	if c := m.calls[fn.index]; c != nil {
		return c
	}
	c := &m.own[fn.index]
	if m.shared != nil && fn.shared != nil {
		common := m.shared.of(*fn.shared)
		common.used = true
		c = &common.calls
	}
	m.calls[fn.index], m.used = c, append(m.used, fn.index)
	return c
}

type callKey [maxKey]argKey

// argKey is a scalar, or the identity of a collection. Values are immutable
// once they are passed on, so that the same address and length are the same
// value. No collection lies at the addresses 1 and 2.
type argKey struct {
	scalar  any // an array's length
	address uintptr
}

func (k *argKey) of(v any) bool {
	switch x := v.(type) {
	case string, bool, int64, float64, ast.Number, json.Number, value.Null, *value.Array, *value.Object, *value.Set, *value.Path:
		k.scalar = v
		return true
	case map[string]any:
		k.address = reflect.ValueOf(v).Pointer()
		return true
	case []any:
		k.scalar, k.address = len(x), 1
		if len(x) > 0 {
			k.address = reflect.ValueOf(v).Pointer()
		}
		return true
	case nil:
		k.address = 2
		return true
	}
	return false
}

// keyOf is the key of a call, false if the call cannot be remembered.
func keyOf(args []any) (k callKey, ok bool) {
	if len(args) > maxKey {
		return k, false
	}
	for i, a := range args {
		if !k[i].of(a) {
			return k, false
		}
	}
	return k, true
}

// same tells whether the first n arguments are the same.
func (k *callKey) same(other *callKey, n int) bool {
	for i := range n {
		if k[i].address != other[i].address || k[i].scalar != other[i].scalar {
			return false
		}
	}
	return true
}

// recall looks for a call of n arguments.
func (c *calls) recall(k *callKey, n int) (v any, found bool) {
	if c.index != nil {
		i, found := c.index[*k]
		if !found {
			return nil, false
		}
		return c.list[i].value, true
	}
	for i := range c.list {
		if c.list[i].key.same(k, n) {
			return c.list[i].value, true
		}
	}
	return nil, false
}

func (c *calls) remember(k *callKey, args []any, v any) {
	c.list = append(c.list, called{key: *k, value: v})
	last := len(c.list) - 1
	copy(c.list[last].args[:], args)
	switch {
	case c.index != nil:
		c.index[*k] = last
	case last == listed:
		c.index = make(map[callKey]int, 2*listed)
		for i := range c.list {
			c.index[c.list[i].key] = i
		}
	}
}

// pushMemo starts a memo for another input or data; popMemo returns to before.
func (s *state) pushMemo() *memo {
	old := s.memo
	s.memo = &memo{}
	if n := len(s.spare); n > 0 {
		s.memo, s.spare = s.spare[n-1], s.spare[:n-1]
	}
	s.memo.fit(len(s.program.funcs))
	return old
}

func (s *state) popMemo(old *memo) {
	s.memo.clear()
	s.spare = append(s.spare, s.memo)
	s.memo = old
}

package exec

import (
	"encoding/json"
	"reflect"
	"unsafe"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

const (
	// maxKey is the number of arguments up to which calls are remembered.
	maxKey = 4
	// listed is up to how many calls of a function are looked through one by one.
	listed = 12
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
	// args are those of all calls, one call's after the other's: each call is
	// known by the identity of its arguments, which must live as long.
	args   []any
	values []any
	index  map[callKey]int
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
	if cap(c.values) > keptCalls {
		*c = calls{}
		return
	}
	clear(c.args)
	clear(c.values)
	clear(c.index)
	c.args, c.values = c.args[:0], c.values[:0]
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

// known tells whether a call can be remembered.
func known(args []any) bool {
	if len(args) > maxKey {
		return false
	}
	for _, a := range args {
		switch a.(type) {
		case nil, string, bool, int64, float64, ast.Number, json.Number, value.Null,
			*value.Array, *value.Object, *value.Set, *value.Path, map[string]any, []any:
		default:
			return false
		}
	}
	return true
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

// same tells whether two arguments are the same: equal scalars, or the same
// collection.
func same(a, b any) bool {
	switch x := a.(type) {
	case string:
		y, ok := b.(string)
		return ok && x == y
	case map[string]any:
		y, ok := b.(map[string]any)
		return ok && reflect.ValueOf(x).UnsafePointer() == reflect.ValueOf(y).UnsafePointer()
	case []any:
		y, ok := b.([]any)
		return ok && len(x) == len(y) && unsafe.SliceData(x) == unsafe.SliceData(y)
	}
	switch b.(type) {
	case map[string]any, []any:
		return false
	}
	return a == b
}

// recall looks for a call.
func (c *calls) recall(args []any) (v any, found bool) {
	if len(c.values) > listed {
		key, _ := keyOf(args)
		i, found := c.index[key]
		if !found {
			return nil, false
		}
		return c.values[i], true
	}
	n := len(args)
next:
	for i, v := range c.values {
		for j, a := range c.args[i*n : i*n+n] {
			if !same(a, args[j]) {
				continue next
			}
		}
		return v, true
	}
	return nil, false
}

// remember takes note of a call that can be remembered.
func (c *calls) remember(args []any, v any) {
	if len(c.values) == listed {
		c.enter()
	}
	if len(c.values) >= listed {
		key, _ := keyOf(args)
		c.index[key] = len(c.values)
	}
	c.args, c.values = append(c.args, args...), append(c.values, v)
}

// enter fills the index.
func (c *calls) enter() {
	if c.index == nil {
		c.index = make(map[callKey]int, 2*listed)
	}
	n := len(c.args) / len(c.values)
	for i := range c.values {
		key, _ := keyOf(c.args[i*n : i*n+n])
		c.index[key] = i
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

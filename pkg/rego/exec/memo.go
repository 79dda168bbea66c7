package exec

import (
	"encoding/json"
	"reflect"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

// maxKey is the number of arguments up to which calls are remembered.
const maxKey = 4

// memo remembers what rules and functions gave, for one evaluation and one
// state of input and data.
type memo struct {
	rules []any
	calls map[callKey]called
	dirty bool
}

// none stands in for an undefined value.
type none struct{}

func newMemo(rules int) *memo { return &memo{rules: make([]any, rules)} }

// keptCalls is the size up to which a map of calls is kept for later.
const keptCalls = 1024

func (m *memo) clear() {
	if !m.dirty {
		return
	}
	clear(m.rules)
	if len(m.calls) > keptCalls {
		m.calls = nil
	}
	clear(m.calls)
	m.dirty = false
}

// called is a remembered value. It keeps the arguments alive: a key holds their
// addresses only, which must not be given to other values meanwhile.
type called struct {
	args  [maxKey]any
	value any
}

type callKey struct {
	fn   int
	args [maxKey]argKey
}

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
func keyOf(fn int, args []any) (k callKey, ok bool) {
	if len(args) > maxKey {
		return k, false
	}
	k.fn = fn
	for i, a := range args {
		if !k.args[i].of(a) {
			return k, false
		}
	}
	return k, true
}

func (m *memo) remember(k callKey, args []any, v any) {
	if m.calls == nil {
		m.calls = map[callKey]called{}
	}
	c := called{value: v}
	copy(c.args[:], args)
	m.calls[k] = c
	m.dirty = true
}

// pushMemo starts a memo for another input or data; popMemo returns to before.
func (s *state) pushMemo() *memo {
	old := s.memo
	if n := len(s.spare); n > 0 {
		s.memo, s.spare = s.spare[n-1], s.spare[:n-1]
	} else {
		s.memo = newMemo(len(s.program.funcs))
	}
	return old
}

func (s *state) popMemo(old *memo) {
	s.memo.clear()
	s.spare = append(s.spare, s.memo)
	s.memo = old
}

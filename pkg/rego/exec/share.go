package exec

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unique"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"

	"github.com/fusegate/fusegate/pkg/rego/cost"
)

// identity stands for what a function does: functions of different programs
// that have the same are the same, whatever they are called.
type identity = unique.Handle[[sha256.Size]byte]

// Shared remembers, for one review, what functions gave that read nothing but
// the review and their arguments, for all programs that judge it. It is for one
// goroutine, and for evaluations of one review, which is input.review. What it
// saves counts towards the limits of the evaluation that came first only.
type Shared struct {
	// Object is what is judged, for whose size evaluations are granted more; nil
	// if it does not count.
	Object map[string]any
	// Used is what the last evaluation used of its limits; see cost.Meter. Spared
	// is set if by itself it may have taken over half of them, since others may
	// have done part of its work.
	Used   int
	Spared bool
	// Steps is what the last evaluation took of steps.
	Steps int

	// taken is what all evaluations have taken.
	taken     cost.Limits
	now       time.Time
	functions map[identity]*common
	memory    int
}

// common is what is remembered of one function.
type common struct {
	rule  any
	calls calls
	used  bool
}

// maxIdentities is up to how many functions room is kept for the next review.
const maxIdentities = 2000

var sharedPool = sync.Pool{New: func() any { return &Shared{functions: map[identity]*common{}} }}

// NewShared returns what remembers nothing, for evaluations to which it is now.
func NewShared(now time.Time) *Shared {
	s := sharedPool.Get().(*Shared)
	s.now = now
	return s
}

// Release ends the use of s, and of values that evaluations with it gave.
func (s *Shared) Release() {
	if len(s.functions) > maxIdentities {
		return
	}
	for _, c := range s.functions {
		if c.used {
			c.rule, c.used = nil, false
			c.calls.clear()
		}
	}
	s.memory, s.Object, s.taken = 0, nil, cost.Limits{}
	sharedPool.Put(s)
}

// took notes what an evaluation has taken.
func (s *Shared) took(m *cost.Meter) {
	s.Used, s.Spared = m.Used(), s.taken.Steps > 0 && m.NearWith(s.taken)
	taken := m.Taken()
	s.Steps = taken.Steps
	s.taken.Steps, s.taken.Bytes = s.taken.Steps+taken.Steps, s.taken.Bytes+taken.Bytes
}

func (s *Shared) of(id identity) *common {
	c := s.functions[id]
	if c == nil {
		c = &common{}
		s.functions[id] = c
	}
	return c
}

// sharer finds the functions whose results can be shared, callees first.
type sharer struct {
	policy *ir.Policy
	funcs  map[string]*ir.Func
	found  map[string]*identity // nil for functions that cannot be shared
}

func newSharer(p *ir.Policy) *sharer {
	s := &sharer{policy: p, funcs: map[string]*ir.Func{}, found: map[string]*identity{}}
	for _, fn := range p.Funcs.Funcs {
		s.funcs[fn.Name] = fn
	}
	return s
}

// identify returns what a function does, nil if its results cannot be shared:
// if it reads more of the input than review, or any of the data document,
// replaces either, or calls what gives something else every time.
func (s *sharer) identify(name string) *identity {
	if id, done := s.found[name]; done {
		return id
	}
	s.found[name] = nil
	fn := s.funcs[name]
	w := &writer{sharer: s, input: fn.Params[0], data: fn.Params[1], ok: true}
	w.value(reflect.ValueOf(fn.Params))
	w.value(reflect.ValueOf(fn.Return))
	w.value(reflect.ValueOf(fn.Blocks))
	if w.ok {
		id := unique.Make(sha256.Sum256([]byte(w.out.String())))
		s.found[name] = &id
	}
	return s.found[name]
}

// writer writes down all that a function does.
type writer struct {
	*sharer
	input, data ir.Local
	out         strings.Builder
	ok          bool
}

// value writes any part of a function.
func (w *writer) value(v reflect.Value) {
	switch x := v.Interface().(type) {
	case ir.Stmt:
		w.statement(x)
		return
	case ir.Operand:
		w.operand(x)
		return
	}
	switch v.Kind() {
	case reflect.Int, reflect.Int32, reflect.Int64:
		fmt.Fprintf(&w.out, "%d,", v.Int())
	case reflect.Uint32:
		fmt.Fprintf(&w.out, "%d,", v.Uint())
	case reflect.Slice:
		w.out.WriteByte('[')
		for i := range v.Len() {
			w.value(v.Index(i))
		}
		w.out.WriteByte(']')
	case reflect.Pointer:
		if v.IsNil() {
			w.out.WriteByte('-')
			return
		}
		w.value(v.Elem())
	case reflect.Struct:
		w.fields(v)
	default:
		w.ok = false
	}
}

func (w *writer) fields(v reflect.Value) {
	w.out.WriteByte('{')
	for i := range v.NumField() {
		if _, location := v.Field(i).Interface().(ir.Location); !location {
			w.value(v.Field(i))
		}
	}
	w.out.WriteByte('}')
}

func (w *writer) operand(o ir.Operand) {
	switch x := o.Value.(type) {
	case ir.Local:
		fmt.Fprintf(&w.out, "L%d,", x)
	case ir.StringIndex:
		w.text(int(x))
	case ir.Bool:
		fmt.Fprintf(&w.out, "%t,", bool(x))
	default:
		w.ok = false
	}
}

func (w *writer) text(index int) {
	w.out.WriteString(strconv.Quote(w.policy.Static.Strings[index].Value))
}

func (w *writer) statement(stmt ir.Stmt) {
	fmt.Fprintf(&w.out, "%T", stmt)
	switch stmt := stmt.(type) {
	case *ir.CallStmt:
		w.call(stmt)
	case *ir.CallDynamicStmt, *ir.WithStmt:
		w.ok = false
	case *ir.MakeNumberRefStmt:
		w.text(stmt.Index)
		w.value(reflect.ValueOf(stmt.Target))
	case *ir.DotStmt:
		w.ok = w.ok && (w.readsReview(stmt) || !w.documents(mentions(stmt)))
		w.fields(reflect.ValueOf(stmt).Elem())
	default:
		w.ok = w.ok && !w.documents(mentions(stmt))
		w.fields(reflect.ValueOf(stmt).Elem())
	}
}

// documents tells whether input or data is among locals.
func (w *writer) documents(locals []ir.Local) bool {
	return slices.Contains(locals, w.input) || slices.Contains(locals, w.data)
}

// readsReview tells whether a statement reads input.review.
func (w *writer) readsReview(stmt *ir.DotStmt) bool {
	key, ok := stmt.Key.Value.(ir.StringIndex)
	return ok && stmt.Source.Value == ir.Val(w.input) && w.policy.Static.Strings[key].Value == "review" &&
		stmt.Target != w.input && stmt.Target != w.data
}

func (w *writer) call(stmt *ir.CallStmt) {
	args := stmt.Args
	if _, ok := w.funcs[stmt.Func]; ok {
		callee := w.identify(stmt.Func)
		if callee == nil || args[0].Value != ir.Val(w.input) || args[1].Value != ir.Val(w.data) {
			w.ok = false
			return
		}
		fmt.Fprintf(&w.out, "%x", callee.Value())
		args = args[documents:]
	} else {
		b := ast.BuiltinMap[stmt.Func]
		if b == nil || b.IsNondeterministic() || b.Decl.Result() == nil {
			w.ok = false
			return
		}
		w.out.WriteString(stmt.Func)
	}
	w.ok = w.ok && !w.documents(localsOf(args...)) && !w.documents([]ir.Local{stmt.Result})
	w.value(reflect.ValueOf(args))
	w.value(reflect.ValueOf(stmt.Result))
}

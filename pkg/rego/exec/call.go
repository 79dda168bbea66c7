package exec

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/fusegate/fusegate/pkg/rego/cost"
)

// documents is how many arguments of every function are the input and the data
// document, which are not part of what a call is remembered by: while they are
// replaced, another memo is in use.
const documents = 2

// maxArgs is the number of arguments that need no room of their own.
const maxArgs = 8

func (s *scope) call(stmt *ir.CallStmt) (exec, error) {
	args, err := s.operands(stmt.Args)
	if err != nil {
		return nil, err
	}
	target := s.slot(stmt.Result)
	fn, ok := s.byName[stmt.Func]
	if !ok {
		return s.builtin(stmt, args, target)
	}
	if len(args) != len(fn.params) || len(args) > maxArgs {
		return nil, fmt.Errorf("a call of %s with %d arguments", stmt.Func, len(args))
	}
	if len(args) == documents {
		return rule(fn, args, target), nil
	}
	return func(f *frame) ctl {
		var room [maxArgs]any
		in := room[:len(args)]
		for i, a := range args {
			in[i] = a.get(f)
		}
		v, c := fn.remembered(f.state, in)
		if c != next {
			return c
		}
		f.locals[target] = v
		if v == nil {
			return undefined
		}
		return next
	}, nil
}

// rule is the call of a function without arguments of its own.
func rule(fn *function, args []operand, target int) exec {
	return func(f *frame) ctl {
		v, c := fn.document(f.state, args[0].get(f), args[1].get(f))
		if c != next {
			return c
		}
		f.locals[target] = v
		if v == nil {
			return undefined
		}
		return next
	}
}

func (fn *function) document(s *state, input, data any) (any, ctl) {
	if v := s.memo.rules[fn.index]; v != nil {
		return defined(v), next
	}
	memo := s.memo
	if memo.shared != nil && fn.shared != nil {
		return fn.common(s, input, data)
	}
	v, c := fn.run(s, []any{input, data})
	if c != next {
		return nil, c
	}
	memo.dirty, memo.rules[fn.index] = true, orNone(v)
	return v, next
}

// common is the value of a rule that is the same for all evaluations of the
// review.
func (fn *function) common(s *state, input, data any) (any, ctl) {
	memo, before := s.memo, s.Bytes
	shared := memo.shared.of(*fn.shared)
	if shared.rule == nil {
		v, c := fn.run(s, []any{input, data})
		if c != next {
			return nil, c
		}
		shared.rule, shared.used = orNone(v), true
		memo.shared.memory += s.Bytes - before
	}
	memo.dirty, memo.rules[fn.index] = true, shared.rule
	return defined(shared.rule), next
}

// orNone is v, or what stands for undefined among remembered values.
func orNone(v any) any {
	if v == nil {
		return none{}
	}
	return v
}

// defined is a remembered value as it was.
func defined(v any) any {
	if _, undefined := v.(none); undefined {
		return nil
	}
	return v
}

func (fn *function) run(s *state, args []any) (any, ctl) {
	if !s.Step() {
		return nil, failed
	}
	return fn.call(s, args)
}

// cheapSize is up to how many statements a function is called again rather than
// looked up.
const cheapSize = 16

// cheap tells whether running a function costs less than remembering it: it is
// short, and calls and scans nothing.
func (t *translator) cheap(fn *ir.Func) bool {
	size, simple := 0, true
	for _, b := range fn.Blocks {
		walk(b, func(stmt ir.Stmt) {
			size++
			switch stmt := stmt.(type) {
			case *ir.ScanStmt, *ir.CallDynamicStmt, *ir.WithStmt:
				simple = false
			case *ir.CallStmt:
				simple = simple && t.byName[stmt.Func] == nil && quick[stmt.Func]
			}
		})
	}
	return simple && size <= cheapSize
}

// quick are builtins that take no longer than a look-up.
var quick = map[string]bool{
	"object.get": true, "count": true, "equal": true, "neq": true, "lt": true, "lte": true, "gt": true, "gte": true,
	"plus": true, "startswith": true, "endswith": true, "is_null": true, "is_boolean": true, "is_number": true,
	"is_string": true, "is_array": true, "is_object": true, "is_set": true, "internal.member_2": true,
}

func (fn *function) remembered(s *state, args []any) (any, ctl) {
	if fn.cheap {
		return fn.run(s, args)
	}
	if !known(args[documents:]) {
		return fn.run(s, args)
	}
	for _, a := range args[documents:] {
		if text, ok := a.(string); ok && !s.read(text) {
			return nil, failed
		}
	}
	calls := s.memo.of(fn)
	if v, found := calls.recall(args[documents:]); found {
		return v, next
	}
	before := s.Bytes
	v, c := fn.run(s, args)
	if c != next {
		return nil, c
	}
	if !s.Grow(cost.EntrySize) {
		return nil, failed
	}
	if s.memo.shared != nil && fn.shared != nil {
		s.memo.shared.memory += s.Bytes - before
	}
	calls.remember(args[documents:], v)
	return v, next
}

// callDynamic calls the function at a path that is known when it runs. Where
// there is none, the data document is asked next; where there is one without a
// value, the reference is undefined, which the planner has three blocks out.
func (s *scope) callDynamic(stmt *ir.CallDynamicStmt) (exec, error) {
	path, err := s.operands(stmt.Path)
	if err != nil {
		return nil, err
	}
	if len(stmt.Args) != documents {
		return nil, fmt.Errorf("a dynamic call with %d arguments", len(stmt.Args))
	}
	input, data, target := s.slot(stmt.Args[0]), s.slot(stmt.Args[1]), s.slot(stmt.Result)
	byPath := s.byPath
	return func(f *frame) ctl {
		key, ok := dynamicPath(f, path)
		fn := byPath[key]
		if !ok || fn == nil || len(fn.params) != documents {
			return undefined
		}
		v, c := fn.document(f.state, f.locals[input], f.locals[data])
		if c != next {
			return c
		}
		f.locals[target] = v
		if v == nil {
			return undefined + 3
		}
		return next
	}, nil
}

func dynamicPath(f *frame, path []operand) (string, bool) {
	parts := make([]string, len(path))
	for i, p := range path {
		text, ok := p.get(f).(string)
		if !ok {
			return "", false
		}
		parts[i] = text
	}
	return strings.Join(parts, "\x00"), true
}

// builtin is the call of a function that OPA has built in.
func (s *scope) builtin(stmt *ir.CallStmt, args []operand, target int) (exec, error) {
	if topdown.GetBuiltin(stmt.Func) == nil {
		return nil, fmt.Errorf("the builtin %s is not known", stmt.Func)
	}
	decl := s.declaration(stmt.Func)
	if decl == nil {
		return nil, fmt.Errorf("the builtin %s is not declared", stmt.Func)
	}
	b := &builtin{
		name: stmt.Func, args: args, target: target,
		void: decl.Decl.Result() == nil, relation: isRelation(stmt.Func), location: s.location(stmt),
	}
	s.program.random = s.program.random || ast.BuiltinMap[stmt.Func].IsNondeterministic() && stmt.Func != "time.now_ns"
	if run := native(b); run != nil {
		return run, nil
	}
	return b.run, nil
}

func (t *translator) declaration(name string) *ir.BuiltinFunc {
	for _, b := range t.policy.Static.BuiltinFuncs {
		if b.Name == name {
			return b
		}
	}
	return nil
}

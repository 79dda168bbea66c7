package exec

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ir"

	"github.com/fusegate/fusegate/pkg/rego/cost"
	"github.com/fusegate/fusegate/pkg/rego/value"
)

func (s *scope) create(stmt ir.Stmt) (exec, error) {
	if l, ok := made(stmt); ok {
		if c, ok := s.constants[l]; ok {
			return constant(s.slot(l), c), nil
		}
	}
	switch stmt := stmt.(type) {
	case *ir.MakeNullStmt:
		return constant(s.slot(stmt.Target), value.Null{}), nil
	case *ir.MakeNumberIntStmt:
		return constant(s.slot(stmt.Target), stmt.Value), nil
	case *ir.MakeNumberRefStmt:
		return constant(s.slot(stmt.Target), value.ParseNumber(s.text(stmt.Index))), nil
	case *ir.MakeArrayStmt:
		target, size := s.slot(stmt.Target), int(stmt.Capacity)
		if s.reusable(stmt.Target) {
			id := s.program.scratch
			s.program.scratch++
			return func(f *frame) ctl { f.locals[target] = f.reused(id); return next }, nil
		}
		return func(f *frame) ctl { f.locals[target] = value.NewArray(size); return next }, nil
	case *ir.MakeObjectStmt:
		target, size := s.slot(stmt.Target), s.fills[stmt.Target]
		return func(f *frame) ctl { f.locals[target] = value.NewObject(size); return next }, nil
	case *ir.MakeSetStmt:
		target := s.slot(stmt.Target)
		return func(f *frame) ctl { f.locals[target] = value.NewSet(); return next }, nil
	}
	return nil, fmt.Errorf("statement of type %T", stmt)
}

func (s *scope) build(stmt ir.Stmt) (exec, error) {
	switch stmt := stmt.(type) {
	case *ir.ArrayAppendStmt:
		return s.append(stmt)
	case *ir.SetAddStmt:
		return s.add(stmt)
	case *ir.ObjectInsertStmt:
		return s.insert(stmt.Object, stmt.Key, stmt.Value, false)
	case *ir.ObjectInsertOnceStmt:
		return s.insert(stmt.Object, stmt.Key, stmt.Value, true)
	case *ir.ObjectMergeStmt:
		a, b, target := s.slot(stmt.A), s.slot(stmt.B), s.slot(stmt.Target)
		return func(f *frame) ctl {
			merged, ok := f.merge(f.locals[a], f.locals[b])
			if !ok {
				return failed
			}
			f.locals[target] = merged
			return next
		}, nil
	}
	return nil, fmt.Errorf("statement of type %T", stmt)
}

func (s *scope) append(stmt *ir.ArrayAppendStmt) (exec, error) {
	v, err := s.operand(stmt.Value)
	array := s.slot(stmt.Array)
	return func(f *frame) ctl {
		a, ok := f.locals[array].(*value.Array)
		if !ok {
			return f.fail(ErrConflict)
		}
		a.Elems = append(a.Elems, v.get(f))
		if !f.Grow(cost.EntrySize) {
			return failed
		}
		return next
	}, err
}

func (s *scope) add(stmt *ir.SetAddStmt) (exec, error) {
	v, err := s.operand(stmt.Value)
	local := s.slot(stmt.Set)
	entry := s.entry && stmt.Set == s.ret
	return func(f *frame) ctl {
		set, ok := f.locals[local].(*value.Set)
		if !ok {
			return f.fail(ErrConflict)
		}
		v := v.get(f)
		if !f.entered(v, set.Len()) {
			return failed
		}
		if !set.Add(v) {
			return next
		}
		if entry {
			f.note(set)
		}
		if !f.Grow(cost.EntrySize) {
			return failed
		}
		return next
	}, err
}

func (s *scope) insert(object ir.Local, k, v ir.Operand, once bool) (exec, error) {
	key, err := s.operand(k)
	if err != nil {
		return nil, err
	}
	val, err := s.operand(v)
	if err != nil {
		return nil, err
	}
	local := s.slot(object)
	return func(f *frame) ctl {
		o, ok := f.locals[local].(*value.Object)
		if !ok {
			return f.fail(ErrConflict)
		}
		key, val := key.get(f), val.get(f)
		if !f.entered(key, o.Len()) {
			return failed
		}
		if once {
			if old := o.Get(key); old != nil {
				return f.agree(old, val)
			}
		}
		o.Put(key, val)
		if !f.Grow(cost.EntrySize) {
			return failed
		}
		return next
	}, nil
}

// agree ends the evaluation if two values that are to be one are not the same.
func (f *frame) agree(a, b any) ctl {
	same, ok := f.equals(a, b)
	switch {
	case !ok:
		return failed
	case !same:
		return f.fail(ErrConflict)
	}
	return next
}

// merge returns an object with the keys of both, merged again where both have
// one. Where they are not both objects, what is stored hides what rules make.
func (s *state) merge(stored, made any) (merged any, ok bool) {
	if value.KindOf(stored) != value.KindObject || value.KindOf(made) != value.KindObject {
		return stored, true
	}
	n, _ := value.Len(stored)
	m, _ := value.Len(made)
	if !s.copied(n + m) {
		return nil, false
	}
	out := &value.Object{}
	value.Range(stored, func(k, v any) bool { out.Put(k, v); return true })
	ok = true
	value.Range(made, func(k, v any) bool {
		if ok = s.touch(k); !ok {
			return false
		}
		if old := out.Get(k); old != nil {
			v, ok = s.merge(old, v)
		}
		out.Put(k, v)
		return ok
	})
	return out, ok
}

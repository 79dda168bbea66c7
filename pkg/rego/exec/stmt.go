package exec

import (
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ir"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

func (s *scope) read(stmt ir.Stmt) (exec, error) {
	switch stmt := stmt.(type) {
	case *ir.DotStmt:
		return s.dot(stmt)
	case *ir.LenStmt:
		return s.length(stmt)
	case *ir.EqualStmt:
		return s.equal(stmt.A, stmt.B, true)
	case *ir.NotEqualStmt:
		return s.equal(stmt.A, stmt.B, false)
	}
	return nil, fmt.Errorf("statement of type %T", stmt)
}

func (s *scope) dot(stmt *ir.DotStmt) (exec, error) {
	source, err := s.operand(stmt.Source)
	if err != nil {
		return nil, err
	}
	key, err := s.operand(stmt.Key)
	if err != nil {
		return nil, err
	}
	target := s.slot(stmt.Target)
	stored := s.isStored(stmt.Source)
	s.stored[stmt.Target] = stored
	if text, ok := key.constant.(string); ok && source.local >= 0 {
		return field(source.local, text, target), nil
	}
	return func(f *frame) ctl {
		source, key := source.get(f), key.get(f)
		if stored && numbered(source, key) {
			return f.fail(errNumberedKey)
		}
		if !f.touch(key) || !f.unfolded(source) {
			return failed
		}
		v := value.Get(source, key)
		f.locals[target] = v
		if v == nil {
			return undefined
		}
		return next
	}, nil
}

// errNumberedKey is a reference into the data document by a number, which OPA's
// storage takes for the text of it where it meets an object.
var errNumberedKey = errors.New("a number where stored objects have text")

// numbered tells whether an object has a key that reads like the number.
func numbered(object, key any) bool {
	text, ok := value.NumberText(key)
	return ok && value.KindOf(object) == value.KindObject && value.Get(object, string(text)) != nil
}

func (s *scope) isStored(o ir.Operand) bool {
	local, ok := o.Value.(ir.Local)
	return ok && s.stored[s.original(local)]
}

// field looks up a key known beforehand.
func field(source int, key string, target int) exec {
	return func(f *frame) ctl {
		v := lookUp(f.locals[source], key)
		f.locals[target] = v
		if v == nil {
			return undefined
		}
		return next
	}
}

func lookUp(source any, key string) any {
	switch s := source.(type) {
	case map[string]any:
		v, found := s[key]
		if found && v == nil {
			return value.Null{}
		}
		return v
	case *value.Object:
		return s.Field(key)
	case value.Mapping:
		v, found := s.Get(key)
		if !found {
			return nil
		}
		return value.Defined(v)
	case *value.Set:
		return s.Get(key)
	}
	return nil // no other value has a key that is text
}

// chain returns how many of the statements look fields up in one another, each
// in what the one before it found, and nothing else does.
func (s *scope) chain(stmts []ir.Stmt) (keys []string, first, last *ir.DotStmt) {
	for _, stmt := range stmts {
		dot, ok := stmt.(*ir.DotStmt)
		if !ok || s.built[stmt] {
			return keys, first, last
		}
		source, isLocal := dot.Source.Value.(ir.Local)
		key, isText := dot.Key.Value.(ir.StringIndex)
		if _, constant := s.constants[s.original(source)]; !isLocal || !isText || constant {
			return keys, first, last
		}
		if last != nil && (source != last.Target || !s.own(source) || s.mentioned[source] != 2) {
			return keys, first, last
		}
		if first == nil {
			first = dot
		}
		keys, last = append(keys, s.text(int(key))), dot
	}
	return keys, first, last
}

// fields looks up a chain of keys.
func (s *scope) fields(keys []string, first, last *ir.DotStmt) exec {
	stored := s.isStored(first.Source)
	for _, dot := range []*ir.DotStmt{first, last} {
		s.stored[dot.Target] = stored
	}
	source, target := s.slot(first.Source.Value.(ir.Local)), s.slot(last.Target)
	return func(f *frame) ctl {
		v := f.locals[source]
		for _, key := range keys {
			if v = lookUp(v, key); v == nil {
				f.locals[target] = nil
				return undefined
			}
		}
		f.locals[target] = v
		return next
	}
}

func (s *scope) length(stmt *ir.LenStmt) (exec, error) {
	source, err := s.operand(stmt.Source)
	if err != nil {
		return nil, err
	}
	target := s.slot(stmt.Target)
	return func(f *frame) ctl {
		n, ok := value.Len(source.get(f))
		if !ok {
			return undefined
		}
		f.locals[target] = int64(n)
		return next
	}, nil
}

func (s *scope) equal(left, right ir.Operand, want bool) (exec, error) {
	a, err := s.operand(left)
	if err != nil {
		return nil, err
	}
	b, err := s.operand(right)
	if err != nil {
		return nil, err
	}
	if truth, ok := b.constant.(bool); ok && a.local >= 0 {
		return equalBool(a.local, truth, want), nil
	}
	return func(f *frame) ctl {
		same, ok := f.equals(a.get(f), b.get(f))
		switch {
		case !ok:
			return failed
		case same != want:
			return undefined
		}
		return next
	}, nil
}

// equalBool compares with a constant, as after every call whose value must not
// be false.
func equalBool(local int, truth, want bool) exec {
	return func(f *frame) ctl {
		v, ok := f.locals[local].(bool)
		if (ok && v == truth) != want {
			return undefined
		}
		return next
	}
}

func (s *scope) isKind(source ir.Operand, want value.Kind) (exec, error) {
	o, err := s.operand(source)
	if err != nil {
		return nil, err
	}
	return func(f *frame) ctl {
		if value.KindOf(o.get(f)) != want {
			return undefined
		}
		return next
	}, nil
}

func (s *scope) isDefined(source ir.Local, want bool) exec {
	local := s.slot(source)
	return func(f *frame) ctl {
		if (f.locals[local] != nil) != want {
			return undefined
		}
		return next
	}
}

func (s *scope) assign(stmt ir.Stmt) (exec, error) {
	switch stmt := stmt.(type) {
	case *ir.AssignVarStmt:
		source, err := s.operand(stmt.Source)
		target := s.slot(stmt.Target)
		return func(f *frame) ctl { f.locals[target] = source.get(f); return next }, err
	case *ir.AssignVarOnceStmt:
		return s.assignOnce(stmt)
	case *ir.AssignIntStmt:
		return constant(s.slot(stmt.Target), stmt.Value), nil
	case *ir.ResetLocalStmt:
		return constant(s.slot(stmt.Target), nil), nil
	}
	return nil, fmt.Errorf("statement of type %T", stmt)
}

func constant(target int, v any) exec {
	return func(f *frame) ctl { f.locals[target] = v; return next }
}

func (s *scope) assignOnce(stmt *ir.AssignVarOnceStmt) (exec, error) {
	source, err := s.operand(stmt.Source)
	if err != nil {
		return nil, err
	}
	if s.early != nil && s.early.local == stmt.Target {
		v := s.early.value
		return func(f *frame) ctl { f.ret = v; return returned }, nil
	}
	target := s.slot(stmt.Target)
	return func(f *frame) ctl {
		old, v := f.locals[target], source.get(f)
		if old == nil {
			f.locals[target] = v
			return next
		}
		return f.agree(old, v)
	}, nil
}

// constantResult tells whether all bodies of a function give the same boolean.
// The interpreter leaves such functions early, too.
func constantResult(fn *ir.Func) *earlyExit {
	var e *earlyExit
	same := true
	for _, b := range fn.Blocks {
		walk(b, func(stmt ir.Stmt) {
			once, ok := stmt.(*ir.AssignVarOnceStmt)
			if !ok || once.Target == fn.Return {
				return
			}
			v, ok := once.Source.Value.(ir.Bool)
			switch {
			case !ok:
				same = false
			case e == nil:
				e = &earlyExit{local: once.Target, value: bool(v)}
			default:
				same = same && e.local == once.Target && e.value == bool(v)
			}
		})
	}
	if !same {
		return nil
	}
	return e
}

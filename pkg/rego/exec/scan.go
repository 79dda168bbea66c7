package exec

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ir"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

// scanner runs a block for every element of a collection.
type scanner struct {
	source, key, value int
	block              []exec
	// ordered is set when the order of the elements can be seen afterwards.
	ordered bool
	// keyed is set when the block asks for keys: boxing them takes memory.
	keyed bool
}

func (s *scope) scan(stmt *ir.ScanStmt) (exec, error) {
	s.stored[stmt.Value] = s.stored[s.original(stmt.Source)]
	block, err := s.statements(stmt.Block, 0)
	if err != nil {
		return nil, err
	}
	x := &scanner{
		source: s.slot(stmt.Source), key: s.slot(stmt.Key), value: s.slot(stmt.Value),
		block: block, ordered: appends(stmt.Block),
	}
	walk(stmt.Block, func(inner ir.Stmt) { x.keyed = x.keyed || slices.ContainsFunc(mentions(inner), s.isCopyOf(stmt.Key)) })
	return x.run, nil
}

// isCopyOf tells of locals whether they are read where l lies.
func (s *scope) isCopyOf(l ir.Local) func(ir.Local) bool {
	return func(other ir.Local) bool { return s.original(other) == l }
}

// appends tells whether a block appends to an array that it did not make, so
// that the order in which it runs shows.
func appends(b *ir.Block) bool {
	made := map[ir.Local]bool{}
	foreign := false
	walk(b, func(stmt ir.Stmt) {
		switch stmt := stmt.(type) {
		case *ir.MakeArrayStmt:
			made[stmt.Target] = true
		case *ir.ArrayAppendStmt:
			foreign = foreign || !made[stmt.Array]
		}
	})
	return foreign
}

// walk calls f for every statement of a block and the blocks in it, in order.
func walk(b *ir.Block, f func(ir.Stmt)) {
	if b == nil {
		return
	}
	for _, stmt := range b.Stmts {
		f(stmt)
		switch stmt := stmt.(type) {
		case *ir.BlockStmt:
			for _, inner := range stmt.Blocks {
				walk(inner, f)
			}
		case *ir.NotStmt:
			walk(stmt.Block, f)
		case *ir.ScanStmt:
			walk(stmt.Block, f)
		case *ir.WithStmt:
			walk(stmt.Block, f)
		}
	}
}

func (x *scanner) run(f *frame) ctl {
	switch source := f.locals[x.source].(type) {
	case []any:
		return x.array(f, source)
	case *value.Array:
		return x.array(f, source.Elems)
	case *value.Path:
		if !f.unfolded(source) {
			return failed
		}
		return x.array(f, source.Elems())
	case *value.Set:
		if x.ordered {
			elems, ok := f.sorted(source)
			if !ok {
				return failed
			}
			return x.set(f, elems)
		}
		return x.set(f, source.Elems())
	case map[string]any:
		if x.ordered {
			return x.sorted(f, source)
		}
		return x.fields(f, source)
	case *value.Object:
		if x.ordered {
			return x.sorted(f, source)
		}
		return x.object(f, source)
	case value.Mapping:
		if x.ordered {
			return x.sorted(f, source)
		}
		return x.mapping(f, source)
	}
	return next
}

// element runs the block once. Undefined means that the block is through with
// this element, so only what ends the call ends the scan.
func (x *scanner) element(f *frame, key, v any) ctl {
	if !f.Step() {
		return failed
	}
	f.locals[x.key], f.locals[x.value] = key, v
	for _, stmt := range x.block {
		if c := stmt(f); c != next {
			return min(c, next)
		}
	}
	return next
}

func (x *scanner) array(f *frame, elems []any) ctl {
	var key any
	for i, v := range elems {
		if x.keyed {
			key = int64(i)
		}
		if c := x.element(f, key, value.Defined(v)); c != next {
			return c
		}
	}
	return next
}

func (x *scanner) set(f *frame, elems []any) ctl {
	for _, v := range elems {
		if c := x.element(f, v, v); c != next {
			return c
		}
	}
	return next
}

func (x *scanner) fields(f *frame, m map[string]any) ctl {
	var key any
	for k, v := range m {
		if x.keyed {
			key = k
		}
		if c := x.element(f, key, value.Defined(v)); c != next {
			return c
		}
	}
	return next
}

func (x *scanner) object(f *frame, o *value.Object) ctl {
	for i := range o.Len() {
		k, v := o.Entry(i)
		if c := x.element(f, k, v); c != next {
			return c
		}
	}
	return next
}

func (x *scanner) mapping(f *frame, m value.Mapping) ctl {
	c := next
	m.Range(func(k string, v any) bool {
		c = x.element(f, k, value.Defined(v))
		return c == next
	})
	return c
}

func (x *scanner) sorted(f *frame, object any) ctl {
	for _, k := range value.Keys(object) {
		if c := x.element(f, k, value.Get(object, k)); c != next {
			return c
		}
	}
	return next
}

package exec

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ir"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

func (s *scope) control(stmt ir.Stmt, depth int) (exec, error) {
	switch stmt := stmt.(type) {
	case *ir.BlockStmt:
		return s.nested(stmt, depth)
	case *ir.NotStmt:
		return s.not(stmt, depth)
	case *ir.ScanStmt:
		return s.scan(stmt)
	case *ir.WithStmt:
		return s.with(stmt, depth)
	case *ir.BreakStmt:
		if int(stmt.Index) > depth {
			return nil, fmt.Errorf("a break that leaves a scan")
		}
		c := ctl(stmt.Index) + 1
		return func(*frame) ctl { return c }, nil
	case *ir.ReturnLocalStmt:
		source := s.slot(stmt.Source)
		return func(f *frame) ctl { f.ret = f.locals[source]; return returned }, nil
	case *ir.ResultSetAddStmt:
		source := s.slot(stmt.Value)
		return func(f *frame) ctl {
			if !f.given(f.locals[source]) {
				return failed
			}
			f.results = append(f.results, f.locals[source])
			return next
		}, nil
	}
	return nil, fmt.Errorf("statement of type %T", stmt)
}

// outside is a ctl of a nested block as the block around it sees it.
func outside(c ctl) ctl {
	if c > undefined {
		return c - 1
	}
	return c
}

func (s *scope) nested(stmt *ir.BlockStmt, depth int) (exec, error) {
	blocks, err := s.blocks(stmt.Blocks, depth+1)
	if err != nil {
		return nil, err
	}
	return func(f *frame) ctl { return outside(runBlocks(blocks, f)) }, nil
}

func (s *scope) not(stmt *ir.NotStmt, depth int) (exec, error) {
	block, err := s.statements(stmt.Block, depth+1)
	if err != nil {
		return nil, err
	}
	return func(f *frame) ctl {
		switch c := run(block, f); c {
		case next:
			return undefined
		case undefined:
			return next
		default:
			return outside(c)
		}
	}, nil
}

func (s *scope) with(stmt *ir.WithStmt, depth int) (exec, error) {
	local := s.slot(stmt.Local)
	v, err := s.operand(stmt.Value)
	if err != nil {
		return nil, err
	}
	block, err := s.statements(stmt.Block, depth+1)
	if err != nil {
		return nil, err
	}
	path := make([]string, len(stmt.Path))
	for i, p := range stmt.Path {
		path[i] = s.text(p)
	}
	return func(f *frame) ctl {
		saved, memo := f.locals[local], f.pushMemo()
		replaced, ok := f.replace(saved, path, v.get(f))
		c := failed
		if ok {
			f.locals[local] = replaced
			c = run(block, f)
		}
		f.locals[local] = saved
		f.popMemo(memo)
		return outside(c)
	}, nil
}

// replace returns doc with v at path, of which what lies on the way is copied,
// and made where it is missing or no object.
func (s *state) replace(doc any, path []string, v any) (replaced any, ok bool) {
	if len(path) == 0 {
		return v, true
	}
	out := &value.Object{}
	if value.KindOf(doc) == value.KindObject {
		if n, _ := value.Len(doc); !s.copied(n) {
			return nil, false
		}
		value.Range(doc, func(k, e any) bool { out.Put(k, e); return true })
	}
	below, ok := s.replace(out.Get(path[0]), path[1:], v)
	out.Put(path[0], below)
	return out, ok
}

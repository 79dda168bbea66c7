package exec

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ir"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

// translator holds what is common to the functions of a plan.
type translator struct {
	policy  *ir.Policy
	program *Program
	byName  map[string]*function
	byPath  map[string]*function
	// entryPath is the path of the entry rule, below the planner's root.
	entryPath string
}

func newTranslator(p *ir.Policy) *translator {
	return &translator{
		policy:  p,
		program: &Program{},
		byName:  map[string]*function{},
		byPath:  map[string]*function{},
	}
}

// declare makes the functions known to each other before any is translated.
func (t *translator) declare(funcs []*ir.Func) {
	for i, fn := range funcs {
		f := &function{name: fn.Name, index: i, ret: int(fn.Return)}
		for _, p := range fn.Params {
			f.params = append(f.params, int(p))
		}
		t.program.funcs = append(t.program.funcs, f)
		t.byName[fn.Name] = f
		t.byPath[pathKey(fn.Path)] = f
	}
}

func pathKey(path []string) string { return strings.Join(path, "\x00") }

func (t *translator) function(f *function, fn *ir.Func) error {
	s := t.scope()
	s.params = fn.Params
	s.reserve(fn.Params...)
	s.reserve(fn.Return)
	s.ret, s.entry = fn.Return, t.entryPath != "" && pathKey(fn.Path[min(1, len(fn.Path)):]) == t.entryPath
	s.early, f.cheap = constantResult(fn), t.cheap(fn)
	blocks, err := s.bodies(fn.Blocks)
	f.blocks, f.slots = blocks, s.slots
	return err
}

// scope translates the statements of one function.
type scope struct {
	*translator
	slots int
	// early is set when all bodies of the function give the same constant: the
	// first that gives it ends the call.
	early *earlyExit
	// stored are the locals that hold a part of the data document.
	stored map[ir.Local]bool
	params []ir.Local
	// ret is the local that the function returns; entry is set if it is the set
	// of the entry rule.
	ret   ir.Local
	entry bool
	*hoist
}

// earlyExit is the local that bodies assign and what they assign.
type earlyExit struct {
	local ir.Local
	value any
}

func (t *translator) scope() *scope {
	return &scope{translator: t, slots: documents, stored: map[ir.Local]bool{ir.Data: true}}
}

// bodies translates the blocks of a function or a plan.
func (s *scope) bodies(in []*ir.Block) ([][]exec, error) {
	shared, fixed := sharedLocals(in), s.fixedLocals(in)
	out := make([][]exec, 0, len(in))
	for _, b := range in {
		s.hoist = newHoist(b, shared, fixed, s.text)
		x, err := s.statements(b, 0)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

func (s *scope) reserve(locals ...ir.Local) {
	for _, l := range locals {
		s.slots = max(s.slots, int(l)+1)
	}
}

// fixedLocals are the arguments that no statement assigns.
func (s *scope) fixedLocals(bodies []*ir.Block) map[ir.Local]bool {
	fixed := map[ir.Local]bool{}
	for _, p := range s.params {
		fixed[p] = true
	}
	for _, b := range bodies {
		walk(b, func(stmt ir.Stmt) {
			for _, l := range targets(stmt) {
				delete(fixed, l)
			}
		})
	}
	return fixed
}

// slot is the place of a local in the frame.
func (s *scope) slot(l ir.Local) int {
	l = s.original(l)
	s.reserve(l)
	return int(l)
}

// operand is what a statement reads: a local, or a constant when it is
// negative.
type operand struct {
	local    int
	constant any
}

func (o operand) get(f *frame) any {
	if o.local < 0 {
		return o.constant
	}
	return f.locals[o.local]
}

func (s *scope) operand(o ir.Operand) (operand, error) {
	switch v := o.Value.(type) {
	case ir.Local:
		if c, ok := s.constants[s.original(v)]; ok {
			return operand{local: -1, constant: c}, nil
		}
		return operand{local: s.slot(v)}, nil
	case ir.StringIndex:
		return operand{local: -1, constant: s.text(int(v))}, nil
	case ir.Bool:
		return operand{local: -1, constant: bool(v)}, nil
	}
	return operand{}, fmt.Errorf("operand of type %T", o.Value)
}

func (s *scope) operands(os []ir.Operand) ([]operand, error) {
	out := make([]operand, len(os))
	for i, o := range os {
		var err error
		if out[i], err = s.operand(o); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (t *translator) text(index int) string { return t.policy.Static.Strings[index].Value }

// blocks translates blocks that lie within depth others, up to the nearest
// scan: a break must not leave that.
func (s *scope) blocks(in []*ir.Block, depth int) ([][]exec, error) {
	out := make([][]exec, 0, len(in))
	for _, b := range in {
		x, err := s.statements(b, depth)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

func (s *scope) statements(b *ir.Block, depth int) ([]exec, error) {
	if b == nil {
		return nil, nil
	}
	out := make([]exec, 0, len(b.Stmts))
	for i := 0; i < len(b.Stmts); i++ {
		stmt := b.Stmts[i]
		if s.built[stmt] {
			continue
		}
		if keys, first, last := s.chain(b.Stmts[i:]); len(keys) > 1 {
			out = append(out, s.fields(keys, first, last))
			i += len(keys) - 1
			continue
		}
		x, err := s.stmt(stmt, depth)
		if err != nil {
			return nil, err
		}
		if x != nil {
			out = append(out, x)
		}
	}
	return out, nil
}

// stmt translates one statement; nil if there is nothing to do.
func (s *scope) stmt(stmt ir.Stmt, depth int) (exec, error) {
	switch stmt := stmt.(type) {
	case *ir.NopStmt:
		return nil, nil
	case *ir.BlockStmt, *ir.NotStmt, *ir.ScanStmt, *ir.WithStmt, *ir.BreakStmt, *ir.ReturnLocalStmt, *ir.ResultSetAddStmt:
		return s.control(stmt, depth)
	case *ir.CallStmt:
		return s.call(stmt)
	case *ir.CallDynamicStmt:
		return s.callDynamic(stmt)
	case *ir.DotStmt, *ir.LenStmt, *ir.EqualStmt, *ir.NotEqualStmt:
		return s.read(stmt)
	case *ir.IsArrayStmt:
		return s.isKind(stmt.Source, value.KindArray)
	case *ir.IsObjectStmt:
		return s.isKind(stmt.Source, value.KindObject)
	case *ir.IsSetStmt:
		return s.isKind(stmt.Source, value.KindSet)
	case *ir.IsDefinedStmt:
		return s.isDefined(stmt.Source, true), nil
	case *ir.IsUndefinedStmt:
		return s.isDefined(stmt.Source, false), nil
	case *ir.AssignVarStmt, *ir.AssignVarOnceStmt, *ir.AssignIntStmt, *ir.ResetLocalStmt:
		return s.assign(stmt)
	case *ir.MakeNullStmt, *ir.MakeNumberIntStmt, *ir.MakeNumberRefStmt, *ir.MakeArrayStmt, *ir.MakeObjectStmt, *ir.MakeSetStmt:
		return s.create(stmt)
	case *ir.ArrayAppendStmt, *ir.SetAddStmt, *ir.ObjectInsertStmt, *ir.ObjectInsertOnceStmt, *ir.ObjectMergeStmt:
		return s.build(stmt)
	}
	return nil, fmt.Errorf("statement of type %T", stmt)
}

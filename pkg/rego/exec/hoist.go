package exec

import (
	"reflect"

	"github.com/open-policy-agent/opa/v1/ir"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

// hoist finds the collections of a body that are made of constants, so that
// they are built once instead of on every evaluation: [a, b], {} or {"x"} as
// they stand in arguments of builtins, above all.
type hoist struct {
	literal func(index int) string
	// shared are the locals that other bodies have a part in.
	shared map[ir.Local]bool
	writes map[ir.Local]int
	// fills are the statements that add to a collection, by its local.
	fills map[ir.Local]int
	// mentioned counts the statements that name a local.
	mentioned map[ir.Local]int
	// passed are the arrays that some builtin is given that keeps none.
	passed map[ir.Local]bool
	// constants are the locals that never hold anything else.
	constants map[ir.Local]any
	// copies are the locals that hold the same as another, which does not
	// change while they are in use.
	copies map[ir.Local]ir.Local
	// fixed are the arguments that the function never assigns.
	fixed map[ir.Local]bool
	// named are the locals that some statement takes as such, where it could
	// not take a constant.
	named map[ir.Local]bool
	// built are the statements whose work is done beforehand.
	built map[ir.Stmt]bool
}

func newHoist(body *ir.Block, shared, fixed map[ir.Local]bool, literal func(int) string) *hoist {
	h := &hoist{
		literal: literal, shared: shared, fixed: fixed, copies: map[ir.Local]ir.Local{}, named: map[ir.Local]bool{}, writes: map[ir.Local]int{}, fills: map[ir.Local]int{},
		mentioned: map[ir.Local]int{}, passed: map[ir.Local]bool{}, constants: map[ir.Local]any{}, built: map[ir.Stmt]bool{},
	}
	walk(body, h.count)
	h.block(body)
	walk(body, func(stmt ir.Stmt) {
		for _, inner := range blocksOf(stmt) {
			h.block(inner)
		}
	})
	return h
}

// sharedLocals are those that some body of a function mentions and does not
// assign. All others hold something else in each body: the planner gives the
// same numbers out again.
func sharedLocals(bodies []*ir.Block) map[ir.Local]bool {
	shared := map[ir.Local]bool{}
	for _, b := range bodies {
		mentioned, written := map[ir.Local]bool{}, map[ir.Local]bool{}
		walk(b, func(stmt ir.Stmt) {
			for _, l := range mentions(stmt) {
				mentioned[l] = true
			}
			for _, l := range targets(stmt) {
				written[l] = true
			}
		})
		for l := range mentioned {
			shared[l] = shared[l] || !written[l]
		}
	}
	return shared
}

// mentions are all locals that a statement names.
func mentions(stmt ir.Stmt) []ir.Local {
	var out []ir.Local
	v := reflect.ValueOf(stmt).Elem()
	for i := range v.NumField() {
		if !v.Type().Field(i).IsExported() {
			continue
		}
		switch x := v.Field(i).Interface().(type) {
		case ir.Local:
			out = append(out, x)
		case []ir.Local:
			out = append(out, x...)
		case ir.Operand:
			out = append(out, localsOf(x)...)
		case []ir.Operand:
			out = append(out, localsOf(x...)...)
		}
	}
	return out
}

func localsOf(operands ...ir.Operand) []ir.Local {
	var out []ir.Local
	for _, o := range operands {
		if l, ok := o.Value.(ir.Local); ok {
			out = append(out, l)
		}
	}
	return out
}

func (h *hoist) count(stmt ir.Stmt) {
	for _, l := range targets(stmt) {
		h.writes[l]++
	}
	for _, l := range mentions(stmt) {
		h.mentioned[l]++
	}
	for _, l := range naming(stmt) {
		h.named[l] = true
	}
	if l, ok := filled(stmt); ok {
		h.fills[l]++
	}
	if call, ok := stmt.(*ir.CallStmt); ok && (call.Func == "sprintf" || call.Func == "concat") {
		for _, l := range localsOf(call.Args[1]) {
			h.passed[l] = true
		}
	}
}

// reusable tells whether an array is filled, passed to a builtin that keeps
// nothing of it, and never seen again. There is no recursion, so that one such
// array for each statement and evaluation will do.
func (h *hoist) reusable(l ir.Local) bool {
	return h.passed[l] && !h.shared[l] && h.writes[l] == 1 && h.mentioned[l] == h.fills[l]+2
}

// naming are the locals that a statement takes as such, and does not assign or
// fill.
func naming(stmt ir.Stmt) []ir.Local {
	switch stmt := stmt.(type) {
	case *ir.ScanStmt:
		return []ir.Local{stmt.Source}
	case *ir.IsDefinedStmt:
		return []ir.Local{stmt.Source}
	case *ir.IsUndefinedStmt:
		return []ir.Local{stmt.Source}
	case *ir.ReturnLocalStmt:
		return []ir.Local{stmt.Source}
	case *ir.ResultSetAddStmt:
		return []ir.Local{stmt.Value}
	case *ir.CallDynamicStmt:
		return stmt.Args
	case *ir.ObjectMergeStmt:
		return []ir.Local{stmt.A, stmt.B}
	case *ir.WithStmt:
		return []ir.Local{stmt.Local}
	}
	return nil
}

// targets are the locals that a statement assigns.
func targets(stmt ir.Stmt) []ir.Local {
	switch stmt := stmt.(type) {
	case *ir.AssignVarStmt:
		return []ir.Local{stmt.Target}
	case *ir.AssignVarOnceStmt:
		return []ir.Local{stmt.Target}
	case *ir.AssignIntStmt:
		return []ir.Local{stmt.Target}
	case *ir.ResetLocalStmt:
		return []ir.Local{stmt.Target}
	case *ir.CallStmt:
		return []ir.Local{stmt.Result}
	case *ir.CallDynamicStmt:
		return []ir.Local{stmt.Result}
	case *ir.DotStmt:
		return []ir.Local{stmt.Target}
	case *ir.LenStmt:
		return []ir.Local{stmt.Target}
	case *ir.ScanStmt:
		return []ir.Local{stmt.Key, stmt.Value}
	case *ir.ObjectMergeStmt:
		return []ir.Local{stmt.Target}
	case *ir.WithStmt:
		return []ir.Local{stmt.Local}
	}
	if l, ok := made(stmt); ok {
		return []ir.Local{l}
	}
	return nil
}

// made is the local that a statement gives a new value.
func made(stmt ir.Stmt) (ir.Local, bool) {
	switch stmt := stmt.(type) {
	case *ir.MakeNullStmt:
		return stmt.Target, true
	case *ir.MakeNumberIntStmt:
		return stmt.Target, true
	case *ir.MakeNumberRefStmt:
		return stmt.Target, true
	case *ir.MakeArrayStmt:
		return stmt.Target, true
	case *ir.MakeObjectStmt:
		return stmt.Target, true
	case *ir.MakeSetStmt:
		return stmt.Target, true
	}
	return 0, false
}

// filled is the local that a statement adds to.
func filled(stmt ir.Stmt) (ir.Local, bool) {
	switch stmt := stmt.(type) {
	case *ir.ArrayAppendStmt:
		return stmt.Array, true
	case *ir.SetAddStmt:
		return stmt.Set, true
	case *ir.ObjectInsertStmt:
		return stmt.Object, true
	case *ir.ObjectInsertOnceStmt:
		return stmt.Object, true
	}
	return 0, false
}

// blocksOf are the blocks within a statement.
func blocksOf(stmt ir.Stmt) []*ir.Block {
	switch stmt := stmt.(type) {
	case *ir.BlockStmt:
		return stmt.Blocks
	case *ir.NotStmt:
		return []*ir.Block{stmt.Block}
	case *ir.ScanStmt:
		return []*ir.Block{stmt.Block}
	case *ir.WithStmt:
		return []*ir.Block{stmt.Block}
	}
	return nil
}

// collection is one that may turn out to be constant.
type collection struct {
	make  ir.Stmt
	value any
	fills []ir.Stmt
}

// block looks for collections that are made and filled in this very block.
func (h *hoist) block(b *ir.Block) {
	if b == nil {
		return
	}
	open := map[ir.Local]*collection{}
	for _, stmt := range b.Stmts {
		if l, ok := made(stmt); ok && h.own(l) {
			h.begin(open, l, stmt)
			continue
		}
		if assign, ok := stmt.(*ir.AssignVarStmt); ok && h.own(assign.Target) {
			h.assigned(assign)
			continue
		}
		l, ok := filled(stmt)
		if !ok || open[l] == nil {
			continue
		}
		c := open[l]
		c.fills = append(c.fills, stmt)
		if !h.fill(c, stmt) {
			delete(open, l)
			continue
		}
		if len(c.fills) == h.fills[l] {
			h.done(l, c)
		}
	}
}

// own tells whether a local belongs to this body and is assigned in one place.
func (h *hoist) own(l ir.Local) bool { return h.writes[l] == 1 && !h.shared[l] }

// assigned looks whether an assignment can be left out, since what is assigned
// can be read where it comes from. Its source is assigned in one place, too,
// and so before it and not again before the target is.
func (h *hoist) assigned(stmt *ir.AssignVarStmt) {
	if c, ok := h.constant(stmt.Source); ok {
		h.constants[stmt.Target] = c
		h.built[stmt] = !h.named[stmt.Target]
		return
	}
	source, ok := stmt.Source.Value.(ir.Local)
	if ok && (h.own(source) || h.fixed[source]) && h.fills[stmt.Target] == 0 {
		h.copies[stmt.Target] = source
		h.built[stmt] = true
	}
}

// original is the local that l is a copy of, at last.
func (h *hoist) original(l ir.Local) ir.Local {
	for {
		source, ok := h.copies[l]
		if !ok {
			return l
		}
		l = source
	}
}

func (h *hoist) begin(open map[ir.Local]*collection, l ir.Local, stmt ir.Stmt) {
	c := &collection{make: stmt}
	switch stmt := stmt.(type) {
	case *ir.MakeNullStmt:
		c.value = value.Null{}
		h.done(l, c)
		return
	case *ir.MakeNumberIntStmt:
		c.value = stmt.Value
		h.done(l, c)
		return
	case *ir.MakeNumberRefStmt:
		c.value = value.ParseNumber(h.literal(stmt.Index))
		h.done(l, c)
		return
	case *ir.MakeArrayStmt:
		c.value = &value.Array{}
	case *ir.MakeObjectStmt:
		c.value = &value.Object{}
	case *ir.MakeSetStmt:
		c.value = &value.Set{}
	}
	open[l] = c
	if h.fills[l] == 0 {
		h.done(l, c)
	}
}

// fill adds what a statement adds, if that is constant.
func (h *hoist) fill(c *collection, stmt ir.Stmt) bool {
	switch stmt := stmt.(type) {
	case *ir.ArrayAppendStmt:
		v, ok := h.constant(stmt.Value)
		a, isArray := c.value.(*value.Array)
		if !ok || !isArray {
			return false
		}
		a.Elems = append(a.Elems, v)
		return true
	case *ir.SetAddStmt:
		v, ok := h.constant(stmt.Value)
		s, isSet := c.value.(*value.Set)
		if !ok || !isSet {
			return false
		}
		s.Add(v)
		return true
	case *ir.ObjectInsertStmt:
		k, ok := h.constant(stmt.Key)
		v, alsoOK := h.constant(stmt.Value)
		o, isObject := c.value.(*value.Object)
		if !ok || !alsoOK || !isObject {
			return false
		}
		o.Put(k, v)
		return true
	}
	return false
}

func (h *hoist) constant(o ir.Operand) (any, bool) {
	switch v := o.Value.(type) {
	case ir.StringIndex:
		return h.literal(int(v)), true
	case ir.Bool:
		return bool(v), true
	case ir.Local:
		c, ok := h.constants[h.original(v)]
		return c, ok
	}
	return nil, false
}

// done makes a collection a constant. What looks things up in it finds them
// ready, since all evaluations share it.
func (h *hoist) done(l ir.Local, c *collection) {
	value.Freeze(c.value)
	h.constants[l] = c.value
	h.built[c.make] = !h.named[l]
	for _, stmt := range c.fills {
		h.built[stmt] = true
	}
}

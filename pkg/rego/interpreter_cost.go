package rego

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/fusegate/fusegate/pkg/rego/cost"
	"github.com/fusegate/fusegate/pkg/rego/value"
)

// What OPA's interpreter takes is counted where it lets others look: each
// expression that it comes to, each call of a builtin, and each value that a rule
// gives or that is passed to a function, with all that it holds. Not counted is
// the comparison of two collections by = alone: they are no larger than what may
// be built up, and each is one expression.

// expressionSteps is what an expression of the interpreter counts for: it takes
// as long as several steps of compiled code.
const expressionSteps = 4

// counting stops the interpreter when its context ends or it takes more than it
// is granted. The interpreter asks before each expression.
type counting struct{ *cost.Meter }

func (counting) Cancel()           {}
func (c counting) Cancelled() bool { return c.Err != nil || !c.Work(expressionSteps) }

// weighing is a cache of what rules and functions gave that weighs what it is
// shown.
type weighing struct {
	topdown.VirtualCache
	meter *cost.Meter
}

// Get is asked for a call of a function before it is made: the path ends in its
// arguments, written out.
func (w weighing) Get(path ast.Ref) (*ast.Term, bool) {
	for _, t := range path[1:] {
		if !w.light(t) {
			return nil, false
		}
	}
	return w.VirtualCache.Get(path)
}

// Put is told what a rule or function gave.
func (w weighing) Put(path ast.Ref, t *ast.Term) {
	if t == nil || w.light(t) {
		w.VirtualCache.Put(path, t)
	}
}

func (w weighing) light(t *ast.Term) bool {
	switch t.Value.(type) {
	case *ast.Array, ast.Object, ast.Set:
		return w.meter.Weigh(t.Value)
	}
	return true
}

// maxWritten is how many values an expression may stand for when the variables
// of its rule are written out, as the interpreter does.
const maxWritten = 100_000

// written is how many values a variable of the modules stands for at most, when
// those in the arrays, objects and sets that it is assigned are put in their
// places: [y, y] twice what y does.
func written(modules map[string]*ast.Module) int {
	most := 0
	for _, m := range modules {
		ast.WalkRules(m, func(r *ast.Rule) bool {
			w := writing{assigned: map[ast.Var][]*ast.Term{}, known: map[ast.Var]int{}}
			ast.WalkExprs(r, func(x *ast.Expr) bool {
				if x.IsEquality() || x.IsAssignment() {
					w.assign(x.Operand(0), x.Operand(1))
					w.assign(x.Operand(1), x.Operand(0))
				}
				return false
			})
			for v := range w.assigned {
				most = max(most, w.variable(v))
			}
			return false
		})
	}
	return most
}

// writing is the variables of one rule.
type writing struct {
	assigned map[ast.Var][]*ast.Term
	known    map[ast.Var]int
}

func (w *writing) assign(to, what *ast.Term) {
	switch v := to.Value.(type) {
	case ast.Var:
		w.assigned[v] = append(w.assigned[v], what)
	case *ast.Array:
		v.Foreach(func(t *ast.Term) { w.assign(t, what) })
	case ast.Object:
		v.Foreach(func(_, t *ast.Term) { w.assign(t, what) })
	}
}

func (w *writing) variable(v ast.Var) int {
	if n, ok := w.known[v]; ok {
		return n
	}
	w.known[v] = 1 // should it be assigned to itself
	most := 1
	for _, t := range w.assigned[v] {
		most = max(most, w.term(t))
	}
	w.known[v] = most
	return most
}

func (w *writing) term(t *ast.Term) int {
	n := 1
	add := func(t *ast.Term) { n = min(n+w.term(t), value.MaxWeight) }
	switch v := t.Value.(type) {
	case ast.Var:
		return w.variable(v)
	case *ast.Array:
		v.Foreach(add)
	case ast.Set:
		v.Foreach(add)
	case ast.Object:
		v.Foreach(func(k, e *ast.Term) { add(k); add(e) })
	}
	return n
}

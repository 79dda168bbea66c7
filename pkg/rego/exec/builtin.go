package exec

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"

	"github.com/fusegate/fusegate/pkg/rego/cost"
	"github.com/fusegate/fusegate/pkg/rego/value"
)

// builtin is one call of a builtin, by way of OPA's implementation.
type builtin struct {
	name   string
	args   []operand
	target int
	// void builtins have no result; relations have any number, of which the
	// plan wants an array.
	void, relation bool
	location       *ast.Location
}

func isRelation(name string) bool {
	b := ast.BuiltinMap[name]
	return b != nil && b.Relation
}

func (t *translator) location(stmt *ir.CallStmt) *ast.Location {
	at := stmt.GetLocation()
	l := &ast.Location{Row: at.Row, Col: at.Col}
	if at.File < len(t.policy.Static.Files) {
		l.File = t.policy.Static.Files[at.File].Value
	}
	return l
}

func (b *builtin) run(f *frame) ctl {
	terms := make([]*ast.Term, len(b.args))
	for i, a := range b.args {
		v := a.get(f)
		if v == nil {
			return undefined
		}
		if terms[i] = f.term(v); terms[i] == nil {
			return failed
		}
	}
	out, err := b.call(f.state, terms)
	if err != nil {
		return f.builtinFailed(b, err)
	}
	if b.void {
		return next
	}
	f.locals[b.target] = out
	if out == nil {
		return undefined
	}
	return next
}

// term is v as OPA's value, nil if that takes more than is granted. A part of a
// document is converted once for all calls; documents outlive the evaluation, so
// that an address stands for one of them.
func (s *state) term(v any) *ast.Term {
	m, ok := v.(map[string]any)
	if !ok {
		if !plain(v) && !s.converted(v) {
			return nil
		}
		return value.Term(v)
	}
	address := reflect.ValueOf(m).Pointer()
	if t := s.terms[address]; t != nil {
		return t
	}
	if s.terms == nil {
		s.terms = map[uintptr]*ast.Term{}
	}
	if !s.converted(m) {
		return nil
	}
	t := value.Term(m)
	s.terms[address] = t
	return t
}

// converted counts the work of making one of OPA's values, which share nothing.
func (s *state) converted(v any) bool {
	if _, shown := v.(value.Mapping); shown {
		return true // it keeps its own
	}
	w := value.Weight(v)
	return s.Work(1+w>>5) && s.Fits(w)
}

func (b *builtin) call(s *state, terms []*ast.Term) (any, error) {
	var out any
	var all []any
	size := 0
	bctx := *s.context()
	bctx.Location = b.location
	err := s.Call(b.name, bctx, terms, func(t *ast.Term) error {
		if t == nil {
			return nil
		}
		out = value.FromAST(t.Value)
		size += value.Weight(out)
		if b.relation {
			all = append(all, out)
		}
		return nil
	})
	if s.Err != nil || err == nil && !s.Grow(size) {
		return nil, topdown.Halt{Err: s.Err}
	}
	if b.relation {
		return &value.Array{Elems: all}, err
	}
	return out, err
}

// builtinFailed leaves the call undefined, as OPA does by default, unless the
// error is one that ends the evaluation.
func (s *state) builtinFailed(b *builtin, err error) ctl {
	var halt topdown.Halt
	if errors.As(err, &halt) {
		return s.fail(halt.Err)
	}
	if s.Context().Err() != nil {
		return s.fail(cost.CutOff(s.Context().Err()))
	}
	if s.program.options.Strict {
		return s.fail(fmt.Errorf("calling %s: %w", b.name, err))
	}
	return undefined
}

// context is what builtins see of the evaluation, the same for all calls.
func (s *state) context() *topdown.BuiltinContext {
	if s.builtins == nil {
		now := strconv.FormatInt(s.now.UnixNano(), 10)
		s.builtins = &topdown.BuiltinContext{
			Context:      s.Context(),
			Seed:         rand.Reader,
			Time:         ast.NewTerm(ast.Number(now)),
			Cancel:       cancel{s.Context()},
			Cache:        builtins.Cache{},
			Capabilities: s.program.options.Capabilities,
			Metrics:      metrics.NoOp(),
		}
	}
	return s.builtins
}

// cancel shows the end of a context to builtins.
type cancel struct{ ctx context.Context }

func (cancel) Cancel()           {}
func (c cancel) Cancelled() bool { return c.ctx.Err() != nil }

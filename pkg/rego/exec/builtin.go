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

	"github.com/fusegate/fusegate/pkg/rego/value"
)

// builtin is one call of a builtin, by way of OPA's implementation.
type builtin struct {
	name           string
	implementation topdown.BuiltinFunc
	args           []operand
	target         int
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
		terms[i] = f.term(v)
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

// term is v as OPA's value. A part of a document is converted once for all
// calls; documents outlive the evaluation, so that an address stands for one
// of them.
func (s *state) term(v any) *ast.Term {
	m, ok := v.(map[string]any)
	if !ok {
		return value.Term(v)
	}
	address := reflect.ValueOf(m).Pointer()
	if t := s.terms[address]; t != nil {
		return t
	}
	if s.terms == nil {
		s.terms = map[uintptr]*ast.Term{}
	}
	t := value.Term(m)
	s.terms[address] = t
	return t
}

func (b *builtin) call(s *state, terms []*ast.Term) (any, error) {
	var out any
	var all []any
	size := 0
	bctx := *s.context()
	bctx.Location = b.location
	err := b.implementation(bctx, terms, func(t *ast.Term) error {
		if t == nil {
			return nil
		}
		out = value.FromAST(t.Value)
		size += sizeOf(out)
		if b.relation {
			all = append(all, out)
		}
		return nil
	})
	if err == nil && !s.grow(size) {
		return nil, topdown.Halt{Err: s.err}
	}
	if b.relation {
		return &value.Array{Elems: all}, err
	}
	return out, err
}

// sizeOf is roughly the memory of a builtin's result.
func sizeOf(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case ast.Number:
		return len(v)
	}
	n, _ := value.Len(v)
	return n * entrySize
}

// builtinFailed leaves the call undefined, as OPA does by default, unless the
// error is one that ends the evaluation.
func (s *state) builtinFailed(b *builtin, err error) ctl {
	var halt topdown.Halt
	if errors.As(err, &halt) {
		return s.fail(halt.Err)
	}
	if s.ctx.Err() != nil {
		return s.fail(cutOff(s.ctx.Err()))
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
			Context:      s.ctx,
			Seed:         rand.Reader,
			Time:         ast.NewTerm(ast.Number(now)),
			Cancel:       cancel{s.ctx},
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

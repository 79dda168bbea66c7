package rego

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/printable"
	"github.com/fusegate/fusegate/pkg/rego/cost"
	"github.com/fusegate/fusegate/pkg/rego/exec"
)

// topdownProgram evaluates with OPA's interpreter. The query is compiled once,
// when the template is.
type topdownProgram struct {
	compiler *ast.Compiler
	query    ast.Body
	result   ast.Var
	// heavy tells whether its rules, written out, are too much to run.
	heavy func() bool
}

// interpret makes the interpreter's program of compiled source. Its errors are
// Diagnostics.
func interpret(c *ast.Compiler) (*topdownProgram, error) {
	qc := c.QueryCompiler()
	query, err := qc.Compile(entryQuery())
	if err != nil {
		return nil, notASet(c, err)
	}
	return &topdownProgram{
		compiler: c, query: query, result: resultVar(qc),
		heavy: sync.OnceValue(func() bool { return written(c.Modules) > maxWritten }),
	}, nil
}

// entryQuery has a solution for each violation, in the variable result.
func entryQuery() ast.Body {
	return ast.MustParseBody("data.template." + entryRule + "[result]")
}

// notASet says that the query has no way to read the entry rule.
func notASet(c *ast.Compiler, err error) Diagnostics {
	return Diagnostics{at(c.Modules["rego"].Package.Location, CodeEntry,
		"rule %s cannot be read as a set of objects, as in %s[{\"msg\": msg}]: %s", entryRule, entryRule, diagnose(err)[0].Message)}
}

// resultVar is the name that the query compiler gave to the variable result.
func resultVar(qc ast.QueryCompiler) ast.Var {
	for rewritten, original := range qc.RewrittenVars() {
		if original == "result" {
			return rewritten
		}
	}
	return "result"
}

func (p *topdownProgram) evaluate(ctx context.Context, e *Data, in *Input, params *Parameters, adjust ...func(*topdown.Query)) (found Findings, err error) {
	if p.heavy() {
		return Findings{}, fmt.Errorf("%w: a rule stands for more than %d values when its variables are written out", exec.ErrLimit, maxWritten)
	}
	review, err := in.term()
	if err != nil {
		return Findings{}, fmt.Errorf("converting the review: %w", err)
	}
	meter := &cost.Meter{}
	meter.Start(ctx, cost.Base)
	meter.Object = in.object()
	defer func() { found.Used, found.Steps = meter.Used(), meter.Steps }()
	input := ast.ObjectTerm(
		ast.Item(ast.InternedTerm("review"), review),
		ast.Item(ast.InternedTerm("parameters"), params.asTerm()),
	)
	q := topdown.NewQuery(p.query).
		WithCompiler(p.compiler).
		WithStore(e.store()).
		WithTransaction(storage.NewTransactionOrDie(ctx, e.store())).
		WithCancel(counting{meter}).
		WithVirtualCache(weighing{topdown.NewVirtualCache(), meter}).
		WithInput(input).
		WithTime(in.now)
	for _, f := range adjust {
		f(q)
	}
	early := witness{found: ast.NewSet(), meter: meter}
	if finder, ok := ctx.(exec.Finder); ok {
		early.finder = finder
		q.WithQueryTracer(early)
	}
	seen := ast.NewSet()
	err = q.Iter(cost.With(ctx, meter), func(qr topdown.QueryResult) error {
		if r := qr[p.result]; r != nil && meter.Weigh(r.Value) {
			seen.Add(r)
		}
		return nil
	})
	if meter.Err != nil || err != nil && topdown.IsCancel(err) {
		if meter.Err != nil {
			err = meter.Err
		}
		found, wrong := termFindings(early.found, in.bounded())
		return found, cmp.Or(wrong, err)
	}
	if err != nil {
		return Findings{}, err
	}
	return termFindings(seen, in.bounded())
}

// witness keeps what the entry rule gives while the interpreter goes on, as
// compiled code does of itself.
type witness struct {
	finder exec.Finder // nil if nobody asks
	found  ast.Set
	meter  *cost.Meter
}

// Enabled implements topdown.QueryTracer.
func (w witness) Enabled() bool { return w.finder != nil }

// Config implements topdown.QueryTracer.
func (witness) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent implements topdown.QueryTracer.
func (w witness) TraceEvent(e topdown.Event) {
	if e.Op != topdown.ExitOp {
		return
	}
	rule, ok := e.Node.(*ast.Rule)
	if !ok || rule.Head.Key == nil || !rule.Ref().Equal(entryPath) {
		return
	}
	if v := e.Plug(rule.Head.Key); v.IsGround() && w.meter.Weigh(v.Value) {
		w.found.Add(v)
		w.finder.Found(true)
	}
}

// entryPath is the entry rule's.
var entryPath = ast.MustParseRef("data.template." + entryRule)

// causeOf says whose doing an error of evaluate is.
func causeOf(err error) policy.FaultCause {
	var te *topdown.Error
	var pe *policyError
	switch {
	case errors.As(err, &pe):
		return policy.CausePolicy
	case errors.Is(err, errMessage), errors.Is(err, exec.ErrLimit):
		return policy.CauseInput
	case topdown.IsCancel(err), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return policy.CauseTimeout
	case errors.As(err, &te) && te.Code != topdown.InternalErr:
		return policy.CauseInput
	}
	return policy.CauseInternal
}

// brief is an error without the values that it quotes.
func brief(err error) string {
	var te *topdown.Error
	var panicked *panicError
	switch {
	case errors.Is(err, errMessage):
		return errMessage.Error()
	case errors.As(err, &panicked):
		return "the evaluator panicked"
	case errors.As(err, &te):
		return strings.TrimPrefix(location(te.Location)+": "+te.Code, ": ")
	}
	return ""
}

// maxErrorText is how much of an error is shown, in bytes.
const maxErrorText = 512

// evalError words an error of an evaluation on one line of bounded length: OPA
// quotes the values that an object brought about, over several lines.
type evalError struct{ err error }

func (e evalError) Error() string {
	return printable.LineMax(strings.Join(strings.Fields(e.err.Error()), " "), maxErrorText)
}

func (e evalError) Unwrap() error { return e.err }

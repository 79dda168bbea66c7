package rego

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/printable"
	"github.com/fusegate/fusegate/pkg/rego/exec"
)

// topdownProgram evaluates with OPA's interpreter. The query is compiled once,
// when the template is.
type topdownProgram struct {
	compiler *ast.Compiler
	query    ast.Body
	result   ast.Var
}

// interpret makes the interpreter's program of compiled source. Its errors are
// Diagnostics.
func interpret(c *ast.Compiler) (*topdownProgram, error) {
	qc := c.QueryCompiler()
	query, err := qc.Compile(entryQuery())
	if err != nil {
		return nil, notASet(c, err)
	}
	return &topdownProgram{compiler: c, query: query, result: resultVar(qc)}, nil
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

func (p *topdownProgram) evaluate(ctx context.Context, e *Data, in *Input, params *Parameters, adjust ...func(*topdown.Query)) ([]Finding, error) {
	review, err := in.term()
	if err != nil {
		return nil, fmt.Errorf("converting the review: %w", err)
	}
	input := ast.ObjectTerm(
		ast.Item(ast.InternedTerm("review"), review),
		ast.Item(ast.InternedTerm("parameters"), params.asTerm()),
	)
	q := topdown.NewQuery(p.query).
		WithCompiler(p.compiler).
		WithStore(e.store()).
		WithTransaction(storage.NewTransactionOrDie(ctx, e.store())).
		WithCancel(ending{ctx}).
		WithInput(input).
		WithTime(in.now)
	for _, f := range adjust {
		f(q)
	}
	seen := ast.NewSet()
	err = q.Iter(ctx, func(qr topdown.QueryResult) error {
		if r := qr[p.result]; r != nil {
			seen.Add(r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return findings(seen)
}

// errMessage is a violation that its rule gave no message. Dropping it would
// hide a violation, so it counts as a failure of the policy.
var errMessage = errors.New("the rule " + entryRule + " fired without a string msg")

func findings(results ast.Set) ([]Finding, error) {
	if results.Len() == 0 {
		return nil, nil
	}
	out := make([]Finding, 0, results.Len())
	for _, r := range results.Slice() {
		f, err := findingOf(r.Value)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func findingOf(v ast.Value) (Finding, error) {
	obj, ok := v.(ast.Object)
	if !ok {
		return Finding{}, fmt.Errorf("%w: it gave %v", errMessage, v)
	}
	msg := obj.Get(ast.InternedTerm("msg"))
	if msg == nil {
		return Finding{}, fmt.Errorf("%w: it gave %v", errMessage, v)
	}
	text, ok := msg.Value.(ast.String)
	if !ok {
		return Finding{}, fmt.Errorf("%w: msg is %v", errMessage, msg)
	}
	f := Finding{Message: string(text), Details: map[string]any{}}
	if d := obj.Get(ast.InternedTerm("details")); d != nil {
		details, err := ast.JSON(d.Value)
		if err != nil {
			return Finding{}, fmt.Errorf("reading the details of a violation: %w", err)
		}
		f.Details = details
	}
	return f, nil
}

// causeOf says whose doing an error of evaluate is.
func causeOf(err error) policy.FaultCause {
	var te *topdown.Error
	switch {
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

package rego

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/fusegate/fusegate/pkg/policy"
)

// finding is one element of a template's violation rule.
type finding struct {
	msg     string
	details any
}

// evaluator judges reviews by the Rego of one template. Implementations are
// immutable and safe for concurrent use.
type evaluator interface {
	// evaluate runs the entry rule on input ({"review": ..., "parameters":
	// ...}). An error means that the policy came to no verdict; causeOf
	// classifies it.
	evaluate(ctx context.Context, e environment, input *ast.Term) ([]finding, error)
}

// environment is what evaluations of one review share.
type environment struct {
	store  storage.Store
	txn    storage.Transaction
	cancel topdown.Cancel
	cache  *ruleCache
}

// topdownProgram evaluates with OPA's interpreter. The query is compiled once,
// when the template is.
type topdownProgram struct {
	compiler *ast.Compiler
	query    ast.Body
	result   ast.Var
}

// compile turns a template into an evaluator. Its errors are Diagnostics.
func compile(t *templates.ConstraintTemplate) (evaluator, error) {
	c, err := compileSource(t)
	if err != nil {
		return nil, err
	}
	qc := c.QueryCompiler()
	query, err := qc.Compile(ast.MustParseBody("data.template." + entryRule + "[result]"))
	if err != nil {
		return nil, notASet(c, err)
	}
	return &topdownProgram{compiler: c, query: query, result: resultVar(qc)}, nil
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

func (p *topdownProgram) evaluate(ctx context.Context, e environment, input *ast.Term) ([]finding, error) {
	q := topdown.NewQuery(p.query).
		WithCompiler(p.compiler).
		WithStore(e.store).
		WithTransaction(e.txn).
		WithCancel(e.cancel).
		WithMetrics(metrics.NoOp()).
		WithVirtualCache(e.cache.begin()).
		WithInput(input)
	var seen ast.Set
	err := q.Iter(ctx, func(qr topdown.QueryResult) error {
		if r := qr[p.result]; r != nil {
			seen = withResult(seen, r)
		}
		return nil
	})
	if err != nil || seen == nil {
		return nil, err
	}
	return findings(seen)
}

// withResult adds r to the results; most evaluations have none and need no set.
func withResult(seen ast.Set, r *ast.Term) ast.Set {
	if seen == nil {
		return ast.NewSet(r)
	}
	seen.Add(r)
	return seen
}

// errMessage is a violation that its rule gave no message. Dropping it would
// hide a violation, so it counts as a failure of the policy.
var errMessage = errors.New("the rule " + entryRule + " fired without a string msg")

func findings(results ast.Set) ([]finding, error) {
	out := make([]finding, 0, results.Len())
	for _, r := range results.Slice() {
		f, err := findingOf(r.Value)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func findingOf(v ast.Value) (finding, error) {
	obj, ok := v.(ast.Object)
	if !ok {
		return finding{}, fmt.Errorf("%w: it gave %v", errMessage, v)
	}
	msg := obj.Get(ast.InternedTerm("msg"))
	if msg == nil {
		return finding{}, fmt.Errorf("%w: it gave %v", errMessage, v)
	}
	text, ok := msg.Value.(ast.String)
	if !ok {
		return finding{}, fmt.Errorf("%w: msg is %v", errMessage, msg)
	}
	f := finding{msg: string(text), details: map[string]any{}}
	if d := obj.Get(ast.InternedTerm("details")); d != nil {
		details, err := ast.JSON(d.Value)
		if err != nil {
			return finding{}, fmt.Errorf("reading the details of a violation: %w", err)
		}
		f.details = details
	}
	return f, nil
}

// causeOf says whose doing an error of evaluate is.
func causeOf(err error) policy.FaultCause {
	var te *topdown.Error
	switch {
	case errors.Is(err, errMessage):
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
// quotes the values that an object brought about, over several lines, and the
// API server drops warnings of more than one line (NewWarningHeader in
// k8s.io/apimachinery pkg/util/net/http.go).
type evalError struct{ err error }

func (e evalError) Error() string {
	text := strings.Join(strings.Fields(e.err.Error()), " ")
	if len(text) <= maxErrorText {
		return text
	}
	return strings.ToValidUTF8(text[:maxErrorText], "") + "..."
}

func (e evalError) Unwrap() error { return e.err }

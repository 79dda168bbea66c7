package rego

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego/exec"
	"github.com/fusegate/fusegate/pkg/rego/plan"
	"github.com/fusegate/fusegate/pkg/rego/tree"
	"github.com/fusegate/fusegate/pkg/rego/value"
)

// Finding is one element of a template's violation rule.
type Finding struct {
	Message string
	// Details is decoded JSON, {} if the rule gave none.
	Details any
}

// Data is one version of the data document, which all evaluations of a review
// share. It is immutable.
type Data struct{ root *tree.Map }

// Data returns the data document as it is now.
func (d *Driver) Data() *Data { return &Data{root: d.data.Root()} }

// store shows the data document to the interpreter.
func (e *Data) store() storage.Store { return tree.NewView(e.root) }

// Program is the Rego of one template, ready to run. It is immutable.
type Program struct {
	interpreted *topdownProgram
	compiled    *exec.Program
	refused     error
	inventory   []InventoryRead
}

// compile turns a template into a program. Its errors are Diagnostics; that the
// Rego runs by the interpreter only is none.
func compile(ctx context.Context, t *templates.ConstraintTemplate) (*Program, error) {
	c, err := compileSource(t)
	if err != nil {
		return nil, err
	}
	p := &Program{inventory: inventoryReads(c)}
	if p.interpreted, err = interpret(c); err != nil {
		return nil, err
	}
	p.compiled, p.refused = translate(ctx, c)
	return p, nil
}

func translate(ctx context.Context, c *ast.Compiler) (*exec.Program, error) {
	planned, err := plan.Plan(ctx, c, entryQuery())
	if err != nil {
		return nil, err
	}
	return exec.Translate(planned, exec.Options{Capabilities: capabilities()})
}

// Refused says why the template is interpreted on every review instead of
// running compiled, nil if it is compiled.
func (p *Program) Refused() error { return p.refused }

// Inventory lists what the template reads of data.inventory, judged by its
// text: it may say too much, never too little.
func (p *Program) Inventory() []InventoryRead { return p.inventory }

// errUnknown cannot happen while the framework's client and its driver agree.
var errUnknown = errors.New("the template or constraint was removed during the review")

// Failure is why a constraint could not be judged.
type Failure struct {
	Cause policy.FaultCause
	Err   error
	// Brief is Err without what it quotes of the object; empty if it quotes
	// nothing.
	Brief string
}

// Judge runs the program on a review. The parameters are those of a constraint
// of the same kind.
func (p *Program) Judge(ctx context.Context, e *Data, in *Input, params *Parameters) ([]Finding, *Failure) {
	found, err := p.judge(ctx, e, in, params)
	if err != nil {
		return nil, &Failure{Cause: causeOf(err), Err: evalError{err}, Brief: brief(err)}
	}
	return found, nil
}

// judge turns a panic of an evaluator into an error: it concerns one
// constraint, and the others are to be judged.
func (p *Program) judge(ctx context.Context, e *Data, in *Input, params *Parameters) (found []Finding, err error) {
	if p == nil || params == nil {
		return nil, errUnknown
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("no time left to evaluate: %w", err)
	}
	if p.compiled != nil {
		found, err := p.runCompiled(ctx, e, in, params)
		if err == nil || ctx.Err() != nil || errors.Is(err, exec.ErrLimit) {
			return found, err
		}
	}
	return guarded(ctx, p.interpreted.evaluate, e, in, params)
}

// runCompiled evaluates by the compiled program. An error other than a limit
// is for the interpreter to find again and to word.
func (p *Program) runCompiled(ctx context.Context, e *Data, in *Input, params *Parameters) (found []Finding, err error) {
	defer recovered(&err)
	solutions, err := p.compiled.Run(ctx, &request{review: in.document(), parameters: params}, e.root)
	if err != nil || len(solutions) == 0 {
		return nil, err
	}
	results := &value.Set{}
	for _, s := range solutions {
		results.Add(value.Get(s, "result"))
	}
	out := make([]Finding, 0, results.Len())
	for _, r := range results.Sorted() {
		f, err := nativeFinding(r)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func nativeFinding(v any) (Finding, error) {
	if value.KindOf(v) != value.KindObject {
		return Finding{}, errMessage
	}
	text, ok := value.Get(v, "msg").(string)
	if !ok {
		return Finding{}, errMessage
	}
	f := Finding{Message: text, Details: map[string]any{}}
	if d := value.Get(v, "details"); d != nil {
		details, err := value.JSON(d)
		if err != nil {
			return Finding{}, fmt.Errorf("reading the details of a violation: %w", err)
		}
		f.Details = details
	}
	return f, nil
}

// request is the input document.
type request struct {
	review     map[string]any
	parameters *Parameters
}

var _ value.Mapping = (*request)(nil)

// Get returns review or parameters.
func (r *request) Get(key string) (any, bool) {
	switch key {
	case "review":
		return r.review, true
	case "parameters":
		return r.parameters.document, true
	}
	return nil, false
}

// Len is always 2.
func (*request) Len() int { return 2 }

// Range calls f for both.
func (r *request) Range(f func(key string, v any) bool) {
	_ = f("review", r.review) && f("parameters", r.parameters.document)
}

// Term is the input document as OPA's value.
func (r *request) Term() *ast.Term {
	return ast.ObjectTerm(
		ast.Item(ast.InternedTerm("review"), value.Term(r.review)),
		ast.Item(ast.InternedTerm("parameters"), r.parameters.asTerm()),
	)
}

// evaluation runs the entry rule of one template on the review and the
// parameters of one constraint. An error means that the policy came to no
// verdict; causeOf classifies it.
type evaluation func(context.Context, *Data, *Input, *Parameters) ([]Finding, error)

func guarded(ctx context.Context, run evaluation, e *Data, in *Input, params *Parameters) (found []Finding, err error) {
	defer recovered(&err)
	return run(ctx, e, in, params)
}

// recovered makes an error of a panic. It is to be deferred.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = &panicError{value: p, stack: string(debug.Stack())}
	}
}

// panicError is what an evaluator panicked with.
type panicError struct {
	value any
	stack string
}

func (e *panicError) Error() string { return fmt.Sprintf("the evaluator panicked: %v", e.value) }

// Stack is where it panicked.
func (e *panicError) Stack() string { return e.stack }

// ending shows the end of a context to the interpreter.
type ending struct{ ctx context.Context }

func (ending) Cancel()           {}
func (c ending) Cancelled() bool { return c.ctx.Err() != nil }

// Parameters are the parameters of one constraint. They are immutable.
type Parameters struct {
	document any
	term     func() *ast.Term
}

// asTerm is the parameters as the interpreter reads them.
func (p *Parameters) asTerm() *ast.Term { return p.term() }

// parametersOf copies spec.parameters, {} when there are none.
func parametersOf(c *unstructured.Unstructured) (*Parameters, error) {
	params, found, err := unstructured.NestedFieldNoCopy(c.Object, "spec", "parameters")
	if err != nil || !found || params == nil {
		params = map[string]any{}
	}
	doc, err := value.Copy(params)
	if err != nil {
		return nil, fmt.Errorf("converting spec.parameters of constraint %s: %w", c.GetName(), err)
	}
	return &Parameters{document: doc, term: sync.OnceValue(func() *ast.Term { return value.Term(doc) })}, nil
}

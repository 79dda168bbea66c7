package rego

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"

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

// Data is one version of the data document, which all evaluations of a review
// share. It is immutable.
type Data struct{ root *tree.Map }

// store shows the data document to the interpreter.
func (e *Data) store() storage.Store { return tree.NewView(e.root) }

// evaluator is a compiled program; see exec.Program.
type evaluator interface {
	Run(ctx context.Context, input, data any, shared *exec.Shared) ([]any, error)
}

// Program is the Rego of one template, ready to run. What it judges by never
// changes; how, changes once at most, when the compiled program is found wrong.
type Program struct {
	kind     string
	source   *Source
	compiled evaluator
	// random is set when the code may give something else every time.
	random    bool
	inventory []InventoryRead
	reads     Reads
	// refused is why the program is interpreted on every review, nil if it is
	// not.
	refused atomic.Pointer[error]
	// held is the interpreter's program of a template that always needs it;
	// others are made when they are needed.
	held       atomic.Pointer[topdownProgram]
	references *references
	observer   Observer
}

// compile turns a template into a program. Its errors are Diagnostics; that the
// Rego runs by the interpreter only is none.
func compile(ctx context.Context, t *templates.ConstraintTemplate) (*Program, error) {
	source, err := regoSource(t)
	if err != nil {
		return nil, err
	}
	return programOf(ctx, t.Spec.CRD.Spec.Names.Kind, source)
}

// programOf is compile of the Rego of a template of this constraint kind.
func programOf(ctx context.Context, kind string, source *Source) (*Program, error) {
	modules, err := sandboxed(source)
	if err != nil {
		return nil, err
	}
	c, err := compileModules(modules, false)
	if err != nil {
		return nil, err
	}
	reference, err := interpret(c)
	if err != nil {
		return nil, err
	}
	p := &Program{kind: kind, source: source, references: &references{}, observer: unobserved{}, inventory: inventoryReads(c), reads: readsOf(modules)}
	compiled, err := translate(ctx, c)
	if err != nil {
		p.refuse(err, reference)
		return p, nil
	}
	p.compiled, p.random = compiled, compiled.Random()
	return p, nil
}

// refuse lets the interpreter judge from now on.
func (p *Program) refuse(why error, reference *topdownProgram) {
	p.held.Store(reference)
	p.refused.Store(&why)
}

func translate(ctx context.Context, c *ast.Compiler) (*exec.Program, error) {
	planned, err := plan.Plan(ctx, c, entryQuery())
	if err != nil {
		return nil, err
	}
	yield()
	return exec.Translate(planned, exec.Options{Capabilities: capabilities(), Entry: "template." + entryRule})
}

// interpreter returns the interpreter's program.
func (p *Program) interpreter() (*topdownProgram, error) {
	if held := p.held.Load(); held != nil {
		return held, nil
	}
	return p.references.of(p)
}

// interpret evaluates by the interpreter.
func (p *Program) interpret(ctx context.Context, e *Data, in *Input, params *Parameters) (Findings, error) {
	return p.interpretBy(ctx, p.interpreter, e, in, params)
}

func (p *Program) interpretBy(ctx context.Context, by func() (*topdownProgram, error), e *Data, in *Input, params *Parameters) (found Findings, err error) {
	defer p.recovered(&err)
	reference, err := by()
	if err != nil {
		return Findings{}, err
	}
	return reference.evaluate(ctx, e, in, params)
}

// Refused says why the template is interpreted on every review instead of
// running compiled, nil if it is compiled.
func (p *Program) Refused() error {
	if why := p.refused.Load(); why != nil {
		return *why
	}
	return nil
}

// Inventory lists what the template reads of data.inventory, judged by its
// text: it may say too much, never too little.
func (p *Program) Inventory() []InventoryRead { return p.inventory }

// Reads is what the template may read of a review.
func (p *Program) Reads() Reads { return p.reads }

// Failure is why a constraint could not be judged.
type Failure struct {
	Cause policy.FaultCause
	Err   error
	// Brief is Err without what it quotes of the object; empty if it quotes
	// nothing.
	Brief string
}

// Judge runs the program on a review. The parameters are those of a constraint
// of the same kind. Beside a failure there are findings where compiled code was
// cut off, by ctx or by a limit: what it had found by then is certain, since
// rules only add to a set. An error of a policy, of which OPA gives no findings
// either, and the interpreter leave none.
func (p *Program) Judge(ctx context.Context, e *Data, in *Input, params *Parameters) (Findings, *Failure) {
	found, err := p.judge(ctx, e, in, params)
	if errors.Is(err, exec.ErrLimit) {
		return found, p.exceeded(ctx, e, in, params, err)
	}
	return found, failureOf(err)
}

func failureOf(err error) *Failure {
	if err == nil {
		return nil
	}
	return &Failure{Cause: causeOf(err), Err: evalError{err}, Brief: brief(err)}
}

// judge turns a panic of an evaluator into an error: it concerns one
// constraint, and the others are to be judged.
func (p *Program) judge(ctx context.Context, e *Data, in *Input, params *Parameters) (found Findings, err error) {
	if err := ctx.Err(); err != nil {
		return Findings{}, fmt.Errorf("no time left to evaluate: %w", err)
	}
	if p.refused.Load() == nil {
		found, err := p.runCompiled(ctx, e, in, params)
		var cut *exec.Interrupted
		if err == nil || errors.As(err, &cut) || errors.Is(err, exec.ErrLimit) {
			return found, err
		}
		if f, ok := ctx.(exec.Finder); ok {
			f.Found(false)
		}
		if ctx.Err() != nil {
			return Findings{}, err
		}
	}
	return p.interpret(ctx, e, in, params)
}

// runCompiled evaluates by the compiled program. An error other than a limit
// is for the interpreter to find again and to word.
func (p *Program) runCompiled(ctx context.Context, e *Data, in *Input, params *Parameters) (found Findings, err error) {
	defer p.recovered(&err)
	input, shared := &request{review: in.document(), parameters: params}, in.common()
	solutions, err := p.compiled.Run(ctx, input, e.root, shared)
	used, steps := shared.Used, shared.Steps
	if shared.Spared && !in.bounded() {
		used = max(used, p.alone(ctx, input, e, in))
	}
	found, err = solved(solutions, err, in)
	found.Used, found.Steps = used, steps
	return found, err
}

// alone is what the compiled program uses of its budget by itself.
func (p *Program) alone(ctx context.Context, input *request, e *Data, in *Input) int {
	shared := exec.NewShared(in.now)
	defer shared.Release()
	shared.Object = in.object()
	_, _ = p.compiled.Run(unheard{ctx}, input, e.root, shared) // it was judged already
	return shared.Used
}

// solved are the findings of compiled code that came to an end, if by err.
func solved(solutions []any, err error, in *Input) (Findings, error) {
	var cut *exec.Interrupted
	if errors.As(err, &cut) {
		found, wrong := nativeFindings(cut.Found, in.bounded())
		return found, cmp.Or(wrong, err)
	}
	if err != nil || len(solutions) == 0 {
		return Findings{}, err
	}
	results := &value.Set{}
	for _, s := range solutions {
		results.Add(value.Get(s, "result"))
	}
	return nativeFindings(results.Elems(), in.bounded())
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

// recovered makes an error of a panic. It is to be deferred.
func (p *Program) recovered(err *error) {
	if r := recover(); r != nil {
		*err = &panicError{value: r, stack: string(debug.Stack())}
		p.observer.Panicked(p.kind)
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

// Parameters are the parameters of one constraint. They are immutable.
type Parameters struct {
	document any
	term     func() *ast.Term
}

// asTerm is the parameters as the interpreter reads them.
func (p *Parameters) asTerm() *ast.Term { return p.term() }

// NewParameters copies spec.parameters of a constraint, {} when there are none.
func NewParameters(c *unstructured.Unstructured) (*Parameters, error) {
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

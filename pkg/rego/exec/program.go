// Package exec runs planned Rego. A plan is translated once into Go closures
// that work directly on decoded JSON; what the closures mean is what OPA's own
// backend for WebAssembly makes of the same plan. Errors are for the caller to
// word: it asks OPA's interpreter again.
package exec

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"

	"github.com/fusegate/fusegate/pkg/rego/cost"
)

// Program is a translated plan. It is immutable and safe for concurrent use.
type Program struct {
	funcs   []*function
	plan    [][]exec
	slots   int
	scratch int // number of arrays that evaluations use again
	options Options
	random  bool
}

// Random tells whether the program may give something else every time, the
// time of day left aside.
func (p *Program) Random() bool { return p.random }

// function is one rule, or all rules with the same path.
type function struct {
	name   string
	index  int
	params []int
	slots  int
	ret    int
	blocks [][]exec
	cheap  bool // not worth remembering
	// shared is what the function does, if that is the same for all evaluations
	// of a review.
	shared *identity
}

// exec carries out one statement.
type exec func(f *frame) ctl

// ctl says how to go on after a statement: next goes on, a positive number n
// leaves n blocks, of which leaving one is what "undefined" means.
type ctl int

const (
	next      ctl = 0
	undefined ctl = 1
	returned  ctl = -1
	failed    ctl = -2
)

// The errors that the evaluation itself may end with. ErrConflict stands for
// all that OPA words better.
var (
	// ErrConflict is a rule that gave two values where one is allowed, or a
	// value of a kind that the plan has no room for.
	ErrConflict = errors.New("conflicting values")
	// ErrLimit is cost.ErrLimit.
	ErrLimit = cost.ErrLimit
)

// Options change how a plan is translated. The zero value is right for
// policies in use.
type Options struct {
	// Strict makes errors of builtins end the evaluation, which else leave the
	// expression undefined.
	Strict bool
	// Capabilities are those that the policy was compiled with; builtins look
	// at what they may reach.
	Capabilities *ast.Capabilities
	// Entry is the path of the rule, as in "template.violation", of whose set
	// the plan gives every element. See Interrupted.
	Entry string
}

// Interrupted is the error of an evaluation that came to the end of its time, or
// of what it is granted, and had found something by then.
type Interrupted struct {
	Err error
	// Found are the elements that the entry rule's set had, in no order. Rules
	// only add to a set, so they hold whatever would have come later.
	Found []any
}

func (e *Interrupted) Error() string { return e.Err.Error() }

// Unwrap returns why the evaluation ended.
func (e *Interrupted) Unwrap() error { return e.Err }

// Finder may be implemented by the context of an evaluation. Found is called with
// true when the entry rule's set gets its first element, while the evaluation goes
// on, and with false when that has failed and begins again.
type Finder interface{ Found(something bool) }

// Translate makes a program of a plan. An error means that the plan holds what
// this package does not know.
func Translate(p *ir.Policy, opts Options) (*Program, error) {
	t := newTranslator(p)
	t.entryPath = strings.ReplaceAll(opts.Entry, ".", "\x00")
	if len(p.Plans.Plans) != 1 {
		return nil, fmt.Errorf("translating %d plans: want one", len(p.Plans.Plans))
	}
	t.declare(p.Funcs.Funcs)
	sharer := newSharer(p)
	for i, fn := range p.Funcs.Funcs {
		runtime.Gosched() // reviews first
		t.program.funcs[i].shared = sharer.identify(fn.Name)
		if err := t.function(t.program.funcs[i], fn); err != nil {
			return nil, fmt.Errorf("translating %s: %w", fn.Name, err)
		}
	}
	scope := t.scope()
	blocks, err := scope.bodies(p.Plans.Plans[0].Blocks)
	if err != nil {
		return nil, fmt.Errorf("translating the query: %w", err)
	}
	t.program.plan, t.program.slots, t.program.options = blocks, scope.slots, opts
	return t.program, nil
}

// Run evaluates the program. Input and data are values as package value has
// them, nil for undefined; the results are what the query's plan added, an
// object for each solution. They may share memory with input and data. An error
// that is not of ctx, and does not wrap ErrLimit, is OPA's to word. What is
// shared must have been used with the same input.review only.
func (p *Program) Run(ctx context.Context, input, data any, shared *Shared) ([]any, error) {
	s := p.begin(ctx, cost.Base)
	s.Object, shared.Used, shared.Spared = shared.Object, 0, false
	defer s.end()
	s.now = shared.now
	if shared.memory < s.Limits.Bytes {
		s.memo.shared = shared
	}
	f := s.push(p.slots)
	f.locals[ir.Input], f.locals[ir.Data] = input, data
	c := runBlocks(p.plan, f)
	shared.took(&s.Meter)
	if c == failed {
		return nil, s.failure()
	}
	return s.take(), nil
}

func runBlocks(blocks [][]exec, f *frame) ctl {
	for _, b := range blocks {
		if c := run(b, f); c < 0 || c > undefined {
			return c
		}
	}
	return next
}

func run(block []exec, f *frame) ctl {
	for _, x := range block {
		if c := x(f); c != next {
			return c
		}
	}
	return next
}

// call runs a function whose arguments lie in args and returns its value, nil
// if it is undefined.
func (fn *function) call(s *state, args []any) (any, ctl) {
	f := s.push(fn.slots)
	if f == nil {
		return nil, failed
	}
	for i, p := range fn.params {
		f.locals[p] = args[i]
	}
	c := runBlocks(fn.blocks, f)
	ret := f.ret
	s.pop(fn.slots)
	if c == failed {
		return nil, failed
	}
	return ret, next
}

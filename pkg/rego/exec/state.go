package exec

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

// What one evaluation is granted. A policy in use takes a few thousand steps;
// a scan of 100,000 inventory objects takes some hundred thousand. The limits
// are on what a policy does with an object, not on time, so that the same
// object comes to the same end on every machine.
const (
	// maxSteps is how many elements may be looked at and functions called.
	maxSteps = 4_000_000
	// maxDepth is how deep functions may call each other.
	maxDepth = 2_000
	// maxMemory is how many bytes, roughly, an evaluation may build up.
	maxMemory = 64 << 20
	// entrySize is what an element of a collection counts for.
	entrySize = 64
	// checkEvery is after how many steps the context is looked at.
	checkEvery = 256
	// checkBytes is after how many bytes built up it is looked at: a few steps may
	// write a large object as text each.
	checkBytes = 1 << 20
)

// state is one evaluation.
type state struct {
	program *Program
	ctx     context.Context
	err     error
	results []any

	stack []any
	top   int
	// high is how much of the stack is in use at most.
	high   int
	frames []*frame
	depth  int
	memo   *memo
	spare  []*memo
	// scratch are arrays that are used again.
	scratch []value.Array

	// found is the set of the entry rule, nil while it is empty.
	found *value.Set

	steps, memory int
	unchecked     int // bytes since the context was looked at
	now           time.Time
	builtins      *topdown.BuiltinContext
	terms         map[uintptr]*ast.Term
}

// frame is one call of a function.
type frame struct {
	*state
	locals []any
	ret    any
}

// states are kept for the next evaluation, of whatever program: what one has
// just used is in the processor's caches.
var states = sync.Pool{New: func() any { return &state{memo: &memo{}} }}

func (p *Program) begin(ctx context.Context) *state {
	s := states.Get().(*state)
	s.program, s.ctx = p, ctx
	s.top, s.high, s.depth, s.steps, s.memory, s.unchecked = 0, 0, 0, 0, 0, 0
	s.memo.fit(len(p.funcs))
	if len(s.scratch) < p.scratch {
		s.scratch = append(s.scratch, make([]value.Array, p.scratch-len(s.scratch))...)
	}
	return s
}

// end forgets what the evaluation held, so that no request is kept alive.
func (s *state) end() {
	s.stack = emptied(s.stack, s.high)
	for _, f := range s.frames {
		f.locals, f.ret = nil, nil
	}
	for i := range s.scratch[:s.program.scratch] {
		s.scratch[i].Elems = emptied(s.scratch[i].Elems, cap(s.scratch[i].Elems))
	}
	s.memo.clear()
	s.program, s.ctx, s.err, s.results, s.builtins, s.terms, s.found = nil, nil, nil, nil, nil, nil, nil
	states.Put(s)
}

// maxKept is the size up to which a slice is kept for later.
const maxKept = 4096

// emptied clears the first n elements, or drops the slice if it is large.
func emptied(values []any, n int) []any {
	if cap(values) > maxKept {
		return nil
	}
	clear(values[:n])
	return values
}

// push makes room for a call with n locals, all undefined. It returns nil, and
// sets the error, when calls are too deep.
func (s *state) push(n int) *frame {
	if s.depth >= maxDepth {
		s.err = fmt.Errorf("%w: functions call each other deeper than %d", ErrLimit, maxDepth)
		return nil
	}
	if s.depth == len(s.frames) {
		s.frames = append(s.frames, &frame{state: s})
	}
	f := s.frames[s.depth]
	s.depth++
	if s.top+n > len(s.stack) {
		// Frames below keep their part of the old stack.
		s.stack = make([]any, max(2*len(s.stack), s.top+n, 256))
	}
	f.locals, f.ret = s.stack[s.top:s.top+n:s.top+n], nil
	if s.top < s.high { // what lies above was never used
		clear(s.stack[s.top:min(s.high, s.top+n)])
	}
	s.top += n
	s.high = max(s.high, s.top)
	return f
}

// reused returns an empty array that the same statement filled before.
func (s *state) reused(id int) *value.Array {
	a := &s.scratch[id]
	a.Elems = a.Elems[:0]
	return a
}

func (s *state) pop(n int) {
	s.depth--
	s.top -= n
}

func (s *state) take() []any {
	out := s.results
	s.results = nil
	return out
}

// fail ends the evaluation.
func (s *state) fail(err error) ctl {
	s.err = err
	return failed
}

// note takes down that the entry rule's set is no longer empty.
func (s *state) note(set *value.Set) {
	if s.found != nil {
		return
	}
	s.found = set
	if f, ok := s.ctx.(Finder); ok {
		f.Found(true)
	}
}

// failure is why the evaluation ended, with what it had found where that is
// certain.
func (s *state) failure() error {
	late := errors.Is(s.err, context.DeadlineExceeded) || errors.Is(s.err, context.Canceled) || topdown.IsCancel(s.err)
	if s.found == nil || !late && !errors.Is(s.err, ErrLimit) {
		return s.err
	}
	return &Interrupted{Err: s.err, Found: s.found.Elems()}
}

// step counts one step of work and tells whether to go on.
func (s *state) step() bool {
	s.steps++
	return s.steps%checkEvery != 0 || s.check()
}

// work counts n steps at once.
func (s *state) work(n int) bool {
	s.steps += n
	return n < checkEvery || s.check()
}

func (s *state) check() bool {
	if err := s.ctx.Err(); err != nil {
		s.err = cutOff(err)
		return false
	}
	if s.steps > maxSteps {
		s.err = fmt.Errorf("%w: the policy takes more than %d steps on this object", ErrLimit, maxSteps)
		return false
	}
	return true
}

// grow counts memory that a policy builds up and tells whether to go on.
func (s *state) grow(bytes int) bool {
	s.memory += bytes
	if s.unchecked += bytes; s.unchecked >= checkBytes {
		s.unchecked = 0
		if !s.check() {
			return false
		}
	}
	if s.memory <= maxMemory {
		return true
	}
	s.err = fmt.Errorf("%w: the policy builds up more than %d MiB on this object", ErrLimit, maxMemory>>20)
	return false
}

// cutOff is the end of the context as an error.
func cutOff(err error) error { return fmt.Errorf("the evaluation was cancelled: %w", err) }

package exec

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/fusegate/fusegate/pkg/rego/cost"
	"github.com/fusegate/fusegate/pkg/rego/value"
)

// maxDepth is how deep functions may call each other.
const maxDepth = 2_000

// state is one evaluation.
type state struct {
	cost.Meter
	program *Program
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

	now      time.Time
	builtins *topdown.BuiltinContext
	terms    map[uintptr]*ast.Term
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

func (p *Program) begin(ctx context.Context, limits cost.Limits) *state {
	s := states.Get().(*state)
	s.program = p
	s.Start(ctx, limits)
	s.top, s.high, s.depth = 0, 0, 0
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
	s.program, s.results, s.builtins, s.terms, s.found = nil, nil, nil, nil, nil
	s.Stop()
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
		s.Exceed("functions call each other deeper than %d", maxDepth)
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
	s.Err = err
	return failed
}

// note takes down that the entry rule's set is no longer empty.
func (s *state) note(set *value.Set) {
	if s.found != nil {
		return
	}
	s.found = set
	if f, ok := s.Context().(Finder); ok {
		f.Found(true)
	}
}

// failure is why the evaluation ended, with what it had found where that is
// certain.
func (s *state) failure() error {
	late := errors.Is(s.Err, context.DeadlineExceeded) || errors.Is(s.Err, context.Canceled) || topdown.IsCancel(s.Err)
	if s.found == nil || !late && !errors.Is(s.Err, ErrLimit) {
		return s.Err
	}
	found := s.found.Elems()
	if value.Weight(s.found) > cost.Base.Bytes {
		found = withoutDetails(found)
	}
	return &Interrupted{Err: s.Err, Found: found}
}

// withoutDetails are findings with their messages only: what else they hold is
// too much to be compared and written down.
func withoutDetails(found []any) []any {
	out := make([]any, len(found))
	for i, v := range found {
		o := value.NewObject(1)
		if value.KindOf(v) == value.KindObject {
			if message := value.Get(v, "msg"); message != nil {
				o.Put("msg", message)
			}
		}
		out[i] = o
	}
	return out
}

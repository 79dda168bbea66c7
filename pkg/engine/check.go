package engine

import (
	"context"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

const (
	// checkTime bounds what the check of one review takes without its rests.
	checkTime = 10 * time.Second
	// restShare is how many times as long as a check by one template took no other
	// is begun, so that checks take a fiftieth of one processor at most. To check
	// by a template is to compile it for the interpreter, in most cases: that of
	// all templates in a row would take a processor from reviews for a second.
	restShare = 50
)

// Difference is a template whose compiled code was wrong about a request. It is
// interpreted from then on.
type Difference struct {
	Constraint policy.Constraint
	*rego.Difference
}

// checks has reviews judged again, by the interpreter.
type checks struct {
	every uint64
	seen  atomic.Uint64
	busy  atomic.Bool
	queue chan sample
}

// sample is a review, and what each constraint found.
type sample struct {
	data   *rego.Data
	input  *rego.Input
	judged []judged
}

// byTemplate returns what each template found. What belongs to one comes
// together.
func (s sample) byTemplate() (out [][]judged) {
	for rest := s.judged; len(rest) > 0; {
		n := slices.IndexFunc(rest, func(j judged) bool { return j.entry.program != rest[0].entry.program })
		if n < 0 {
			n = len(rest)
		}
		out, rest = append(out, rest[:n]), rest[n:]
	}
	return out
}

type judged struct {
	entry      *entry
	constraint policy.Constraint
	found      rego.Findings
}

// RunChecks judges one review in every so many again by OPA's interpreter,
// until ctx ends, and calls report where that comes to something else. It takes
// what time there is to spare: of the reviews that would be next, those are left
// out that come while others wait for a processor, while another is checked, or
// soon after. It is to be called once.
func (e *Engine) RunChecks(ctx context.Context, every int, report func(Difference)) {
	if every <= 0 {
		<-ctx.Done()
		return
	}
	c := &checks{every: uint64(every), queue: make(chan sample, 1)}
	e.checks.Store(c)
	defer e.checks.Store(nil)
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			return
		case s := <-c.queue:
			c.busy.Store(true)
			e.check(ctx, s, turn, report)
			c.busy.Store(false)
		}
	}
}

// rest waits.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// check goes through the templates of a review. Each turn begins at another one,
// so that what there is no time for is not always the same.
func (e *Engine) check(ctx context.Context, s sample, turn int, report func(Difference)) {
	defer s.input.Release()
	templates := s.byTemplate()
	check := (*rego.Program).Check
	if len(templates) > rego.MaxReferences {
		check = (*rego.Program).CheckOneOfMany
	}
	first := turn % max(1, len(templates))
	left := checkTime
	for _, found := range slices.Concat(templates[first:], templates[:first]) {
		if ctx.Err() != nil || left <= 0 {
			return
		}
		took := e.checkTemplate(ctx, s, found, check, left, report)
		left -= took
		rest(ctx, restShare*min(took, checkTime))
	}
}

// checkBy is how a template is checked.
type checkBy func(*rego.Program, context.Context, *rego.Data, *rego.Input, *rego.Parameters, rego.Findings) *rego.Difference

// checkTemplate judges again by the constraints of one template, and returns how
// long that took.
func (e *Engine) checkTemplate(ctx context.Context, s sample, found []judged, check checkBy, limit time.Duration, report func(Difference)) time.Duration {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer e.rego.Checked()
	for _, j := range found {
		d := check(j.entry.program, ctx, s.data, s.input, j.entry.parameters, j.found)
		if ctx.Err() != nil {
			break
		}
		e.observer.Checked(j.entry.kind, d != nil)
		if d != nil {
			report(Difference{Constraint: j.constraint, Difference: d})
		}
	}
	return time.Since(start)
}

// due tells whether the next review is to be checked.
func (e *Engine) due() *checks {
	c := e.checks.Load()
	if c == nil || c.seen.Add(1)%c.every != 0 {
		return nil
	}
	if c.busy.Load() || len(c.queue) > 0 || int(e.reviewing.Load()) > runtime.GOMAXPROCS(0) {
		return nil
	}
	return c
}

// offer has the review checked, unless another waits.
func (c *checks) offer(v *review) {
	select {
	case c.queue <- sample{data: v.data, input: v.input.Again(), judged: v.judged}:
	default:
	}
}

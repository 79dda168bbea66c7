package engine

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

const (
	// checkTime bounds the check of one review.
	checkTime = 10 * time.Second
	// restShare is how many times as long as a check took no other is begun, so
	// that checks take a twentieth of one processor at most.
	restShare = 20
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
	queue chan sample
}

// sample is a review, and what each constraint found.
type sample struct {
	data   *rego.Data
	input  *rego.Input
	judged []judged
}

// templates is by how many templates the review was judged. What belongs to one
// comes together.
func (s sample) templates() (n int) {
	for i, j := range s.judged {
		if i == 0 || j.entry.program != s.judged[i-1].entry.program {
			n++
		}
	}
	return n
}

type judged struct {
	entry      *entry
	constraint policy.Constraint
	found      []rego.Finding
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
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-c.queue:
			start := time.Now()
			e.check(ctx, s, report)
			rest(ctx, restShare*time.Since(start))
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

func (e *Engine) check(ctx context.Context, s sample, report func(Difference)) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	defer s.input.Release()
	defer e.driver.Checked()
	check := (*rego.Program).Check
	if s.templates() > rego.MaxReferences {
		check = (*rego.Program).CheckOneOfMany
	}
	for _, j := range s.judged {
		d := check(j.entry.program, ctx, s.data, s.input, j.entry.parameters, j.found)
		if ctx.Err() != nil {
			return
		}
		e.observer.Checked(j.entry.kind, d != nil)
		if d != nil {
			report(Difference{Constraint: j.constraint, Difference: d})
		}
	}
}

// due tells whether the next review is to be checked.
func (e *Engine) due() *checks {
	c := e.checks.Load()
	if c == nil || c.seen.Add(1)%c.every != 0 {
		return nil
	}
	if len(c.queue) > 0 || int(e.reviewing.Load()) > runtime.GOMAXPROCS(0) {
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

package rego

import (
	"context"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/print"
)

// Trace is how an evaluation went.
type Trace struct {
	// Prints is what the policy printed, a line for each call, with where it
	// stands: "rego:3: text".
	Prints []string
	// Steps is the interpreter's account of each of its steps, of many lines;
	// empty unless it was asked for.
	Steps string
}

// Trace judges as Judge does, by the interpreter, and tells how. The code is
// compiled for it each time: it is for people who look for a mistake.
func (p *Program) Trace(ctx context.Context, e *Data, in *Input, params *Parameters, steps bool) (found []Finding, t Trace, failure *Failure) {
	if p == nil || params == nil {
		return nil, t, failureOf(errUnknown)
	}
	found, err := p.trace(ctx, e, in, params, &t, steps)
	return found, t, failureOf(err)
}

func (p *Program) trace(ctx context.Context, e *Data, in *Input, params *Parameters, t *Trace, steps bool) (found []Finding, err error) {
	defer p.recovered(&err)
	c, err := compileSource(p.source, true)
	if err != nil {
		return nil, err
	}
	talking, err := interpret(c)
	if err != nil {
		return nil, err
	}
	account := topdown.NewBufferTracer()
	found, err = talking.evaluate(ctx, e, in, params, func(q *topdown.Query) {
		q.WithPrintHook(printer{t})
		if steps {
			q.WithQueryTracer(account)
		}
	})
	if steps {
		var text strings.Builder
		topdown.PrettyTraceWithLocation(&text, *account)
		t.Steps = text.String()
	}
	return found, err
}

// maxPrints is how many lines of print are kept.
const maxPrints = 1000

// printer keeps what is printed.
type printer struct{ *Trace }

// Print implements print.Hook.
func (p printer) Print(at print.Context, text string) error {
	switch n := len(p.Prints); {
	case n < maxPrints:
		p.Prints = append(p.Prints, fmt.Sprintf("%s:%d: %s", at.Location.File, at.Location.Row, text))
	case n == maxPrints:
		p.Prints = append(p.Prints, "more was printed")
	}
	return nil
}

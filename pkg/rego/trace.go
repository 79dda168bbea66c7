package rego

import (
	"context"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/print"

	"github.com/fusegate/fusegate/pkg/rego/cost"
)

// Trace is how an evaluation went.
type Trace struct {
	// Prints is what the policy printed, a line for each call, with where it
	// stands: "rego:3: text".
	Prints []string
	// Steps is the interpreter's account of each of its steps, of many lines;
	// empty unless it was asked for.
	Steps string
	// Fired are the rules for violations whose body held, in order.
	Fired []Fired
}

// Fired is a rule for violations whose body held once.
type Fired struct {
	// Location is where the rule stands, as in "rego:3".
	Location string
	// Values are those of its variables, as Rego writes them, by name.
	Values map[string]string
}

// Trace judges as Judge does, by the interpreter, and tells how. The code is
// compiled for it each time: it is for people who look for a mistake.
func (p *Program) Trace(ctx context.Context, e *Data, in *Input, params *Parameters, steps bool) (found Findings, t Trace, failure *Failure) {
	found, err := p.trace(ctx, e, in, params, &t, steps)
	return found, t, failureOf(err)
}

func (p *Program) trace(ctx context.Context, e *Data, in *Input, params *Parameters, t *Trace, steps bool) (found Findings, err error) {
	defer p.recovered(&err)
	c, err := compileSource(p.source, true)
	if err != nil {
		return Findings{}, err
	}
	talking, err := interpret(c)
	if err != nil {
		return Findings{}, err
	}
	account := topdown.NewBufferTracer()
	found, err = talking.evaluate(ctx, e, in, params, func(q *topdown.Query) {
		q.WithPrintHook(printer{t})
		q.WithQueryTracer(watcher{t})
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

const (
	// maxFired is how many rules are kept, and maxValue how long a value may be.
	maxFired = 100
	maxValue = 1000
)

// watcher keeps which rules fire.
type watcher struct{ *Trace }

// Enabled implements topdown.QueryTracer.
func (watcher) Enabled() bool { return true }

// Config implements topdown.QueryTracer.
func (watcher) Config() topdown.TraceConfig { return topdown.TraceConfig{PlugLocalVars: true} }

// TraceEvent implements topdown.QueryTracer.
func (w watcher) TraceEvent(e topdown.Event) {
	rule, ok := e.Node.(*ast.Rule)
	if !ok || e.Op != topdown.ExitOp || string(rule.Head.Name) != entryRule || len(w.Fired) == maxFired {
		return
	}
	f := Fired{Values: map[string]string{}}
	if rule.Location != nil {
		f.Location = fmt.Sprintf("%s:%d", rule.Location.File, rule.Location.Row)
	}
	e.Locals.Iter(func(name, value ast.Value) bool {
		v, _ := name.(ast.Var)
		if known, ok := e.LocalMetadata[v]; ok && !known.Name.IsGenerated() && !known.Name.IsWildcard() {
			f.Values[string(known.Name)] = shown(value)
		}
		return false
	})
	w.Fired = append(w.Fired, f)
}

// maxShown is how heavy a value may be to be written down, in bytes.
const maxShown = 1 << 20

// shown is the beginning of a value as Rego writes it.
func shown(v ast.Value) string {
	meter := cost.Meter{}
	meter.Start(context.Background(), cost.Limits{Steps: maxShown, Bytes: maxShown})
	if !meter.Weigh(v) {
		return "more than can be shown"
	}
	text := v.String()
	return text[:min(len(text), maxValue)]
}

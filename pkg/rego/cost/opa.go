package cost

import (
	"context"
	"errors"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

// key is of the meter in the context of an evaluation.
type key struct{}

// With returns a context by which builtins of OPA's interpreter find the meter.
func With(ctx context.Context, m *Meter) context.Context { return context.WithValue(ctx, key{}, m) }

// builtins are OPA's implementations as they were.
var builtins = map[string]topdown.BuiltinFunc{}

// OPA looks its own builtins up by name in one list for the process, which
// queries cannot override. So each that policies may call is put there again
// with its check before it. Where no meter is in the context, as in an
// evaluation that is not ours, nothing is checked. The builtins that get no
// context are made to get one.
func init() {
	for name := range allowed {
		original := topdown.GetBuiltin(name)
		if original == nil {
			continue // it is compiled away
		}
		builtins[name] = original
		if b := ast.BuiltinMap[name]; b != nil {
			b.CanSkipBctx = false
		}
		topdown.RegisterBuiltinFunc(name, metered(name, original))
	}
}

func metered(name string, original topdown.BuiltinFunc) topdown.BuiltinFunc {
	return func(bctx topdown.BuiltinContext, args []*ast.Term, iter func(*ast.Term) error) error {
		var m *Meter
		if bctx.Context != nil {
			m, _ = bctx.Context.Value(key{}).(*Meter)
		}
		if m == nil {
			return original(bctx, args, iter)
		}
		err := m.Call(name, bctx, args, func(t *ast.Term) error {
			if t != nil && !m.result(name, t.Value) {
				return m.halt()
			}
			return iter(t)
		})
		return m.kept(err)
	}
}

// maxError is how much of a builtin's error is kept, in bytes: the interpreter keeps
// them all until the evaluation ends, and they quote their operands.
const maxError = 256

// kept counts an error that the interpreter keeps, which is no longer than maxError.
func (m *Meter) kept(err error) error {
	var failed *topdown.Error
	if err == nil || !errors.As(err, &failed) || errors.As(err, new(topdown.Halt)) {
		return err
	}
	if !m.Grow(2*EntrySize + min(len(failed.Message), maxError)) {
		return m.halt()
	}
	if len(failed.Message) > maxError {
		return &topdown.Error{Code: failed.Code, Message: strings.Clone(failed.Message[:maxError]) + "...", Location: failed.Location}
	}
	return err
}

// result counts what a builtin gave, as far as it is new.
func (m *Meter) result(name string, v ast.Value) bool {
	size := 0
	switch v := v.(type) {
	case ast.String:
		size = len(v)
	case ast.Number:
		size = len(v)
	case *ast.Array:
		size = v.Len() * EntrySize
	case ast.Set:
		size = v.Len() * EntrySize
	case ast.Object:
		size = v.Len() * EntrySize
	}
	switch {
	case encodings[name] != nil: // nothing of it was there before
		size = m.weight(v)
	case tests[name] != nil, name == "object.get", name == "max", name == "min": // all of it was
		size = 0
	case name == "walk":
		size = EntrySize
		if path, ok := v.(*ast.Array); ok {
			if p, ok := path.Elem(0).Value.(*ast.Array); ok && !m.Work(p.Len()) {
				return false
			}
		}
	}
	return m.Err == nil && m.Grow(size)
}

// Call calls a builtin of the list with OPA's values, if what it costs is within
// the limits; else the error is a topdown.Halt. What it gives is for the caller
// to count.
func (m *Meter) Call(name string, bctx topdown.BuiltinContext, args []*ast.Term, iter func(*ast.Term) error) error {
	inputs := args
	if b := ast.BuiltinMap[name]; b != nil && len(args) > b.Decl.Arity() && b.Decl.Result() != nil {
		inputs = args[:b.Decl.Arity()]
	}
	c := &call{Meter: m, args: inputs}
	if check := allowed[name]; check != nil && !check(c) || m.Err != nil {
		return m.halt()
	}
	if mine := own[name]; mine != nil {
		result, known, err := mine(c)
		if known && err != nil {
			return c.failed(err)
		}
		if known {
			return iter(result)
		}
	}
	original := builtins[name]
	if original == nil {
		original = topdown.GetBuiltin(name)
	}
	return c.failed(original(bctx, args, iter))
}

// failed counts the work of wording an error, which quotes the operands.
func (c *call) failed(err error) error {
	if err != nil && !errors.As(err, new(topdown.Halt)) && !c.Work(errorSteps+c.all()>>5) {
		return c.halt()
	}
	return err
}

// errorSteps is what an error counts for that quotes nothing.
const errorSteps = 4

// Weigh tells whether a value of OPA is within the limits, with all that it holds
// counted as often as it is there.
func (m *Meter) Weigh(v ast.Value) bool {
	w := m.weight(v)
	return m.Err == nil && (w < value.MaxWeight && m.Fits(w) || m.full())
}

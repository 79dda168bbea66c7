package rego

import (
	"context"
	"errors"
	"fmt"

	"github.com/open-policy-agent/frameworks/constraint/pkg/client/drivers/rego/schema"
	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
)

// Source is the Rego of one template: its code, its libraries and their version.
type Source = schema.Source

// Compiler tries whether Rego compiles, within limits of time and memory. OPA has
// none: its type checker and its planner go through what a few lines imply, which
// doubles with each line.
type Compiler interface {
	// Try returns nil if source compiles, Diagnostics if it does not or exceeds
	// the limits (CodeLimit), and ErrNoAnswer if that is not known, because ctx
	// ended or for a reason that does not lie in source.
	Try(ctx context.Context, source *Source) error
}

// ErrNoAnswer says that it is not known whether a template compiles. It is our own
// error: to be tried again, and no reason to refuse the template.
var ErrNoAnswer = errors.New("the compiler gave no answer")

// CompileBy has every template tried by c before it is compiled here, so that the
// limits of c are those of this process. It is to be called before the first
// template is compiled; without it nothing bounds what compiling takes.
func (r *Runtime) CompileBy(c Compiler) { r.compiler = c }

// Try compiles source as Compile does and keeps nothing. It is what a Compiler
// does, and has no limits itself. Its errors are Diagnostics.
func Try(ctx context.Context, source *Source) error {
	_, err := programOf(ctx, "", source)
	return err
}

// CheckTemplate is the function CheckTemplate within the limits of the runtime's
// compiler. Its errors are Diagnostics and ErrNoAnswer. Anybody who reaches the webhook
// can ask for it, so that one template is checked at a time: those that are to be in
// force wait for one check at most.
func (r *Runtime) CheckTemplate(ctx context.Context, t *templates.ConstraintTemplate) error {
	if r.compiler == nil {
		return CheckTemplate(t)
	}
	select {
	case r.checking <- struct{}{}:
		defer func() { <-r.checking }()
	case <-ctx.Done():
		return fmt.Errorf("%w in time: others are before it", ErrNoAnswer)
	}
	return r.Try(ctx, t)
}

// Try has the runtime's compiler, if it has one, try a template. Its errors are
// Diagnostics and ErrNoAnswer.
func (r *Runtime) Try(ctx context.Context, t *templates.ConstraintTemplate) error {
	if r.compiler == nil {
		return nil
	}
	source, err := regoSource(t)
	if err != nil {
		return err
	}
	return named(t.Name, r.compiler.Try(ctx, source))
}

// named says of a template that exceeds a limit which it is.
func named(template string, err error) error {
	var ds Diagnostics
	if !errors.As(err, &ds) || len(ds) != 1 || ds[0].Code != CodeLimit {
		return err
	}
	d := ds[0]
	d.Message = fmt.Sprintf("ConstraintTemplate %q: %s", template, d.Message)
	return Diagnostics{d}
}

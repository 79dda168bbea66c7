// Package plan turns compiled Rego into OPA's intermediate representation, a
// list of statements for each rule. OPA's planner is internal to OPA; it is
// reached through a target plugin of OPA's package rego, which is handed the
// plan and here only keeps it.
package plan

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/rego"
)

// target is the name under which the plugin is registered. OPA's registry is
// one for the process and panics on a name it has.
const target = "fusegate.dev/plan"

var register = sync.OnceFunc(func() { rego.RegisterPlugin(target, plugin{}) })

// Plan plans the query over the modules of c, which must have compiled without
// error. Its only plan adds an object of the query's variables to the result
// set for every solution. An error means that the planner does not take what
// the interpreter may take well.
func Plan(ctx context.Context, c *ast.Compiler, query ast.Body) (p *ir.Policy, err error) {
	register()
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("planning: %v", r)
		}
	}()
	var got *ir.Policy
	ctx = context.WithValue(ctx, key{}, &got)
	r := rego.New(rego.Compiler(c), rego.ParsedQuery(query), rego.Target(target))
	if _, err := r.PrepareForEval(ctx); err != nil {
		return nil, fmt.Errorf("planning: %w", err)
	}
	if got == nil {
		return nil, errNoPlan
	}
	return got, nil
}

var errNoPlan = errors.New("planning: OPA made no plan")

type key struct{}

type plugin struct{}

func (plugin) IsTarget(name string) bool { return name == target }

func (plugin) PrepareForEval(ctx context.Context, p *ir.Policy, _ ...rego.PrepareOption) (rego.TargetPluginEval, error) {
	if got, ok := ctx.Value(key{}).(**ir.Policy); ok {
		*got = p
	}
	return nil, nil
}

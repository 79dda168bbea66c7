package rego

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego/exec"
	"github.com/fusegate/fusegate/pkg/rego/tree"
	"github.com/fusegate/fusegate/pkg/rego/value"
)

// comparison runs programs on both evaluators and counts.
type comparison struct {
	evaluations, found, faults, erred, refused int
}

func (c *comparison) String() string {
	return fmt.Sprintf("%d evaluations, %d with findings, %d faults, %d asked the interpreter again, %d templates refused",
		c.evaluations, c.found, c.faults, c.erred, c.refused)
}

// program compiles source for both evaluators.
func (c *comparison) program(t testing.TB, template *templates.ConstraintTemplate) *Program {
	t.Helper()
	p, err := compile(t.Context(), template)
	if err != nil {
		t.Fatalf("compiling: %v", err)
	}
	if p.Refused() != nil {
		c.refused++
	}
	reference, err := p.interpreter()
	if err != nil {
		t.Fatalf("compiling again: %v", err)
	}
	p.held.Store(reference)
	return p
}

// verdict is what an evaluator came to, in a form that can be compared.
type verdict struct {
	Findings []Finding
	More     int
	Failed   string
}

func verdictOf(all Findings, err error) verdict {
	found := all.Kept
	if err != nil {
		return verdict{Failed: evalError{err}.Error()}
	}
	for i := range found {
		text, err := json.Marshal(found[i].Details)
		if err != nil {
			return verdict{Failed: err.Error()}
		}
		found[i].Details = string(text)
	}
	return verdict{Findings: found, More: all.More}
}

// agree evaluates p by both evaluators and says how they differ, "" if they
// do not. An error of the compiled evaluator is no difference: the interpreter
// is asked then.
func (c *comparison) agree(ctx context.Context, p *Program, e *Data, review map[string]any, parameters any) string {
	c.evaluations++
	if p.compiled == nil {
		return ""
	}
	params := &Parameters{document: value.Defined(parameters)}
	params.term = func() *term { return value.Term(params.document) }
	in := &Input{native: review, now: time.Now()}
	want := verdictOf(p.interpret(ctx, e, in, params))
	if want.Failed != "" {
		c.faults++
	}
	if len(want.Findings) > 0 {
		c.found++
	}
	if ctx.Err() != nil {
		return ""
	}
	found, err := p.runCompiled(ctx, e, in, params)
	var panicked *panicError
	switch {
	case errors.As(err, &panicked):
		return fmt.Sprintf("%v\n%s", err, panicked.stack)
	case errors.Is(err, errMessage):
		c.erred++
		if !strings.Contains(want.Failed, errMessage.Error()) {
			return "only the compiled one: " + err.Error()
		}
		return ""
	case err != nil:
		c.erred++
		if errors.Is(err, exec.ErrLimit) && want.Failed == "" {
			return err.Error()
		}
		return ""
	}
	if diff := cmp.Diff(want, verdictOf(found, err)); diff != "" || len(want.Findings) < 2 {
		return diff
	}
	brief := &Input{native: review, now: in.now, review: &policy.Review{Bounded: true}}
	some, err := p.runCompiled(ctx, e, brief, params)
	if ctx.Err() != nil {
		return ""
	}
	return cmp.Diff(verdictOf(p.interpret(ctx, e, brief, params)), verdictOf(some, err))
}

// stored is an environment that holds documents at their paths.
func stored(t testing.TB, docs map[string]any) *Data {
	t.Helper()
	root := tree.New()
	if err := root.Put([]string{"inventory"}, &tree.Map{}); err != nil {
		t.Fatal(err)
	}
	for _, at := range value.SortedKeys(docs) {
		if err := root.Put(append([]string{"inventory"}, splitPath(at)...), docs[at]); err != nil {
			t.Fatal(err)
		}
	}
	return &Data{root: root.Root()}
}

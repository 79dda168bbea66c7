package rego

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego/exec"
	"github.com/fusegate/fusegate/pkg/rego/value"
)

// panicking stands for an evaluator with a bug.
type panicking struct{}

func (panicking) Run(context.Context, any, any, *exec.Shared) ([]any, error) {
	panic("the password is xyzzy")
}

// panics counts panics.
type panics struct{ kinds []string }

func (p *panics) Panicked(kind string) { p.kinds = append(p.kinds, kind) }

func panickingProgram(t *testing.T) (*Program, *panics) {
	t.Helper()
	kind, template := libraryTemplate(t, "requiredlabels")
	p, err := compile(t.Context(), template)
	if err != nil {
		t.Fatal(err)
	}
	counted := &panics{}
	p.observer = counted
	p.compiled = panicking{}
	if kind != p.kind {
		t.Errorf("the program is of kind %q, want %q", p.kind, kind)
	}
	return p, counted
}

// TestPanicFallsBack: a bug of the compiled evaluator costs time and no verdict.
func TestPanicFallsBack(t *testing.T) {
	p, counted := panickingProgram(t)
	in := NewInput(&policy.Review{Object: map[string]any{"kind": "Pod"}})
	params := &Parameters{document: map[string]any{"labels": []any{map[string]any{"key": "owner"}}}}
	params.term = func() *ast.Term { return value.Term(params.document) }
	found, failure := p.Judge(t.Context(), stored(t, nil), in, params)
	if failure != nil || found.Len() != 1 {
		t.Errorf("got %v and failure %+v, want the interpreter's verdict: one violation", found, failure)
	}
	if len(counted.kinds) != 1 || counted.kinds[0] != p.kind {
		t.Errorf("panics counted: %v, want one of %s", counted.kinds, p.kind)
	}
}

func TestPanicIsAFault(t *testing.T) {
	p, counted := panickingProgram(t)
	_, err := p.judge(t.Context(), stored(t, nil), nil, &Parameters{}) // both panic over a review that is nil
	if err == nil || !strings.Contains(err.Error(), "the evaluator panicked") || len(counted.kinds) != 2 {
		t.Fatalf("got %v and %d panics counted, want an error that tells of the panic, and two", err, len(counted.kinds))
	}
	if got := causeOf(err); got != policy.CauseInternal {
		t.Errorf("cause %s, want %s: a bug of ours never denies", got, policy.CauseInternal)
	}
	var s interface{ Stack() string }
	if !errors.As(error(evalError{err}), &s) || !strings.Contains(s.Stack(), "evaluate") {
		t.Errorf("no stack that names where it panicked")
	}
}

func TestBrief(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"conflict": {
			err:  &topdown.Error{Code: topdown.ConflictErr, Message: "values: xyzzy", Location: &ast.Location{File: "rego", Row: 3, Col: 5}},
			want: "rego:3:5: eval_conflict_error",
		},
		"without location": {err: &topdown.Error{Code: topdown.TypeErr, Message: "xyzzy"}, want: "eval_type_error"},
		"message":          {err: errors.Join(errMessage, errors.New("it gave xyzzy")), want: errMessage.Error()},
		"panic":            {err: &panicError{value: "xyzzy"}, want: "the evaluator panicked"},
		"other":            {err: context.DeadlineExceeded, want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := brief(evalError{tc.err}); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

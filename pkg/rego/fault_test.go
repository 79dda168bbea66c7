package rego

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/fusegate/fusegate/pkg/policy"
)

// panicking stands for an evaluator with a bug.
type panicking struct{}

func (panicking) evaluate(context.Context, *Data, *Input, *Parameters) ([]Finding, error) {
	panic("the password is xyzzy")
}

func TestPanicIsAFault(t *testing.T) {
	_, err := guarded(t.Context(), panicking{}.evaluate, nil, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "the evaluator panicked") {
		t.Fatalf("got %v, want an error that tells of the panic", err)
	}
	if got := causeOf(err); got != policy.CauseInternal {
		t.Errorf("cause %s, want %s: a bug of ours never denies", got, policy.CauseInternal)
	}
	var s interface{ Stack() string }
	if !errors.As(error(evalError{err}), &s) || !strings.Contains(s.Stack(), "panicking") {
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

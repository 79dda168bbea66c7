package rego

import (
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego/exec"
)

// Input is one review as programs read it: converted once, however many
// templates read it. An Input serves one review and one goroutine.
type Input struct {
	review  *policy.Review
	native  map[string]any
	convert sync.Once
	value   *ast.Term
	err     error
	now     time.Time
	shared  *exec.Shared
}

// NewInput wraps r, which must not change from now on.
func NewInput(r *policy.Review) *Input { return &Input{review: r, now: time.Now()} }

// Again is an input of the same review at the same time, for another goroutine.
func (in *Input) Again() *Input { return &Input{review: in.review, now: in.now} }

// common is what evaluations of this review have in common.
func (in *Input) common() *exec.Shared {
	if in.shared == nil {
		in.shared = exec.NewShared(in.now)
		in.shared.Object = in.object()
	}
	return in.shared
}

// object is the object that is judged, nil if there is none.
func (in *Input) object() map[string]any {
	if in.review == nil {
		return nil
	}
	return in.review.Object
}

// Release ends the use of the input. It may be left out, at the cost of memory
// that is not used again.
func (in *Input) Release() {
	if in.shared != nil {
		in.shared.Release()
		in.shared = nil
	}
}

// bounded tells whether no more is kept of what is found than is shown.
func (in *Input) bounded() bool { return in.review != nil && in.review.Bounded }

// document returns the review as what input.review reads.
func (in *Input) document() map[string]any {
	if in.native == nil {
		in.native = in.review.Input()
	}
	return in.native
}

// term returns the review as the interpreter reads input.review.
func (in *Input) term() (*ast.Term, error) {
	in.convert.Do(func() {
		v, err := ast.InterfaceToValue(in.document())
		in.value, in.err = ast.NewTerm(v), err
	})
	return in.value, in.err
}

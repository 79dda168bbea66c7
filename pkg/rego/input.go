package rego

import (
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego/exec"
)

// Fault is a constraint that could not be judged, before the engine has
// looked up what the constraint asks for.
type Fault struct {
	Constraint *unstructured.Unstructured
	Cause      policy.FaultCause
	Err        error
	// Brief is Err without what it quotes of the object; empty if it quotes
	// nothing.
	Brief string
}

// Input is one review on its way through the constraint framework. It carries
// the review to the matchers and the driver, converts it for Rego once however
// many templates read it, and brings back what the framework's response has
// no room for. An Input serves one review and one goroutine.
type Input struct {
	review  *policy.Review
	native  map[string]any
	convert sync.Once
	value   *ast.Term
	err     error
	now     time.Time
	shared  *exec.Shared

	faults    []Fault
	evaluated int
}

// NewInput wraps r, which must not change from now on.
func NewInput(r *policy.Review) *Input { return &Input{review: r, now: time.Now()} }

// Again is an input of the same review at the same time, for another goroutine.
func (in *Input) Again() *Input { return &Input{review: in.review, now: in.now} }

// Review returns the review that was wrapped.
func (in *Input) Review() *policy.Review { return in.review }

// GetAdmissionRequest lets the constraint framework see the operation, by
// which it honours a template's targets[].operations. Nothing else is set.
func (in *Input) GetAdmissionRequest() *admissionv1.AdmissionRequest {
	return &admissionv1.AdmissionRequest{Operation: admissionv1.Operation(in.review.Operation)}
}

// Report records a fault. It is the way around the framework, which would
// make a denial of an error in a matcher and drop all results on an error of
// the driver.
func (in *Input) Report(f Fault) { in.faults = append(in.faults, f) }

// Faults returns what was reported.
func (in *Input) Faults() []Fault { return in.faults }

// Evaluated returns how many constraints came to a verdict.
func (in *Input) Evaluated() int { return in.evaluated }

// common is what evaluations of this review have in common.
func (in *Input) common() *exec.Shared {
	if in.shared == nil {
		in.shared = exec.NewShared(in.now)
	}
	return in.shared
}

// Release ends the use of the input. It may be left out, at the cost of memory
// that is not used again.
func (in *Input) Release() {
	if in.shared != nil {
		in.shared.Release()
		in.shared = nil
	}
}

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

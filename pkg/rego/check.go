package rego

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/fusegate/fusegate/pkg/rego/exec"
)

// errDiffers is why a template is interpreted whose compiled code was wrong.
var errDiffers = errors.New("its compiled code came to another verdict than OPA's interpreter about a request")

// Difference is a review of which the compiled code and the interpreter made
// different things.
type Difference struct {
	// Digest is the SHA-256 of the input document, by which the request can be
	// told without its content.
	Digest string
	// Compiled and Interpreted are how many violations each found; Failed tells
	// that the interpreter came to an error.
	Compiled, Interpreted int
	Failed                bool
}

// Error says so without quoting the object.
func (d *Difference) Error() string {
	if d.Failed {
		return fmt.Sprintf("%d violations by the compiled code, an error by OPA's interpreter", d.Compiled)
	}
	return fmt.Sprintf("%d violations by the compiled code, %d by OPA's interpreter", d.Compiled, d.Interpreted)
}

// Check judges by the interpreter what Judge has judged, with an input of the
// same review and time and the same data, and compares. Where they differ, the
// template is interpreted from then on. The result is nil if they do not, and
// where it cannot be told: when ctx ends, where the interpreter takes more than is
// granted, and where the code, or the interpreter, may give something else every
// time.
func (p *Program) Check(ctx context.Context, e *Data, in *Input, params *Parameters, found Findings) *Difference {
	return p.check(ctx, e, in, params, found, p.interpreter)
}

// CheckOneOfMany is Check where more than MaxReferences templates are checked one
// after the other, so that keeping the interpreter's programs is of no use. What
// is kept meanwhile is forgotten by Runtime.Checked.
func (p *Program) CheckOneOfMany(ctx context.Context, e *Data, in *Input, params *Parameters, found Findings) *Difference {
	return p.check(ctx, e, in, params, found, func() (*topdownProgram, error) { return p.references.lend(p) })
}

func (p *Program) check(ctx context.Context, e *Data, in *Input, params *Parameters, found Findings, by func() (*topdownProgram, error)) *Difference {
	if p.random || p.refused.Load() != nil {
		return nil
	}
	want, err := p.interpretBy(ctx, by, e, in, params)
	if ctx.Err() != nil || errors.Is(err, exec.ErrLimit) || err == nil && sameFindings(want, found) {
		return nil
	}
	again, errAgain := p.interpretBy(ctx, by, e, in, params)
	if ctx.Err() != nil || (err == nil) != (errAgain == nil) || !sameFindings(want, again) {
		return nil
	}
	reference, errReference := by()
	if errReference != nil {
		return nil // it was there a moment ago
	}
	p.refuse(errDiffers, reference)
	return &Difference{
		Digest: digest(in, params), Compiled: found.Len(), Interpreted: want.Len(), Failed: err != nil,
	}
}

// sameFindings tells whether the findings, both in OPA's order, are the same.
func sameFindings(a, b Findings) bool {
	return a.More == b.More && slices.EqualFunc(a.Kept, b.Kept, func(x, y Finding) bool {
		if x.Message != y.Message {
			return false
		}
		left, err := json.Marshal(x.Details)
		right, errRight := json.Marshal(y.Details)
		return err == nil && errRight == nil && bytes.Equal(left, right)
	})
}

func digest(in *Input, params *Parameters) string {
	text := (&request{review: in.document(), parameters: params}).Term().String()
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

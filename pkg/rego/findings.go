package rego

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego/exec"
	"github.com/fusegate/fusegate/pkg/rego/value"
)

// Finding is one element of a template's violation rule.
type Finding struct {
	Message string
	// Details is decoded JSON, {} if the rule gave none.
	Details any
}

// Findings are what a program found, in OPA's order. Those of a bounded review
// are the first by their messages, as many as policy.MaxKept and
// policy.MaxConstraintText allow, in that order.
type Findings struct {
	Kept []Finding
	// More is how many there are beside those that are kept.
	More int
	// Used is how much of its budget the policy used, in percent, 0 up to half of
	// it; see cost.Meter. Of a review that is not bounded it is what the policy
	// uses by itself, whatever others have computed already.
	Used int
	// Steps is how many steps it took beside what others have computed already.
	Steps int
}

// Len is how many there are.
func (f Findings) Len() int { return len(f.Kept) + f.More }

// Finder may be implemented by the context of an evaluation, which is told when
// something is found while it goes on.
type Finder = exec.Finder

// maxDetails is up to which size, in bytes, roughly, the details of a finding
// are kept of a bounded review. They are for logs only, and a policy may give
// the whole object.
const maxDetails = 4 << 10

// errMessage is a violation that its rule gave no message. Dropping it would
// hide a violation, so it counts as a failure of the policy.
var errMessage = errors.New("the rule " + entryRule + " fired without a string msg")

// element is an element of the violation rule, as either evaluator has it.
type element struct {
	message string
	value   any
}

func compareElements(a, b element, values func(a, b any) int) int {
	if c := cmp.Compare(a.message, b.message); c != 0 {
		return c
	}
	return values(a.value, b.value)
}

// least returns those of the elements that a bounded review keeps. It takes no
// more memory than they do.
func least(elements func(yield func(element) bool), compare func(a, b any) int) (kept []element) {
	for x := range elements {
		if len(kept) == policy.MaxKept && compareElements(x, kept[len(kept)-1], compare) >= 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(kept, x, func(a, b element) int { return compareElements(a, b, compare) })
		kept = slices.Insert(kept, at, x)
		kept = kept[:min(len(kept), policy.MaxKept)]
	}
	room := policy.MaxConstraintText
	for i, x := range kept {
		if room <= 0 {
			return kept[:i]
		}
		room -= min(len(x.message), policy.MaxText)
	}
	return kept
}

// nativeFindings are the elements that compiled code gave.
func nativeFindings(elems []any, bounded bool) (Findings, error) {
	for _, e := range elems {
		if _, ok := messageOf(e); !ok {
			return Findings{}, errMessage
		}
	}
	if bounded {
		return boundedFindings(elems)
	}
	if len(elems) > 1 {
		elems = slices.SortedFunc(slices.Values(elems), value.Compare)
	}
	out := make([]Finding, 0, len(elems))
	for _, e := range elems {
		message, _ := messageOf(e)
		f, err := finding(message, value.Get(e, "details"))
		if err != nil {
			return Findings{}, err
		}
		out = append(out, f)
	}
	return Findings{Kept: out}, nil
}

func boundedFindings(elems []any) (Findings, error) {
	kept := least(func(yield func(element) bool) {
		for _, e := range elems {
			message, _ := messageOf(e)
			if !yield(element{message, e}) {
				return
			}
		}
	}, value.Compare)
	out := Findings{Kept: make([]Finding, 0, len(kept)), More: len(elems) - len(kept)}
	for _, x := range kept {
		f, err := finding(policy.Shorten(x.message), shortDetails(value.Get(x.value, "details")))
		if err != nil {
			return Findings{}, err
		}
		out.Kept = append(out.Kept, f)
	}
	return out, nil
}

func messageOf(v any) (string, bool) {
	if value.KindOf(v) != value.KindObject {
		return "", false
	}
	text, ok := value.Get(v, "msg").(string)
	return text, ok
}

func finding(message string, details any) (Finding, error) {
	f := Finding{Message: message, Details: map[string]any{}}
	if details != nil {
		decoded, err := value.JSON(details)
		if err != nil {
			return Finding{}, fmt.Errorf("reading the details of a violation: %w", err)
		}
		f.Details = decoded
	}
	return f, nil
}

// leftOut is in the place of long details.
const leftOut = "left out: more than 4 KiB"

// shortDetails are the details, or a text in the place of long ones.
func shortDetails(details any) any {
	if value.Within(details, maxDetails) {
		return details
	}
	return leftOut
}

// termFindings are the elements that the interpreter gave.
func termFindings(results ast.Set, bounded bool) (Findings, error) {
	if results.Len() == 0 {
		return Findings{}, nil
	}
	elems := make([]element, 0, results.Len())
	for _, r := range results.Slice() {
		message, err := termMessage(r.Value)
		if err != nil {
			return Findings{}, err
		}
		elems = append(elems, element{message, r.Value})
	}
	kept := elems
	if bounded {
		kept = least(slices.Values(elems), func(a, b any) int { return a.(ast.Value).Compare(b.(ast.Value)) })
	}
	out := Findings{Kept: make([]Finding, 0, len(kept)), More: len(elems) - len(kept)}
	for _, x := range kept {
		f, err := termFinding(x, bounded)
		if err != nil {
			return Findings{}, err
		}
		out.Kept = append(out.Kept, f)
	}
	return out, nil
}

func termMessage(v ast.Value) (string, error) {
	obj, ok := v.(ast.Object)
	if !ok {
		return "", fmt.Errorf("%w: it gave %v", errMessage, v)
	}
	msg := obj.Get(ast.InternedTerm("msg"))
	if msg == nil {
		return "", fmt.Errorf("%w: it gave %v", errMessage, v)
	}
	text, ok := msg.Value.(ast.String)
	if !ok {
		return "", fmt.Errorf("%w: msg is %v", errMessage, msg)
	}
	return string(text), nil
}

func termFinding(x element, bounded bool) (Finding, error) {
	f := Finding{Message: x.message, Details: map[string]any{}}
	if bounded {
		f.Message = policy.Shorten(f.Message)
	}
	d := x.value.(ast.Object).Get(ast.InternedTerm("details"))
	switch {
	case d == nil:
		return f, nil
	case bounded && !termWithin(d, maxDetails):
		f.Details = leftOut
		return f, nil
	}
	details, err := ast.JSON(d.Value)
	if err != nil {
		return Finding{}, fmt.Errorf("reading the details of a violation: %w", err)
	}
	f.Details = details
	return f, nil
}

// termWithin is value.Within of the interpreter's values.
func termWithin(t *ast.Term, bytes int) bool {
	ast.WalkTerms(t, func(t *ast.Term) bool {
		bytes -= value.ElementSize
		if text, ok := t.Value.(ast.String); ok {
			bytes -= len(text)
		}
		return bytes < 0
	})
	return bytes >= 0
}

package rego

import (
	"testing"
	"time"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

// compiled returns n programs that say yes, which share what is kept.
func compiled(t *testing.T, n int) (*references, []*Program) {
	t.Helper()
	shared := &references{}
	var out []*Program
	for range n {
		p, err := compile(t.Context(), templateOf(source{rego: "package p\nviolation[{\"msg\": msg}] { msg := \"yes\" }"}))
		if err != nil {
			t.Fatal(err)
		}
		p.references = shared
		out = append(out, p)
	}
	return shared, out
}

// TestLend goes through more programs than are kept.
func TestLend(t *testing.T) {
	shared, all := compiled(t, MaxReferences+2)
	kept := all[:MaxReferences]
	for _, p := range kept {
		if _, err := shared.of(p); err != nil {
			t.Fatal(err)
		}
	}
	got := func(by func(*Program) (*topdownProgram, error), p *Program) *topdownProgram {
		t.Helper()
		x, err := by(p)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	first := got(shared.of, kept[0])
	if got(shared.lend, kept[0]) != first {
		t.Error("what is kept was made again to be lent")
	}
	lent := got(shared.lend, all[MaxReferences])
	if got(shared.lend, all[MaxReferences]) != lent {
		t.Error("what is lent was made again for the next constraint of its template")
	}
	got(shared.lend, all[MaxReferences+1])
	if got(shared.lend, all[MaxReferences]) == lent {
		t.Error("more than one is lent at a time")
	}
	shared.giveBack()
	if shared.lent.program != nil || shared.lent.get != nil {
		t.Error("what was lent is kept")
	}
	if len(shared.last) != MaxReferences || got(shared.of, kept[0]) != first {
		t.Error("what was lent took the place of what is kept")
	}
}

// TestCheckOneOfMany: such a check finds what Check finds, and keeps nothing.
func TestCheckOneOfMany(t *testing.T) {
	shared, all := compiled(t, 1)
	d := New()
	doc := value.Defined(map[string]any{})
	params := &Parameters{document: doc, term: func() *term { return value.Term(doc) }}
	in := &Input{native: map[string]any{}, now: time.Now()}
	right, err := all[0].runCompiled(t.Context(), d.Data(), in, params)
	if err != nil || right.Len() != 1 {
		t.Fatalf("found %v, %v, want one violation", right, err)
	}
	for name, tc := range map[string]struct {
		found Findings
		wrong bool
	}{"Same": {right, false}, "Differs": {Findings{}, true}} {
		t.Run(name, func(t *testing.T) {
			difference := all[0].CheckOneOfMany(t.Context(), d.Data(), in, params, tc.found)
			if (difference != nil) != tc.wrong {
				t.Errorf("got %v, want a difference: %t", difference, tc.wrong)
			}
			if len(shared.last) > 0 {
				t.Errorf("%d programs are kept", len(shared.last))
			}
			all[0].refused.Store(nil)
			all[0].held.Store(nil)
		})
	}
}

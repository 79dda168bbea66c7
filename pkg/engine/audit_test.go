package engine_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/clienttest/cts"

	"github.com/fusegate/fusegate/pkg/engine"
)

// TestReads checks what of a review a template is said to read.
func TestReads(t *testing.T) {
	for name, tc := range map[string]struct {
		rego string
		want engine.Reads
	}{
		"object only":     {`violation[{"msg": "a"}] { input.review.object.a; input.parameters.b }`, engine.Reads{}},
		"namespace":       {`violation[{"msg": "a"}] { input.review.namespaceObject.metadata }`, engine.Reads{Namespace: true}},
		"the whole":       {`violation[{"msg": "a"}] { r := input.review; r.x }`, engine.Reads{Namespace: true}},
		"by index":        {`violation[{"msg": "a"}] { input["review"].object }`, engine.Reads{Namespace: true}},
		"request":         {`violation[{"msg": "a"}] { input.review.operation == "UPDATE"; input.review.oldObject }`, engine.Reads{Request: []string{"oldObject", "operation"}}},
		"a name like it":  {`violation[{"msg": "a"}] { my_input := 1; my_input == 1 }`, engine.Reads{}},
		"user, mentioned": {`violation[{"msg": "a"}] { input.review.userInfo.username }`, engine.Reads{Request: []string{"userInfo"}}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			add(t, e, []*engine.Template{sourced("v0", "package p\n"+tc.rego)}, cts.MakeConstraint(t, "Probe", "c"))
			if diff := cmp.Diff(tc.want, e.AuditScopes()[0].Reads); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestAuditScopes checks that a revision changes when a verdict may.
func TestAuditScopes(t *testing.T) {
	e := newEngine(t)
	template := sourced("v0", `package p
violation[{"msg": "a"}] { true }`)
	changed := e.Changed()
	add(t, e, []*engine.Template{template}, cts.MakeConstraint(t, "Probe", "c"))
	revision := func() uint64 {
		t.Helper()
		scopes := e.AuditScopes()
		if len(scopes) != 1 {
			t.Fatalf("got %d scopes, want one", len(scopes))
		}
		return scopes[0].Revision
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told of the new constraint")
	}
	first := revision()
	changed = e.Changed()
	same := cts.MakeConstraint(t, "Probe", "c")
	same.SetLabels(map[string]string{"a": "b"})
	add(t, e, nil, same)
	select {
	case <-changed:
		t.Error("a label was taken for a change")
	default:
	}
	if revision() != first {
		t.Error("a label changed the revision")
	}
	same.SetGeneration(7)
	add(t, e, nil, same)
	select {
	case <-changed:
	default:
		t.Error("nobody was told of another generation")
	}
	if got := e.AuditScopes()[0].Generation; got != 7 || revision() != first {
		t.Errorf("got generation %d and another revision: %v, want 7 and the same", got, revision() != first)
	}
	add(t, e, nil, cts.MakeConstraint(t, "Probe", "c", cts.EnforcementAction("dryrun")))
	second := revision()
	add(t, e, []*engine.Template{template})
	if third := revision(); second == first || third == second {
		t.Errorf("got revisions %d, %d and %d, want three", first, second, third)
	}
}

package engine_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/clienttest/cts"

	"github.com/fusegate/fusegate/pkg/engine"
)

// TestReads checks what of a review a template is said to read.
func TestReads(t *testing.T) {
	whole := engine.Reads{Namespace: true}
	reads := func(fields ...string) engine.Reads { return engine.Reads{Request: fields} }
	escapes := func(fields ...string) engine.Reads { return engine.Reads{Namespace: true, Request: fields} }
	const helpers = `package lib.help
is_update(review) { review.operation == "UPDATE" }`
	const harmless = `package lib.help
name(review) = x { x := review.object.metadata.name }
options = {"a": 1}`
	for name, tc := range map[string]struct {
		reason, rego, rules string
		libs                []string
		want                engine.Reads
	}{
		"object":     {reason: "audit has it", rego: `input.review.object.a; input.parameters.b`},
		"namespace":  {reason: "it is an object of its own", rego: `input.review.namespaceObject.metadata`, want: whole},
		"request":    {reason: "by name", rego: `input.review.operation == "UPDATE"; input.review.oldObject`, want: reads("oldObject", "operation")},
		"user":       {reason: "part of it", rego: `input.review.userInfo.username`, want: reads("userInfo")},
		"dry run":    {reason: "only a request is one", rego: `input.review.dryRun`, want: reads("dryRun")},
		"other kind": {reason: "what was asked for is of a request", rego: `input.review.requestKind.kind`, want: reads("requestKind")},
		"in a list":  {reason: "references lie in others", rego: `input.parameters.names[input.review.userInfo.username]`, want: reads("userInfo")},
		"by index":   {reason: "it is the same as by name", rego: `input["review"].object; input["review"]["oldObject"]`, want: reads("oldObject")},
		"no comment": {reason: "comments read nothing", rego: "true # input.review.userInfo\n"},
		"like input": {reason: "another name", rego: `my_input := {"review": {"userInfo": 1}}; my_input.review.userInfo`},
		"deep below": {reason: "it is a field of the object", rego: `input.review.object.spec.dnsConfig.options; r := input.review; r.name`, want: whole},
		"the whole":  {reason: "nothing that only a request has", rego: `r := input.review; r.object`, want: whole},

		"alias":            {reason: "by another name", rego: `r := input.review; r.userInfo.username`, want: escapes("userInfo")},
		"alias of input":   {reason: "by another name, too", rego: `x := input; x.review.userInfo`, want: escapes("userInfo")},
		"get":              {reason: "a key that is known", rego: `object.get(input.review, "operation", "") == "UPDATE"`, want: reads("operation")},
		"get the object":   {reason: "as by name", rego: `object.get(input, "parameters", {}); object.get(input.review, "object", {})`},
		"get by path":      {reason: "keys that are known", rego: `object.get(input, ["review", "userInfo", "username"], "") == ""`, want: reads("userInfo")},
		"get by variable":  {reason: "the key stands elsewhere", rego: `k := ["oldObject", "object"][_]; object.get(input.review, k, {})`, want: escapes("oldObject")},
		"index by list":    {reason: "the keys stand elsewhere", rego: `k := ["oldObject", "object"][_]; input.review[k]`, want: escapes("oldObject")},
		"index of both":    {reason: "so do these", rego: `a := "review"; b := "operation"; input[a][b]`, want: escapes("operation")},
		"any field":        {reason: "the parameter may name any", rego: `input.review[input.parameters.field]`, want: escapes("dryRun", "oldObject", "operation", "options", "requestKind", "requestResource", "requestSubResource", "userInfo")},
		"filter":           {reason: "a path names it", rego: `json.filter(input.review, ["userInfo/username"]) != {}`, want: escapes("userInfo")},
		"replaced":         {reason: "what stands for the input is the review", rules: `asks { input.userInfo }`, rego: `asks with input as input.review`, want: escapes("userInfo")},
		"replaced in part": {reason: "the old object stands for the new one", rules: `asked { input.review.object }`, rego: `asked with input.review.object as input.review.oldObject`, want: reads("oldObject")},
		"a rule":           {reason: "it is the review", rules: `whole = input.review`, rego: `whole.operation == "UPDATE"`, want: escapes("operation")},
		"wrapped":          {reason: "it lies in another object", rego: `x := {"r": input.review}; x.r.operation`, want: escapes("operation")},
		"a function":       {reason: "it takes the review", rules: `asks_of(r) { r.operation == "UPDATE" }`, rego: `asks_of(input.review)`, want: escapes("operation")},
		"a library":        {reason: "it reads the operation of what it is given", rego: `data.lib.help.is_update(input.review)`, libs: []string{helpers}, want: escapes("operation")},
		"a harmless one":   {reason: "it reads the object, and has a rule that is named like a field", rego: `data.lib.help.name(input.review) == data.lib.help.options.a`, libs: []string{harmless}, want: whole},
		"pattern":          {reason: "it is taken apart", rego: `some u; {"userInfo": u} = object.filter(input.review, {"userInfo"})`, want: escapes("userInfo")},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			add(t, e, []*engine.Template{sourced("v0", "package p\n"+tc.rules+"\nviolation[{\"msg\": \"a\"}] { "+tc.rego+" }", tc.libs...)}, cts.MakeConstraint(t, "Probe", "c"))
			// What is read of the object is for pkg/rego to test.
			if diff := cmp.Diff(tc.want, e.AuditScopes()[0].Reads, cmpopts.IgnoreFields(engine.Reads{}, "Object")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
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

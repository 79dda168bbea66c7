package rego

import (
	"io/fs"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"

	"github.com/fusegate/fusegate/pkg/rego/value"
	library "github.com/fusegate/fusegate/templates"
)

// sharer is a constraint that is judged beside others.
type sharer struct {
	name    string
	program *Program
	params  *Parameters
}

func (c *comparison) sharer(t *testing.T, name string, template *templates.ConstraintTemplate, params any) sharer {
	t.Helper()
	doc := value.Defined(params)
	return sharer{name, c.program(t, template), &Parameters{document: doc, term: func() *term { return value.Term(doc) }}}
}

// together judges by all constraints with one input, as an engine does, and
// compares each with the interpreter.
func (c *comparison) together(t *testing.T, e *Data, review map[string]any, all []sharer) {
	t.Helper()
	in := &Input{native: review, now: time.Now()}
	defer in.Release()
	for _, x := range all {
		c.evaluations++
		found, err := x.program.runCompiled(t.Context(), e, in, x.params)
		if err != nil {
			continue // the interpreter is asked
		}
		got := verdictOf(found, nil)
		if len(got.Findings) > 0 {
			c.found++
		}
		want := verdictOf(x.program.interpret(t.Context(), e, &Input{native: review, now: in.now}, x.params))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s beside others (-interpreted +compiled):\n%s\nreview: %s", x.name, diff, textOf(review))
		}
	}
}

// TestLibraryTogether judges by the whole library at once, so that what one
// template has made of a review serves the others.
func TestLibraryTogether(t *testing.T) {
	folders, err := fs.ReadDir(library.FS, ".")
	if err != nil {
		t.Fatal(err)
	}
	c := &comparison{}
	var all []sharer
	var reviews []map[string]any
	inventory := map[string]any{}
	for _, f := range folders {
		kind, template := libraryTemplate(t, f.Name())
		s := samples(t, f.Name(), kind)
		for _, params := range s.parameters[:min(2, len(s.parameters))] {
			all = append(all, c.sharer(t, f.Name(), template, params))
		}
		reviews = append(reviews, s.reviews...)
		for at, doc := range s.inventory {
			inventory[at] = doc
		}
	}
	e, m := stored(t, inventory), newMutator(7)
	for i := range max(20, *evaluations/20/len(all)) {
		r := reviews[m.IntN(len(reviews))]
		if changed, ok := m.mutate(r, m.IntN(4)).(map[string]any); ok && i%4 > 0 {
			r = changed
		}
		c.together(t, e, r, all)
	}
	t.Log(c)
}

// TestSharedOnlyWhatIsTheSame has constraints of one template, and of templates
// with the same library, judge one review: what they must not have in common is
// the parameters, other input, stored data and chance.
func TestSharedOnlyWhatIsTheSame(t *testing.T) {
	lib := func(body string) []string { return []string{"package lib.l\n" + body} }
	cases := map[string]source{
		"rule of parameters":     {libs: lib(`v = input.parameters.a`), rego: `msg := sprintf("%v", [data.lib.l.v])`},
		"function of parameters": {libs: lib(`f(x) = y { y := [x, input.parameters.a] }`), rego: `msg := sprintf("%v", [data.lib.l.f("x")])`},
		"by way of another":      {libs: lib("v = input.parameters.a\nf(x) = y { y := g(x) }\ng(x) = y { y := [x, v] }"), rego: `msg := sprintf("%v", [data.lib.l.f("x")])`},
		"input as a whole":       {libs: lib(`v = x { x := input }`), rego: `msg := sprintf("%v", [data.lib.l.v.parameters])`},
		"input by another key":   {libs: lib(`v[k] = input[k].a`), rego: `msg := sprintf("%v", [data.lib.l.v])`},
		"input passed on":        {libs: lib("f(x) = y { y := x.parameters }\nv = f(input)"), rego: `msg := sprintf("%v", [data.lib.l.v])`},
		"with a review":          {libs: lib(`v = input.review.object.kind`), rego: `w := data.lib.l.v with input.review as {"object": {"kind": input.parameters.a}}; msg := sprintf("%v %v", [data.lib.l.v, w])`},
		"with parameters":        {libs: lib("v = input.review.object.kind\nw = input.parameters.a"), rego: `w := data.lib.l.w with input.parameters.a as "other"; msg := sprintf("%v %v", [data.lib.l.w, w])`},
		"with inside":            {libs: lib("k = input.review.object.kind\nv = x { x := k with input.review.object.kind as \"inside\" }"), rego: `msg := sprintf("%v %v", [data.lib.l.v, data.lib.l.k])`},
		"stored data":            {libs: lib(`v = data.inventory.cluster.v1.Namespace[_].metadata.name`), rego: `msg := sprintf("%v", [data.lib.l.v])`},
		"the same in truth":      {libs: lib("v = input.review.object.kind\nf(x) = y { y := [x, v] }"), rego: `msg := sprintf("%v", [data.lib.l.f(input.parameters.a)])`},
		"undefined":              {libs: lib(`v = input.review.no.such`), rego: `not data.lib.l.v; msg := input.parameters.a`},
	}
	c := &comparison{}
	e := stored(t, map[string]any{"cluster|v1|Namespace|a": map[string]any{"metadata": map[string]any{"name": "a"}}})
	var all []sharer
	for name, s := range cases {
		s.rego = "package k\nviolation[{\"msg\": msg}] { " + s.rego + " }"
		for _, a := range []any{"one", "two", map[string]any{"b": int64(3)}} {
			all = append(all, c.sharer(t, name, templateOf(s), map[string]any{"a": a}))
		}
	}
	c.together(t, e, map[string]any{"object": map[string]any{"kind": "Pod"}}, all)
	if c.found < len(all)-3 || c.refused > 0 {
		t.Errorf("%s: they compare too little", c)
	}
}

// source and templateOf make templates.
type source struct {
	rego string
	libs []string
}

func templateOf(s source) *templates.ConstraintTemplate {
	libs := make([]any, len(s.libs))
	for i, l := range s.libs {
		libs[i] = l
	}
	out := &templates.ConstraintTemplate{}
	out.Spec.CRD.Spec.Names.Kind = "K"
	out.Spec.Targets = []templates.Target{{Code: []templates.Code{{
		Engine: "Rego", Source: &templates.Anything{Value: map[string]any{"rego": s.rego, "libs": libs}},
	}}}}
	return out
}

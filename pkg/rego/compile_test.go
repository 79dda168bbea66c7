package rego_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"

	"github.com/fusegate/fusegate/pkg/rego"
)

// v0 is a template whose one rule has this body.
func v0(body string, libs ...string) source {
	return source{rego: "package k\nviolation[{\"msg\": msg}] {\n  " + body + "\n}\n", libs: libs}
}

func v1(body string, libs ...string) source {
	return source{version: "v1", rego: "package k\nviolation contains {\"msg\": msg} if {\n  " + body + "\n}\n", libs: libs}
}

func diagnostics(t *testing.T, err error) rego.Diagnostics {
	t.Helper()
	var ds rego.Diagnostics
	if err != nil && (!errors.As(err, &ds) || len(ds) == 0) {
		t.Fatalf("got error %T %v, want Diagnostics", err, err)
	}
	return ds
}

func TestCompileDiagnostics(t *testing.T) {
	const fires = "package k\nviolation[{\"msg\": \"m\"}] { true }\n"
	cases := map[string]struct {
		reason string
		source source
		want   []string // location, code and a part of the message
	}{
		"Good":   {"a template in v0", v0(`msg := "m"`), nil},
		"GoodV1": {"a template in v1", v1(`msg := "m"`), nil},
		"FutureKeywords": {"v0 may import keywords", source{
			rego: "package k\nimport future.keywords.in\nviolation[{\"msg\": msg}] { some msg in [\"m\"] }",
		}, nil},
		"Syntax": {"OPA's parser says where", v0(`msg := `), []string{"rego:4:1: rego_parse_error: unexpected } token"}},
		"SyntaxInLib": {"the library is named", source{rego: fires, libs: []string{"package lib.a\nx = 1", "package lib.b\nx = = 1"}}, []string{
			"libs[1]:2:5: rego_parse_error: unexpected eq token",
		}},
		"Empty":        {"no text at all", source{}, []string{"rego:1:1: rego_parse_error: empty module"}},
		"Blank":        {"comments only", source{rego: "\n# nothing\n"}, []string{"rego:1:1: rego_parse_error: empty module"}},
		"EmptyLib":     {"an empty library", source{rego: fires, libs: []string{""}}, []string{"libs[0]:1:1: rego_parse_error: empty module"}},
		"NoPackage":    {"a module without a package", source{rego: `violation[{"msg": "m"}] { true }`}, []string{"rego:1:1: rego_parse_error: package expected"}},
		"NoViolation":  {"nothing to report through", source{rego: "package k\ndeny[m] { m := 1 }"}, []string{"rego:1:1: rego_entry_error: no rule named violation"}},
		"NotASet":      {"a rule that is no set", source{rego: "package k\ndefault violation = false"}, []string{"rego:1:1: rego_entry_error: rule violation cannot be read as a set"}},
		"Function":     {"a function is no set", source{rego: "package k\nviolation(x) { x }"}, []string{"rego:1:1: rego_entry_error: rule violation cannot be read as a set"}},
		"UnsafeVar":    {"a variable nobody binds", v0(`msg := x`), []string{"rego:3:3: rego_unsafe_var_error: var x is unsafe"}},
		"NoFunction":   {"a function nobody defines", v0(`msg := nosuch(1)`), []string{"rego:3:10: rego_type_error: undefined function nosuch"}},
		"Types":        {"an impossible operation", v0(`msg := "a" + 1`), []string{"rego:3:10: rego_type_error: plus: invalid argument"}},
		"Recursion":    {"recursion is refused", source{rego: fires + "f(x) { f(x) }"}, []string{"rego:3:1: rego_recursion_error: rule data.template.f is recursive"}},
		"RuleConflict": {"two kinds of one rule", source{rego: fires + "violation = 1 { true }"}, []string{"rego:2:1: rego_type_error: conflicting rules"}},
		"V0AsV1":       {"the version is taken at its word", source{version: "v1", rego: fires}, []string{"rego:2:1: rego_parse_error: `if` keyword", "rego:2:1: rego_parse_error: `contains` keyword"}},
		"V1AsV0":       {"v0 is the default", source{rego: v1(`msg := "m"`).rego}, []string{"rego:2:"}},
		"LibPackage":   {"libraries lie below lib", source{rego: fires, libs: []string{"package other"}}, []string{"libs[0]:1:1: rego_source_error: package data.other"}},
		"LibRoot":      {"lib itself is not below lib", source{rego: fires, libs: []string{"package lib"}}, []string{"libs[0]:1:1: rego_source_error: package data.lib"}},
		"Everything at once": {"all that is wrong is said", source{
			rego: "package k\nimport data.x\ny = data.z", libs: []string{"package q\nimport input.a"},
		}, []string{
			"rego:1:1: rego_entry_error", "rego:2:1: rego_import_error", "rego:3:5: rego_reference_error",
			"libs[0]:1:1: rego_source_error", "libs[0]:2:1: rego_import_error",
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := diagnostics(t, rego.CheckTemplate(template("K", tc.source)))
			if len(got) < len(tc.want) || (len(tc.want) == 0 && len(got) > 0) {
				t.Fatalf("%s: got\n%v\nwant %q", tc.reason, got, tc.want)
			}
			for i, want := range tc.want {
				if !strings.HasPrefix(got[i].Error(), want) {
					t.Errorf("%s: got %q, want a beginning of %q", tc.reason, got[i].Error(), want)
				}
			}
		})
	}
}

// TestCompileTemplate: what is wrong around the Rego.
func TestCompileTemplate(t *testing.T) {
	targets := func(change func(*templates.ConstraintTemplate)) *templates.ConstraintTemplate {
		tpl := template("K", v0(`msg := "m"`))
		change(tpl)
		return tpl
	}
	cases := map[string]struct {
		template *templates.ConstraintTemplate
		want     string
	}{
		"NoTarget": {
			targets(func(c *templates.ConstraintTemplate) { c.Spec.Targets = nil }),
			"rego_source_error: spec.targets must hold exactly one target, got 0",
		},
		"TwoTargets": {
			targets(func(c *templates.ConstraintTemplate) { c.Spec.Targets = append(c.Spec.Targets, c.Spec.Targets[0]) }),
			"rego_source_error: spec.targets must hold exactly one target, got 2",
		},
		"NoCode": {
			targets(func(c *templates.ConstraintTemplate) { c.Spec.Targets[0].Code = nil }),
			"rego_source_error: spec.targets[0] has no Rego: set its field rego, or add an entry with engine Rego to its field code",
		},
		"OtherEngine": {
			targets(func(c *templates.ConstraintTemplate) { c.Spec.Targets[0].Code[0].Engine = "K8sNativeValidation" }),
			"rego_source_error: spec.targets[0] has no Rego: set its field rego, or add an entry with engine Rego to its field code",
		},
		"SourceIsText": {
			targets(func(c *templates.ConstraintTemplate) { c.Spec.Targets[0].Code[0].Source.Value = "package k" }),
			"rego_source_error: spec.targets[0].code, engine Rego: could not recognize the type",
		},
		"NoSource": {
			targets(func(c *templates.ConstraintTemplate) { c.Spec.Targets[0].Code[0].Source = nil }),
			"rego_source_error: spec.targets[0].code, engine Rego: it has no source",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := diagnostics(t, rego.CheckTemplate(tc.template))
			if diff := cmp.Diff(tc.want, got.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestAddTemplateKeepsThePrevious: a mistake in an update does not switch the
// policy off.
func TestAddTemplateKeepsThePrevious(t *testing.T) {
	d, c := newDriver(t, v0(`msg := "first"`), nil)
	if ds := diagnostics(t, d.AddTemplate(t.Context(), template("K", v0(`msg := x`)))); len(ds) != 1 {
		t.Errorf("got %v, want one diagnostic", ds)
	}
	if got := query(t.Context(), d, review(nil), c); len(got.findings) != 1 || got.findings[0].Msg != "first" {
		t.Errorf("got %+v, want the violation of the previous version", got)
	}
}

// crowded is a Compiler that says how many are tried, until they are let go.
type crowded struct {
	tries chan struct{}
	leave chan struct{}
}

func (c crowded) Try(context.Context, *rego.Source) error {
	c.tries <- struct{}{}
	<-c.leave
	return nil
}

// TestChecksComeOneByOne: however many templates are checked, one is in the way of those
// that are to be in force.
func TestChecksComeOneByOne(t *testing.T) {
	r, c := rego.New(), crowded{make(chan struct{}, 10), make(chan struct{})}
	r.CompileBy(c)
	of := func(name string) *templates.ConstraintTemplate {
		return template(name, v0(`msg := "m"`))
	}
	first := make(chan error, 1)
	go func() { first <- r.CheckTemplate(t.Context(), of("a")) }()
	<-c.tries
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	second := make(chan error, 1)
	go func() { second <- r.CheckTemplate(ctx, of("b")) }()
	select {
	case <-c.tries:
		t.Error("a second is checked beside the first")
	case err := <-second:
		if !errors.Is(err, rego.ErrNoAnswer) {
			t.Errorf("got %v, want no answer in time", err)
		}
	}
	added := make(chan error, 1)
	go func() { added <- r.Try(t.Context(), of("c")) }()
	<-c.tries
	close(c.leave)
	for _, done := range []chan error{first, added} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

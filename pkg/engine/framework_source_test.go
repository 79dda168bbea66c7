package engine_test

import (
	"fmt"
	"testing"

	"github.com/open-policy-agent/frameworks/constraint/pkg/client/clienttest/cts"

	"github.com/fusegate/fusegate/pkg/engine"
)

// sourced is a template of kind Probe with this Rego.
func sourced(version, rego string, libs ...string) *engine.Template {
	source := map[string]any{"rego": rego}
	if version != "" {
		source["version"] = version
	}
	if len(libs) > 0 {
		all := make([]any, len(libs))
		for i, lib := range libs {
			all[i] = lib
		}
		source["libs"] = all
	}
	return cts.New(cts.OptName("probe"), cts.OptCRDNames("Probe"),
		cts.OptTargets(cts.TargetCustomEngines(engine.TargetName, cts.Code("Rego", source))))
}

// TestFrameworkSourceVersion: Rego is v0 unless its version is v1.
func TestFrameworkSourceVersion(t *testing.T) {
	const (
		zero = "package p\nviolation[{\"msg\": msg}] { msg := \"zero\" }"
		one  = "package p\nviolation contains {\"msg\": msg} if { msg := \"one\" }"
	)
	for name, tc := range map[string]struct {
		version, rego, want string
	}{
		"v0":               {"v0", zero, ""},
		"none":             {"", zero, ""},
		"v1":               {"v1", one, ""},
		"v0 written as v1": {"v1", zero, "rego_parse_error"},
		"v1 written as v0": {"v0", one, "rego_parse_error"},
		"v1 without one":   {"", one, "rego_parse_error"},
		"unknown is v0":    {"v9", zero, ""},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, name, newEngine(t).CheckTemplate(t.Context(), sourced(tc.version, tc.rego)), tc.want)
		})
	}
}

// quantities is a library of some size: helpers with several bodies each.
const quantities = `package lib.quantities
factor("") = 1 { true }
factor("k") = 1000 { true }
factor("M") = 1000000 { true }
factor("Ki") = 1024 { true }
factor("Mi") = 1048576 { true }
suffix(text) = "" { regex.match("^[0-9]+$", text) }
suffix(text) = s { s := substring(text, count(text) - 1, -1); regex.match("^[0-9]+[kM]$", text) }
suffix(text) = s { s := substring(text, count(text) - 2, -1); regex.match("^[0-9]+[KM]i$", text) }
value(q) = q { is_number(q) }
value(q) = n { is_string(q); s := suffix(q); n := to_number(trim_suffix(q, s)) * factor(s) }`

// limits uses it, other rules and the inventory.
const limits = `package limits
import data.lib.quantities
same(a, b) { a.metadata.namespace == b.metadata.namespace; a.metadata.name == b.metadata.name }
violation[{"msg": msg}] {
  c := input.review.object.containers[_]
  not quantities.value(c.memory)
  msg := sprintf("%v: cannot read %v", [c.name, c.memory])
}
violation[{"msg": msg}] {
  c := input.review.object.containers[_]
  quantities.value(c.memory) > quantities.value(input.parameters.memory)
  msg := sprintf("%v: %v is more than %v", [c.name, c.memory, input.parameters.memory])
}
violation[{"msg": msg}] {
  other := data.inventory.namespace[ns][version]["Pod"][name]
  startswith(version, "v")
  not same(other, input.review.object)
  other.host == input.review.object.host
  msg := sprintf("%v/%v has host %v", [ns, name, other.host])
}`

// TestFrameworkLargeTemplate runs a template with a library, partial rules,
// functions of several bodies and the inventory.
func TestFrameworkLargeTemplate(t *testing.T) {
	tpl := sourced("v0", limits, quantities)
	cts.OptCRDSchema(cts.PropMap{"memory": cts.PropTyped("string")})(tpl)
	e := newEngine(t)
	add(t, e, []*engine.Template{tpl}, cts.MakeConstraint(t, "Probe", "probe", cts.Set("2Mi", "spec", "parameters", "memory")))
	for _, name := range []string{"foo", "bar"} {
		pod := map[string]any{"metadata": map[string]any{"name": name, "namespace": "a"}, "host": "h"}
		if err := e.AddData(t.Context(), []string{"namespace", "a", "v1", "Pod", name}, pod); err != nil {
			t.Fatal(err)
		}
	}
	r := datum("a", "")
	r.Object = map[string]any{
		"metadata": map[string]any{"name": "foo", "namespace": "a"}, "host": "h",
		"containers": []any{
			map[string]any{"name": "small", "memory": "2000k"},
			map[string]any{"name": "large", "memory": "3Mi"},
			map[string]any{"name": "number", "memory": int64(2097153)},
			map[string]any{"name": "odd", "memory": "much"},
		},
	}
	wantMessages(t, "limits and hosts", e, r,
		"deny [probe] a/bar has host h",
		"deny [probe] large: 3Mi is more than 2Mi",
		"deny [probe] number: 2097153 is more than 2Mi",
		"deny [probe] odd: cannot read much")
}

// TestFrameworkSandbox: what the framework's rewriter refuses in a template's
// own Rego and in its libraries, in both versions of the language, Fusegate
// refuses too.
func TestFrameworkSandbox(t *testing.T) {
	for name, tc := range map[string]struct {
		imported, body, want string
	}{
		"data that is not the inventory": {"", "data.badextern.fungibles[name]", "disallowed ref"},
		"import outside lib":             {"data.stuff.foolib", "foolib.check(input)", "bad import"},
		"import of input":                {"input.metadata", `metadata.x == "abc"`, "bad import"},
		"data bound to a variable":       {"", "x := data\n  x.stuff.more.stuff", "disallowed ref"},
		"data by a variable":             {"", "x := input.name\n  y := data[x]", "disallowed ref"},
		"data by a text":                 {"", `y := data["foo"]`, "disallowed ref"},
		"data replaced by a library":     {"data.lib.other", "other.a with data.checks as data.lib.mychecks", "disallowed ref"},
		"data replaced by a literal":     {"data.lib.other", `other.a with data.bobs as {"dev": ["bob"]}`, "disallowed ref"},
	} {
		imported := ""
		if tc.imported != "" {
			imported = "import " + tc.imported + "\n"
		}
		const other = "package lib.other\na = 1"
		const zero, one = `violation[{"msg": "m"}] { true }`, `violation contains {"msg": "m"}`
		for place, tpl := range map[string]*engine.Template{
			"entry v0": sourced("v0", fmt.Sprintf("package p\n%s%s\ncheck(name) {\n  %s\n}", imported, zero, tc.body), other),
			"entry v1": sourced("v1", fmt.Sprintf("package p\n%s%s\ncheck(name) if {\n  %s\n}", imported, one, tc.body), other),
			"lib v0":   sourced("v0", "package p\n"+zero, other, fmt.Sprintf("package lib.fail\n%scheck(name) {\n  %s\n}", imported, tc.body)),
			"lib v1":   sourced("v1", "package p\n"+one, other, fmt.Sprintf("package lib.fail\n%scheck(name) if {\n  %s\n}", imported, tc.body)),
		} {
			t.Run(name+"/"+place, func(t *testing.T) {
				wantError(t, name, newEngine(t).CheckTemplate(t.Context(), tpl), tc.want)
			})
		}
	}
}

// TestFrameworkLibraries: whichever way a library is named, it is found, in
// both versions of the language.
func TestFrameworkLibraries(t *testing.T) {
	const alpha = "package lib.alpha\next = [\"e\"]\nname = \"alpha\""
	for name, tc := range map[string]struct {
		reason, rego string
		libs         []string
		want         []string
	}{
		"by path": {"the whole path", `msg := data.lib.alpha.name`, []string{alpha}, []string{"alpha"}},
		"by import": {
			"an import, also in a package of the library's name",
			`msg := sprintf("%v %v", [alpha.name, data.lib.alpha.ext[_]])`, []string{alpha}, []string{"alpha e"},
		},
		"in a text":    {"a text is left alone", `msg := "data.lib.alpha"`, []string{alpha}, []string{"data.lib.alpha"}},
		"all by name":  {"the root of the libraries in a variable", `x := data.lib; msg := x[_].name`, []string{alpha}, []string{"alpha"}},
		"all by index": {"any library", `msg := data.lib[_].name`, []string{alpha}, []string{"alpha"}},
		"walk":         {"the root as an argument", `walk(data.lib, [path, "alpha"]); msg := concat(".", path)`, []string{alpha}, []string{"alpha.name"}},
		"input":        {"input is left alone", `msg := input.review.object.data`, []string{alpha}, []string{"bar"}},
		"of a library": {
			"libraries see each other and the input", `msg := data.lib.beta.greet`,
			[]string{alpha, "package lib.beta\nimport data.lib.alpha\ngreet = concat(\" \", [alpha.name, data.lib.alpha.ext[0], input.review.object.data])"},
			[]string{"alpha e bar"},
		},
		"all in a library": {
			"a library sees the root", `msg := data.lib.beta.names[_]`,
			[]string{alpha, "package lib.beta\nnames = [n | n := data.lib[\"alpha\"].name]"}, []string{"alpha"},
		},
	} {
		head := map[string]string{"v0": `violation[{"msg": msg}]`, "v1": `violation contains {"msg": msg} if`}
		for version, rule := range head {
			t.Run(name+"/"+version, func(t *testing.T) {
				rego := "package lib.alpha\nimport data.lib.alpha\n" + rule + " { " + tc.rego + " }"
				e := newEngine(t)
				add(t, e, []*engine.Template{sourced(version, rego, tc.libs...)}, cts.MakeConstraint(t, "Probe", "c"))
				var want []string
				for _, w := range tc.want {
					want = append(want, "deny [c] "+w)
				}
				wantMessages(t, tc.reason, e, datum("", "bar"), want...)
			})
		}
	}
}

// TestFrameworkLibraryPackage: a library lies below lib.
func TestFrameworkLibraryPackage(t *testing.T) {
	for name, tc := range map[string]struct{ lib, want string }{
		"below lib": {"package lib.my", ""},
		"lib":       {"package lib", "must lie below lib"},
		"elsewhere": {"package mystuff.myLib", "must lie below lib"},
		"syntax":    {"package lib.my\nf(", "rego_parse_error"},
	} {
		for _, version := range []string{"v0", "v1"} {
			t.Run(name+"/"+version, func(t *testing.T) {
				tpl := sourced(version, "package p\nviolation = {{\"msg\": \"m\"}}", tc.lib+"\na = 1")
				wantError(t, name, newEngine(t).CheckTemplate(t.Context(), tpl), tc.want)
			})
		}
	}
}

package compiler_test

import (
	"fmt"
	"strings"

	"github.com/fusegate/fusegate/pkg/rego"
)

// fires is a rule without which a template is none.
const fires = "violation[{\"msg\": \"m\"}] { input.review.object.metadata.name == \"x\" }\n"

func source(rules ...string) *rego.Source {
	return &rego.Source{Rego: "package bad\n" + strings.Join(rules, "")}
}

// steps writes one line for each of n steps; %[1]d is the step, %[2]d the one before.
func steps(n int, line string) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, line+"\n", i, i-1)
	}
	return b.String()
}

func nested(n int, open, inner, shut string) string {
	return strings.Repeat(open, n) + inner + strings.Repeat(shut, n)
}

// sharing is 599 bytes whose types have 2^15 leaves, which OPA compares one by one.
func sharing() *rego.Source {
	return source("x0 := [input.review.object.metadata.name]\n", steps(15, "x%[1]d := [x%[2]d,x%[2]d]"),
		`violation[{"msg": msg}] { y := [x14,x14]; y == x15; msg := "eq" }`)
}

const (
	overTime   = "of processor time"
	overMemory = "of memory"
)

// bombs are templates that OPA's compiler does not come to an end with, or only
// after hours or with gigabytes.
var bombs = map[string]struct {
	reason string
	source *rego.Source
}{
	"shared values": {"the type checker compares what values are made of, however often they are shared", sharing()},
	"shared in sets": {"so it does with sets in objects", source("x0 := {input.review.object.metadata.name}\n",
		steps(16, `x%[1]d := {"a": [x%[2]d, x%[2]d], "b": [x%[2]d, x%[2]d]}`), `violation[{"msg": "m"}] { y := {"a": [x15, x15], "b": [x15, x15]}; y == x16 }`)},
	"comprehensions": {"the types of comprehensions in comprehensions are inferred again at every level",
		source(fires, "a { x := "+nested(40, "[y | y := ", "1", "]")+" }\n")},
	"functions": {"functions that call another one twice", source("f0(x) = [x, x]\n", steps(40, "f%[1]d(x) = [f%[2]d(x), f%[2]d(x)]"),
		`violation[{"msg": "m"}] { y := f40(1); y == f40(2) }`)},
	"replaced functions": {"the planner plans rules anew for everything that is replaced below them", source("f0 { count([1]) == 1 }\n",
		steps(24, "m%[1]d(x) = 1\nf%[1]d { f%[2]d with count as m%[1]d; f%[2]d }"), `violation[{"msg": "m"}] { f24 }`)},
	"else": {"the time that a chain takes grows with its square and more",
		source(fires, "a { input.review.object.x }", strings.ReplaceAll(steps(12000, " else { input.review.object.x%[1]d }"), "\n", ""))},
	"negations": {"rules that stand on each other", source("f0 { input.review.object.a }\n", steps(12000, "f%[1]d { not f%[2]d; not f%[2]d }"),
		`violation[{"msg": "m"}] { f12000 }`)},
}

// harmless are templates that look like bombs, and compile or have an error of
// their own; want is empty or part of the error.
var harmless = map[string]struct {
	reason string
	source *rego.Source
	want   string
}{
	"nesting":       {"deep terms are read well", source(fires, "a := "+nested(1000, "[", "1", "]")), ""},
	"deep nesting":  {"the parser has a limit of its own", source(fires, "a := "+nested(200_000, "[", "1", "]")), "rego_"},
	"calls":         {"calls of calls", source(fires, "a { x := "+nested(200, "abs(", "1", ")")+" }\n"), ""},
	"rules":         {"a long policy is no bomb", source(fires, steps(3000, "r%[1]d { input.review.object.spec.a%[1]d == %[2]d }")), ""},
	"one rule":      {"of many bodies", source(fires, steps(2000, "r[x] { input.review.object.a%[1]d; x := input.review.object.spec.containers[_].name }")), ""},
	"a literal":     {"lists that are generated", source(fires, "a := [", steps(10_000, `{"k%[1]d": %[2]d},`), "0]\n"), ""},
	"with":          {"documents that are replaced are handed on, not planned anew", source("f0 { input.review.object.a }\n", steps(100, `f%[1]d { f%[2]d with input.review.object.b%[1]d as 1; f%[2]d with input.review.object.c%[1]d as 2 }`), `violation[{"msg": "m"}] { f100 }`), ""},
	"recursion":     {"rules that need themselves", source(fires, "a[x] { a[y]; x := y + 1 }\nb { a[1]; c }\nc { b }\n"), "rego_recursion_error"},
	"large numbers": {"they are refused before they are written out", source(fires, "a := 1e1000000000\n"), "number too big"},
	"types":         {"what does not match is not written out whole", source(`x0 := {"a": input.review.object, "b": 1}`, "\n", steps(18, `x%[1]d := {"a": x%[2]d, "b": x%[2]d}`), `violation[{"msg": "m"}] { x18 == 1 }`), "match error"},
}

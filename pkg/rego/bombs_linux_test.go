package rego

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego/exec"
	"github.com/fusegate/fusegate/pkg/rego/value"
)

// dag are rules of which each holds the one before it twice, in a way that hides
// it from the type checker, which would go through all of it.
func dag(n int) string {
	var b strings.Builder
	b.WriteString("x0 := [input.review.object.metadata.name]\n")
	for i := range n {
		fmt.Fprintf(&b, "x%d := object.get({\"a\": [x%d, x%d]}, \"a\", 1)\n", i+1, i, i)
	}
	return b.String()
}

// bombs are policies of a few lines whose results are large before anybody can
// count them, by what they do it with.
var bombs = map[string]string{
	"marshal a shared value":  dag(32) + `violation[{"msg": "m"}] { json.marshal(x32) != "" }`,
	"yaml of a shared value":  dag(32) + `violation[{"msg": "m"}] { yaml.marshal(x32) != "" }`,
	"print a shared value":    dag(32) + `violation[{"msg": m}] { m := sprintf("%v", [x32]) }`,
	"report a shared value":   dag(32) + `violation[{"msg": "m", "details": x32}] { true }`,
	"compare shared values":   dag(32) + `violation[{"msg": "m"}] { y := [x31, x31]; y == x32 }`,
	"compare shared by order": dag(32) + `violation[{"msg": "m"}] { y := [x31, x31]; y <= x32 }`,
	"a set of shared values":  dag(32) + `violation[{"msg": "m"}] { y := [x31, x31]; s := {x32, y}; count(s) == 1 }`,
	"a key of shared values":  dag(32) + `violation[{"msg": "m"}] { y := [x31, x31]; s := {x32: 1}; s[y] == 1 }`,
	"walk a shared value":     dag(32) + `violation[{"msg": "m"}] { count([1 | walk(x32, [_, _])]) == 1 }`,
	"search a shared value":   dag(32) + `violation[{"msg": "m"}] { y := [[x31, x31]]; z := [p | p := y[_]; p == x32]; count(z) == 1 }`,
	"two results that share":  dag(30) + `violation[{"msg": "m", "details": d}] { d := [x30, [x29, x29]][_] }`,
	"errors that quote":       `violation[{"msg": "m"}] { a := concat("", ["a{1000}" | numbers.range(1, 3000)[_]]); numbers.range(1, 100000)[_]; net.cidr_expand(a) != 1 }`,
	"tokens that are none":    `violation[{"msg": "m"}] { numbers.range(1, 100000)[_]; io.jwt.verify_rs384("a", "b") }`,
	"short YAML":              `violation[{"msg": "m"}] { numbers.range(1, 100000)[_]; yaml.marshal({"a", "b"}) == "" }`,
	"multiply": `a := 99999999999999999999999999999999999999999999999999999999999999999999999999
b := a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a
c := b*b*b*b*b*b*b*b*b*b*b*b*b*b*b*b
d := c*c*c*c*c*c*c*c*c*c*c*c*c*c*c*c
e := d*d*d*d*d*d*d*d*d*d*d*d*d*d*d*d
f := e*e*e*e*e*e*e*e*e*e*e*e*e*e*e*e
violation[{"msg": "m"}] { count(sprintf("%v", [f])) > 0 }`,
	"shift":      `violation[{"msg": "m"}] { bits.lsh(1, 99999999999) > 0 }`,
	"shift less": `violation[{"msg": "m"}] { bits.lsh(1, 90000000) > 0 }`,
	"product":    `violation[{"msg": "m"}] { product(numbers.range(1, 400000)) > 0 }`,
	"pad": `a := "%1000000d"
b := concat("", [a,a,a,a,a,a,a,a,a,a])
c := concat("", [b,b,b,b,b,b,b,b,b,b])
d := concat("", [c,c,c,c,c,c,c,c,c,c])
e := concat("", [d,d,d,d,d,d,d,d,d,d])
violation[{"msg": "m"}] { count(sprintf(e, numbers.range(1, 10000))) > 0 }`,
	"pad by an argument":    `violation[{"msg": "m"}] { f := concat("", [s | numbers.range(1, 1000)[_]; s := ["%[1]*d"][_]]); count(sprintf(f, [999999, 1])) > 0; g := concat("", ["%[1]*d" | true]); h := replace("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a", g); count(sprintf(h, [999999])) > 0 }`,
	"an argument again":     `violation[{"msg": "m"}] { s := sprintf("%900000d", [1]); f := replace("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a", "%[1]s"); count(sprintf(f, [s])) > 0 }`,
	"template":              `violation[{"msg": "m"}] { x := strings.render_template("{{range $i, $e := .a}}{{range $j, $f := $.a}}{{range $.a}}{{printf \"%1000000d\" 1}}{{end}}{{end}}{{end}}", {"a": numbers.range(1, 1000)}); count(x) > 0 }`,
	"a template's loops":    `violation[{"msg": "m"}] { strings.render_template("{{range .a}}{{range $.a}}{{range $.a}}{{range $.a}}{{end}}{{end}}{{end}}{{end}}x", {"a": numbers.range(1, 1000)}) == "x" }`,
	"a template's number":   `violation[{"msg": "m"}] { strings.render_template("{{range 100000000000}}{{end}}x", {}) == "x" }`,
	"a template's self":     `violation[{"msg": "m"}] { strings.render_template("{{define \"a\"}}{{template \"a\" .}}{{template \"a\" .}}{{end}}{{template \"a\" .}}x", {}) == "x" }`,
	"a template's text":     `violation[{"msg": "m"}] { strings.render_template("{{$x := \"aaaaaaaa\"}}{{range .a}}{{$x = print $x $x}}{{end}}{{len $x}}", {"a": numbers.range(1, 40)}) == "x" }`,
	"a template's quoting":  `violation[{"msg": "m"}] { strings.render_template("{{$x := \"<<<<<<<<\"}}{{range .a}}{{$x = html $x}}{{$x = js $x}}{{end}}{{len $x}}", {"a": numbers.range(1, 60)}) == "x" }`,
	"copies by patches":     `violation[{"msg": "m"}] { p := [{"op": "copy", "from": "/a", "path": sprintf("/a/k%d", [i])} | i := numbers.range(1, 60)[_]]; x := json.patch({"a": {"b": 1}}, p); json.marshal(x) != "" }`,
	"join":                  `violation[{"msg": "m"}] { a := numbers.range(1, 100000); b := array.concat(a, a); c := array.concat(b, b); d := array.concat(c, c); e := array.concat(d, d); count(e) > 0 }`,
	"unite":                 `violation[{"msg": "m"}] { o := {sprintf("%d", [i]): numbers.range(1, 100) | i := numbers.range(1, 4000)[_]}; x := object.union_n([o | numbers.range(1, 300)[_]]); count(x) > 0; y := object.union_n([{sprintf("%d", [i]): o} | i := numbers.range(1, 300)[_]]); json.marshal(y) != "" }`,
	"replace":               `violation[{"msg": "m"}] { a := sprintf("%900000d", [1]); x := replace(a, " ", a); count(x) > 0 }`,
	"replace many":          `violation[{"msg": "m"}] { a := sprintf("%900000d", [1]); x := strings.replace_n({" ": a}, a); count(x) > 0 }`,
	"replace by a pattern":  `violation[{"msg": "m"}] { a := sprintf("%900000d", [1]); x := regex.replace(a, " ", a); count(x) > 0 }`,
	"replace by a group":    `violation[{"msg": "m"}] { a := sprintf("%900000d", [1]); f := replace("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a", "$0"); x := regex.replace(a, ".*", f); count(x) > 0 }`,
	"split":                 `violation[{"msg": "m"}] { a := sprintf("%999999d", [1]); b := concat("", [a, a]); count(split(b, " ")) > 0 }`,
	"find":                  `violation[{"msg": "m"}] { a := sprintf("%999999d", [1]); b := concat("", [a, a]); count(regex.find_n(" ", b, -1)) > 0 }`,
	"a pattern's groups":    `violation[{"msg": "m"}] { p := concat("", ["(a)?" | numbers.range(1, 9000)[_]]); t := concat("", ["a" | numbers.range(1, 9000)[_]]); count(regex.find_all_string_submatch_n(p, t, -1)) > 0 }`,
	"a pattern's size":      `violation[{"msg": "m"}] { p := concat("|", [sprintf("(x%d{1000})", [i]) | i := numbers.range(1, 100)[_]]); regex.match(p, "x") }`,
	"a pattern's classes":   `violation[{"msg": "m"}] { p := concat("", [sprintf("(?i)[\\pL-\\x{1E900}%d]", [i]) | i := numbers.range(1, 9000)[_]]); regex.match(p, "x") }`,
	"a pattern's states":    `violation[{"msg": "m"}] { p := concat("", array.concat(["("], array.concat(["(y|yy)" | numbers.range(1, 900)[_]], [")*z"]))); t := concat("", ["y" | numbers.range(1, 90000)[_]]); regex.match(p, t) }`,
	"many patterns":         `violation[{"msg": "m"}] { count([1 | i := numbers.range(1, 9000)[_]; regex.match(sprintf("(a%d{900}){1}", [i]), "x")]) > 0 }`,
	"a template of pattern": `violation[{"msg": "m"}] { p := concat("", ["<a{1000}>" | numbers.range(1, 9000)[_]]); regex.template_match(p, "x", "<", ">") }`,
	"globs":                 `violation[{"msg": "m"}] { p := concat("", ["[a-c]*a*" | numbers.range(1, 40)[_]]); q := concat("", ["a*[a-b]*" | numbers.range(1, 40)[_]]); regex.globs_match(concat("", [p, "x"]), concat("", [q, "y"])) }`,
	"a glob":                `violation[{"msg": "m"}] { p := concat("", ["{a,aa,*,b*}" | numbers.range(1, 900)[_]]); t := concat("", ["a" | numbers.range(1, 90000)[_]]); glob.match(concat("", [p, "cb"]), null, concat("", [t, "b"])) }`,
	"a graph's paths":       `violation[{"msg": "m"}] { g := {sprintf("%d", [i]): [sprintf("%d", [i + 1]), sprintf("%d", [i + 2])] | i := numbers.range(1, 60)[_]}; count(graph.reachable_paths(g, ["1"])) > 0 }`,
	"a graph's layers":      `violation[{"msg": "m"}] { g := {sprintf("%d-%d", [l, i]): [sprintf("%d-%d", [l + 1, j]) | j := numbers.range(1, 30)[_]] | l := numbers.range(1, 30)[_]; i := numbers.range(1, 30)[_]}; r := graph.reachable(g, ["1-1"]); count([1 | numbers.range(1, 3000)[_]; count(graph.reachable(g, ["1-1"])) > 0]) > 0; count(r) > 0 }`,
	"addresses":             `violation[{"msg": "m"}] { count(net.cidr_expand("10.0.0.0/8")) > 0 }`,
	"more addresses":        `violation[{"msg": "m"}] { count(net.cidr_expand("::/0")) > 0 }`,
	"pairs of networks":     `violation[{"msg": "m"}] { n := [sprintf("10.%d.%d.0/24", [i, j]) | i := numbers.range(0, 90)[_]; j := numbers.range(0, 90)[_]]; count(net.cidr_contains_matches(n, n)) > 0 }`,
	"networks to merge":     `violation[{"msg": "m"}] { n := [sprintf("10.%d.%d.0/25", [i, j]) | i := numbers.range(0, 200)[_]; j := numbers.range(0, 200)[_]]; count(net.cidr_merge(n)) > 0 }`,
	"a range":               `violation[{"msg": "m"}] { count(numbers.range(0, 999999999999)) > 0 }`,
	"a range of steps":      `violation[{"msg": "m"}] { count(numbers.range_step(0, 999999999999, 3)) > 0 }`,
	"subsets":               `violation[{"msg": "m"}] { a := numbers.range(1, 30000); b := [x | i := numbers.range(1, 15000)[_]; x := i * 2]; object.subset(a, b) }`,
	"aliases":               `violation[{"msg": "m"}] { y := "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"; count(yaml.unmarshal(y)) > 0 }`,
	"many values of text":   `violation[{"msg": "m"}] { s := concat("", ["[", concat(",", ["1" | numbers.range(1, 500000)[_]]), "]"]); count(json.unmarshal(s)) > 0; count(json.unmarshal(s)) > 1 }`,
	"indents":               `violation[{"msg": "m"}] { i := sprintf("%900000d", [1]); json.marshal_with_options({"a": {"b": {"c": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25]}}}, {"pretty": true, "indent": i}) != "" }`,
	"a deep path":           `violation[{"msg": "m"}] { o := concat("", ["[" | numbers.range(1, 9000)[_]]); c := concat("", ["]" | numbers.range(1, 9000)[_]]); x := json.unmarshal(concat("", [o, c])); count([p | walk(x, [p, _]); p[0] == 0]) > 0 }`,
	"long text again":       `violation[{"msg": "m"}] { a := sprintf("%999999d", [1]); b := concat("", [a, a, a, a, a, a]); c := concat("", [a, a, a, a, a, a]); count([1 | numbers.range(1, 900000)[_]; b == c]) > 0 }`,
	"search long text":      `violation[{"msg": "m"}] { a := sprintf("%999999d", [1]); count([1 | numbers.range(1, 900000)[_]; contains(a, "x")]) == 1 }`,
	"a function of text": `f(x, y) = count(x) + y
violation[{"msg": "m"}] { a := sprintf("%999999d", [1]); count([1 | i := numbers.range(1, 900000)[_]; f(a, i) > 0]) == 1 }`,
	"functions that double": `f1(x) = [x, x]
f2(x) = f1(f1(f1(f1(x))))
f3(x) = f2(f2(f2(f2(x))))
violation[{"msg": "m"}] { count(json.marshal(f3(f3(f3(input.review.object.metadata.name))))) > 0 }`,
	"variables that double": "violation[{\"msg\": \"m\"}] {\nx0 := [input.review.object.metadata.name]\n" + locals(17) + "json.marshal(x17) == \"\" }",
	"sorting":               `violation[{"msg": "m"}] { count([1 | numbers.range(1, 100)[_]; count(sort([x | i := numbers.range(1, 9000)[_]; x := 9000 - i])) > 0]) == 1 }`,
	"a key to verify":       `violation[{"msg": "m"}] { k := base64.encode(sprintf("%0300000d", [7])); io.jwt.verify_rs256("e30.e30.AAAA", sprintf("{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"AQAB\"}", [k])) }`,
	"a query":               `violation[{"msg": "m"}] { q := concat("", ["{", concat("", ["a{b(x:1){a{b(x:2){__typename}}}} " | numbers.range(1, 4000)[_]]), "}"]); graphql.is_valid(q, "type Query { a: Query b(x:Int): Query }") }`,
	"a module":              `violation[{"msg": "m"}] { q := concat("", ["package a\n", concat("\n", ["p if { x := {\"a\": [1, 2, 3]}; f(x) }" | numbers.range(1, 9000)[_]])]); count(rego.parse_module("a", q)) > 0 }`,
}

func locals(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "x%d := [x%d, x%d]\n", i+1, i, i)
	}
	return b.String()
}

// bomb compiles a policy.
func bomb(t testing.TB, text string) *Program {
	t.Helper()
	p, err := compile(t.Context(), templateOf(source{rego: "package k\n" + text}))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// timed is how long a processor works on what is done.
func timed(t *testing.T, do func() error) (time.Duration, error) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := processor(t)
	err := do()
	return processor(t) - start, err
}

// TestBombs: a policy that would eat the process comes to its limit instead,
// compiled and interpreted, within memory and time.
func TestBombs(t *testing.T) {
	limitMemory(t)
	r := map[string]any{"object": map[string]any{"metadata": map[string]any{"name": "n"}}}
	params := &Parameters{document: map[string]any{}, term: func() *term { return value.Term(map[string]any{}) }}
	for _, name := range slices.Sorted(maps.Keys(bombs)) {
		t.Run(name, func(t *testing.T) {
			p := bomb(t, bombs[name])
			if p.compiled == nil {
				t.Fatalf("not compiled: %v", p.Refused())
			}
			for how, judge := range map[string]func() error{
				"compiled": func() error {
					_, err := p.runCompiled(t.Context(), stored(t, nil), &Input{review: &policy.Review{}, native: r, now: time.Now()}, params)
					return err
				},
				"interpreted": func() error {
					_, err := p.interpret(t.Context(), stored(t, nil), &Input{review: &policy.Review{}, native: r, now: time.Now()}, params)
					return err
				},
			} {
				took, err := timed(t, judge)
				if took > slowest { // pages that the kernel has to find first count too
					took, err = timed(t, judge)
				}
				t.Logf("%s: %v after %s, %d MiB at most", how, err, took.Round(time.Millisecond), peak(t)>>20)
				if err != nil && !errors.Is(err, exec.ErrLimit) {
					t.Errorf("%s: %v, want a limit", how, err)
				}
				if err == nil && !harmless[name+" "+how] {
					t.Errorf("%s: it came to an end, so that it tests nothing", how)
				}
				if took > slowest {
					t.Errorf("%s: it took %s", how, took)
				}
			}
		})
	}
	if most := peak(t); most > 1<<30 {
		t.Errorf("%d MiB in use at most, want 1 GiB", most>>20)
	}
}

// harmless are bombs that one of the evaluators gets through without harm.
var harmless = map[string]bool{
	"variables that double compiled": true,
	"a template's self compiled":     true, // templates have a depth of their own
	"a template's self interpreted":  true,
}

// slowest is how much of a processor's time an evaluation may take: a busy
// machine gives it no more.
const slowest = time.Second

// processor is the time that this thread has spent on a processor.
func processor(t testing.TB) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_THREAD, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// peak is the most memory that the process has ever used, in bytes.
func peak(t testing.TB) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	n, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// limitMemory collects garbage as a process of that size would.
func limitMemory(t testing.TB) {
	before := debug.SetMemoryLimit(700 << 20)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
}

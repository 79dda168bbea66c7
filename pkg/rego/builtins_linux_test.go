package rego

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/fusegate/fusegate/pkg/policy"
	limits "github.com/fusegate/fusegate/pkg/rego/exec"
	"github.com/fusegate/fusegate/pkg/rego/value"
)

var hostileFor = flag.Duration("hostile", 0, "how long TestHostile makes policies that call builtins with hostile operands; else it makes the same few")

// fewHostile is how many policies there are if nobody says how long, beside those of
// wasHostile, which have taken too much once.
const fewHostile = 60

var wasHostile = []uint64{236, 924, 925, 1000}

// hostile makes policies that call builtins with operands that are large, deep,
// shared, long, negative or plainly wrong.
type hostile struct{ *rand.Rand }

func (h hostile) pick(from ...string) string { return from[h.IntN(len(from))] }

// size is a number that is small, large or absurd.
func (h hostile) size() string {
	return h.pick("0", "1", "-1", "3", "17", "40", "300", "1000", "65536", "999999", "1000000", "99999999", "999999999999",
		"-99999999999", "1e9", "1e30", "1.5", "1e300", "9223372036854775807", "-9223372036854775808", "123456789012345678901234567890")
}

// count is how often something is repeated.
func (h hostile) count() string { return h.pick("1", "2", "9", "40", "300", "3000", "20000") }

func (h hostile) text() string {
	switch h.IntN(8) {
	case 0:
		return fmt.Sprintf("concat(%s, [%s | numbers.range(1, %s)[_]])", h.pick(`""`, `","`, `"a"`, `" "`), h.word(), h.count())
	case 1:
		return fmt.Sprintf(`sprintf("%%%sd", [1])`, h.size())
	case 2:
		return fmt.Sprintf("concat(\"\", [%s, %s])", h.word(), h.text())
	case 3:
		return "long"
	case 4:
		return fmt.Sprintf("json.marshal(%s)", h.collection(2))
	}
	return h.word()
}

// word is a text as some builtin wants it, or does not.
func (h hostile) word() string {
	return h.pick(`""`, `"a"`, `"aaaa"`, `" "`, `"é"`, `"<"`, `"\u0000"`, `"%s"`, `"%v%v"`, `"%[1]*d"`, `"%99999999d"`, `"%.999999f"`, `"%x"`, `"%q"`,
		`"(a*)*"`, `"(a|aa)+$"`, `"a{1000}"`, `"((a{30}){30})"`, `"[[:alpha:]]+"`, `"(?i)\\pL"`, `"."`, `"(.)(.)?"`, `"^"`, `"*"`, `"**"`, `"{a,b*}"`, `"[a-z]*a"`,
		`"10.0.0.0/8"`, `"::/0"`, `"192.168.0.0/24"`, `"1Gi"`, `"1e9"`, `"99999999999999999999"`, `"2020-01-01T00:00:00Z"`, `"1h"`, `"UTC"`,
		`"{\"a\": [1, 2]}"`, `"[[[["`, `"a: &a [1]\nb: [*a, *a]"`, `"a=b&c=d"`, `"http://a/b?c#d"`, `"e30.e30.AA"`, `"YWFh"`, `"616161"`,
		`"{{range .a}}{{.}}{{end}}"`, `"{{range 99999999}}a{{end}}"`, `"{{printf \"%999999d\" 1}}"`, `"{ a { b } }"`, `"type Query { a: Query }"`, `"package a"`,
		`"$0$0$0"`, `"/a/b"`, `"1.2.3"`)
}

func (h hostile) collection(depth int) string {
	switch h.IntN(12) {
	case 0:
		return fmt.Sprintf("numbers.range(1, %s)", h.count())
	case 1:
		return fmt.Sprintf("{x | x := numbers.range(1, %s)[_]}", h.count())
	case 2:
		return fmt.Sprintf("{sprintf(\"%%d\", [x]): %s | x := numbers.range(1, %s)[_]}", h.operand(depth-1), h.pick("1", "9", "300", "3000"))
	case 3:
		return fmt.Sprintf("[%s | numbers.range(1, %s)[_]]", h.operand(depth-1), h.pick("1", "9", "300", "3000"))
	case 4:
		return "shared"
	case 5:
		return "whole"
	case 6:
		return "nested"
	case 7:
		return fmt.Sprintf("[%s, %s]", h.operand(depth-1), h.operand(depth-1))
	case 8:
		return fmt.Sprintf("{%s: %s}", h.pick(`"a"`, `"op"`, `"path"`), h.operand(depth-1))
	case 9:
		return `[{"op": "copy", "from": "/a", "path": "/a/b"} | numbers.range(1, 40)[_]]`
	case 10:
		return "links"
	}
	return h.pick("[]", "{}", "set()", `{"a": {"b": 1}}`, `["a", "b"]`, `{"a", "b"}`, "long", "null")
}

func (h hostile) operand(depth int) string {
	if depth <= 0 {
		return h.pick(h.size(), h.word(), "null", "true", "[]", "{}", "long", "shared")
	}
	switch h.IntN(3) {
	case 0:
		return h.size()
	case 1:
		return h.text()
	}
	return h.collection(depth)
}

// fitting is an operand of the type that is wanted, most of the time.
func (h hostile) fitting(t types.Type) string {
	if h.IntN(12) == 0 {
		return h.operand(2)
	}
	switch t := t.(type) {
	case types.Number, *types.Number:
		return h.size()
	case types.String, *types.String:
		return h.text()
	case *types.NamedType:
		return h.fitting(t.Type)
	case types.Any:
		if len(t) > 0 {
			return h.fitting(t[h.IntN(len(t))])
		}
	case *types.Array:
		if h.IntN(2) == 0 && t.Dynamic() != nil {
			return fmt.Sprintf("[x | numbers.range(1, %s)[_]; x := %s]", h.count(), h.fitting(t.Dynamic()))
		}
	case *types.Set:
		if h.IntN(2) == 0 {
			return fmt.Sprintf("{x | i := numbers.range(1, %s)[_]; x := [i, %s][_]}", h.count(), h.fitting(t.Of()))
		}
	}
	return h.collection(2)
}

// policy calls one builtin with hostile operands, some times over.
func (h hostile) policy(b *ast.Builtin) string {
	args := b.Decl.FuncArgs().Args
	operands := make([]string, len(args))
	for i, t := range args {
		operands[i] = fmt.Sprintf("a%d := %s", i, h.fitting(t))
	}
	names := make([]string, len(args))
	for i := range args {
		names[i] = fmt.Sprintf("a%d", i)
	}
	call := fmt.Sprintf("%s(%s)", b.Name, strings.Join(names, ", "))
	result := "x := " + call
	if b.Relation {
		result = "walk(a0, x)"
	}
	use := h.pick("x != 1", "json.marshal(x) != \"\"", "y := [x, x]; y == [x, x]", "count({x, [x]}) > 0", "s := sprintf(\"%v\", [x]); count(s) > 0")
	return `long := input.review.object.text
whole := input.review.object
nested := input.review.object.deep
links := {sprintf("%d", [i]): [sprintf("%d", [i + 1]), sprintf("%d", [i + 2])] | i := numbers.range(1, 50)[_]}
` + strings.ReplaceAll(strings.ReplaceAll(dag(24), "input.review.object.metadata.name", "input.review.object.text"), "x24 :=", "shared :=") +
		fmt.Sprintf("violation[{\"msg\": \"m\"}] { %s\n%s\n%s }", strings.Join(operands, "\n"), fmt.Sprintf("numbers.range(1, %s)[_]\n%s", h.pick("1", "1", "2", "50", "100000"), result), use)
}

// callable are the builtins that policies can call by name.
func callable() []*ast.Builtin {
	var out []*ast.Builtin
	for _, b := range capabilities().Builtins {
		if b.Infix == "" && b.Decl.Result() != nil && !strings.HasPrefix(b.Name, "internal.") && !strings.HasPrefix(b.Name, "rego.metadata") && !b.IsDeprecated() {
			out = append(out, b)
		}
	}
	return out
}

// TestHostile calls all builtins of the list with operands that would make them
// eat the process, in a process of its own that may use 1 GiB: none takes a second of a
// processor, and the process lives. -hostile 5m makes it thorough.
func TestHostile(t *testing.T) {
	if os.Getenv("FUSEGATE_HOSTILE") == "" {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHostile$", "-test.v", "-test.timeout=0", "-hostile="+hostileFor.String())
		child.Env = append(os.Environ(), "FUSEGATE_HOSTILE=1", "GOMEMLIMIT=700MiB")
		out, err := child.CombinedOutput()
		if err != nil {
			t.Fatalf("the process with hostile policies: %v\n%s", err, out)
		}
		t.Logf("%s", out)
		return
	}
	start := time.Now()
	all, run, refused, limited, worst := callable(), 0, 0, 0, time.Duration(0)
	for i := 0; i < fewHostile+len(wasHostile) || time.Since(start) < *hostileFor; i++ {
		seed := uint64(i)
		if i < len(wasHostile) {
			seed = wasHostile[i]
		}
		h := hostile{rand.New(rand.NewPCG(seed, 1))}
		b := all[int(seed)%len(all)]
		text := h.policy(b)
		p, err := compile(t.Context(), templateOf(source{rego: "package k\n" + text}))
		if err != nil {
			refused++
			continue
		}
		for _, how := range []string{"compiled", "interpreted"} {
			took, err := p.hostile(t, how)
			run, worst = run+1, max(worst, took)
			if errors.Is(err, limits.ErrLimit) {
				limited++
			}
			if took > slowest {
				t.Errorf("seed %d: %s, %s: %s, %v\n%s", seed, b.Name, how, took, err, text)
			}
			if most := peak(t); most > 1<<30 {
				t.Fatalf("seed %d: %s, %s: %d MiB in use, %v\n%s", seed, b.Name, how, most>>20, err, text)
			}
		}
	}
	t.Logf("%d evaluations, %d of them to a limit, %d policies did not compile, the longest %s, %d MiB at most", run, limited, refused, worst.Round(time.Millisecond), peak(t)>>20)
	if limited == 0 || limited == run {
		t.Errorf("%d of %d evaluations came to a limit: they test too little", limited, run)
	}
}

// hostile evaluates a policy on an object that is large, long and deep.
func (p *Program) hostile(t *testing.T, how string) (time.Duration, error) {
	deep := any("end")
	for range 300 {
		deep = []any{deep}
	}
	r := map[string]any{"object": map[string]any{"text": strings.Repeat("ab ", 3000), "deep": deep, "list": slices.Repeat([]any{"a"}, 3000)}}
	params := &Parameters{document: map[string]any{}, term: func() *term { return value.Term(map[string]any{}) }}
	in := &Input{review: &policy.Review{}, native: r, now: time.Now()}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := processor(t)
	var err error
	if how == "compiled" && p.compiled != nil {
		_, err = p.runCompiled(t.Context(), stored(t, nil), in, params)
	} else {
		_, err = p.interpret(t.Context(), stored(t, nil), in, params)
	}
	return processor(t) - start, err
}

// TestAllowedAreChecked: the list is what OPA has, less what templates must not
// reach. A builtin that a new version of OPA adds needs a check before policies
// may call it.
func TestAllowedAreChecked(t *testing.T) {
	forbidden := []string{"http.send", "net.lookup_ip_addr", "opa.runtime", "json.match_schema", "json.verify_schema"}
	allowed := map[string]bool{}
	for _, b := range capabilities().Builtins {
		allowed[b.Name] = true
	}
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		if want := !slices.Contains(forbidden, b.Name); allowed[b.Name] != want {
			t.Errorf("%s: allowed %t, want %t", b.Name, allowed[b.Name], want)
		}
	}
}

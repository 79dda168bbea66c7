package rego

import (
	"context"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	framework "github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"

	"github.com/fusegate/fusegate/templates"
)

// tokens splits Rego where it can be put together otherwise.
var tokens = regexp.MustCompile(`"[^"\n]*"|[\w.]+|:=|==|!=|<=|>=|\s+|.`)

// varying are builtins that give something else every time.
var varying = regexp.MustCompile(`now_ns|rand\.|uuid\.|opa\.runtime|trace|sleep`)

// extra are tokens that policies should get into the way of.
var extra = strings.Fields(`not some every in if contains else default with as true false null 0 1 1.0 "" "a" [] {} {1} {"a":1} _ x y input data
	input.review.object input.parameters data.inventory == != := < count( walk( sprintf("%v",[x]) object.get(x,"a",1) | & - + * / % ; , : . [ ] { } ( )`)

// shuffle changes n tokens of a policy.
func (m mutator) shuffle(text string, n int) string {
	parts := tokens.FindAllString(text, -1)
	for range n {
		if len(parts) == 0 {
			return text
		}
		i := m.IntN(len(parts))
		switch m.IntN(6) {
		case 0:
			parts[i] = ""
		case 1:
			parts[i] += " " + parts[i]
		case 2:
			parts[i] = " " + extra[m.IntN(len(extra))] + " "
		case 3:
			j := m.IntN(len(parts))
			parts[i], parts[j] = parts[j], parts[i]
		case 4:
			lines := strings.Split(strings.Join(parts, ""), "\n")
			j := m.IntN(len(lines))
			parts = tokens.FindAllString(strings.Join(append(lines, lines[j]), "\n"), -1)
		default:
			parts[i] = parts[m.IntN(len(parts))]
		}
	}
	return strings.Join(parts, "")
}

// policyText is a policy that is changed at random.
type policyText struct {
	text string
	v1   bool
}

// corpus is the library's policies and the exotic ones.
func corpus(t testing.TB) []policyText {
	t.Helper()
	var out []policyText
	for _, text := range slices.Sorted(maps.Values(exotic)) {
		out = append(out, policyText{text, true})
	}
	for _, text := range slices.Sorted(maps.Values(exoticV0)) {
		out = append(out, policyText{text, false})
	}
	folders, err := fs.ReadDir(templates.FS, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		_, template := libraryTemplate(t, folder.Name())
		source := template.Spec.Targets[0].Code[0].Source.Value.(map[string]any)
		_, body, _ := strings.Cut(source["rego"].(string), "\n")
		out = append(out, policyText{body, source["version"] == "v1"})
	}
	return out
}

// FuzzPolicy compares the evaluators on policies changed at random.
func FuzzPolicy(f *testing.F) {
	for _, p := range corpus(f) {
		f.Add(p.text, p.v1, uint64(len(p.text)))
	}
	s := subjects(f)
	e := stored(f, s.inventory)
	f.Fuzz(func(t *testing.T, text string, v1 bool, seed uint64) {
		m := newMutator(seed)
		(&comparison{}).fuzzed(t, m.shuffle(text, int(seed%5)), v1, m, s, e)
	})
}

// TestShuffled does what FuzzPolicy does, so often as the flag says: the fuzzer
// hardly ever meets what compiles.
func TestShuffled(t *testing.T) {
	texts, s, c := corpus(t), subjects(t), &comparison{}
	e := stored(t, s.inventory)
	for seed := uint64(0); c.evaluations < *evaluations/6; seed++ {
		m := newMutator(seed)
		p := texts[m.IntN(len(texts))]
		c.fuzzed(t, m.shuffle(p.text, 1+m.IntN(3)), p.v1, m, s, e)
	}
	t.Log(c)
}

func (c *comparison) fuzzed(t *testing.T, text string, v1 bool, m mutator, s sample, e *Data) {
	if varying.MatchString(text) {
		return
	}
	p, err := compile(t.Context(), template(text, v1))
	if err != nil {
		return
	}
	if p.compiled == nil {
		c.refused++
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for _, r := range s.reviews {
		params := s.parameters[m.IntN(len(s.parameters))]
		if ctx.Err() != nil {
			return
		}
		if diff := c.agree(ctx, p, e, r, params); diff != "" && ctx.Err() == nil {
			t.Errorf("(-interpreted +compiled):\n%s\npolicy: %s\nreview: %s\nparameters: %s", diff, text, textOf(r), textOf(params))
		}
	}
}

func template(text string, v1 bool) *framework.ConstraintTemplate {
	if v1 {
		return exoticTemplate("v1", text, helpers)
	}
	return exoticTemplate("v0", text)
}

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

// FuzzPolicy compares the evaluators on policies changed at random.
func FuzzPolicy(f *testing.F) {
	for _, text := range slices.Sorted(maps.Values(exotic)) {
		f.Add(text, true, uint64(len(text)))
	}
	for _, text := range slices.Sorted(maps.Values(exoticV0)) {
		f.Add(text, false, uint64(len(text)))
	}
	folders, err := fs.ReadDir(templates.FS, ".")
	if err != nil {
		f.Fatal(err)
	}
	for _, folder := range folders {
		_, template := libraryTemplate(f, folder.Name())
		source := template.Spec.Targets[0].Code[0].Source.Value.(map[string]any)
		_, body, _ := strings.Cut(source["rego"].(string), "\n")
		f.Add(body, source["version"] == "v1", uint64(len(body)))
	}
	s := subjects(f)
	e := stored(f, s.inventory)
	f.Fuzz(func(t *testing.T, text string, v1 bool, seed uint64) {
		m := newMutator(seed)
		fuzzed(t, m.shuffle(text, int(seed%5)), v1, m, s, e)
	})
}

func fuzzed(t *testing.T, text string, v1 bool, m mutator, s sample, e *Data) {
	if varying.MatchString(text) {
		return
	}
	p, err := compile(t.Context(), template(text, v1))
	if err != nil || p.compiled == nil {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	c := &comparison{}
	for _, r := range s.reviews {
		params := s.parameters[m.IntN(len(s.parameters))]
		if diff := c.agree(ctx, p, e, r, params); diff != "" && ctx.Err() == nil {
			t.Fatalf("(-interpreted +compiled):\n%s\npolicy: %s\nreview: %s\nparameters: %s", diff, text, textOf(r), textOf(params))
		}
	}
}

func template(text string, v1 bool) *framework.ConstraintTemplate {
	if v1 {
		return exoticTemplate("v1", text, helpers)
	}
	return exoticTemplate("v0", text)
}
